// Every op and whole steps on a GPU against the same on the CPU, which is the reference. Ends with
// 77
// ("skipped" for ctest) where there is no GPU.
#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/csrc/autograd/autograd.h>

#include "check.h"
#include "core/ops/focal_loss.h"
#include "core/ops/matcher.h"
#include "core/ops/nms.h"
#include "core/ops/warp.h"
#include "core/session.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;

namespace {

constexpr int kSkipped = 77;
const at::Device kGpu(at::kCUDA, 0);

double worst(const at::Tensor& a, const at::Tensor& b) {
  return (a.cpu().to(at::kDouble) - b.cpu().to(at::kDouble)).abs().max().item<double>();
}

at::Tensor boxes_in(int64_t count, double canvas, double smallest, double largest) {
  const at::Tensor low = at::rand({count, 2}) * (canvas - largest);
  return at::cat({low, low + smallest + at::rand({count, 2}) * (largest - smallest)}, 1);
}

// A batch of two images with noise and a box each, on a canvas of 256 x 192.
std::pair<ImageBatch, TargetBatch> batch_of_two(int channels) {
  at::manual_seed(3);
  ImageBatch batch{{256, 192}, {256, 192, 240, 180}, std::nullopt, std::nullopt};
  const at::Tensor x = at::randn({2, channels, 256, 192});
  batch.input.emplace(x.data_ptr<float>(), x.data_ptr<float>() + x.numel());
  return {batch, {{20, 30, 90, 110, 60, 40, 150, 160}, {0, 1}, {0, 1, 2}, {}, {0, 0, 0}}};
}

SessionConfig on(const char* device, Precision precision = Precision::kFp32) {
  SessionConfig config = tiny_config();
  config.device = device;
  config.precision = precision;
  return config;
}

StepOptions step() { return {1e-3, 0.01, 1.0, std::nullopt, std::nullopt, 1, true, true}; }

}  // namespace

int main() {
  if (!at::hasCUDA() || at::detail::getCUDAHooks().deviceCount() == 0) {
    std::cout << "skipped: no GPU" << std::endl;
    return kSkipped;
  }
  // TF32 would hide what is compared here.
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::manual_seed(1);

  check::run("matching: both matchers, outside rules, ignored regions, no boxes", [] {
    const std::array<int64_t, 2> canvas{1024, 768}, size{1000, 700};
    for (const MatcherKind kind : {MatcherKind::kIou, MatcherKind::kAtss}) {
      for (const OutsideRule outside :
           {OutsideRule::kBackground, OutsideRule::kIgnoreBackground, OutsideRule::kIgnoreAll}) {
        for (const int64_t count : {0, 1, 16}) {
          MatcherConfig rules = default_config().detector.matcher;
          rules.kind = kind;
          rules.outside = outside;
          const AnchorGrid grid = make_anchor_grid(keras_anchors(), grids_of(canvas), canvas);
          const at::Tensor boxes = boxes_in(count, 700, 10, 300), ignore = boxes_in(2, 700, 50, 99);
          const at::Tensor cpu = match_anchors(grid, boxes, ignore, size, rules);
          const at::Tensor gpu = match_anchors(grid, boxes.to(kGpu), ignore.to(kGpu), size, rules);
          EXPECT(gpu.device() == kGpu);
          EXPECT(cpu.equal(gpu.cpu()));
        }
      }
    }
  });

  check::run("focal loss: value and gradient, one and few classes, bf16 logits", [] {
    const at::Tensor labels = at::tensor({0, 1, 0}, at::kInt);
    const at::Tensor offsets = at::tensor(std::vector<int64_t>{0, 2, 3});
    for (const int64_t classes : {2, 5}) {
      const at::Tensor match = at::randint(-2, 1, {2, 5000}, at::kInt);
      const at::Tensor logits = at::randn({2, 5000, classes}) * 3;
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        const at::Tensor a = logits.to(type).requires_grad_(true);
        const at::Tensor b = logits.to(type).to(kGpu).requires_grad_(true);
        const at::Tensor cpu = focal_loss(a, match, labels, offsets, 0.25, 2);
        const at::Tensor gpu = focal_loss(b, match.to(kGpu), labels.to(kGpu), offsets, 0.25, 2);
        torch::autograd::backward({cpu.sum()}, {});
        torch::autograd::backward({gpu.sum()}, {});
        EXPECT_NEAR(worst(cpu, gpu), 0, 1e-5 * cpu.abs().max().item<double>());
        EXPECT_NEAR(worst(a.grad(), b.grad()), 0, type == at::kFloat ? 2e-6 : 1e-2);
      }
    }
  });

  check::run("suppression: scattered, crowded, equal scores, nothing", [] {
    for (const auto& [count, side] : {std::pair{4000, 60.0}, std::pair{2000, 600.0}}) {
      const at::Tensor boxes = boxes_in(count, 1000, 5, side);
      const at::Tensor scores = (at::rand({count}) * 50).floor() / 50;
      const at::Tensor labels = at::randint(0, 2, {count}, at::kLong);
      EXPECT(nms(boxes, scores, 0.5).equal(nms(boxes.to(kGpu), scores.to(kGpu), 0.5).cpu()));
      EXPECT(batched_nms(boxes, scores, labels, 0.5)
                 .equal(batched_nms(boxes.to(kGpu), scores.to(kGpu), labels.to(kGpu), 0.5).cpu()));
    }
    EXPECT_EQUAL(nms(at::empty({0, 4}).to(kGpu), at::empty({0}).to(kGpu), 0.5).size(0), 0);
  });

  check::run("warp: copy, rotation, blocks, intensity, elastic", [] {
    const at::Tensor pixels = at::randint(0, 65536, {300 * 200}, at::kInt).to(at::kShort);
    Window w{0, 300, 200, {1, 0, 0, 0, 1, 0}, 0, 1000, 200, {1, 0, 1, 0}, 0, {256, 192}, {}};
    std::vector<Window> windows{w};
    w.affine = {0.9, -0.2, 12.3, 0.2, 0.9, -8.1};
    windows.push_back(w);
    w.reduce = 1;
    w.intensity = {1.1f, 0.05f, 1.2f, 0};
    windows.push_back(w);
    const at::Tensor cpu = warp_windows(pixels, windows, 3, {256, 192});
    const at::Tensor gpu = warp_windows(pixels.to(kGpu), windows, 3, {256, 192});
    // Grey levels over the deviation: 0.05 levels.
    EXPECT_NEAR(worst(cpu, gpu), 0, 0.05 / 200 * 4);
  });

  check::run("three training steps in fp32: losses, positives, parameters", [] {
    Session cpu(on("cpu")), gpu(on("cuda"));
    const auto [batch, targets] = batch_of_two(1);
    for (int i = 0; i < 3; ++i) {
      const StepResult a = cpu.train_step(batch, targets, step());
      const StepResult b = gpu.train_step(batch, targets, step());
      EXPECT_EQUAL(a.positives, b.positives);
      EXPECT_NEAR(a.loss, b.loss, 2e-3 * std::abs(a.loss));
      EXPECT_NEAR(a.grad_norm, b.grad_norm, 5e-3 * a.grad_norm);
      EXPECT(b.updated);
    }
    for (const ParameterInfo& p : cpu.parameters()) {
      const std::vector<float> a = cpu.get_tensor(p.name).data, b = gpu.get_tensor(p.name).data;
      double apart = 0;
      for (size_t i = 0; i < a.size(); ++i) apart = std::max(apart, std::abs(double{a[i]} - b[i]));
      // AdamW moves an element by at most the learning rate a step; signs of tiny gradients may
      // differ.
      EXPECT_NEAR(apart, 0, 3 * 2e-3);
    }
  });

  check::run("outputs and detections in fp32", [] {
    Session cpu(on("cpu")), gpu(on("cuda"));
    const auto [batch, targets] = batch_of_two(1);
    const RawOutputs a = cpu.forward(batch), b = gpu.forward(batch);
    EXPECT(a.anchors == b.anchors);
    double apart = 0;
    for (size_t i = 0; i < a.logits.size(); ++i)
      apart = std::max(apart, std::abs(double{a.logits[i]} - b.logits[i]));
    EXPECT_NEAR(apart, 0, 1e-3);
    EXPECT_EQUAL(cpu.detect(batch).scores.size(), gpu.detect(batch).scores.size());
  });

  check::run("a checkpointed step equals the plain one", [] {
    SessionConfig plain = on("cuda"), again = on("cuda");
    again.detector.model.checkpoint_activations = Recompute::kAll;
    Session a(plain), b(again);
    const auto [batch, targets] = batch_of_two(1);
    const StepResult x = a.train_step(batch, targets, step());
    const StepResult y = b.train_step(batch, targets, step());
    EXPECT_NEAR(x.loss, y.loss, 1e-5 * x.loss);
    EXPECT_NEAR(x.grad_norm, y.grad_norm, 1e-3 * x.grad_norm);
  });

  check::run("bf16 learns: the loss is near fp32's and falls", [] {
    Session half(on("cuda", Precision::kBf16)), full(on("cuda"));
    const auto [batch, targets] = batch_of_two(1);
    const double first = half.train_step(batch, targets, step()).loss;
    EXPECT_NEAR(first, full.train_step(batch, targets, step()).loss, 0.05 * first);
    double last = first;
    for (int i = 0; i < 20; ++i) last = half.train_step(batch, targets, step()).loss;
    EXPECT(last < first);
  });
  return check::failures;
}
