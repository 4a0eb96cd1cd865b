// Every backbone: size, channels, real map sizes at odd inputs, freezing, and gradients with and
// without activation checkpointing. Values against other implementations: test/parity.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include "check.h"
#include "configs.h"
#include "core/model/retinanet.h"
#include "gradients.h"

using namespace mammo;

using test::gradients;
using test::random_input;

namespace {

Retinanet make(const ModelConfig& config, at::Device device = at::kCPU) {
  return make_retinanet(config, 9, at::detail::createCPUGenerator(1), device);
}

ModelConfig config_of(const std::string& backbone, NormPolicy norm) {
  ModelConfig c = test::tiny_config().detector.model;
  c.backbone = backbone;
  c.stem_width = 64;
  c.norm = norm;
  return c;
}

// Sizes that the publications' implementations have (torchvision 0.29, timm 1.0,
// keras-applications; retinanet spec 1.5), three input channels: all parameters of the body up to
// the last tap, without running statistics. DenseNet without its final norm; ConvNeXt with our four
// tap norms (2 * 1440).
void published_sizes() {
  const std::vector<std::pair<std::string, int64_t>> table{
      {"resnet18", 11'166'912 + 2 * 4800},
      {"resnet34", 21'267'648 + 2 * 8512},
      {"resnet50", 23'454'912 + 2 * 26'560},
      {"resnet101", 42'394'816 + 2 * 52'672},
      {"resnet152", 57'992'384 + 2 * 75'712},
      {"resnext50_32x4d", 22'911'680 + 2 * 34'112},
      {"resnext101_32x8d", 86'539'456 + 2 * 101'440},
      {"vgg16", 14'714'688},
      {"vgg19", 20'024'384},
      {"densenet121", 6'870'208 + 2 * (41'824 - 1024)},
      {"mobilenet_v2", 2'189'760 + 2 * 17'056},
      // torchvision's whole networks less their classifiers.
      {"vgg16_bn", 138'365'992 - 123'642'856},
      {"vgg19_bn", 143'678'248 - 123'642'856},
      {"densenet169", 14'149'480 - 1'665'000 - 2 * 1664},
      {"densenet201", 20'013'928 - 1'921'000 - 2 * 1920},
      {"mobilenet_v3_large", 5'483'032 - 2'511'080},
      {"efficientnet_b0", 5'288'548 - 1'281'000},
      {"efficientnet_b1", 7'794'184 - 1'281'000},
      {"efficientnet_b2", 9'109'994 - 1'409'000},
      {"efficientnet_b3", 12'233'232 - 1'537'000},
      {"efficientnet_b4", 19'341'616 - 1'793'000},
      {"efficientnet_b5", 30'389'784 - 2'049'000},
      {"efficientnet_b6", 43'040'704 - 2'305'000},
      {"efficientnet_b7", 66'347'960 - 2'561'000},
      {"convnext_tiny", 28'589'128 - 769'000 - 2 * 768 + 2 * 1440},
      // keras-applications' MobileNet without its top, less 2 running statistics per channel.
      {"mobilenet_v1_100", 3'206'976},
      // timm's networks less their classifiers.
      {"seresnet50", 28'088'024 - 2'049'000},
      {"seresnet101", 49'326'872 - 2'049'000},
      {"seresnet152", 66'821'848 - 2'049'000},
      {"seresnext50_32x4d", 27'559'896 - 2'049'000},
      {"seresnext101_32x4d", 48'955'416 - 2'049'000},
  };
  for (const auto& [backbone, size] : table) {
    ModelConfig c = config_of(backbone, NormPolicy::kFrozen);
    c.channels = 3;
    c.levels = {2, 3, 4, 5};
    int64_t count = 0;
    for (const Parameter& p : make(c, at::kMeta).parameters) {
      if (p.name.starts_with("backbone.") && p.role != Role::kBuffer) count += p.value.numel();
    }
    if (count != size) std::printf("%s\n", backbone.c_str());
    EXPECT_EQUAL(count, size);
  }
}

// Retinanet spec 2.2.
void floored_sizes() {
  const auto anchors = [](const std::string& backbone, int64_t rows, int64_t columns) {
    ModelConfig c = config_of(backbone, NormPolicy::kFrozen);
    c.levels = {3, 4, 5, 6, 7};
    int64_t total = 0;
    for (const GridSize& grid : grid_sizes(make(c, at::kMeta), {rows, columns}))
      total += grid[0] * grid[1] * 9;
    return total;
  };
  EXPECT_EQUAL(anchors("resnet50", 200, 400), 15'318);
  EXPECT_EQUAL(anchors("densenet121", 200, 400), 14'814);
  EXPECT_EQUAL(anchors("resnet50", 1024, 363), 70'776);
  EXPECT_EQUAL(anchors("mobilenet_v1_100", 1024, 363), 68'760);
}

void maps_have_the_announced_sizes() {
  for (const std::string& backbone : backbone_names()) {
    const ModelConfig c = config_of(backbone, NormPolicy::kGroup);
    const Retinanet net = make(c);
    at::NoGradGuard no_grad;
    const Taps taps = backbone_forward(net, random_input({1, 1, 101, 67}));
    const auto sizes = tap_sizes(net.backbone, {101, 67});
    for (const Tap& tap : net.backbone.taps) {
      if (tap.level < 3) continue;
      const at::Tensor& map = taps[tap.level];
      EXPECT((map.sizes() ==
              at::IntArrayRef{1, tap.channels, sizes[tap.level][0], sizes[tap.level][1]}));
      EXPECT(at::isfinite(map).all().item<bool>());
      EXPECT(map.is_contiguous(map.suggest_memory_format()));
    }
  }
}

void checkpointed_gradients_are_the_same() {
  for (const std::string backbone :
       {"resnext50_32x4d", "seresnet50", "vgg16_bn", "densenet121", "mobilenet_v1_025",
        "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "convnext_tiny"}) {
    using Case =
        std::tuple<NormPolicy, int, Recompute, size_t>;  // ..., frozen stages, ..., at once
    for (const auto& [norm, frozen, recompute, at_once] :
         std::vector<Case>{{NormPolicy::kGroup, 0, Recompute::kAll, 4},
                           {NormPolicy::kGroup, 3, Recompute::kAll, 4},
                           {NormPolicy::kGroup, 0, Recompute::kEarly, 4},
                           {NormPolicy::kTrain, 0, Recompute::kAll, 4},
                           {NormPolicy::kTrain, 3, Recompute::kAll, 4},
                           {NormPolicy::kTrain, 0, Recompute::kEarly, 1},
                           {NormPolicy::kFrozen, 0, Recompute::kEarly, 4},
                           {NormPolicy::kFrozen, 2, Recompute::kEarly, 1}}) {
      ModelConfig c = config_of(backbone, norm);
      c.frozen_stages = frozen;
      const Retinanet plain = make(c), saving = make(c);
      const at::Tensor x = random_input({2, 1, 96, 64});
      const auto a = gradients(plain, x, frozen, Recompute::kNothing),
                 b = gradients(saving, x, frozen, recompute, at_once);
      EXPECT_EQUAL(a.size(), b.size());
      for (const auto& [name, gradient] : a) {
        EXPECT(b.contains(name));
        EXPECT_NEAR((gradient - b.at(name)).abs().max().item<double>(), 0,
                    1e-4 * (1e-3 + gradient.abs().max().item<double>()));
      }
      for (const Parameter& p : plain.parameters) {
        if (p.role == Role::kBuffer)
          EXPECT(at::equal(p.value, saving.parameters.find(p.name)->value));
        // The heads are not part of this pass, and C2 is not read.
        if (p.name.starts_with("head.")) continue;
        EXPECT_EQUAL(a.contains(p.name), p.trainable);
      }
    }
  }
}

// The folded convolution, with and without a bias of its own, is convolution and norm.
void folding() {
  for (const std::string backbone :
       {"vgg16_bn", "mobilenet_v2", "densenet121", "efficientnet_b0"}) {
    const Retinanet net = make(config_of(backbone, NormPolicy::kTrain));
    at::NoGradGuard no_grad;
    at::Generator generator = at::detail::createCPUGenerator(99);
    for (const Parameter& p : net.parameters) {
      at::Tensor value = p.value;
      if (p.name.ends_with("running_var")) value.uniform_(0.5, 1.5, generator);
      if (p.name.ends_with("running_mean") || p.role == Role::kBias)
        value.uniform_(-0.2, 0.2, generator);
    }
    const Node& conv = net.backbone.nodes[0];
    const Node& norm = net.backbone.nodes[1];
    const at::Tensor x = random_input({1, 1, 40, 33});
    const at::Tensor expected = normalise(norm.norm, convolve(conv.conv, x), Phase::kEvaluate);
    EXPECT_NEAR(
        (convolve(conv.conv, norm.norm, x, Phase::kEvaluate) - expected).abs().max().item<double>(),
        0, 1e-5);
  }
}

void windows_count_as_pytorch() {
  for (const int kernel : {2, 3}) {
    for (const int64_t size : {7, 8, 9, 10}) {
      const SlidingWindow window{kernel, 2, Border::kValid};
      EXPECT_EQUAL(window.output(size), max_pool(at::zeros({1, 1, size, size}), window).size(2));
    }
  }
}

}  // namespace

int main() {
  check::run("published sizes", published_sizes);
  check::run("floored sizes", floored_sizes);
  check::run("maps have the announced sizes", maps_have_the_announced_sizes);
  check::run("checkpointed gradients are the same", checkpointed_gradients_are_the_same);
  check::run("folding", folding);
  check::run("windows count as PyTorch", windows_count_as_pytorch);
  return check::failures;
}
