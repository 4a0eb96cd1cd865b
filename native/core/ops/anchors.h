// Anchors of one canvas. Kernels compute an anchor from its index through AnchorGrid;
// `anchor_table` materialises them once per canvas (cached). Order: level, y, x, ratio, scale.
// Method: retinanet spec 2.1, 3.1.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/config.h"

namespace mammo {

/// One pyramid level: `rows` x `cols` cells of `per_cell` anchors, the first at flat index `first`.
struct AnchorLevel {
  int64_t rows, cols;
  float stride_y, stride_x;
  int64_t first;
};

/// Plain data, cheap to copy into kernels. base[a] is anchor a of a cell at the origin: x1, y1, x2,
/// y2 (offset included).
struct AnchorGrid {
  std::vector<AnchorLevel> levels;
  std::vector<std::array<std::array<float, 4>, 32>> base;  // [level][a]
  int per_cell;
  int64_t total;
  float offset;
};

using GridSize = std::array<int64_t, 2>;  // rows, cols

/// Base anchors and strides for the real feature sizes of a canvas (height, width).
AnchorGrid make_anchor_grid(const AnchorConfig& config, const std::vector<GridSize>& grids,
                            const std::array<int64_t, 2>& canvas);

/// float32 [total, 4], xyxy; cached per (config, grids, canvas, device).
at::Tensor anchor_table(const AnchorConfig& config, const std::vector<GridSize>& grids,
                        const std::array<int64_t, 2>& canvas, at::Device device);

}  // namespace mammo
