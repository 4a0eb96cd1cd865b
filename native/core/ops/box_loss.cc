// Box losses as compositions of ATen operators, for the same reason as the coder: few rows, exact
// autograd. Areas, the smallest enclosing box and the place of eps follow Zheng et al. 2020 (DIoU,
// CIoU) and Rezatofighi et al. 2019 (GIoU) as torchvision evaluates them, so that degenerate boxes
// cost the same.
#include "core/ops/box_loss.h"

#include <ATen/ATen.h>

#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/ops/coder.h"

namespace mammo {
namespace {

constexpr double kEps = 1e-7;

void check_rows(const at::Tensor& a, const at::Tensor& b) {
  if (a.dim() != 2 || a.size(1) != 4 || a.sizes() != b.sizes()) {
    throw Error("ARGUMENT", "box loss: expected tensors [p,4] of one length");
  }
}

}  // namespace

at::Tensor iou_family_loss(const at::Tensor& predicted, const at::Tensor& target,
                           BoxLossKind kind) {
  check_rows(predicted, target);
  const auto type = predicted.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const auto p = predicted.to(type).unbind(1), g = target.to(type).unbind(1);
  const at::Tensor left = at::maximum(p[0], g[0]), top = at::maximum(p[1], g[1]);
  const at::Tensor right = at::minimum(p[2], g[2]), bottom = at::minimum(p[3], g[3]);
  const at::Tensor meets = (right > left).logical_and(bottom > top);
  const at::Tensor inter = ((right - left) * (bottom - top)).masked_fill(meets.logical_not(), 0);
  const at::Tensor joint = (p[2] - p[0]) * (p[3] - p[1]) + (g[2] - g[0]) * (g[3] - g[1]) - inter;
  const at::Tensor iou = inter / (joint + kEps);
  const at::Tensor width = at::maximum(p[2], g[2]) - at::minimum(p[0], g[0]);
  const at::Tensor height = at::maximum(p[3], g[3]) - at::minimum(p[1], g[1]);
  if (kind == BoxLossKind::kGiou) {
    const at::Tensor hull = width * height;
    return 1 - iou + (hull - joint) / (hull + kEps);
  }
  if (kind != BoxLossKind::kDiou && kind != BoxLossKind::kCiou) {
    throw Error("ARGUMENT", "box loss: expected giou, diou or ciou");
  }
  const at::Tensor dx = (p[0] + p[2]) / 2 - (g[0] + g[2]) / 2;
  const at::Tensor dy = (p[1] + p[3]) / 2 - (g[1] + g[3]) / 2;
  const at::Tensor loss =
      1 - iou + (dx.square() + dy.square()) / (width.square() + height.square() + kEps);
  if (kind == BoxLossKind::kDiou) return loss;
  const at::Tensor angle =
      at::atan((g[2] - g[0]) / (g[3] - g[1])) - at::atan((p[2] - p[0]) / (p[3] - p[1]));
  const at::Tensor v = 4 / (std::numbers::pi * std::numbers::pi) * angle.square();
  const at::Tensor weight = (v / (1 - iou + v + kEps)).detach();
  return loss + weight * v;
}

at::Tensor box_loss(const at::Tensor& deltas, const at::Tensor& anchors, const at::Tensor& boxes,
                    const CoderConfig& coder, const LossConfig& config) {
  check_rows(deltas, boxes);
  switch (config.box) {
    case BoxLossKind::kL1:
    case BoxLossKind::kSmoothL1: {
      const at::Tensor target = encode_boxes(boxes, anchors, coder);
      const at::Tensor d = (deltas.to(target.scalar_type()) - target).abs();
      if (config.box == BoxLossKind::kL1 || config.box_beta == 0) return d.sum(1);
      const double beta = config.box_beta;
      return at::where(d < beta, d.square() * (0.5 / beta), d - 0.5 * beta).sum(1);
    }
    case BoxLossKind::kGiou:
    case BoxLossKind::kDiou:
    case BoxLossKind::kCiou:
      return iou_family_loss(decode_boxes(deltas, anchors, coder), boxes, config.box);
  }
  throw Error("INTERNAL", "box loss: unknown kind");
}

}  // namespace mammo
