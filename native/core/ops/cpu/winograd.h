// 3x3 convolutions of stride 1 with one pixel of zeros around, on the CPU, by Winograd's minimal
// filtering F(2x2, 3x3): 16 multiplications per 2x2 outputs instead of 36. Forward, gradient of the
// input (a forward with turned weights) and gradient of the weights. Maps are channels-last; the
// order of every sum is fixed, whatever the number of threads. Method: Lavin and Gray 2015, Fast
// Algorithms for Convolutional Neural Networks.
#pragma once

#include <cstdint>

namespace mammo::cpu {

struct WinogradShape {
  int64_t images, rows, cols;  // of input and output
  int64_t in, out;             // channels, multiples of 16
};

/// True on x86 with AVX2 and FMA or better; nothing below may be called elsewhere.
bool winograd_runs();

/// Floats of the transformed weights, and of the scratch that a call needs (threads: at most so
/// many work at once).
int64_t winograd_weight_size(int64_t in, int64_t out);
int64_t winograd_scratch_size(const WinogradShape& shape, int threads);
int64_t winograd_gradient_scratch_size(const WinogradShape& shape);

/// Transforms weights [out, in, 3, 3]. Turned: for the gradient of the input, that is as weights
/// [in, out, 3, 3] with both axes of the window reversed.
void winograd_weights(const float* weights, int64_t in, int64_t out, bool turned,
                      float* transformed);

/// What a convolution reads and does besides. Every pointer may be null.
struct WinogradExtras {
  const float* gate;  // like the input: where it is not above 0 the input counts as 0
  const float* bias;  // [out]
  const float* sum;   // like the output, added to it; may be the output
  bool relu;
};

/// y [n, rows, cols, out] of x [n, rows, cols, in].
void winograd_convolve(const WinogradShape& shape, const float* x, const float* weights,
                       const WinogradExtras& extras, float* y, float* scratch, int threads);

/// Gradient of the weights, [out, in, 3, 3], and of the bias, [out] or null, of a convolution of x
/// whose output has the gradient dy. The gate, like dy, is that of WinogradExtras.
void winograd_weight_gradient(const WinogradShape& shape, const float* x, const float* dy,
                              const float* gate, float* dw, float* db, float* scratch);

}  // namespace mammo::cpu
