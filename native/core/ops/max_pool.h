// ReLU and max pooling in one node, for the stem of a network that is trained: of its input nothing
// is kept, of its output one byte per pixel says where the largest value stood (LibTorch keeps the
// result of the ReLU and eight bytes). Values and gradients equal relu, then max_pool2d.
#pragma once

#include <ATen/ATen.h>

#include <array>

namespace mammo {

/// Rows and columns of the window that lie outside before the first pixel, and size of the result.
struct PoolWindow {
  int kernel, stride;
  std::array<int64_t, 2> before, output;
};

/// float32 or float64 on the CPU.
bool relu_max_pool_takes(const at::Tensor& x);

/// max(0, largest value in each window) of x [n, c, h, w] -> [n, c, *window.output]. Of equal
/// values the first in reading order has the gradient; where the result is 0 nobody has. NaN stays
/// NaN.
at::Tensor relu_max_pool(const at::Tensor& x, const PoolWindow& window);

}  // namespace mammo
