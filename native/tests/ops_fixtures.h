// What several tests of the ops share: the references' anchor settings, tensors from number lists,
// a gradient check by central differences.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

#include "configs.h"
#include "core/ops/anchors.h"

namespace mammo::test {

/// Feature map sizes of P3.. of a canvas: halved and rounded up level by level.
inline std::vector<GridSize> grids_of(const std::array<int64_t, 2>& canvas, int first = 3,
                                      int last = 7) {
  std::vector<GridSize> grids;
  for (int l = first; l <= last; ++l) {
    const int64_t s = int64_t{1} << l;
    grids.push_back({(canvas[0] + s - 1) / s, (canvas[1] + s - 1) / s});
  }
  return grids;
}

inline AnchorConfig keras_anchors() { return default_config().detector.anchors; }

inline AnchorConfig torchvision_anchors() {
  AnchorConfig c = keras_anchors();
  c.shape_by_area = false;
  c.truncate_sizes = true;
  c.round_corners = true;
  c.offset = 0;
  c.floor_division_strides = true;
  return c;
}

inline at::Tensor rows(const std::vector<float>& values, int64_t width = 4) {
  return at::tensor(values, at::kFloat).view({-1, width});
}
inline at::Tensor rows_double(const std::vector<double>& values, int64_t width = 4) {
  return at::tensor(values, at::kDouble).view({-1, width});
}

/// Largest |analytic - numeric| / (1 + |numeric|) of the gradient of sum(weights * f(x)) for double
/// x.
inline double gradient_error(const std::function<at::Tensor(const at::Tensor&)>& f,
                             const at::Tensor& x, double step = 1e-6) {
  const at::Tensor leaf = x.detach().clone().requires_grad_(true);
  const at::Tensor y = f(leaf);
  const at::Tensor weights =
      at::arange(1, y.numel() + 1, at::kDouble).view(y.sizes()).mul(0.37).cos();
  torch::autograd::backward({(y * weights).sum()}, {});
  const at::Tensor analytic = leaf.grad().contiguous().view(-1);
  const at::Tensor moved = x.detach().clone().contiguous();
  double* value = moved.data_ptr<double>();
  double worst = 0;
  for (int64_t i = 0; i < moved.numel(); ++i) {
    const double before = value[i];
    value[i] = before + step;
    const double above = (f(moved) * weights).sum().item<double>();
    value[i] = before - step;
    const double below = (f(moved) * weights).sum().item<double>();
    value[i] = before;
    const double numeric = (above - below) / (2 * step);
    worst =
        std::max(worst, std::abs(analytic[i].item<double>() - numeric) / (1 + std::abs(numeric)));
  }
  return worst;
}

}  // namespace mammo::test
