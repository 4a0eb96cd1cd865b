// Launcher of the warp of one window.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/ops/elastic.h"

namespace mammo::cuda {

/// Window of core/ops/warp.h as plain data.
struct WarpArguments {
  int64_t rows, cols;
  double affine[6];
  int reduce;
  float mean, std;
  float contrast, brightness, gamma, sigma;
  uint32_t noise_seed;
  int64_t height, width;  // real size in the canvas
  int64_t channels, canvas_rows, canvas_cols;
  Elastic elastic;
};

/// pixels [rows, cols]; reduced: scratch for the block means, null when reduce is 0; out [channels,
/// canvas_rows, canvas_cols].
void warp_window(const uint16_t* pixels, const WarpArguments& arguments, float* reduced, float* out,
                 cudaStream_t stream);

}  // namespace mammo::cuda
