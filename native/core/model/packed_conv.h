// Convolutions where no gradient is kept, on the CPU: one call for convolution, bias, addition and
// ReLU, on channels-last maps, with weights that were folded and laid out once. Plain 3x3 windows
// go to ops/winograd.h, all others to oneDNN. Not for training what lies behind: layers.h decides
// who comes here.
#pragma once

#include <ATen/ATen.h>

#include <vector>

namespace mammo {

struct Conv;
struct Norm;

/// The weights of one convolution in the forms that its callers want, and what they were made from.
struct PackedConv {
  at::Tensor weight;              // oneDNN's, opaque
  at::Tensor winograd;            // winograd_transform's
  at::Tensor bias;                // [out] or undefined
  std::vector<uint64_t> sources;  // addresses and versions of the parameters
};

/// Whether convolutions of `x` go this way: float32 on an x86 CPU that LibTorch has oneDNN for, no
/// gradients, and the switch is on. Measured to gain with AVX2 and with AVX-512.
bool packs_convolutions(const at::Tensor& x);

/// max(0, norm(conv(x)) + sum), channels-last; the norm (fixed statistics), the sum and the maximum
/// may be left out. `sum` has the size of the result and is overwritten by it.
at::Tensor packed_convolve(const Conv& conv, const Norm* norm, const at::Tensor& x, bool relu,
                           at::Tensor sum = {});

}  // namespace mammo
