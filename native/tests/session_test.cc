// Whole steps: learning, resuming bit for bit, accumulation, normalisers, empty images, non-finite
// values, fp16 with its scale of the loss, bad arguments.
#include "core/session.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <filesystem>
#include <limits>

#include "check.h"
#include "configs.h"

using namespace mammo;

namespace {

constexpr int64_t kHeight = 128, kWidth = 96;

// Noise with a bright rectangle where each box is.
ImageBatch images(const std::vector<std::array<float, 4>>& boxes, uint64_t seed = 5,
                  int channels = 1) {
  const int64_t n = static_cast<int64_t>(boxes.size());
  at::Generator generator = at::detail::createCPUGenerator(seed);
  at::Tensor x = at::empty({n, channels, kHeight, kWidth}).normal_(0, 0.3, generator);
  ImageBatch batch{{kHeight, kWidth}, {}, std::nullopt, std::nullopt};
  for (int64_t i = 0; i < n; ++i) {
    const auto& b = boxes[i];
    if (b[2] > b[0]) {
      x[i].slice(1, static_cast<int64_t>(b[1]), static_cast<int64_t>(b[3]))
          .slice(2, static_cast<int64_t>(b[0]), static_cast<int64_t>(b[2]))
          .add_(3);
    }
    batch.sizes.insert(batch.sizes.end(), {kHeight, kWidth});
  }
  batch.input.emplace(x.data_ptr<float>(), x.data_ptr<float>() + x.numel());
  return batch;
}

// One box per image, of class i % 2; an empty box means an image without any.
TargetBatch targets(const std::vector<std::array<float, 4>>& boxes) {
  TargetBatch t;
  t.box_offsets.push_back(0);
  t.ignore_offsets.assign(boxes.size() + 1, 0);
  for (size_t i = 0; i < boxes.size(); ++i) {
    if (boxes[i][2] > boxes[i][0]) {
      t.boxes.insert(t.boxes.end(), boxes[i].begin(), boxes[i].end());
      t.labels.push_back(static_cast<int32_t>(i % 2));
    }
    t.box_offsets.push_back(static_cast<int32_t>(t.labels.size()));
  }
  return t;
}

const std::vector<std::array<float, 4>> kTwo{{10, 20, 50, 64}, {40, 60, 90, 110}};
constexpr std::array<float, 4> kNone{0, 0, 0, 0};

StepOptions options(double lr = 1e-3) {
  return {lr, 0.01, 10.0, std::nullopt, std::nullopt, 1, true, true};
}

std::vector<float> all_weights(const Session& session) {
  std::vector<float> all;
  for (const ParameterInfo& p : session.parameters()) {
    const std::vector<float> data = session.get_tensor(p.name).data;
    all.insert(all.end(), data.begin(), data.end());
  }
  return all;
}

std::map<std::string, std::vector<float>> all_gradients(const Session& session) {
  std::map<std::string, std::vector<float>> all;
  for (const ParameterInfo& p : session.parameters()) {
    if (p.trainable) all[p.name] = session.get_gradient(p.name).data;
  }
  return all;
}

// Largest difference relative to the largest gradient of the same parameter.
double gradient_distance(const std::map<std::string, std::vector<float>>& a,
                         const std::map<std::string, std::vector<float>>& b) {
  double worst = 0;
  for (const auto& [name, x] : a) {
    double top = 1e-8, difference = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      top = std::max(top, std::abs(static_cast<double>(x[i])));
      difference = std::max(difference, std::abs(static_cast<double>(x[i]) - b.at(name)[i]));
    }
    worst = std::max(worst, difference / top);
  }
  return worst;
}

void overfits() {
  Session session(test::tiny_config());
  const ImageBatch batch = images(kTwo);
  const TargetBatch truth = targets(kTwo);
  const double first = session.evaluate_loss(batch, truth).loss;
  StepResult last{};
  for (int i = 0; i < 150; ++i) last = session.train_step(batch, truth, options(3e-3));
  EXPECT(last.finite && last.updated && last.positives > 0);
  const double after = session.evaluate_loss(batch, truth).loss;
  EXPECT(after < 0.25 * first);
  const Detections found = session.detect(batch);
  EXPECT_EQUAL(found.offsets.size(), 3u);
  for (size_t i = 0; i < 2; ++i) {
    const int32_t best = found.offsets[i];
    EXPECT(found.offsets[i + 1] > best);
    if (found.offsets[i + 1] <= best) continue;
    EXPECT_EQUAL(found.labels[best], static_cast<int32_t>(i));
    for (int j = 0; j < 4; ++j) EXPECT_NEAR(found.boxes[4 * best + j], kTwo[i][j], 6);
  }
}

void resumes_bit_for_bit() {
  for (const OptimizerKind kind : {OptimizerKind::kAdamW, OptimizerKind::kSgd}) {
    SessionConfig config = test::tiny_config();
    config.detector.model.norm = NormPolicy::kTrain;
    config.optimizer.kind = kind;
    const ImageBatch batch = images(kTwo);
    const TargetBatch truth = targets(kTwo);
    const std::string path =
        (std::filesystem::temp_directory_path() / ("mammo-resume-" + std::to_string(::getpid())))
            .string();
    Session straight(config);
    for (int i = 0; i < 3; ++i) straight.train_step(batch, truth, options());
    straight.save_checkpoint(path, "{\"note\":\"é\"}");
    config.seed = 99;
    Session resumed(config);
    resumed.train_step(batch, truth, options());
    EXPECT_EQUAL(resumed.load_checkpoint(path, LoadWhat::kAll).metadata, "{\"note\":\"é\"}");
    for (int i = 0; i < 3; ++i) {
      const StepResult a = straight.train_step(batch, truth, options()),
                       b = resumed.train_step(batch, truth, options());
      EXPECT_EQUAL(a.loss, b.loss);
      EXPECT_EQUAL(a.grad_norm, b.grad_norm);
    }
    EXPECT(all_weights(straight) == all_weights(resumed));
    std::filesystem::remove(path);
  }
}

// The average follows its formula, evaluation uses it, training does not, a checkpoint holds both.
void averages_weights() {
  SessionConfig config = test::tiny_config();
  config.detector.model.norm = NormPolicy::kTrain;
  const ImageBatch batch = images(kTwo);
  const TargetBatch truth = targets(kTwo);
  const std::string path =
      (std::filesystem::temp_directory_path() / ("mammo-average-" + std::to_string(::getpid())))
          .string();
  StepOptions o = options();
  o.ema_decay = 0.75;
  Session averaged(config), plain(config);
  std::vector<float> wanted;
  for (int i = 0; i < 4; ++i) {
    averaged.train_step(batch, truth, o);
    plain.train_step(batch, truth, options());
    const std::vector<float> now = all_weights(plain);
    if (wanted.empty()) wanted = now;
    for (size_t j = 0; j < now.size(); ++j) wanted[j] += 0.25f * (now[j] - wanted[j]);
  }
  EXPECT(all_weights(averaged) == all_weights(plain));
  averaged.save_checkpoint(path, "{}");
  Session reader(config);
  reader.load_checkpoint(path, LoadWhat::kWeights);
  const std::vector<float> got = all_weights(reader);
  double worst = 0;
  for (size_t j = 0; j < got.size(); ++j)
    worst = std::max(worst, static_cast<double>(std::abs(got[j] - wanted[j])));
  EXPECT(worst < 1e-6);
  EXPECT(reader.forward(batch).logits == averaged.forward(batch).logits);
  EXPECT(plain.forward(batch).logits != averaged.forward(batch).logits);
  EXPECT_EQUAL(averaged.evaluate_loss(batch, truth).per_image[0],
               reader.evaluate_loss(batch, truth).per_image[0]);
  EXPECT(reader.detect(batch).scores == averaged.detect(batch).scores);
  EXPECT(all_weights(averaged) == all_weights(plain));  // looking changed nothing

  Session resumed(config);
  resumed.load_checkpoint(path, LoadWhat::kAll);
  EXPECT(all_weights(resumed) == all_weights(averaged));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQUAL(averaged.train_step(batch, truth, o).loss,
                 resumed.train_step(batch, truth, o).loss);
  }
  EXPECT(resumed.forward(batch).logits == averaged.forward(batch).logits);
  // A checkpoint without averages ends them.
  plain.save_checkpoint(path, "{}");
  resumed.load_checkpoint(path, LoadWhat::kAll);
  EXPECT(resumed.forward(batch).logits == plain.forward(batch).logits);
  std::filesystem::remove(path);
}

void accumulation_equals_the_big_batch() {
  SessionConfig config = test::tiny_config();
  config.detector.loss.normaliser = Normaliser::kPerImage;
  Session big(config), small(config);
  StepOptions o = options();
  o.update = false;
  big.train_step(images(kTwo), targets(kTwo), o);
  o.loss_scale = 0.5;
  ImageBatch both = images(kTwo);
  const TargetBatch truth = targets(kTwo);
  const size_t size = both.input->size() / 2;
  for (size_t i = 0; i < 2; ++i) {
    ImageBatch one{
        both.canvas,
        {kHeight, kWidth},
        std::nullopt,
        std::vector<float>(both.input->begin() + i * size, both.input->begin() + (i + 1) * size)};
    TargetBatch t = targets({kTwo[i]});
    t.labels = {truth.labels[i]};
    const StepResult r = small.train_step(one, t, o);
    EXPECT(!r.updated && std::isnan(r.grad_norm));
  }
  EXPECT(gradient_distance(all_gradients(big), all_gradients(small)) < 1e-4);
  big.zero_gradients();
  for (const auto& [name, gradient] : all_gradients(big)) {
    for (const float g : gradient) EXPECT_EQUAL(g, 0.f);
  }
}

// Sums of the per-image values with each normaliser's own divisor, negative images included.
void normalisers() {
  const std::vector<std::array<float, 4>> boxes{kTwo[0], kNone};
  SessionConfig config = test::tiny_config();
  std::vector<StepResult> results;
  for (const Normaliser n : {Normaliser::kPerImage, Normaliser::kBatch, Normaliser::kEma}) {
    config.detector.loss.normaliser = n;
    Session session(config);
    StepOptions o = options();
    o.update = false;
    results.push_back(session.train_step(images(boxes), targets(boxes), o));
  }
  const auto& s = results[0].per_image;
  const double positives = static_cast<double>(results[0].positives);
  EXPECT(positives > 1 && s[1] > 0);
  EXPECT_NEAR(results[0].classification, (s[0] / positives + s[1]) / 2, 1e-9);
  EXPECT_NEAR(results[1].classification, (s[0] + s[1]) / positives, 1e-9);
  EXPECT_NEAR(results[2].classification, (s[0] + s[1]) / (0.9 * 100 + 0.1 * positives), 1e-9);
  EXPECT_NEAR(results[0].box * 2, results[1].box, 1e-9);
  EXPECT_NEAR(results[0].loss, results[0].classification + results[0].box, 1e-12);
}

void images_without_boxes_teach() {
  Session session(test::tiny_config());
  StepOptions o = options();
  o.update = false;
  const StepResult r = session.train_step(images({kNone, kNone}), targets({kNone, kNone}), o);
  EXPECT(r.finite && r.loss > 0 && r.box == 0 && r.positives == 0);
  double classification = 0, box = 0;
  for (const auto& [name, gradient] : all_gradients(session)) {
    for (const float g : gradient)
      (name.starts_with("head.box") ? box : classification) += std::abs(g);
  }
  EXPECT(classification > 0 && std::isfinite(classification));
  EXPECT_EQUAL(box, 0);
  EXPECT(session.train_step(images({kNone}), targets({kNone}), options()).updated);
}

// The box tower runs on windows around the positives. Two boxes in opposite corners make one window
// of the whole map, either alone a small one: the gradients must add up.
void box_windows_are_exact() {
  SessionConfig config = test::tiny_config();
  config.detector.model.levels = {2, 3, 4};
  config.detector.anchors.sizes = {16, 32, 64};
  config.detector.anchors.strides = {4, 8, 16};
  config.detector.loss.normaliser = Normaliser::kPerImage;
  config.detector.matcher.low_quality = false;
  config.detector.matcher.outside = OutsideRule::kBackground;
  const std::array<float, 4> near{8, 8, 24, 24}, far{70, 100, 86, 116};
  StepOptions o = options();
  o.update = false;
  // Sum of two single-box steps on the same image, against one step with both boxes; per-image
  // divisors undone by the scale.
  const auto box_gradients = [&](const std::vector<std::array<float, 4>>& boxes) {
    Session session(config);
    TargetBatch t;
    for (const auto& b : boxes) {
      t.boxes.insert(t.boxes.end(), b.begin(), b.end());
      t.labels.push_back(0);
    }
    t.box_offsets = {0, static_cast<int32_t>(boxes.size())};
    t.ignore_offsets = {0, 0};
    const ImageBatch image = images({near});
    StepOptions scaled = o;
    scaled.loss_scale = static_cast<double>(session.evaluate_loss(image, t).positives);
    session.train_step(image, t, scaled);
    std::map<std::string, std::vector<float>> g = all_gradients(session);
    std::erase_if(g, [](const auto& item) { return !item.first.starts_with("head.box"); });
    return g;
  };
  const auto whole = box_gradients({near, far});
  auto sum = box_gradients({near});
  for (auto& [name, gradient] : box_gradients({far})) {
    for (size_t i = 0; i < gradient.size(); ++i) sum.at(name)[i] += gradient[i];
  }
  EXPECT(gradient_distance(whole, sum) < 1e-4);
}

void non_finite_is_seen_before_the_update() {
  Session session(test::tiny_config());
  std::vector<float> bias = session.get_tensor("head.cls.logits.bias").data;
  bias[0] = std::numeric_limits<float>::infinity();
  session.set_tensor("head.cls.logits.bias", bias);
  const std::vector<float> before = all_weights(session);
  StepOptions o = options();
  StepResult r = session.train_step(images(kTwo), targets(kTwo), o);
  EXPECT(!r.finite && !r.updated);
  EXPECT(all_weights(session) == before);
  o.skip_non_finite = false;
  r = session.train_step(images(kTwo), targets(kTwo), o);
  EXPECT(!r.finite && r.updated);
}

void freezing_is_complete() {
  SessionConfig config = test::tiny_config();
  config.detector.model.frozen_stages = 5;
  config.optimizer.decay_norms = true;
  Session session(config);
  const auto snapshot = [&] {
    std::map<std::string, std::vector<float>> all;
    for (const ParameterInfo& p : session.parameters())
      all[p.name] = session.get_tensor(p.name).data;
    return all;
  };
  const auto before = snapshot();
  session.train_step(images(kTwo), targets(kTwo), options());
  for (const auto& [name, data] : snapshot())
    EXPECT_EQUAL(data != before.at(name), !name.starts_with("backbone."));
  EXPECT_THROWS("ARGUMENT", "not trained", session.get_gradient("backbone.conv1.weight"));
  session.update(R"({"frozenStages": 2})");
  session.train_step(images(kTwo), targets(kTwo), options());
  const auto after = snapshot();
  EXPECT(after.at("backbone.layer1.0.conv1.weight") == before.at("backbone.layer1.0.conv1.weight"));
  EXPECT(after.at("backbone.layer2.0.conv1.weight") != before.at("backbone.layer2.0.conv1.weight"));
}

void checkpointing_and_bf16_agree() {
  SessionConfig config = test::tiny_config();
  StepOptions o = options();
  o.update = false;
  Session plain(config);
  const StepResult a = plain.train_step(images(kTwo), targets(kTwo), o);
  for (const Recompute recompute : {Recompute::kEarly, Recompute::kAll}) {
    config.detector.model.checkpoint_activations = recompute;
    Session saving(config);
    EXPECT_EQUAL(saving.train_step(images(kTwo), targets(kTwo), o).loss, a.loss);
    EXPECT(gradient_distance(all_gradients(plain), all_gradients(saving)) < 1e-5);
  }
  config.precision = Precision::kBf16;
  Session half(config);
  EXPECT_NEAR(half.train_step(images(kTwo), targets(kTwo), o).loss, a.loss, 0.02 * a.loss);
}

// What the parser refuses on a CPU, since it is slow there; the steps are the same on both devices.
SessionConfig fp16_config() {
  SessionConfig config = test::tiny_config();
  config.precision = Precision::kFp16;
  return config;
}

// Euclidean distance of all gradients together, relative to their norm.
double mean_distance(const std::map<std::string, std::vector<float>>& a,
                     const std::map<std::string, std::vector<float>>& b) {
  double apart = 0, norm = 0;
  for (const auto& [name, x] : a) {
    for (size_t i = 0; i < x.size(); ++i) {
      apart += std::pow(x[i] - b.at(name)[i], 2);
      norm += std::pow(x[i], 2);
    }
  }
  return std::sqrt(apart / norm);
}

void fp16_scales_the_loss() {
  SessionConfig config = test::tiny_config();
  for (const double factor : {1., 1e-5}) {  // with 1e-5 unscaled gradients would vanish
    StepOptions o = options();
    o.update = false;
    o.loss_scale = factor;
    std::map<Precision, std::map<std::string, std::vector<float>>> gradients;
    for (const Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
      config.precision = precision;
      Session session(config);
      const StepResult r = session.train_step(images(kTwo), targets(kTwo), o);
      EXPECT_EQUAL(r.scale, precision == Precision::kFp16 ? 65536 : 1);
      gradients[precision] = all_gradients(session);
    }
    const double bf16 = mean_distance(gradients[Precision::kFp32], gradients[Precision::kBf16]);
    const double fp16 = mean_distance(gradients[Precision::kFp32], gradients[Precision::kFp16]);
    EXPECT_NEAR(fp16, 0, 0.05);
    EXPECT_NEAR(bf16, 0, 0.2);  // three bits of precision less
    EXPECT(fp16 < bf16 / 2);
  }
}

void fp16_clips_what_fp32_clips() {
  SessionConfig config = test::tiny_config();
  config.optimizer.kind = OptimizerKind::kSgd;
  Session plain(config);
  config.precision = Precision::kFp16;
  Session half(config);
  const std::vector<float> start = all_weights(plain);
  StepOptions o = options(1);
  o.weight_decay = 0;
  o.clip_value = 0.01;
  o.clip_norm_per_tensor = 0.02;
  o.clip_norm = 0.05;
  const double norm = plain.train_step(images(kTwo), targets(kTwo), o).grad_norm;
  EXPECT_NEAR(half.train_step(images(kTwo), targets(kTwo), o).grad_norm, norm, 0.02 * norm);
  const std::vector<float> x = all_weights(plain), y = all_weights(half);
  double moved = 0, apart = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    moved += std::pow(x[i] - start[i], 2);
    apart += std::pow(x[i] - y[i], 2);
  }
  EXPECT_NEAR(std::sqrt(moved), 0.05, 1e-5);
  // Clipped one by one, the tensors with the smallest and least exact gradients weigh as much as
  // any.
  EXPECT_NEAR(std::sqrt(apart / moved), 0, 0.2);
}

void fp16_backs_off_and_resumes() {
  const std::string path = std::filesystem::temp_directory_path() /
                           ("mammo-fp16-" + std::to_string(::getpid()) + ".safetensors");
  Session whole(fp16_config());
  StepOptions o = options();
  o.loss_scale = 1e5;  // far too much for half precision
  std::vector<float> before = all_weights(whole);
  double scale = 65536;
  StepResult r = whole.train_step(images(kTwo), targets(kTwo), o);
  int overflows = 0;
  for (; r.overflowed && overflows < 40; ++overflows) {
    EXPECT(r.finite && !r.updated && !std::isfinite(r.grad_norm));
    EXPECT_EQUAL(r.scale, scale);
    EXPECT(all_weights(whole) == before);
    scale /= 2;
    if (overflows == 1) whole.save_checkpoint(path, "{}");
    r = whole.train_step(images(kTwo), targets(kTwo), o);
  }
  EXPECT(overflows > 2);
  EXPECT(r.updated && r.scale == scale);

  Session again(fp16_config());
  again.load_checkpoint(path, LoadWhat::kAll);
  for (int i = 2; i <= overflows; ++i) r = again.train_step(images(kTwo), targets(kTwo), o);
  EXPECT(r.updated);
  EXPECT_EQUAL(r.scale, scale);
  EXPECT(all_weights(again) == all_weights(whole));

  Session other(test::tiny_config());
  EXPECT_THROWS("CHECKPOINT", "precision", other.load_checkpoint(path, LoadWhat::kAll));
  other.save_checkpoint(path, "{}");
  EXPECT_THROWS("CHECKPOINT", "lossScale.factor is missing",
                again.load_checkpoint(path, LoadWhat::kAll));
  std::filesystem::remove(path);
}

void fp16_tells_broken_weights_from_a_large_scale() {
  Session session(fp16_config());
  std::vector<float> bias = session.get_tensor("head.cls.logits.bias").data;
  bias[0] = std::numeric_limits<float>::quiet_NaN();
  session.set_tensor("head.cls.logits.bias", bias);
  const StepResult r = session.train_step(images(kTwo), targets(kTwo), options());
  EXPECT(!r.finite && !r.updated && !r.overflowed);
  EXPECT_EQUAL(session.train_step(images(kTwo), targets(kTwo), options()).scale, 65536);
}

void raw_outputs() {
  Session session(test::tiny_config());
  const RawOutputs out = session.forward(images(kTwo));
  const int64_t total = (16 * 12 + 8 * 6 + 4 * 3) * 9;
  EXPECT((out.grids == std::vector<int32_t>{16, 12, 8, 6, 4, 3}));
  EXPECT_EQUAL(out.logits.size(), static_cast<size_t>(2 * total * 2));
  EXPECT_EQUAL(out.deltas.size(), static_cast<size_t>(2 * total * 4));
  EXPECT_EQUAL(out.anchors.size(), static_cast<size_t>(total * 4));
}

void windows_reach_the_network() {
  Session session(test::tiny_config());
  ImageBatch batch{{64, 64}, {64, 48}, WindowBatch{}, std::nullopt};
  WindowBatch& w = *batch.windows;
  w.pixels.assign(64 * 48, 40000);  // above 32767: the sign bit of int16
  w.shapes = {64, 48};
  w.affines = {1, 0, 0, 0, 1, 0};
  w.reduce = {0};
  w.normalise = {20000, 10000};
  w.intensity = {1, 0, 1, 0};
  w.noise_seed = {0};
  const std::vector<float> x = session.preprocess(batch);
  EXPECT_EQUAL(x.size(), 64u * 64u);
  EXPECT_NEAR(x[64 * 30 + 20], 2, 1e-6);
  EXPECT_NEAR(x[64 * 30 + 60], -2, 1e-6);  // padding is normalised raw 0
  w.pixels.pop_back();
  EXPECT_THROWS("ARGUMENT", "windows.pixels", session.preprocess(batch));
}

void bad_arguments() {
  Session session(test::tiny_config());
  const ImageBatch good = images(kTwo);
  const auto step = [&](const ImageBatch& b, const TargetBatch& t) {
    session.train_step(b, t, options());
  };
  ImageBatch b = good;
  b.input->pop_back();
  EXPECT_THROWS("ARGUMENT", "input: expected", step(b, targets(kTwo)));
  b = good;
  b.sizes[1] = kWidth + 1;
  EXPECT_THROWS("ARGUMENT", "sizes[0]", step(b, targets(kTwo)));
  b = good;
  b.input.reset();
  EXPECT_THROWS("ARGUMENT", "exactly one", step(b, targets(kTwo)));
  TargetBatch t = targets(kTwo);
  t.labels[1] = 2;
  EXPECT_THROWS("ARGUMENT", "labels[1]", step(good, t));
  t = targets(kTwo);
  t.boxes[2] = t.boxes[0];
  EXPECT_THROWS("ARGUMENT", "boxes[0]", step(good, t));
  t = targets(kTwo);
  t.boxes[5] = std::nanf("");
  EXPECT_THROWS("ARGUMENT", "boxes[1]", step(good, t));
  t = targets(kTwo);
  t.box_offsets = {0, 3, 2};
  EXPECT_THROWS("ARGUMENT", "boxOffsets", step(good, t));
  EXPECT_THROWS("ARGUMENT", "no parameter is called x", session.get_tensor("x"));
  EXPECT_THROWS("ARGUMENT", "fpn.output.3.bias: expected 16",
                session.set_tensor("fpn.output.3.bias", std::vector<float>(3)));
  SessionConfig config = test::tiny_config();
  config.device = "tpu";
  EXPECT_THROWS("CONFIG", "device", Session{config});
}

}  // namespace

int main() {
  at::set_num_threads(2);
  check::run("raw outputs", raw_outputs);
  check::run("windows reach the network", windows_reach_the_network);
  check::run("normalisers", normalisers);
  check::run("images without boxes teach", images_without_boxes_teach);
  check::run("box windows are exact", box_windows_are_exact);
  check::run("accumulation equals the big batch", accumulation_equals_the_big_batch);
  check::run("averages weights", averages_weights);
  check::run("resumes bit for bit", resumes_bit_for_bit);
  check::run("non-finite is seen before the update", non_finite_is_seen_before_the_update);
  check::run("freezing is complete", freezing_is_complete);
  check::run("checkpointing and bf16 agree", checkpointing_and_bf16_agree);
  check::run("fp16 scales the loss", fp16_scales_the_loss);
  check::run("fp16 clips what fp32 clips", fp16_clips_what_fp32_clips);
  check::run("fp16 backs off and resumes", fp16_backs_off_and_resumes);
  check::run("fp16: broken weights are no overflow", fp16_tells_broken_weights_from_a_large_scale);
  check::run("bad arguments", bad_arguments);
  // Hundreds of tiny steps: on a busy machine threads would only wait for each other.
  at::set_num_threads(1);
  check::run("overfits", overfits);
  return check::failures;
}
