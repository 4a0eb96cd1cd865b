// 3x3 convolutions of stride 1 on the CPU by Winograd's method (cpu/winograd.h), in all three
// directions and with the ReLU behind them. Values and gradients equal the plain convolution to
// rounding. Keeps no gradient: model/layers.cc has the node.
#pragma once

#include <ATen/ATen.h>

#include <array>

namespace mammo {

/// Whether winograd_convolve takes a convolution of x with weight [out, in, 3, 3], stride 1, one
/// group and one pixel of padding: float32 on an x86 CPU, channels in multiples of 16 and enough
/// pixels to be worth the transform of the weights.
bool winograd_takes(const at::Tensor& x, const at::Tensor& weight);

/// The weights in the form of the product, float32 [16, ...]; for winograd_convolve.
at::Tensor winograd_transform(const at::Tensor& weight);

/// max(0, conv(x) + sum) where all but the convolution may be left out, in the memory format of x.
/// `sum` is overwritten by the result.
at::Tensor winograd_convolve(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                             bool relu, const at::Tensor& sum = {},
                             const at::Tensor& transformed = {});

struct WinogradGradients {
  at::Tensor x, weight, bias;  // undefined where not wanted
};

/// Gradients of winograd_convolve(x, weight, bias) from that of its result, `dy`. `y` is the result
/// where it went through the ReLU, and undefined otherwise.
WinogradGradients winograd_backward(const at::Tensor& x, const at::Tensor& weight,
                                    const at::Tensor& y, at::Tensor dy, std::array<bool, 3> wanted);

}  // namespace mammo
