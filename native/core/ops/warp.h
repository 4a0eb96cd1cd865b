// uint16 windows to the network's input: block-average (antialias), elastic displacement and
// affine with bilinear sampling, normalise,
// intensity changes, copies to the channels; canvas padding equals normalised raw 0. One pass per
// image on the device. Contract: ImageBatch in lib/binding/types.ts. Method: datasets
// spec 4.4, 4.5; the tested reference is lib/geometry/warp.ts.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/ops/elastic.h"

namespace mammo {

struct Window {
  int64_t offset;  // first pixel in `pixels`
  int64_t rows, cols;
  std::array<double, 6> affine;  // output edge coordinates -> window edge coordinates
  int reduce;                    // average 2^reduce blocks first
  float mean, std;
  std::array<float, 4> intensity;  // contrast, brightness, gamma, noise sigma
  uint32_t noise_seed;
  std::array<int64_t, 2> size;  // real height, width in the canvas
  Elastic elastic;              // output place p shows affine(p + d(p))
};

/// pixels: int16/uint16 1-D tensor on the device (bit pattern uint16). Returns float32 [n,
/// channels, canvas h, canvas w], contiguous.
at::Tensor warp_windows(const at::Tensor& pixels, const std::vector<Window>& windows, int channels,
                        const std::array<int64_t, 2>& canvas);

}  // namespace mammo
