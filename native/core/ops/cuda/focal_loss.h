// Launcher of the focal loss.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace mammo::cuda {

enum class FocalType { kFloat, kDouble, kBFloat16, kHalf };

/// As FocalShape of cpu/focal_loss.h.
struct FocalArguments {
  int64_t images, anchors, classes;
  double alpha, gamma;
};

/// Partial sums of one image; `partial` holds images times as many.
int64_t focal_blocks(const FocalArguments& arguments);

/// logits, gradient (may be null) [images, anchors, classes] of `type`; box_offsets on the device;
/// sums [images]. Deterministic: block sums are added in block order.
void focal_loss(const FocalArguments& arguments, FocalType type, const void* logits,
                const int32_t* match, const int32_t* labels, const int64_t* box_offsets,
                void* gradient, double* partial, double* sums, cudaStream_t stream);

}  // namespace mammo::cuda
