// Layers and their initialisation.
#include "core/model/layers.h"

#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace mammo {
namespace {

// TensorFlow's `same` for stride 2 and an odd kernel: odd sizes pad like PyTorch, even sizes one
// less before.
std::pair<int64_t, int64_t> tf_padding(int64_t size, int64_t kernel) {
  const int64_t total = size % 2 == 0 ? kernel - 2 : kernel - 1;
  return {total / 2, total - total / 2};
}

// The input with TensorFlow's padding, or nothing when symmetric padding gives the same.
std::optional<at::Tensor> pad_tf(const at::Tensor& x, int64_t kernel, double value) {
  const auto [top, bottom] = tf_padding(x.size(2), kernel);
  const auto [left, right] = tf_padding(x.size(3), kernel);
  if (top == bottom && left == right) return std::nullopt;
  return at::constant_pad_nd(x, {left, right, top, bottom}, value);
}

at::Tensor convolve_with(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                         int stride, Padding padding) {
  const int64_t kernel = weight.size(2);
  int64_t pad = kernel / 2;
  at::Tensor input = x;
  if (stride == 2 && kernel > 1 && padding == Padding::kTf) {
    if (auto padded = pad_tf(x, kernel, 0)) {
      input = *padded;
      pad = 0;
    }
  }
  const auto type = x.scalar_type();
  return at::conv2d(input, weight.to(type), bias.defined() ? bias.to(type) : bias, {stride, stride},
                    {pad, pad});
}

}  // namespace

at::Tensor convolve(const Conv& layer, const at::Tensor& x) {
  return convolve_with(x, layer.weight, layer.bias, layer.stride, layer.padding);
}

at::Tensor convolve(const ConvNorm& layer, const at::Tensor& x, Phase phase) {
  const Norm& norm = layer.norm;
  if (norm.policy == NormPolicy::kGroup) return group_norm(norm, convolve(layer.conv, x));
  if (norm.policy == NormPolicy::kTrain && phase != Phase::kEvaluate) {
    const bool update = phase == Phase::kTrain;
    return at::batch_norm(convolve(layer.conv, x), norm.weight, norm.bias,
                          update ? norm.mean : at::Tensor(), update ? norm.variance : at::Tensor(),
                          /*training=*/true, /*momentum=*/0.1, norm.eps, /*cudnn_enabled=*/true);
  }
  // A backbone convolution has no bias of its own.
  const at::Tensor scale = norm.weight * (norm.variance + norm.eps).rsqrt();
  return convolve_with(x, layer.conv.weight * scale.view({-1, 1, 1, 1}),
                       norm.bias - norm.mean * scale, layer.conv.stride, layer.conv.padding);
}

at::Tensor group_norm(const Norm& layer, const at::Tensor& x) {
  const int64_t groups = std::gcd<int64_t>(32, x.size(1));
  // In float32 under reduced precision: the statistics run over whole maps.
  return at::group_norm(x.to(at::kFloat), groups, layer.weight, layer.bias, layer.eps)
      .to(x.scalar_type());
}

at::Tensor max_pool(const at::Tensor& x, Padding padding) {
  if (padding == Padding::kTf) {
    if (auto padded = pad_tf(x, 3, -std::numeric_limits<double>::infinity())) {
      return at::max_pool2d(*padded, {3, 3}, {2, 2});
    }
  }
  return at::max_pool2d(x, {3, 3}, {2, 2}, {1, 1});
}

at::Tensor Builder::add(const std::string& name, int stage, Role role, bool frozen,
                        const at::Tensor& value) {
  at::Tensor stored = value.to(device_);
  list_.add({name, stored, role, stage, frozen, false});
  return stored;
}

Conv Builder::conv(const std::string& name, int stage, const ConvShape& shape, Init init,
                   double bias) {
  at::Tensor weight = at::empty({shape.out, shape.in, shape.kernel, shape.kernel});
  const double area = static_cast<double>(shape.kernel) * shape.kernel;
  switch (init) {
    case Init::kKaimingNormalFanOut:
      weight.normal_(0, std::sqrt(2 / (area * shape.out)), generator_);
      break;
    case Init::kSmallNormal:
      weight.normal_(0, 0.01, generator_);
      break;
    case Init::kKaimingUniform:
    case Init::kGlorotUniform: {
      const double bound = init == Init::kKaimingUniform
                               ? std::sqrt(3 / (area * shape.in))
                               : std::sqrt(6 / (area * (shape.in + shape.out)));
      weight.uniform_(-bound, bound, generator_);
    }
  }
  Conv layer{
      add(name + ".weight", stage, Role::kWeight, false, weight), {}, shape.stride, shape.padding};
  if (shape.bias) {
    layer.bias = add(name + ".bias", stage, Role::kBias, false, at::full({shape.out}, bias));
  }
  return layer;
}

Norm Builder::norm(const std::string& name, int stage, int channels, NormPolicy policy,
                   double eps) {
  const bool frozen = policy == NormPolicy::kFrozen;
  Norm layer{policy,
             add(name + ".weight", stage, Role::kNorm, frozen, at::ones({channels})),
             add(name + ".bias", stage, Role::kNorm, frozen, at::zeros({channels})),
             {},
             {},
             eps};
  if (policy != NormPolicy::kGroup) {
    layer.mean = add(name + ".running_mean", stage, Role::kBuffer, true, at::zeros({channels}));
    layer.variance = add(name + ".running_var", stage, Role::kBuffer, true, at::ones({channels}));
  }
  return layer;
}

}  // namespace mammo
