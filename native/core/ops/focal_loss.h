// Sigmoid focal loss from logits, forward and gradient in one pass, summed per image. Deterministic
// reduction; fp32 arithmetic with double sums; any alpha, gamma. Method: retinanet spec 3.4.
#pragma once

#include <ATen/core/Tensor.h>

namespace mammo {

/// logits [n, N, K] (any float dtype), match int32 [n, N] (box index, -1, -2; ignored anchors cost
/// nothing), labels int32 [m] of all boxes, box_offsets int64 CPU [n+1]: box i of image b has label
/// labels[box_offsets[b] + i]. Returns double [n], the sum per image; differentiable in logits (the
/// backward scales the stored gradient).
at::Tensor focal_loss(const at::Tensor& logits, const at::Tensor& match, const at::Tensor& labels,
                      const at::Tensor& box_offsets, double alpha, double gamma);

/// The same sum out of plain tensor operations: what the fused pass is measured against.
at::Tensor composed_focal_loss(const at::Tensor& logits, const at::Tensor& match,
                               const at::Tensor& labels, const at::Tensor& box_offsets,
                               double alpha, double gamma);

}  // namespace mammo
