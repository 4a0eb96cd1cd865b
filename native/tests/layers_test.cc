// The nodes that training's layers are made of, against LibTorch's own operators: convolution with
// what is folded into it, addition with ReLU, results that were kept, gradients that reuse memory.
#include "core/model/layers.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include "check.h"
#include "configs.h"
#include "core/model/backbone.h"
#include "noise.h"

using namespace mammo;
using test::noise;

namespace {

at::Tensor leaf(const at::Tensor& t, bool wanted = true) {
  return t.clone().requires_grad_(wanted);
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / (b.abs().max() + 1e-12)).item<double>();
}

// Every stride of a window of one pixel, whose input gradient is a product, and of three.
void convolutions_equal_libtorch() {
  for (const auto& [kernel, stride] :
       std::vector<std::pair<int, int>>{{1, 1}, {1, 2}, {1, 3}, {3, 1}, {3, 2}}) {
    for (const auto& [rows, cols] :
         std::vector<std::pair<int64_t, int64_t>>{{7, 8}, {8, 7}, {1, 1}, {12, 12}}) {
      for (const auto type : {at::kFloat, at::kDouble}) {
        for (const bool biased : {false, true}) {
          for (const bool input : {false, true}) {
            const at::Tensor x = noise({2, 6, rows, cols}, 1, 1, type),
                             w = noise({5, 6, kernel, kernel}, 2, 1, type),
                             b = noise({5}, 3, 1, type);
            const at::Tensor x1 = leaf(x, input), w1 = leaf(w), b1 = leaf(b);
            const at::Tensor x2 = leaf(x, input), w2 = leaf(w), b2 = leaf(b);
            const Conv conv{w1, biased ? b1 : at::Tensor(), stride, Border::kSymmetric};
            const at::Tensor y = convolve(conv, x1, Phase::kTrain, /*relu=*/true);
            const int around = (kernel - 1) / 2;
            const at::Tensor expected =
                at::conv2d(x2, w2, biased ? b2 : at::Tensor(), {stride, stride}, {around, around})
                    .relu();
            EXPECT(difference(y.detach(), expected.detach()) < 1e-6);
            const at::Tensor dy =
                noise(y.sizes(), 4, 1, type).contiguous(at::MemoryFormat::ChannelsLast);
            torch::autograd::backward({y}, {dy});
            torch::autograd::backward({expected}, {dy});
            EXPECT_EQUAL(x1.grad().defined(), input);
            if (input) EXPECT(difference(x1.grad(), x2.grad()) < 2e-6);
            EXPECT(difference(w1.grad(), w2.grad()) < 2e-6);
            if (biased) EXPECT(difference(b1.grad(), b2.grad()) < 2e-6);
          }
        }
      }
    }
  }
}

// Upstream gradients that nobody else holds, that somebody holds, and that share their elements.
void gradients_reuse_memory_only_where_nobody_looks() {
  const at::Tensor a = noise({2, 3, 4, 5}, 5), b = noise({2, 3, 4, 5}, 6);
  const at::Tensor dz = noise({2, 3, 4, 5}, 7);
  const at::Tensor expected = 2 * dz * ((a + b) > 0);
  for (const bool held : {false, true}) {
    const at::Tensor x = leaf(a), y = leaf(b);
    const at::Tensor sum = add_relu(x, y, /*overwrite=*/false);
    const void* upstream = nullptr;
    at::Tensor seen, before;
    sum.register_hook([&](const at::Tensor& gradient) {
      upstream = gradient.const_data_ptr();
      if (held) {
        seen = gradient;
        before = gradient.clone();
      }
    });
    torch::autograd::backward({sum * 2}, {dz});
    EXPECT(at::allclose(x.grad(), expected) && at::allclose(y.grad(), expected));
    const bool reused =
        x.grad().const_data_ptr() == upstream || y.grad().const_data_ptr() == upstream;
    EXPECT_EQUAL(reused, !held);
    if (held) EXPECT(at::equal(seen, before));
  }
  const at::Tensor x = leaf(a), y = leaf(b);
  torch::autograd::backward({add_relu(x, y, false).sum()}, {});
  EXPECT(at::equal(x.grad(), ((a + b) > 0).to(at::kFloat)));
}

void addition_overwrites_where_told() {
  for (const bool overwrite : {false, true}) {
    const at::Tensor x = leaf(noise({1, 2, 3, 3}, 8)), y = leaf(noise({1, 2, 3, 3}, 9));
    const at::Tensor product = x * 3;
    const at::Tensor before = product.detach().clone();
    const at::Tensor sum = add_relu(product, y, overwrite);
    EXPECT_EQUAL(sum.const_data_ptr() == product.const_data_ptr(), overwrite);
    const at::Tensor on = (before + y.detach()) > 0;
    EXPECT(at::equal(sum.detach(), (before + y.detach()).relu()));
    torch::autograd::backward({sum}, {at::ones_like(sum)});
    EXPECT(at::equal(x.grad(), on.to(at::kFloat) * 3));
    EXPECT(at::equal(y.grad(), on.to(at::kFloat)));
  }
}

// Only the narrow maps of a bottleneck are kept, and what is kept is not computed again.
void kept_maps_are_used() {
  ModelConfig config = test::tiny_config().detector.model;
  config.backbone = "resnet50";
  config.stem_width = 64;
  config.norm = NormPolicy::kFrozen;
  ParameterList parameters;
  Builder builder(parameters, at::detail::createCPUGenerator(1), at::kCPU);
  const Backbone net = make_backbone(config, builder);
  const Segment& block = net.segments.at(2);  // the second of C2: 256 channels, 64 inside
  const at::Tensor x = noise({1, 256, 16, 16}, 10);
  Taps taps;
  KeptMaps kept;
  at::Tensor y;
  {
    const at::NoGradGuard no_grad;
    y = run_segment(net, block, x, Phase::kTrain, taps, &kept);
  }
  EXPECT_EQUAL(kept.size(), 2u);
  for (const auto& [node, map] : kept) EXPECT_EQUAL(map.size(1), 64);
  const at::NoGradGuard no_grad;
  EXPECT(at::equal(run_segment(net, block, x, Phase::kRecompute, taps, &kept), y));
  for (auto& [node, map] : kept) map = at::zeros_like(map);
  EXPECT(!at::equal(run_segment(net, block, x, Phase::kRecompute, taps, &kept), y));
}

}  // namespace

int main() {
  check::run("convolutions equal LibTorch's", convolutions_equal_libtorch);
  check::run("gradients reuse memory only where nobody looks",
             gradients_reuse_memory_only_where_nobody_looks);
  check::run("addition overwrites where told", addition_overwrites_where_told);
  check::run("kept maps are used", kept_maps_are_used);
  return check::failures;
}
