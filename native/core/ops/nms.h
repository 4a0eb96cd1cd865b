// Greedy non-maximum suppression, IoU strictly above the threshold suppresses; equal scores in
// index order. fp32.
#pragma once

#include <ATen/core/Tensor.h>

namespace mammo {

/// boxes float32 [n,4], scores [n] -> int64 kept indices, by descending score.
at::Tensor nms(const at::Tensor& boxes, const at::Tensor& scores, double iou_threshold);

/// The same within each class only (labels int64/int32 [n]).
at::Tensor batched_nms(const at::Tensor& boxes, const at::Tensor& scores, const at::Tensor& labels,
                       double iou_threshold);

}  // namespace mammo
