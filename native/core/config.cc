// JSON <-> the structs of config.h. The list of fields is written once per struct (`fields`) and
// walked by a strict reader and by a writer, so that the two cannot drift apart. The keys are those
// of lib/binding/types.ts.
#include "core/config.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "core/error.h"
#include "core/model/backbone.h"

namespace mammo {
namespace {

using Json = nlohmann::json;

[[noreturn]] void fail(const std::string& key, const std::string& message) {
  throw Error("CONFIG", key + ": " + message);
}

template <class T>
using Choices = std::initializer_list<std::pair<const char*, T>>;

/// Fills fields from a JSON object; every key must be known and present.
class Reader {
 public:
  Reader(const Json& node, std::string path) : node_(node), path_(std::move(path)) {
    if (!node.is_object())
      fail(path_.empty() ? "configuration" : path_, "expected an object, got " + node.dump());
  }

  void operator()(const char* key, bool& value) {
    const Json& item = get(key);
    if (!item.is_boolean()) wrong(key, "true or false", item);
    value = item.get<bool>();
  }
  void operator()(const char* key, Recompute& value) {
    const Json& item = get(key);
    if (item == "early")
      value = Recompute::kEarly;
    else if (item.is_boolean())
      value = item.get<bool>() ? Recompute::kAll : Recompute::kNothing;
    else
      wrong(key, "true, false or \"early\"", item);
  }
  void operator()(const char* key, int& value) { value = integer<int>(key); }
  void operator()(const char* key, uint64_t& value) {
    const Json& item = get(key);
    if (!item.is_number_unsigned()) wrong(key, "a whole number >= 0", item);
    value = item.get<uint64_t>();
  }
  void operator()(const char* key, double& value) { value = number(key, get(key)); }
  void operator()(const char* key, float& value) {
    value = static_cast<float>(number(key, get(key)));
  }
  void operator()(const char* key, std::string& value) {
    const Json& item = get(key);
    if (!item.is_string()) wrong(key, "a text", item);
    value = item.get<std::string>();
  }
  template <class T>
  void operator()(const char* key, std::vector<T>& value) {
    const Json& item = get(key);
    if (!item.is_array()) wrong(key, "a list of numbers", item);
    value.clear();
    for (const Json& element : item) {
      if constexpr (std::is_integral_v<T>) {
        if (!element.is_number_integer()) wrong(key, "a list of whole numbers", item);
        value.push_back(element.get<T>());
      } else {
        value.push_back(static_cast<T>(number(key, element)));
      }
    }
  }
  void operator()(const char* key, std::array<float, 4>& value) {
    std::vector<double> list;
    (*this)(key, list);
    if (list.size() != 4) wrong(key, "four numbers", get(key));
    for (size_t i = 0; i < 4; ++i) value[i] = static_cast<float>(list[i]);
  }
  template <class T>
  void operator()(const char* key, std::optional<T>& value) {
    if (get(key).is_null()) {
      value.reset();
      return;
    }
    T present{};
    (*this)(key, present);
    value = present;
  }
  template <class T>
  void choice(const char* key, T& value, Choices<T> choices) {
    const Json& item = get(key);
    std::string names;
    for (const auto& [name, meaning] : choices) {
      if (item == name) {
        value = meaning;
        return;
      }
      names += (names.empty() ? "" : ", ") + std::string(name);
    }
    wrong(key, "one of " + names, item);
  }
  template <class F>
  void object(const char* key, F&& walk) {
    Reader inner(get(key), full(key));
    walk(inner);
    inner.finish();
  }
  bool has(const char* key) const { return node_.contains(key); }
  void finish() const {
    for (const auto& [key, value] : node_.items()) {
      if (!seen_.contains(key)) fail(full(key), "unknown key");
    }
  }

 private:
  std::string full(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }
  const Json& get(const char* key) {
    seen_.insert(key);
    const auto found = node_.find(key);
    if (found == node_.end()) fail(full(key), "missing");
    return *found;
  }
  [[noreturn]] void wrong(const char* key, const std::string& expected, const Json& item) const {
    fail(full(key), "expected " + expected + ", got " + item.dump());
  }
  double number(const char* key, const Json& item) const {
    if (!item.is_number()) wrong(key, "a number", item);
    return item.get<double>();
  }
  template <class T>
  T integer(const char* key) {
    const Json& item = get(key);
    if (!item.is_number_integer()) wrong(key, "a whole number", item);
    const auto value = item.get<int64_t>();
    if (value < std::numeric_limits<T>::min() || value > std::numeric_limits<T>::max())
      wrong(key, "a smaller number", item);
    return static_cast<T>(value);
  }

  const Json& node_;
  std::string path_;
  std::set<std::string> seen_;
};

/// The opposite of Reader, with the same calls.
class Writer {
 public:
  template <class T>
  void operator()(const char* key, const T& value) {
    node_[key] = value;
  }
  void operator()(const char* key, Recompute value) {
    if (value == Recompute::kEarly)
      node_[key] = "early";
    else
      node_[key] = value == Recompute::kAll;
  }
  template <class T>
  void operator()(const char* key, const std::optional<T>& value) {
    if (value)
      node_[key] = *value;
    else
      node_[key] = nullptr;
  }
  template <class T>
  void choice(const char* key, const T& value, Choices<T> choices) {
    for (const auto& [name, meaning] : choices) {
      if (meaning == value) node_[key] = name;
    }
  }
  template <class F>
  void object(const char* key, F&& walk) {
    Writer inner;
    walk(inner);
    node_[key] = std::move(inner.node_);
  }
  std::string text() const { return node_.dump(); }

 private:
  Json node_ = Json::object();
};

// C is a struct of config.h, const when written.
template <class V, class C>
void model_fields(V& v, C& c) {
  v("backbone", c.backbone);
  v("channels", c.channels);
  v("stemWidth", c.stem_width);
  v("strideIn1x1", c.stride_in_1x1);
  v.choice("padding", c.padding, {{"symmetric", Padding::kSymmetric}, {"tf", Padding::kTf}});
  v.choice("norm", c.norm,
           {{"frozen", NormPolicy::kFrozen},
            {"train", NormPolicy::kTrain},
            {"group", NormPolicy::kGroup}});
  v("normEps", c.norm_eps);
  v("levels", c.levels);
  v("fpnChannels", c.fpn_channels);
  v.choice("p6Source", c.p6_from_c5, {{"c5", true}, {"p5", false}});
  v.choice("fpnInit", c.fpn_glorot, {{"kaiming_uniform", false}, {"glorot_uniform", true}});
  v("headDepth", c.head_depth);
  v.object("headNorm", [&](auto& inner) {
    inner.choice("classification", c.group_norm_classification, {{"none", false}, {"group", true}});
    inner.choice("box", c.group_norm_box, {{"none", false}, {"group", true}});
  });
  v("classes", c.classes);
  v("prior", c.prior);
  v("frozenStages", c.frozen_stages);
  v("checkpointActivations", c.checkpoint_activations);
}

template <class V, class C>
void anchor_fields(V& v, C& c) {
  v("sizes", c.sizes);
  v("strides", c.strides);
  v("scales", c.scales);
  v("ratios", c.ratios);
  v.choice("shape", c.shape_by_area, {{"area", true}, {"side", false}});
  v("truncateSizes", c.truncate_sizes);
  v("roundCorners", c.round_corners);
  v("offset", c.offset);
  v.choice("strideRule", c.floor_division_strides,
           {{"configured", false}, {"floorDivision", true}});
}

template <class V, class C>
void matcher_fields(V& v, C& c) {
  v.choice("kind", c.kind, {{"iou", MatcherKind::kIou}, {"atss", MatcherKind::kAtss}});
  v("positiveIou", c.positive_iou);
  v("negativeIou", c.negative_iou);
  v("negativeInclusive", c.negative_inclusive);
  v("lowQuality", c.low_quality);
  v("lowQualityMinIou", c.low_quality_min_iou);
  v.choice("outside", c.outside,
           {{"background", OutsideRule::kBackground},
            {"ignoreBackground", OutsideRule::kIgnoreBackground},
            {"ignoreAll", OutsideRule::kIgnoreAll}});
  v("atssTopk", c.atss_topk);
  v("atssCentreInBox", c.atss_centre_in_box);
}

template <class V, class C>
void coder_fields(V& v, C& c) {
  v.choice("kind", c.corner, {{"corner", true}, {"centre", false}});
  v("weights", c.weights);
  v("clamp", c.clamp);
}

template <class V, class C>
void loss_fields(V& v, C& c) {
  v("alpha", c.alpha);
  v("gamma", c.gamma);
  v.choice("box", c.box,
           {{"l1", BoxLossKind::kL1},
            {"smooth_l1", BoxLossKind::kSmoothL1},
            {"giou", BoxLossKind::kGiou},
            {"diou", BoxLossKind::kDiou},
            {"ciou", BoxLossKind::kCiou}});
  v("boxBeta", c.box_beta);
  v("classificationWeight", c.classification_weight);
  v("boxWeight", c.box_weight);
  v.choice("normaliser", c.normaliser,
           {{"per_image", Normaliser::kPerImage},
            {"batch", Normaliser::kBatch},
            {"ema", Normaliser::kEma}});
  v("emaMomentum", c.ema_momentum);
  v("emaStart", c.ema_start);
}

template <class V, class C>
void post_fields(V& v, C& c) {
  v("scoreThreshold", c.score_threshold);
  v("topkPerLevel", c.topk_per_level);
  v("nmsIou", c.nms_iou);
  v("agnostic", c.agnostic);
  v("bestClassOnly", c.best_class_only);
  v("maxDetections", c.max_detections);
  v("minSize", c.min_size);
  v.choice("clip", c.clip,
           {{"image", ClipRule::kImage},
            {"canvasMinusOne", ClipRule::kCanvasMinusOne},
            {"none", ClipRule::kNone}});
}

template <class V, class C>
void detector_fields(V& v, C& c) {
  v.object("model", [&](auto& inner) { model_fields(inner, c.model); });
  v.object("anchors", [&](auto& inner) { anchor_fields(inner, c.anchors); });
  v.object("matcher", [&](auto& inner) { matcher_fields(inner, c.matcher); });
  v.object("coder", [&](auto& inner) { coder_fields(inner, c.coder); });
  v.object("loss", [&](auto& inner) { loss_fields(inner, c.loss); });
  v.object("post", [&](auto& inner) { post_fields(inner, c.post); });
}

template <class V, class C>
void optimizer_fields(V& v, C& c) {
  v.choice("kind", c.kind,
           {{"sgd", OptimizerKind::kSgd},
            {"adam", OptimizerKind::kAdam},
            {"adamw", OptimizerKind::kAdamW}});
  v("momentum", c.momentum);
  v("nesterov", c.nesterov);
  v("beta1", c.beta1);
  v("beta2", c.beta2);
  v("eps", c.eps);
  v("epsOutsideBiasCorrection", c.eps_outside_bias_correction);
  v("decayNorms", c.decay_norms);
}

template <class V, class C>
void session_fields(V& v, C& c) {
  v.object("detector", [&](auto& inner) { detector_fields(inner, c.detector); });
  v.object("optimizer", [&](auto& inner) { optimizer_fields(inner, c.optimizer); });
  v("device", c.device);
  v("seed", c.seed);
  v("deterministic", c.deterministic);
  v.choice("precision", c.precision,
           {{"fp32", Precision::kFp32}, {"bf16", Precision::kBf16}, {"fp16", Precision::kFp16}});
}

void require(bool holds, const std::string& key, const std::string& message) {
  if (!holds) fail(key, message);
}

template <class T>
std::string text(T value) {
  return Json(value).dump();
}

template <class T>
void require_range(T value, T low, T high, const std::string& key) {
  require(value >= low && value <= high, key,
          "expected " + text(low) + " to " + text(high) + ", got " + text(value));
}

void require_positive(const std::vector<double>& list, const std::string& key) {
  require(!list.empty(), key, "expected at least one number, got none");
  for (double value : list)
    require(std::isfinite(value) && value > 0, key, "expected numbers above 0, got " + text(value));
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

void check(const ModelConfig& c) {
  const std::string m = "detector.model.";
  const auto& names = backbone_names();
  require(std::find(names.begin(), names.end(), c.backbone) != names.end(), m + "backbone",
          "expected one of " + joined(names) + ", got " + text(c.backbone));
  require(c.channels == 1 || c.channels == 3, m + "channels",
          "expected 1 or 3, got " + text(c.channels));
  require_range(c.stem_width, 1, 1024, m + "stemWidth");
  require_range(c.norm_eps, 0.0, 1.0, m + "normEps");
  require(!c.levels.empty(), m + "levels", "expected at least one level, got none");
  for (size_t i = 0; i < c.levels.size(); ++i) {
    require_range(c.levels[i], 2, 8, m + "levels");
    require(i == 0 || c.levels[i] == c.levels[i - 1] + 1, m + "levels",
            "expected an unbroken ascending list, got " + text(c.levels));
  }
  require(c.levels[0] <= 6, m + "levels",
          "P" + text(c.levels[0]) + " is computed from P" + text(c.levels[0] - 1) +
              ", which is not in the list " + text(c.levels));
  require(c.levels[0] <= 5 || c.p6_from_c5, m + "p6Source",
          "P6 from P5 needs level 5 in levels, got " + text(c.levels));
  require_range(c.fpn_channels, 1, 4096, m + "fpnChannels");
  require_range(c.head_depth, 0, 16, m + "headDepth");
  require_range(c.classes, 1, 100000, m + "classes");
  require(c.prior > 0 && c.prior < 1, m + "prior",
          "expected a number between 0 and 1, got " + text(c.prior));
  require_range(c.frozen_stages, 0, 5, m + "frozenStages");
}

void check(const AnchorConfig& c, size_t levels) {
  const std::string a = "detector.anchors.";
  const auto per_level = [&](const std::vector<double>& list, const std::string& key) {
    require_positive(list, key);
    require(list.size() == levels, key,
            "expected one per level (" + text(levels) + "), got " + text(list.size()));
  };
  per_level(c.sizes, a + "sizes");
  per_level(c.strides, a + "strides");
  require_positive(c.scales, a + "scales");
  require_positive(c.ratios, a + "ratios");
  require(c.scales.size() * c.ratios.size() <= 32, a + "scales",
          "expected at most 32 anchors per cell (scales x ratios), got " +
              text(c.scales.size() * c.ratios.size()));
  require_range(c.offset, 0.0, 1.0, a + "offset");
}

void check(const MatcherConfig& c) {
  const std::string m = "detector.matcher.";
  require_range(c.positive_iou, 0.f, 1.f, m + "positiveIou");
  require_range(c.negative_iou, 0.f, c.positive_iou, m + "negativeIou");
  require_range(c.low_quality_min_iou, 0.f, 1.f, m + "lowQualityMinIou");
  require(c.atss_topk >= 1, m + "atssTopk", "expected at least 1, got " + text(c.atss_topk));
}

void check(const CoderConfig& c) {
  for (float weight : c.weights)
    require(std::isfinite(weight) && weight > 0, "detector.coder.weights",
            "expected numbers above 0, got " + text(weight));
}

void check(const LossConfig& c, const std::string& l) {
  require_range(c.alpha, 0.0, 1.0, l + "alpha");
  require(std::isfinite(c.gamma) && c.gamma >= 0, l + "gamma",
          "expected at least 0, got " + text(c.gamma));
  require(std::isfinite(c.box_beta) && c.box_beta >= 0, l + "boxBeta",
          "expected at least 0, got " + text(c.box_beta));
  require(std::isfinite(c.classification_weight) && c.classification_weight >= 0,
          l + "classificationWeight", "expected at least 0, got " + text(c.classification_weight));
  require(std::isfinite(c.box_weight) && c.box_weight >= 0, l + "boxWeight",
          "expected at least 0, got " + text(c.box_weight));
  require_range(c.ema_momentum, 0.0, 1.0, l + "emaMomentum");
  require(c.ema_start > 0, l + "emaStart", "expected a number above 0, got " + text(c.ema_start));
}

void check(const PostConfig& c, const std::string& p) {
  require_range(c.score_threshold, 0.f, 1.f, p + "scoreThreshold");
  require(!c.topk_per_level || *c.topk_per_level >= 1, p + "topkPerLevel",
          "expected at least 1, or null");
  require_range(c.nms_iou, 0.f, 1.f, p + "nmsIou");
  require(c.max_detections >= 1, p + "maxDetections",
          "expected at least 1, got " + text(c.max_detections));
  require(c.min_size >= 0, p + "minSize", "expected at least 0, got " + text(c.min_size));
}

void check(const OptimizerConfig& c) {
  const auto below_one = [](double value, const std::string& key) {
    require(value >= 0 && value < 1, key, "expected 0 or more and less than 1, got " + text(value));
  };
  below_one(c.momentum, "optimizer.momentum");
  below_one(c.beta1, "optimizer.beta1");
  below_one(c.beta2, "optimizer.beta2");
  require(c.eps > 0, "optimizer.eps", "expected a number above 0, got " + text(c.eps));
  require(!c.nesterov || c.momentum > 0, "optimizer.nesterov", "needs a momentum above 0");
}

Json parse_text(const std::string& text) {
  Json root = Json::parse(text, nullptr, false);
  if (root.is_discarded()) throw Error("CONFIG", "configuration: not valid JSON");
  return root;
}

}  // namespace

SessionConfig parse_session_config(const std::string& json) {
  const Json root = parse_text(json);
  SessionConfig config{};
  Reader reader(root, "");
  session_fields(reader, config);
  reader.finish();
  check(config.detector.model);
  check(config.detector.anchors, config.detector.model.levels.size());
  check(config.detector.matcher);
  check(config.detector.coder);
  check(config.detector.loss, "detector.loss.");
  check(config.detector.post, "detector.post.");
  check(config.optimizer);
  require(config.precision != Precision::kFp16 || config.device.starts_with("cuda"), "precision",
          "fp16 needs a CUDA device, use bf16 or fp32 on " + config.device);
  return config;
}

ModelConfig parse_model_config(const std::string& json) {
  const Json root = parse_text(json);
  ModelConfig config{};
  Reader reader(root, "detector.model");
  model_fields(reader, config);
  reader.finish();
  check(config);
  return config;
}

DetectorConfig parse_detector_parts(const std::string& json) {
  const Json root = parse_text(json);
  DetectorConfig config{};
  Reader reader(root, "");
  const auto part = [&](const char* key, auto walk) {
    if (reader.has(key)) reader.object(key, walk);
  };
  part("model", [&](auto& inner) { model_fields(inner, config.model); });
  part("anchors", [&](auto& inner) { anchor_fields(inner, config.anchors); });
  part("matcher", [&](auto& inner) { matcher_fields(inner, config.matcher); });
  part("coder", [&](auto& inner) { coder_fields(inner, config.coder); });
  part("loss", [&](auto& inner) { loss_fields(inner, config.loss); });
  part("post", [&](auto& inner) { post_fields(inner, config.post); });
  reader.finish();
  return config;
}

SessionUpdate parse_session_update(const std::string& json) {
  const Json root = parse_text(json);
  SessionUpdate update;
  Reader reader(root, "");
  if (reader.has("frozenStages")) {
    int stages = 0;
    reader("frozenStages", stages);
    require_range(stages, 0, 5, "frozenStages");
    update.frozen_stages = stages;
  }
  if (reader.has("checkpointActivations")) {
    Recompute value{};
    reader("checkpointActivations", value);
    update.checkpoint_activations = value;
  }
  if (reader.has("loss")) {
    LossConfig loss{};
    reader.object("loss", [&](auto& inner) { loss_fields(inner, loss); });
    check(loss, "loss.");
    update.loss = loss;
  }
  if (reader.has("post")) {
    PostConfig post{};
    reader.object("post", [&](auto& inner) { post_fields(inner, post); });
    check(post, "post.");
    update.post = post;
  }
  reader.finish();
  return update;
}

std::string detector_json(const DetectorConfig& config) {
  Writer writer;
  detector_fields(writer, config);
  return writer.text();
}

std::string optimizer_json(const OptimizerConfig& config) {
  Writer writer;
  optimizer_fields(writer, config);
  return writer.text();
}

}  // namespace mammo
