// One measurement of the whole detector, or of the machine's matrix product, as one JSON line:
//   detector_bench WORK [--KEY VALUE]...   WORK: train, detect or matmul
// Keys with their defaults: device cpu, precision fp32, height 1024, width 1024, batch 1, frozen 0,
// checkpoint 0 (1 every block, 2 early ones), lowest 3 (pyramid level), channels 3, backbone
// resnet50, steps 10, warmup 3, seconds 20 (stop earlier), threads 1, size 8192 (of the product's
// square matrices). The mathematics is torchvision's v1 with frozen batch norms, two lesions an
// image, as in bench/trials/model.ts; GFLOP are those of the dense network, so that both can be
// compared.
#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "core/model/backbone.h"
#include "core/session.h"
#include "tests/configs.h"

using namespace mammo;

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

class Options {
 public:
  Options(int argc, char** argv) {
    for (int i = 2; i < argc; i += 2) {
      const std::string key = argv[i];
      if (!key.starts_with("--") || i + 1 == argc)
        throw Error("ARGUMENT", "expected --KEY VALUE, got " + key);
      values_[key.substr(2)] = argv[i + 1];
    }
  }
  std::string text(const std::string& key, const std::string& fallback) {
    const auto found = values_.find(key);
    if (found == values_.end()) return fallback;
    const std::string value = found->second;
    values_.erase(found);
    return value;
  }
  int64_t number(const std::string& key, int64_t fallback) {
    return std::stoll(text(key, std::to_string(fallback)));
  }
  /// After everything was read.
  void finish() const {
    if (!values_.empty()) throw Error("ARGUMENT", "unknown option --" + values_.begin()->first);
  }

 private:
  std::map<std::string, std::string> values_;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// torchvision's v1 rules.
SessionConfig torchvision_config(Options& options, bool training) {
  SessionConfig config = test::default_config();
  DetectorConfig& d = config.detector;
  d.model.backbone = options.text("backbone", "resnet50");
  d.model.channels = static_cast<int>(options.number("channels", 3));
  d.model.frozen_stages = static_cast<int>(options.number("frozen", training ? 0 : 5));
  const double recompute = options.number("checkpoint", 0);
  d.model.checkpoint_activations = recompute == 1   ? Recompute::kAll
                                   : recompute == 2 ? Recompute::kEarly
                                                    : Recompute::kNothing;
  d.model.levels.clear();
  d.anchors = {{}, {}, d.anchors.scales, d.anchors.ratios, false, true, true, 0, true};
  for (int level = static_cast<int>(options.number("lowest", 3)); level <= 7; ++level) {
    d.model.levels.push_back(level);
    d.anchors.sizes.push_back(4 << level);
    d.anchors.strides.push_back(1 << level);
  }
  d.matcher.low_quality_min_iou = 0;
  d.matcher.outside = OutsideRule::kBackground;
  d.loss.box = BoxLossKind::kL1;
  d.loss.normaliser = Normaliser::kPerImage;
  config.optimizer.kind = OptimizerKind::kSgd;
  config.deterministic = false;
  config.device = options.text("device", "cpu");
  config.precision =
      options.text("precision", "fp32") == "bf16" ? Precision::kBf16 : Precision::kFp32;
  return config;
}

/// Multiply-adds of one image: of the backbone, and of pyramid and heads.
std::array<double, 2> dense_macs(const DetectorConfig& config, int64_t height, int64_t width) {
  const ModelConfig& model = config.model;
  const Json graph = Json::parse(describe_backbone(model));
  const auto area = [&](int64_t stride) {
    return static_cast<double>(((height + stride - 1) / stride) * ((width + stride - 1) / stride));
  };
  std::map<int, std::pair<double, int64_t>> made{{-1, {model.channels, 1}}};  // channels, stride
  double body = 0;
  int index = 0;
  for (const Json& node : graph["nodes"]) {
    const auto [channels, stride] = made.at(node["inputs"][0].get<int>());
    const double out = node["channels"].get<double>();
    const int64_t out_stride = stride * node.value("stride", 1);
    if (node["op"] == "conv") {
      const double kernel = node["kernel"].get<double>();
      body += out * channels * kernel * kernel / node["groups"].get<double>() * area(out_stride);
    }
    made[index++] = {out, out_stride};
  }
  const double w = model.fpn_channels;
  double rest = 0, deepest = w;
  for (const Json& tap : graph["taps"]) {
    const int level = tap["level"].get<int>();
    const double channels = tap["channels"].get<double>();
    if (level >= model.levels.front()) rest += channels * w * area(int64_t{1} << level);
    if (level == 5) deepest = channels;
  }
  const double anchors =
      static_cast<double>(config.anchors.scales.size() * config.anchors.ratios.size());
  for (const int level : model.levels) {
    const double from = level == 6 && model.p6_from_c5 ? deepest : w;
    rest += 9 * w * area(int64_t{1} << level) *
            (from + 2 * w * model.head_depth + anchors * (model.classes + 4));
  }
  return {body, rest};
}

/// Grey noise as 16-bit windows, and two squares of 200 and 400 pixels (less on small images).
std::pair<ImageBatch, TargetBatch> noise(int64_t images, int64_t height, int64_t width) {
  ImageBatch batch{{height, width}, {}, WindowBatch{}, std::nullopt};
  TargetBatch targets;
  WindowBatch& windows = *batch.windows;
  windows.pixels.resize(static_cast<size_t>(images * height * width));
  uint32_t x = 1;
  for (uint16_t& pixel : windows.pixels) {
    x = x * 1664525u + 1013904223u;
    pixel = static_cast<uint16_t>(x >> 20);
  }
  const auto h = static_cast<int32_t>(height), w = static_cast<int32_t>(width);
  const float unit = std::min(1.f, static_cast<float>(std::min(h, w)) / 1024);
  targets.box_offsets.push_back(0);
  targets.ignore_offsets.assign(static_cast<size_t>(images + 1), 0);
  const auto append = [](auto& list, const auto& values) {
    list.insert(list.end(), values.begin(), values.end());
  };
  for (int64_t i = 0; i < images; ++i) {
    append(batch.sizes, std::array{h, w});
    append(windows.shapes, std::array{h, w});
    append(windows.affines, std::array{1.0, 0.0, 0.0, 0.0, 1.0, 0.0});
    append(windows.normalise, std::array{2048.f, 1182.f});
    append(windows.intensity, std::array{1.f, 0.f, 1.f, 0.f});
    windows.reduce.push_back(0);
    windows.noise_seed.push_back(0);
    for (const auto& [place, side] : {std::pair{0.3f, 200.f}, std::pair{0.5f, 400.f}}) {
      const float left = place * static_cast<float>(w), top = place * static_cast<float>(h);
      append(targets.boxes, std::array{left, top, left + side * unit, top + side * unit});
      targets.labels.push_back(0);
    }
    targets.box_offsets.push_back(static_cast<int32_t>(targets.labels.size()));
  }
  return {std::move(batch), std::move(targets)};
}

Json matmul(Options& options) {
  const int64_t size = options.number("size", 8192);
  const std::string device = options.text("device", "cpu");
  const bool half = options.text("precision", "fp32") == "bf16";
  configure_engine(static_cast<int>(options.number("threads", 1)));
  options.finish();
  const at::TensorOptions type =
      at::TensorOptions(at::Device(device)).dtype(half ? at::kBFloat16 : at::kFloat);
  const at::Tensor a = at::rand({size, size}, type), b = at::rand({size, size}, type);
  at::Tensor c = at::matmul(a, b);
  double best = 1e30;
  for (int round = 0; round < 5; ++round) {
    c[0][0].item<float>();
    const auto start = Clock::now();
    for (int i = 0; i < 10; ++i) at::matmul_out(c, a, b);
    c[0][0].item<float>();  // waits for the device
    best = std::min(best, seconds_since(start) / 10);
  }
  const double gflop = 2e-9 * static_cast<double>(size) * static_cast<double>(size * size);
  return {{"work", "matmul"}, {"seconds", best}, {"tflops", gflop / best / 1e3}};
}

Json detector(const std::string& work, Options& options) {
  const bool training = work == "train";
  const SessionConfig config = torchvision_config(options, training);
  const int64_t height = options.number("height", 1024), width = options.number("width", 1024),
                images = options.number("batch", 1), steps = options.number("steps", 10),
                warmup = options.number("warmup", 3);
  const double limit = static_cast<double>(options.number("seconds", 20));
  configure_engine(static_cast<int>(options.number("threads", 1)));
  options.finish();
  Session session(config);
  const auto [batch, targets] = noise(images, height, width);
  const StepOptions step{1e-4, 1e-4, std::nullopt, std::nullopt, std::nullopt, 1, true, true};
  double loss = 0;
  const auto once = [&] {
    if (training)
      loss = session.train_step(batch, targets, step).loss;
    else
      session.detect(batch);
  };
  // Reading a parameter waits for everything that was queued before.
  const std::string name = session.parameters().back().name;
  const auto wait = [&] { session.get_tensor(name); };
  for (int64_t i = 0; i < warmup; ++i) once();
  wait();
  const auto start = Clock::now();
  int64_t done = 0;
  while (done < steps && (done == 0 || seconds_since(start) < limit)) {
    once();
    ++done;
  }
  wait();
  const double seconds = seconds_since(start) / static_cast<double>(done);
  const auto [body, rest] = dense_macs(config.detector, height, width);
  const double passes = training ? 3 : 1;
  const double gflop =
      2e-9 * static_cast<double>(images) *
      ((config.detector.model.frozen_stages == 5 ? 1 : passes) * body + passes * rest);
  const MemoryUse memory = memory_use();
  const bool cuda = config.device != "cpu";
  return {{"work", work},
          {"seconds", seconds},
          {"steps", done},
          {"imagesPerSecond", static_cast<double>(images) / seconds},
          {"gflop", gflop},
          {"tflops", gflop / seconds / 1e3},
          {"peakBytes", cuda ? memory.device_peak_bytes : memory.resident_peak_bytes},
          {"loss", loss}};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) throw Error("ARGUMENT", "expected train, detect or matmul");
    const std::string work = argv[1];
    Options options(argc, argv);
    if (work != "train" && work != "detect" && work != "matmul")
      throw Error("ARGUMENT", "expected train, detect or matmul, got " + work);
    Json result = work == "matmul" ? matmul(options) : detector(work, options);
    result["libtorch"] = library_info().libtorch;
    std::cout << result.dump() << std::endl;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "detector_bench: " << error.what() << std::endl;
    return 1;
  }
}
