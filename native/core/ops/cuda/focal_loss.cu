// Focal loss and its gradient on the device: one pass, each block sums a fixed range of logits in a
// fixed order.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/ops/cuda/focal_loss.h"

namespace mammo::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kRange = kThreads * 16;  // logits of a block

// What the arithmetic is done in.
template <class T>
struct Wide {
  using type = float;
};
template <>
struct Wide<double> {
  using type = double;
};

__device__ double block_sum(double value) {
  __shared__ double lanes[kThreads];
  lanes[threadIdx.x] = value;
  for (int step = kThreads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) lanes[threadIdx.x] += lanes[threadIdx.x + step];
  }
  __syncthreads();
  return lanes[0];
}

template <class T>
__global__ void blocks(FocalArguments a, const T* logits, const int32_t* match,
                       const int32_t* labels, const int64_t* box_offsets, T* gradient,
                       double* partial) {
  using F = typename Wide<T>::type;
  const int64_t image = blockIdx.y, per_image = a.anchors * a.classes;
  const int64_t first = blockIdx.x * kRange, last = min(first + kRange, per_image);
  const int32_t* own = labels + box_offsets[image];
  const F gamma = static_cast<F>(a.gamma);
  double sum = 0;
  for (int64_t i = first + threadIdx.x; i < last; i += kThreads) {
    const int64_t at = image * per_image + i;
    const int32_t state = match[image * a.anchors + i / a.classes];
    const bool positive = state >= 0 && own[state] == i % a.classes;
    const double weight_of_sign = positive ? a.alpha : 1 - a.alpha;
    const F alpha = state == -2 ? 0 : a.alpha < 0 ? 1 : static_cast<F>(weight_of_sign);
    const F x = static_cast<F>(logits[at]);
    const F z = positive ? x : -x;
    const F e = exp(-fabs(z)), rest = log1p(e);
    const F large = 1 / (1 + e), small = e * large;
    const F q = z >= 0 ? small : large, p = z >= 0 ? large : small;
    const F cost = rest + (z < 0 ? -z : F(0));
    const F factor = gamma == 2 ? q * q : exp(-gamma * (rest + (z > 0 ? z : F(0))));
    const F weight = alpha * factor;
    const F broken = x - x;  // NaN where the logit is not finite
    sum += weight * cost + broken;
    const F size = weight * (gamma * p * cost + q) + broken;
    const F slope = positive ? -size : size;
    if (gradient != nullptr) gradient[at] = static_cast<T>(slope);
  }
  const double total = block_sum(sum);
  if (threadIdx.x == 0) partial[image * gridDim.x + blockIdx.x] = total;
}

__global__ void add_partials(const double* partial, int64_t count, double* sums) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += partial[blockIdx.x * count + i];
  const double total = block_sum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

template <class T>
void launch(const FocalArguments& a, const void* logits, const int32_t* match,
            const int32_t* labels, const int64_t* box_offsets, void* gradient, double* partial,
            cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(focal_blocks(a)), static_cast<unsigned>(a.images));
  blocks<T><<<grid, kThreads, 0, stream>>>(a, static_cast<const T*>(logits), match, labels,
                                           box_offsets, static_cast<T*>(gradient), partial);
}

}  // namespace

int64_t focal_blocks(const FocalArguments& a) {
  return (a.anchors * a.classes + kRange - 1) / kRange;
}

void focal_loss(const FocalArguments& a, FocalType type, const void* logits, const int32_t* match,
                const int32_t* labels, const int64_t* box_offsets, void* gradient, double* partial,
                double* sums, cudaStream_t stream) {
  switch (type) {
    case FocalType::kFloat:
      launch<float>(a, logits, match, labels, box_offsets, gradient, partial, stream);
      break;
    case FocalType::kDouble:
      launch<double>(a, logits, match, labels, box_offsets, gradient, partial, stream);
      break;
    case FocalType::kBFloat16:
      launch<__nv_bfloat16>(a, logits, match, labels, box_offsets, gradient, partial, stream);
      break;
    case FocalType::kHalf:
      launch<__half>(a, logits, match, labels, box_offsets, gradient, partial, stream);
      break;
  }
  add_partials<<<static_cast<unsigned>(a.images), kThreads, 0, stream>>>(partial, focal_blocks(a),
                                                                         sums);
}

}  // namespace mammo::cuda
