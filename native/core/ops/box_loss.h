// Box regression losses on positive anchors, unreduced per row. l1 and smooth_l1 compare deltas,
// the IoU family compares decoded boxes (eps 1e-7). Method: retinanet spec 3.4.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/config.h"

namespace mammo {

/// deltas, anchors, boxes [p,4] -> [p] loss per positive (l1, smooth_l1: sum over the four
/// coordinates); differentiable in deltas.
at::Tensor box_loss(const at::Tensor& deltas, const at::Tensor& anchors, const at::Tensor& boxes,
                    const CoderConfig& coder, const LossConfig& config);

/// predicted, target boxes [p,4] -> [p]; kind one of giou, diou, ciou; differentiable in predicted.
at::Tensor iou_family_loss(const at::Tensor& predicted, const at::Tensor& target, BoxLossKind kind);

}  // namespace mammo
