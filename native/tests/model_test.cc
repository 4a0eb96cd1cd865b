// The network alone: sizes of the published architectures, shapes, freezing, initialisation,
// padding, folding.
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

Retinanet make(const ModelConfig& config, uint64_t seed = 1, int anchors = 9) {
  return make_retinanet(config, anchors, at::detail::createCPUGenerator(seed), at::kCPU);
}

const Node& node(const Retinanet& net, const std::string& name) {
  for (const Node& n : net.backbone.nodes) {
    if (n.name == name) return n;
  }
  throw std::runtime_error("no node is called " + name);
}

struct Counts {
  int64_t trainable = 0, norm = 0, buffer = 0;
};

Counts count(const Retinanet& net) {
  Counts c;
  for (const Parameter& p : net.parameters) {
    if (p.trainable) c.trainable += p.value.numel();
    if (p.role == Role::kNorm) c.norm += p.value.numel();
    if (p.role == Role::kBuffer) c.buffer += p.value.numel();
  }
  return c;
}

// Statistics and affine of every norm away from 1 and 0, so that folding has something to get
// wrong.
void disturb(Retinanet& net) {
  at::NoGradGuard no_grad;
  at::Generator generator = at::detail::createCPUGenerator(99);
  for (const Parameter& p : net.parameters) {
    if (p.role != Role::kNorm && p.role != Role::kBuffer) continue;
    const bool scale = p.name.ends_with("weight") || p.name.ends_with("var");
    at::Tensor value = p.value;
    value.uniform_(scale ? 0.5 : -0.2, scale ? 1.5 : 0.2, generator);
  }
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

void published_sizes() {
  // Retinanet spec 1.5: K = 1, A = 9, P6 from C5, three channels.
  const std::vector<std::tuple<std::string, int64_t, int64_t>> table{
      {"resnet18", 4800, 19'761'645},    {"resnet34", 8512, 29'862'381},
      {"resnet50", 26'560, 36'276'717},  {"resnet101", 52'672, 55'216'621},
      {"resnet152", 75'712, 70'814'189},
  };
  for (const auto& [backbone, channels, trainable] : table) {
    ModelConfig c = test::default_config().detector.model;
    c.backbone = backbone;
    const Counts counts = count(make(c));
    EXPECT_EQUAL(counts.trainable, trainable);
    EXPECT_EQUAL(counts.norm, 2 * channels);
    EXPECT_EQUAL(counts.buffer, 2 * channels);
  }
  ModelConfig c = test::default_config().detector.model;
  c.channels = 1;
  EXPECT_EQUAL(count(make(c)).trainable, 36'276'717 - 6272);
  c.channels = 3;
  c.frozen_stages = 5;
  EXPECT_EQUAL(count(make(c)).trainable, 12'821'805);
  c.frozen_stages = 0;
  c.classes = 80;
  EXPECT_EQUAL(count(make(c)).trainable, 37'915'572);
  // torchvision v1: 91 classes, P6 from P5; v2: group norm in both towers, batch norm trained.
  c.classes = 91;
  c.p6_from_c5 = false;
  EXPECT_EQUAL(count(make(c)).trainable, 34'014'999);
  c.p6_from_c5 = true;
  c.norm = NormPolicy::kTrain;
  c.group_norm_classification = c.group_norm_box = true;
  EXPECT_EQUAL(count(make(c)).trainable, 38'198'935);
}

void shapes_of_any_levels() {
  for (const std::vector<int>& levels :
       std::vector<std::vector<int>>{{2, 3, 4}, {3, 4, 5, 6, 7}, {4, 5, 6, 7, 8}, {5}, {6, 7}}) {
    for (const Padding padding : {Padding::kSymmetric, Padding::kTf}) {
      ModelConfig c = test::tiny_config().detector.model;
      c.levels = levels;
      c.padding = padding;
      const Retinanet net = make(c);
      for (const std::array<int64_t, 2> canvas : {std::array<int64_t, 2>{128, 256}, {101, 67}}) {
        at::NoGradGuard no_grad;
        const at::Tensor x = random_input({2, 1, canvas[0], canvas[1]});
        const Taps taps = backbone_forward(net, x);
        FpnPass pyramid(net.fpn, taps, /*by_level=*/false);
        std::vector<at::Tensor> maps;
        for (size_t i = 0; i < net.fpn.levels.size(); ++i) maps.push_back(pyramid.map(i));
        const std::vector<GridSize> grids = grid_sizes(net, canvas);
        EXPECT_EQUAL(maps.size(), levels.size());
        int64_t total = 0;
        for (size_t i = 0; i < maps.size(); ++i) {
          EXPECT_EQUAL(maps[i].size(1), 16);
          EXPECT_EQUAL(maps[i].size(2), grids[i][0]);
          EXPECT_EQUAL(maps[i].size(3), grids[i][1]);
          total += grids[i][0] * grids[i][1] * 9;
        }
        const HeadOutputs out = forward(net, x);
        EXPECT((out.logits.sizes() == at::IntArrayRef{2, total, 2}));
        EXPECT((out.deltas.sizes() == at::IntArrayRef{2, total, 4}));
      }
    }
  }
}

// TensorFlow's `same` by its own rule, written out: output o reads input rows 2o - before + k.
void tf_padding_shifts_even_sizes() {
  for (const int64_t size : {8, 9}) {
    for (const int64_t kernel : {3, 7}) {
      const at::Tensor x = random_input({1, 1, size, size}),
                       w = random_input({1, 1, kernel, kernel}, 4);
      const at::Tensor y = convolve(Conv{w, {}, 2, Border::kTf}, x);
      const int64_t out = (size + 1) / 2;
      EXPECT((y.sizes() == at::IntArrayRef{1, 1, out, out}));
      const int64_t before = ((out - 1) * 2 + kernel - size) / 2;
      double worst = 0;
      for (int64_t r = 0; r < out; ++r) {
        for (int64_t c = 0; c < out; ++c) {
          double sum = 0;
          for (int64_t i = 0; i < kernel; ++i) {
            for (int64_t j = 0; j < kernel; ++j) {
              const int64_t yy = 2 * r - before + i, xx = 2 * c - before + j;
              if (yy < 0 || xx < 0 || yy >= size || xx >= size) continue;
              sum += x[0][0][yy][xx].item<double>() * w[0][0][i][j].item<double>();
            }
          }
          worst = std::max(worst, std::abs(sum - y[0][0][r][c].item<double>()));
        }
      }
      EXPECT_NEAR(worst, 0, 1e-5);
    }
  }
  const at::Tensor negative = at::full({1, 1, 4, 4}, -5.0);
  EXPECT_EQUAL(max_pool(negative, {3, 2, Border::kTf}).max().item<double>(), -5.0);
  EXPECT_EQUAL(max_pool(negative, {3, 2, Border::kSymmetric}).max().item<double>(), -5.0);
}

void frozen_norm_is_batch_norm_with_running_statistics() {
  ModelConfig c = test::tiny_config().detector.model;
  c.norm = NormPolicy::kFrozen;
  Retinanet net = make(c);
  disturb(net);
  at::NoGradGuard no_grad;
  const Conv& conv = node(net, "backbone.layer1.0.conv1").conv;
  const Norm& norm = node(net, "backbone.layer1.0.bn1").norm;
  const at::Tensor x = random_input({2, 8, 17, 13});
  const at::Tensor expected = at::batch_norm(convolve(conv, x), norm.weight, norm.bias, norm.mean,
                                             norm.variance, false, 0.1, c.norm_eps, false);
  EXPECT_NEAR(distance(convolve(conv, norm, x, Phase::kTrain), expected), 0, 1e-5);
}

void train_norm_moves_its_statistics_once() {
  ModelConfig c = test::tiny_config().detector.model;
  c.norm = NormPolicy::kTrain;
  Retinanet net = make(c);
  at::NoGradGuard no_grad;
  const Conv& conv = node(net, "backbone.layer1.0.conv1").conv;
  const Norm& norm = node(net, "backbone.layer1.0.bn1").norm;
  const at::Tensor x = random_input({2, 8, 17, 13});
  const at::Tensor y = convolve(conv, x);
  convolve(conv, norm, x, Phase::kRecompute);
  convolve(conv, norm, x, Phase::kEvaluate);
  EXPECT_EQUAL(norm.mean.abs().max().item<double>(), 0);
  const at::Tensor out = convolve(conv, norm, x, Phase::kTrain);
  EXPECT_NEAR(distance(norm.mean, 0.1 * y.mean({0, 2, 3})), 0, 1e-6);
  EXPECT_NEAR(out.mean().item<double>(), 0, 1e-5);
}

void freezing() {
  ModelConfig c = test::tiny_config().detector.model;
  for (const int frozen : {0, 1, 3, 5}) {
    c.frozen_stages = frozen;
    const Retinanet net = make(c);
    const auto grads = gradients(net, random_input({1, 1, 64, 64}), frozen, Recompute::kNothing);
    for (const Parameter& p : net.parameters) {
      if (p.name.starts_with("head.")) continue;
      EXPECT_EQUAL(grads.contains(p.name), p.trainable);
      EXPECT_EQUAL(p.trainable, !(p.stage > 0 && p.stage <= frozen));
    }
  }
  EXPECT_EQUAL(make(c).parameters.find("backbone.conv1.weight")->stage, 1);
  EXPECT_EQUAL(make(c).parameters.find("backbone.layer4.1.bn2.bias")->stage, 5);
}

void checkpointed_gradients_are_the_same() {
  for (const NormPolicy norm : {NormPolicy::kGroup, NormPolicy::kTrain, NormPolicy::kFrozen}) {
    for (const auto& [frozen, recompute] : {std::pair{0, Recompute::kAll},
                                            {2, Recompute::kAll},
                                            {0, Recompute::kEarly},
                                            {1, Recompute::kEarly},
                                            {2, Recompute::kEarly}}) {
      ModelConfig c = test::tiny_config().detector.model;
      c.norm = norm;
      if (frozen < 2) {  // C2 is a tap among the recomputed ones
        c.levels = {2, 3, 4, 5};
      }
      const Retinanet plain = make(c), saving = make(c);
      const at::Tensor x = random_input({2, 1, 64, 96});
      const auto a = gradients(plain, x, frozen, Recompute::kNothing),
                 b = gradients(saving, x, frozen, recompute);
      EXPECT_EQUAL(a.size(), b.size());
      for (const auto& [name, gradient] : a) {
        EXPECT(b.contains(name));
        EXPECT_NEAR(distance(gradient, b.at(name)), 0,
                    1e-5 * (1 + gradient.abs().max().item<double>()));
      }
      for (const Parameter& p : plain.parameters) {
        if (p.role == Role::kBuffer)
          EXPECT(at::equal(p.value, saving.parameters.find(p.name)->value));
      }
    }
  }
}

void initialisation() {
  const ModelConfig c = test::default_config().detector.model;
  const Retinanet a = make(c, 5), b = make(c, 5), other = make(c, 6);
  for (const Parameter& p : a.parameters)
    EXPECT(at::equal(p.value, b.parameters.find(p.name)->value));
  const auto value = [&](const std::string& name) { return a.parameters.find(name)->value; };
  EXPECT(!at::equal(value("backbone.conv1.weight"),
                    other.parameters.find("backbone.conv1.weight")->value));
  EXPECT_NEAR(value("head.cls.logits.bias").mean().item<double>(), -4.59511985, 1e-6);
  EXPECT_NEAR(value("head.cls.tower.2.conv.weight").std().item<double>(), 0.01, 2e-4);
  EXPECT_NEAR(value("backbone.layer2.0.conv2.weight").std().item<double>(),
              std::sqrt(2.0 / (9 * 128)), 1e-3);
  const double bound = std::sqrt(3.0 / 256 / 9);
  EXPECT_NEAR(value("fpn.output.4.weight").abs().max().item<double>(), bound, 1e-4 * bound);
}

// Three equal grey channels and one channel with the summed stem are the same function (spec 1.1).
void grey_folding() {
  ModelConfig c = test::tiny_config().detector.model;
  c.channels = 3;
  const Retinanet three = make(c);
  c.channels = 1;
  const Retinanet one = make(c, 2);
  at::NoGradGuard no_grad;
  for (const Parameter& p : one.parameters) {
    const at::Tensor& source = three.parameters.find(p.name)->value;
    at::Tensor target = p.value;
    target.copy_(p.name == "backbone.conv1.weight" ? source.sum(1, true) : source);
  }
  const at::Tensor x = random_input({1, 1, 96, 96});
  const HeadOutputs a = forward(three, x.expand({1, 3, 96, 96}).contiguous()), b = forward(one, x);
  EXPECT_NEAR(distance(a.logits, b.logits), 0, 1e-5);
  EXPECT_NEAR(distance(a.deltas, b.deltas), 0, 1e-5);
}

void bf16_stays_close() {
  ModelConfig c = test::tiny_config().detector.model;
  const Retinanet net = make(c);
  at::NoGradGuard no_grad;
  const at::Tensor x = random_input({1, 1, 96, 96});
  const HeadOutputs full = forward(net, x), half = forward(net, x.to(at::kBFloat16));
  EXPECT(half.logits.scalar_type() == at::kFloat);
  EXPECT_NEAR(distance(full.logits, half.logits), 0, 0.05);
  EXPECT_NEAR(distance(full.deltas, half.deltas), 0, 0.05);
  EXPECT(distance(full.logits, half.logits) > 0);
}

void stride_placement() {
  ModelConfig c = test::default_config().detector.model;
  c.stem_width = 4;
  Retinanet net = make(c);
  EXPECT_EQUAL(node(net, "backbone.layer2.0.conv1").conv.stride, 1);
  EXPECT_EQUAL(node(net, "backbone.layer2.0.conv2").conv.stride, 2);
  c.stride_in_1x1 = true;
  net = make(c);
  EXPECT_EQUAL(node(net, "backbone.layer2.0.conv1").conv.stride, 2);
  EXPECT_EQUAL(node(net, "backbone.layer2.0.conv2").conv.stride, 1);
}

}  // namespace

int main() {
  check::run("published sizes", published_sizes);
  check::run("shapes of any levels", shapes_of_any_levels);
  check::run("tf padding shifts even sizes", tf_padding_shifts_even_sizes);
  check::run("frozen norm is batch norm with running statistics",
             frozen_norm_is_batch_norm_with_running_statistics);
  check::run("train norm moves its statistics once", train_norm_moves_its_statistics_once);
  check::run("freezing", freezing);
  check::run("checkpointed gradients are the same", checkpointed_gradients_are_the_same);
  check::run("initialisation", initialisation);
  check::run("grey folding", grey_folding);
  check::run("bf16 stays close", bf16_stays_close);
  check::run("stride placement", stride_placement);
  return check::failures;
}
