// ReLU and max pooling in one node against LibTorch's two: every border, values, gradients, ties,
// NaN, empty batches, threads.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "check.h"
#include "core/model/layers.h"
#include "core/ops/max_pool.h"
#include "noise.h"

using namespace mammo;
using test::noise;

namespace {

const std::vector<SlidingWindow> kWindows{{3, 2, Border::kSymmetric}, {3, 2, Border::kTf},
                                          {3, 2, Border::kEnd},       {2, 2, Border::kValid},
                                          {3, 1, Border::kSymmetric}, {5, 3, Border::kSymmetric}};

void equals_relu_and_max_pool() {
  for (const SlidingWindow& window : kWindows) {
    for (const auto type : {at::kFloat, at::kDouble}) {
      for (const auto& size : std::vector<std::vector<int64_t>>{
               {2, 3, 16, 20}, {1, 2, 15, 17}, {1, 1, 5, 64}, {3, 1, 7, 5}}) {
        // Quarters: many equal values in a window, so that the choice among them shows.
        at::Tensor x = at::round(noise(size, 1, 1, type) * 4) / 4;
        at::Tensor a = x.clone().requires_grad_(true), b = x.clone().requires_grad_(true);
        const at::Tensor y = relu_max_pool(a, window), expected = max_pool(b.relu(), window);
        EXPECT(at::equal(y, expected));
        const at::Tensor dy = noise(y.sizes(), 2, 1, type);
        torch::autograd::backward({y}, {dy});
        torch::autograd::backward({expected}, {dy});
        EXPECT(at::allclose(a.grad(), b.grad(), 1e-6, 1e-6));
      }
    }
  }
}

void gradient_is_that_of_the_values() {
  const SlidingWindow window{3, 2, Border::kSymmetric};
  at::Tensor x = noise({1, 2, 9, 8}, 3, 1, at::kDouble).requires_grad_(true);
  const at::Tensor dy = noise({1, 2, 5, 4}, 4, 1, at::kDouble);
  torch::autograd::backward({relu_max_pool(x, window)}, {dy});
  at::NoGradGuard no_grad;
  double* values = x.data_ptr<double>();
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double kept = values[i], step = 1e-7;
    const auto at_value = [&](double v) {
      values[i] = v;
      return (relu_max_pool(x, window) * dy).sum().item<double>();
    };
    const double slope = (at_value(kept + step) - at_value(kept - step)) / (2 * step);
    values[i] = kept;
    EXPECT_NEAR(x.grad().data_ptr<double>()[i], slope, 1e-6);
  }
}

void nan_is_not_hidden() {
  const SlidingWindow window{3, 2, Border::kSymmetric};
  for (int64_t at = 0; at < 36; ++at) {
    at::Tensor x = noise({1, 1, 6, 6}, 5);
    x.view({-1})[at] = std::numeric_limits<float>::quiet_NaN();
    EXPECT(at::equal(relu_max_pool(x, window).isnan(), max_pool(x.relu(), window).isnan()));
  }
}

void nothing_in_gives_nothing() {
  const SlidingWindow window{3, 2, Border::kSymmetric};
  at::Tensor x = at::empty({0, 4, 8, 8}).requires_grad_(true);
  const at::Tensor y = relu_max_pool(x, window);
  EXPECT((y.sizes() == at::IntArrayRef{0, 4, 4, 4}));
  torch::autograd::backward({y.sum()}, {});
  EXPECT((x.grad().sizes() == x.sizes()));
}

void any_threads_give_the_same() {
  std::vector<at::Tensor> results[2];
  for (int t = 0; t < 2; ++t) {
    at::set_num_threads(t + 1);
    at::Tensor x = noise({2, 5, 31, 33}, 6).requires_grad_(true);
    const at::Tensor y = relu_max_pool(x, {3, 2, Border::kSymmetric});
    torch::autograd::backward({y}, {noise(y.sizes(), 7)});
    results[t] = {y.detach(), x.grad()};
  }
  for (size_t i = 0; i < 2; ++i) EXPECT(at::equal(results[0][i], results[1][i]));
}

void other_types_go_the_plain_way() {
  EXPECT(!relu_max_pool_takes(at::empty({1, 1, 4, 4}, at::kBFloat16)));
  at::NoGradGuard no_grad;
  EXPECT(!takes_relu_max_pool(at::empty({1, 1, 4, 4})));
}

}  // namespace

int main() {
  at::set_num_threads(1);
  check::run("equals ReLU and max pool", equals_relu_and_max_pool);
  check::run("gradient is that of the values", gradient_is_that_of_the_values);
  check::run("NaN is not hidden", nan_is_not_hidden);
  check::run("nothing in gives nothing", nothing_in_gives_nothing);
  check::run("any threads give the same", any_threads_give_the_same);
  check::run("other types go the plain way", other_types_go_the_plain_way);
  return check::failures;
}
