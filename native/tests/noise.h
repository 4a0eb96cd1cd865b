// Normal numbers that are always the same.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace mammo::test {

inline at::Tensor noise(at::IntArrayRef shape, uint64_t seed, double scale = 1,
                        at::ScalarType type = at::kFloat) {
  return at::empty(shape, type).normal_(0, scale, at::detail::createCPUGenerator(seed));
}

}  // namespace mammo::test
