// The strict reading of a configuration: round trip, and one error per way to be wrong.
#include <nlohmann/json.hpp>
#include <string>

#include "check.h"
#include "configs.h"

using namespace mammo;
using Json = nlohmann::json;

namespace {

Json valid() {
  const SessionConfig c = test::default_config();
  Json json;
  json["detector"] = Json::parse(detector_json(c.detector));
  json["optimizer"] = Json::parse(optimizer_json(c.optimizer));
  json["device"] = "cpu";
  json["seed"] = 18446744073709551615u;
  json["deterministic"] = true;
  json["precision"] = "bf16";
  return json;
}

void round_trip() {
  const SessionConfig c = parse_session_config(valid().dump());
  EXPECT_EQUAL(detector_json(c.detector), detector_json(test::default_config().detector));
  EXPECT_EQUAL(optimizer_json(c.optimizer), optimizer_json(test::default_config().optimizer));
  EXPECT_EQUAL(c.seed, 18446744073709551615u);
  EXPECT(c.precision == Precision::kBf16);
  EXPECT_EQUAL(c.detector.model.levels.size(), 5u);
  EXPECT(c.detector.coder.clamp.has_value());
}

// The configuration with the value at a JSON pointer replaced must be refused with an error that
// names `part`.
void refuse(const std::string& pointer, const Json& value, const std::string& part) {
  Json json = valid();
  json[Json::json_pointer(pointer)] = value;
  EXPECT_THROWS("CONFIG", part, parse_session_config(json.dump()));
}

void unknown_and_missing_keys() {
  refuse("/detector/model/colour", 1, "detector.model.colour: unknown key");
  refuse("/extra", 1, "extra: unknown key");
  Json json = valid();
  json["detector"]["loss"].erase("gamma");
  EXPECT_THROWS("CONFIG", "detector.loss.gamma: missing", parse_session_config(json.dump()));
  EXPECT_THROWS("CONFIG", "not valid JSON", parse_session_config("{"));
  EXPECT_THROWS("CONFIG", "expected an object", parse_session_config("[1]"));
}

void wrong_types_and_names() {
  refuse("/detector/model/norm", "batch",
         "detector.model.norm: expected one of frozen, train, group");
  refuse("/detector/model/classes", 1.5, "detector.model.classes: expected a whole number");
  refuse("/detector/model/classes", "two", "detector.model.classes");
  refuse("/detector/model/headNorm", "group", "detector.model.headNorm: expected an object");
  refuse("/detector/model/headNorm/box", true,
         "detector.model.headNorm.box: expected one of none, group");
  refuse("/detector/coder/weights", Json::array({1, 1, 1}),
         "detector.coder.weights: expected four numbers");
  refuse("/deterministic", 1, "deterministic: expected true or false");
  refuse("/seed", -1, "seed");
  refuse("/detector/model/backbone", "vgg17", "resnet18");
  refuse("/precision", "fp16", "precision: fp16 needs a CUDA device");
  Json json = valid();
  json["precision"] = "fp16";
  json["device"] = "cuda:0";
  EXPECT(parse_session_config(json.dump()).precision == Precision::kFp16);
}

void impossible_combinations() {
  refuse("/detector/model/levels", Json::array({3, 5}), "detector.model.levels");
  refuse("/detector/model/levels", Json::array({7, 8}), "P7 is computed from P6");
  refuse("/detector/model/levels", Json::array({1, 2}), "detector.model.levels");
  refuse("/detector/model/levels", Json::array(), "detector.model.levels");
  refuse("/detector/model/levels", Json::array({3, 4}),
         "detector.anchors.sizes: expected one per level");
  refuse("/detector/anchors/strides", Json::array({8, 16}), "detector.anchors.strides");
  refuse("/detector/anchors/sizes", Json::array({0, 1, 2, 3, 4}), "detector.anchors.sizes");
  refuse("/detector/model/prior", 0, "detector.model.prior");
  refuse("/detector/model/frozenStages", 6, "detector.model.frozenStages: expected 0 to 5");
  refuse("/detector/matcher/negativeIou", 0.9, "detector.matcher.negativeIou");
  refuse("/detector/loss/gamma", -1, "detector.loss.gamma");
  refuse("/detector/post/maxDetections", 0, "detector.post.maxDetections");
  refuse("/optimizer/beta2", 1, "optimizer.beta2");
  Json json = valid();
  json["detector"]["model"]["levels"] = {6, 7};
  json["detector"]["anchors"]["sizes"] = json["detector"]["anchors"]["strides"] = {64, 128};
  parse_session_config(json.dump());
  json["detector"]["model"]["p6Source"] = "p5";
  EXPECT_THROWS("CONFIG", "needs level 5", parse_session_config(json.dump()));
}

void blocks_to_recompute() {
  for (const char* value : {"false", "true", "\"early\""}) {
    Json json = valid();
    json["detector"]["model"]["checkpointActivations"] = Json::parse(value);
    const SessionConfig config = parse_session_config(json.dump());
    EXPECT_EQUAL(
        Json::parse(detector_json(config.detector))["model"]["checkpointActivations"].dump(),
        std::string(value));
  }
  refuse("/detector/model/checkpointActivations", "late",
         "detector.model.checkpointActivations: expected true, false or \"early\", got \"late\"");
}

void updates() {
  const SessionUpdate empty = parse_session_update("{}");
  EXPECT(!empty.frozen_stages && !empty.loss && !empty.post && !empty.checkpoint_activations);
  EXPECT_EQUAL(*parse_session_update(R"({"frozenStages": 3})").frozen_stages, 3);
  const Json loss = valid()["detector"]["loss"];
  EXPECT_NEAR(parse_session_update(Json{{"loss", loss}}.dump()).loss->gamma, 2, 0);
  EXPECT_THROWS("CONFIG", "frozenStages", parse_session_update(R"({"frozenStages": 9})"));
  EXPECT_THROWS("CONFIG", "optimizer: unknown key", parse_session_update(R"({"optimizer": {}})"));
}

}  // namespace

int main() {
  check::run("round trip", round_trip);
  check::run("unknown and missing keys", unknown_and_missing_keys);
  check::run("wrong types and names", wrong_types_and_names);
  check::run("impossible combinations", impossible_combinations);
  check::run("blocks to recompute", blocks_to_recompute);
  check::run("updates", updates);
  return check::failures;
}
