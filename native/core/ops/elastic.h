// Elastic displacement as a pure function of seed and place, the same on CPU and CUDA: a cubic
// B-spline over random nodes (free-form deformation, Rueckert et al. 1999). The reference with the
// reasons is lib/geometry/elastic.ts; the numbers of the nodes are the same.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/ops/random_pixel.h"

namespace mammo {

/// Added to a place of the output before the affine. amplitude 0: nothing moves. Pixels of the
/// output; spacing at least 5 amplitudes.
struct Elastic {
  double amplitude, spacing;
  uint32_t seed;
};

constexpr double kElasticSpacingFactor = 5;

/// From amplitude, spacing, seed as they come over the boundary; a seed that is none becomes 0.
inline Elastic read_elastic(const double* values) {
  const double seed = values[2];
  return {values[0], values[1],
          seed >= 0 && seed <= 4294967295.0 ? static_cast<uint32_t>(seed) : 0u};
}

/// Random number of node (i, j), in [-1, 1); axis 0 is x.
MAMMO_HOST_DEVICE double elastic_node(uint32_t seed, uint32_t axis, int64_t i, int64_t j) {
  const uint32_t column = mix_bits(static_cast<uint32_t>(i) * 0x9E3779B1u + seed);
  const uint32_t bits = mix_bits(column ^ (2u * static_cast<uint32_t>(j) + axis) * 0x85EBCA6Bu);
  return static_cast<double>(bits >> 8) / 8388608.0 - 1.0;
}

/// The four weights of a uniform cubic B-spline at t in [0, 1).
MAMMO_HOST_DEVICE void elastic_weights(double t, double* w) {
  const double s = 1 - t;
  w[0] = s * s * s / 6;
  w[1] = (3 * t * t * t - 6 * t * t + 4) / 6;
  w[2] = (3 * s * s * s - 6 * s * s + 4) / 6;
  w[3] = t * t * t / 6;
}

}  // namespace mammo
