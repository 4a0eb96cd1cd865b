// Box coders as compositions of ATen operators: the rows are the positives or the selected
// candidates, a few thousand at most, and autograd derives the gradient. No device code of our own.
#include "core/ops/coder.h"

#include <ATen/ATen.h>

#include <cmath>
#include <string>

#include "core/error.h"

namespace mammo {
namespace {

void check_rows(const char* op, const at::Tensor& a, const at::Tensor& b) {
  if (a.dim() != 2 || a.size(1) != 4 || a.sizes() != b.sizes()) {
    throw Error("ARGUMENT", std::string(op) + ": expected two tensors [n,4] of one length");
  }
}

// float32, or double when either is; never a 16-bit type.
at::Tensor precise(const at::Tensor& t, const at::Tensor& other) {
  const bool wide = t.scalar_type() == at::kDouble || other.scalar_type() == at::kDouble;
  return t.to(wide ? at::kDouble : at::kFloat);
}

at::Tensor row(const std::array<float, 4>& weights, int first, int count, const at::Tensor& like) {
  at::Tensor t = at::empty({count}, at::TensorOptions(at::kFloat));
  for (int i = 0; i < count; ++i) t.data_ptr<float>()[i] = weights[first + i];
  return t.to(like.options(), /*non_blocking=*/true);
}

// Centre-size form of boxes [n,4]: centres [n,2], sides [n,2].
std::pair<at::Tensor, at::Tensor> centre_size(const at::Tensor& boxes) {
  const at::Tensor sides = boxes.slice(1, 2, 4) - boxes.slice(1, 0, 2);
  return {boxes.slice(1, 0, 2) + sides * 0.5, sides};
}

}  // namespace

at::Tensor encode_boxes(const at::Tensor& boxes, const at::Tensor& anchors,
                        const CoderConfig& config) {
  check_rows("encode", boxes, anchors);
  const at::Tensor b = precise(boxes, anchors), a = precise(anchors, boxes);
  const auto [centre, sides] = centre_size(a);
  if (config.corner) {
    return (b - a) / at::cat({sides, sides}, 1) / row(config.weights, 0, 4, b);
  }
  const auto [box_centre, box_sides] = centre_size(b);
  return at::cat({(box_centre - centre) / sides * row(config.weights, 0, 2, b),
                  at::log(box_sides / sides) * row(config.weights, 2, 2, b)},
                 1);
}

at::Tensor decode_boxes(const at::Tensor& deltas, const at::Tensor& anchors,
                        const CoderConfig& config) {
  check_rows("decode", deltas, anchors);
  const at::Tensor d = precise(deltas, anchors), a = precise(anchors, deltas);
  const auto [centre, sides] = centre_size(a);
  if (config.corner) return a + d * row(config.weights, 0, 4, d) * at::cat({sides, sides}, 1);
  at::Tensor log_sides = d.slice(1, 2, 4) / row(config.weights, 2, 2, d);
  if (config.clamp) log_sides = log_sides.clamp_max(static_cast<double>(*config.clamp));
  const at::Tensor box_centre = d.slice(1, 0, 2) / row(config.weights, 0, 2, d) * sides + centre;
  const at::Tensor half = at::exp(log_sides) * sides * 0.5;
  return at::cat({box_centre - half, box_centre + half}, 1);
}

}  // namespace mammo
