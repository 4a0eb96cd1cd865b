// Launcher of the suppression.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace mammo::cuda {

/// 64-bit words of a row of the mask.
inline int64_t nms_words(int64_t count) { return (count + 63) / 64; }

/// boxes [count,4] by descending score, labels [count] or null; mask [count + 1, nms_words(count)]
/// scratch; kept [count] out.
void nms(const float* boxes, const int64_t* labels, int64_t count, double threshold, uint64_t* mask,
         bool* kept, cudaStream_t stream);

}  // namespace mammo::cuda
