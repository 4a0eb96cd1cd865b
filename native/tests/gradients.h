// For the tests of networks: an input that is always the same, and the gradients of one backward.
#pragma once

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>
#include <string>
#include <vector>

#include "core/model/retinanet.h"
#include "noise.h"

namespace mammo::test {

inline at::Tensor random_input(at::IntArrayRef shape, uint64_t seed = 3) {
  return noise(shape, seed);
}

// Gradients of all parameters after one backward through backbone and pyramid.
inline std::map<std::string, at::Tensor> gradients(const Retinanet& net, const at::Tensor& x,
                                                   int frozen, Recompute recompute,
                                                   size_t at_once = 4) {
  BackbonePass pass(net, x, frozen, recompute, at_once);
  FpnPass pyramid(net.fpn, pass.taps(), /*by_level=*/true);
  for (size_t level = 0; level < net.fpn.levels.size(); ++level) {
    const at::Tensor map = pyramid.map(level);
    pyramid.backward(map, at::cos(map.detach()));
  }
  pyramid.finish();
  pass.backward();
  std::map<std::string, at::Tensor> result;
  for (const Parameter& p : net.parameters) {
    if (p.value.grad().defined()) result[p.name] = p.value.grad().clone();
    p.value.mutable_grad().reset();
  }
  return result;
}

}  // namespace mammo::test
