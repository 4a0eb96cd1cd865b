// Suppression on the device: a bit mask of all pairs (i suppresses j > i), then one block walks the
// boxes in order. The arithmetic is that of cpu/nms.cc. No host synchronisation.
#include "core/ops/cuda/nms.h"

namespace mammo::cuda {
namespace {

constexpr int kTile = 64;
constexpr int kThreads = 1024;

__global__ void pairs(const float4* boxes, const int64_t* labels, int64_t count, double threshold,
                      uint64_t* mask) {
  __shared__ float4 columns[kTile];
  __shared__ int64_t classes[kTile];
  const int64_t words = gridDim.x, tile = blockIdx.x;
  const int64_t column = tile * kTile + threadIdx.x;
  if (column < count) {
    columns[threadIdx.x] = boxes[column];
    classes[threadIdx.x] = labels != nullptr ? labels[column] : 0;
  }
  __syncthreads();
  for (int64_t row_tile = blockIdx.y; row_tile < words; row_tile += gridDim.y) {
    const int64_t i = row_tile * kTile + threadIdx.x;
    if (i >= count) continue;
    const float4 a = boxes[i];
    const int64_t label = labels != nullptr ? labels[i] : 0;
    const float area = (a.z - a.x) * (a.w - a.y);
    uint64_t bits = 0;
    for (int k = 0; k < kTile; ++k) {
      const int64_t j = tile * kTile + k;
      if (j <= i || j >= count || classes[k] != label) continue;
      const float4 b = columns[k];
      const float width = fminf(a.z, b.z) - fmaxf(a.x, b.x);
      const float height = fminf(a.w, b.w) - fmaxf(a.y, b.y);
      const float inter = fmaxf(0.0f, width) * fmaxf(0.0f, height);
      const float iou = inter / (area + (b.z - b.x) * (b.w - b.y) - inter);
      if (static_cast<double>(iou) > threshold) bits |= uint64_t{1} << k;
    }
    mask[i * words + tile] = bits;
  }
}

// `removed` [words] is walked 64 boxes at a time: the boxes of a tile are settled by one thread,
// then all threads add the rows of the kept ones.
__global__ void walk(const uint64_t* mask, int64_t count, int64_t words, uint64_t* removed,
                     bool* kept) {
  __shared__ uint64_t kept_bits;
  for (int64_t w = threadIdx.x; w < words; w += kThreads) removed[w] = 0;
  __syncthreads();
  for (int64_t tile = 0; tile < words; ++tile) {
    const int64_t first = tile * kTile;
    const int here = static_cast<int>(min(count - first, int64_t{kTile}));
    if (threadIdx.x == 0) {
      uint64_t gone = removed[tile], keep = 0;
      for (int k = 0; k < here; ++k) {
        if (gone >> k & 1) continue;
        keep |= uint64_t{1} << k;
        gone |= mask[(first + k) * words + tile];
      }
      kept_bits = keep;
    }
    __syncthreads();
    const uint64_t keep = kept_bits;
    if (threadIdx.x < here) kept[first + threadIdx.x] = keep >> threadIdx.x & 1;
    for (int64_t w = tile + 1 + threadIdx.x; w < words; w += kThreads) {
      uint64_t bits = removed[w];
      for (int k = 0; k < here; ++k) {
        if (keep >> k & 1) bits |= mask[(first + k) * words + w];
      }
      removed[w] = bits;
    }
    __syncthreads();
  }
}

}  // namespace

void nms(const float* boxes, const int64_t* labels, int64_t count, double threshold, uint64_t* mask,
         bool* kept, cudaStream_t stream) {
  const int64_t words = nms_words(count);
  const dim3 grid(static_cast<unsigned>(words),
                  static_cast<unsigned>(words < 65535 ? words : 65535));
  pairs<<<grid, kTile, 0, stream>>>(reinterpret_cast<const float4*>(boxes), labels, count,
                                    threshold, mask);
  // The row behind the last one of the mask is the scratch of the walk.
  walk<<<1, kThreads, 0, stream>>>(mask, count, words, mask + count * words, kept);
}

}  // namespace mammo::cuda
