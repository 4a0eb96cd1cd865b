// Focal loss on the CPU, in one pass over the logits.
#pragma once

#include <cstdint>

namespace mammo {

/// alpha of the foreground (1 - alpha of the background); a negative alpha weighs both by 1.
struct FocalShape {
  int64_t images, anchors, classes;
  double alpha, gamma;
};

namespace cpu {

/// logits, gradient [images, anchors, classes] (gradient may be null), match [images, anchors],
/// sums [images]. The sums do not depend on the number of threads. T: float, double, at::BFloat16,
/// at::Half.
template <class T>
void focal_loss(const FocalShape& shape, const T* logits, const int32_t* match,
                const int32_t* labels, const int64_t* box_offsets, T* gradient, double* sums);

}  // namespace cpu
}  // namespace mammo
