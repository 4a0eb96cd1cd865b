// Every loop that is compiled for several instruction sets: each set that this processor has gives
// what the baseline gives. Bit for bit where nothing may be contracted; to rounding in the focal
// loss; Winograd's method, which has no baseline, AVX-512 against AVX2.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <cstdlib>
#include <functional>
#include <string>

#include "check.h"
#include "core/model/layers.h"
#include "core/ops/cpu/clones.h"
#include "core/ops/cpu/postprocess.h"
#include "core/ops/cpu/winograd.h"
#include "core/ops/focal_loss.h"
#include "core/ops/matcher.h"
#include "core/ops/warp.h"
#include "core/optimizer.h"
#include "noise.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;
using cpu::use_vectors;
using cpu::Vectors;

namespace {

using Tensors = std::vector<at::Tensor>;

std::string name(Vectors set) {
  return set == Vectors::kAvx512 ? "AVX-512" : set == Vectors::kAvx2 ? "AVX2" : "baseline";
}

// `results` with each set from `least` up, compared with those of `least`; tolerance 0: bit equal.
void compare(const std::string& what, Vectors least, double tolerance,
             const std::function<Tensors()>& results) {
  const Vectors before = cpu::vectors();
  if (use_vectors(least) == least) {
    const Tensors expected = results();
    for (Vectors set : {Vectors::kAvx2, Vectors::kAvx512}) {
      if (set <= least || use_vectors(set) != set) continue;
      const Tensors found = results();
      EXPECT_EQUAL(found.size(), expected.size());
      for (size_t i = 0; i < found.size(); ++i) {
        const at::Tensor &a = found[i], &b = expected[i];
        const bool same =
            tolerance == 0 ? at::equal(a, b)
                           : a.sizes() == b.sizes() && (a - b).abs().max().item<double>() <=
                                                           tolerance * b.abs().max().item<double>();
        if (same) continue;
        std::cerr << what << ", result " << i << ": " << name(set) << " is not " << name(least)
                  << "\n";
        EXPECT(same);
      }
    }
  }
  use_vectors(before);
}

// 333 x 271: no row is a multiple of a vector.
const std::array<int64_t, 2> kCanvas{333, 271};

void matcher() {
  const at::Tensor corner = at::rand({40, 2}, at::detail::createCPUGenerator(1)) * 200;
  const at::Tensor side = at::rand({40, 2}, at::detail::createCPUGenerator(2)) * 120 + 4;
  const at::Tensor boxes = at::cat({corner, corner + side}, 1);
  const at::Tensor ignore = rows({0, 0, 60, 80});
  MatcherConfig iou = default_config().detector.matcher;
  iou.kind = MatcherKind::kIou;
  iou.low_quality = true;
  MatcherConfig atss = iou;
  atss.kind = MatcherKind::kAtss;
  for (const MatcherConfig& config : {iou, atss}) {
    for (const AnchorConfig& anchors : {keras_anchors(), torchvision_anchors()}) {
      const AnchorGrid grid = make_anchor_grid(anchors, grids_of(kCanvas), kCanvas);
      compare("matcher", Vectors::kBaseline, 0,
              [&] { return Tensors{match_anchors(grid, boxes, ignore, {300, 260}, config)}; });
    }
  }
}

void focal() {
  constexpr int64_t kAnchors = 5003;  // two blocks and a rest
  for (const int64_t classes : {1, 3}) {
    const at::Tensor logits = noise({2, kAnchors, classes}, 3, 5);
    const at::Tensor match =
        at::randint(-2, 3, {2, kAnchors}, at::detail::createCPUGenerator(4), at::kInt);
    const at::Tensor labels = at::tensor(std::vector<int>{0, 0, 0, 0, 0, 0}, at::kInt);
    const at::Tensor offsets = at::tensor(std::vector<int64_t>{0, 3, 6});
    for (const double gamma : {2.0, 3.0, 1.5}) {
      compare("focal loss", Vectors::kBaseline, 1e-6, [&] {
        const at::Tensor leaf = logits.clone().requires_grad_(true);
        const at::Tensor loss = focal_loss(leaf, match, labels, offsets, 0.25, gamma);
        torch::autograd::backward({loss.sum()}, {});
        return Tensors{loss.detach(), leaf.grad()};
      });
    }
  }
}

void warp() {
  const at::Tensor pixels =
      at::randint(0, 65536, {97 * 89}, at::detail::createCPUGenerator(5), at::kInt).to(at::kShort);
  const std::array<double, 6> turned{0.9, 0.3, -4, -0.25, 1.1, 7}, moved{1, 0, 5, 0, 1, 3};
  for (const auto& affine : {turned, moved}) {
    for (const int reduce : {0, 1}) {
      const Window window{0, 97,       89, affine, reduce, 900, 1300, {1.2f, -0.1f, 1, 0},
                          0, {83, 91}, {}};
      compare("warp", Vectors::kBaseline, 0,
              [&] { return Tensors{warp_windows(pixels, {window}, 1, {96, 96})}; });
    }
  }
}

void candidates() {
  const AnchorGrid grid = make_anchor_grid(keras_anchors(), grids_of(kCanvas), kCanvas);
  const at::Tensor logits = noise({grid.total, 2}, 6) - 2;
  compare("candidates", Vectors::kBaseline, 0, [&] {
    const auto found = cpu::select_candidates(logits.data_ptr<float>(), 2, grid, 0.4f, 1000, false);
    at::Tensor index = at::empty({static_cast<int64_t>(found.size())}, at::kLong);
    for (size_t i = 0; i < found.size(); ++i) index.data_ptr<int64_t>()[i] = found[i].index;
    EXPECT(!found.empty());
    return Tensors{index};
  });
}

void optimizer() {
  for (const OptimizerKind kind :
       {OptimizerKind::kSgd, OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
    compare("optimiser", Vectors::kBaseline, 0, [&] {
      ParameterList list;
      list.add({"w", noise({3, 12345}, 7), Role::kWeight, 0, false, false});
      list.freeze_stages(0);
      Optimizer optimizer({kind, 0.9, true, 0.9, 0.99, 1e-3, false, false});
      double norm = 0;
      for (int step = 0; step < 2; ++step) {
        for (const Parameter& p : list) {
          const at::Tensor value = p.value;
          value.mutable_grad() = noise(value.sizes(), 8 + step);
        }
        const GradientScale scale = optimizer.measure(list, {{}, {}, 1.0});
        optimizer.step(list, scale, 0.01, 0.1);
        norm = scale.norm;
      }
      return Tensors{list.find("w")->value.detach(), at::scalar_tensor(norm, at::kDouble)};
    });
  }
}

void winograd() {
  compare("winograd", Vectors::kAvx2, 2e-6, [] {
    at::Tensor x = noise({2, 32, 21, 40}, 9).requires_grad_(true),
               w = noise({48, 32, 3, 3}, 10, 0.1).requires_grad_(true),
               b = noise({48}, 11).requires_grad_(true);
    const at::Tensor y = convolve(Conv{w, b, 1, Border::kSymmetric}, x, Phase::kTrain);
    torch::autograd::backward({y}, {noise(y.sizes(), 12)});
    return Tensors{y.detach(), x.grad(), w.grad(), b.grad()};
  });
}

void pool() {
  compare("ReLU and max pool", Vectors::kBaseline, 0, [] {
    at::Tensor x = noise({1, 3, 35, 45}, 13).requires_grad_(true);
    const at::Tensor y = relu_max_pool(x, {3, 2, Border::kSymmetric});
    torch::autograd::backward({y}, {noise(y.sizes(), 14)});
    return Tensors{y.detach(), x.grad()};
  });
}

// One variable rules LibTorch's kernels and ours.
void follows_libtorch() {
  const char* asked = std::getenv("ATEN_CPU_CAPABILITY");
  if (asked == nullptr) return;
  if (std::string(asked) == "avx2") EXPECT(cpu::vectors() <= Vectors::kAvx2);
  if (std::string(asked) == "default") EXPECT(cpu::vectors() == Vectors::kBaseline);
}

}  // namespace

int main() {
  check::run("the set is the one asked for", follows_libtorch);
  at::set_num_threads(1);
  std::cout << "this processor has " << name(use_vectors(Vectors::kAvx512)) << "\n";
  check::run("matcher", matcher);
  check::run("focal loss", focal);
  check::run("warp", warp);
  check::run("candidates", candidates);
  check::run("optimiser", optimizer);
  check::run("winograd", winograd);
  check::run("ReLU and max pool", pool);
  return check::failures;
}
