// Assigns every anchor of one image a box, background or "ignored". No anchors x boxes matrix is
// ever made: one pass finds each box's best IoU, a second decides each anchor. Method: retinanet
// spec 3.2 (IoU thresholds, low-quality rule, ATSS).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/ops/anchors.h"

namespace mammo {

constexpr int32_t kBackground = -1;
constexpr int32_t kIgnored = -2;

/// boxes float32 [m,4] and ignore float32 [k,4] on the grid's device (canvas pixels, xyxy), `size`
/// the real height, width. Returns int32 [total]: box index >= 0, kBackground or kIgnored. m = 0
/// gives background (after the ignore rules).
at::Tensor match_anchors(const AnchorGrid& grid, const at::Tensor& boxes, const at::Tensor& ignore,
                         const std::array<int64_t, 2>& size, const MatcherConfig& config);

}  // namespace mammo
