// Head outputs to detections: per-level top-k on logits, decode, clip, class-wise NMS, limit.
// Method: retinanet spec 2.1.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <vector>

#include "core/ops/anchors.h"

namespace mammo {

struct ImageDetections {
  at::Tensor boxes;   // float32 [d,4] canvas pixels, CPU
  at::Tensor scores;  // float32 [d], descending
  at::Tensor labels;  // int32 [d]
};

/// logits [n, total, K], deltas [n, total, 4]; sizes: real (height, width) per image; canvas
/// (height, width). Non-finite logits are an Error("NON_FINITE").
std::vector<ImageDetections> postprocess(const at::Tensor& logits, const at::Tensor& deltas,
                                         const AnchorGrid& grid,
                                         const std::vector<std::array<int64_t, 2>>& sizes,
                                         const std::array<int64_t, 2>& canvas,
                                         const CoderConfig& coder, const PostConfig& config);

}  // namespace mammo
