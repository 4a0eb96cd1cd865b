// Layers and their initialisation.
#include "core/model/layers.h"

#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "core/ops/winograd.h"
#include "core/switches.h"

namespace mammo {
namespace {

// Pixels before and after. TensorFlow's `same` for stride 2 and an odd kernel: odd sizes pad like
// PyTorch, even sizes one less before.
std::pair<int64_t, int64_t> padding(const SlidingWindow& w, int64_t size) {
  switch (w.border) {
    case Border::kValid:
      return {0, 0};
    case Border::kEnd:
      return {0, 1};
    case Border::kTf:
      if (w.stride == 2 && w.kernel > 1) {
        const int64_t total = size % 2 == 0 ? w.kernel - 2 : w.kernel - 1;
        return {total / 2, total - total / 2};
      }
      [[fallthrough]];
    case Border::kSymmetric:
      break;
  }
  return {(w.kernel - 1) / 2, (w.kernel - 1) / 2};
}

// The input, padded where both sides differ, and the padding left to the operator.
std::pair<at::Tensor, int64_t> pad(const at::Tensor& x, const SlidingWindow& w, double value) {
  const auto [top, bottom] = padding(w, x.size(2));
  const auto [left, right] = padding(w, x.size(3));
  if (top == bottom && left == right && top == left) return {x, top};
  return {at::constant_pad_nd(x, {left, right, top, bottom}, value), 0};
}

at::Tensor convolve_with(const Conv& layer, const at::Tensor& x, const at::Tensor& weight,
                         const at::Tensor& bias, bool relu) {
  const auto [padded, around] = pad_for(layer, x);
  if (takes_winograd(layer, around, padded)) return winograd_convolve(padded, weight, bias, relu);
  const auto type = x.scalar_type();
  const at::Tensor w = weight.to(type), b = bias.defined() ? bias.to(type) : bias;
  at::Tensor y = at::conv2d(padded.contiguous(), w, b, {layer.stride, layer.stride},
                            {around, around}, {1, 1}, layer.groups);
  return relu ? y.relu_() : y;
}

}  // namespace

Border border(Padding padding) {
  return padding == Padding::kTf ? Border::kTf : Border::kSymmetric;
}

int64_t SlidingWindow::output(int64_t size) const {
  const auto [before, after] = padding(*this, size);
  return (size + before + after - kernel) / stride + 1;
}

std::pair<at::Tensor, int64_t> pad_for(const Conv& layer, const at::Tensor& x) {
  return pad(x, {static_cast<int>(layer.weight.size(2)), layer.stride, layer.border}, 0);
}

bool folds(const Norm& norm, Phase phase) {
  const bool fixed = norm.policy == NormPolicy::kFrozen ||
                     (norm.policy == NormPolicy::kTrain && phase == Phase::kEvaluate);
  return fixed && switches().fold_norm;
}

FoldedConv fold(const Conv& conv, const Norm& norm) {
  const at::Tensor scale = norm.weight * (norm.variance + norm.eps).rsqrt();
  const at::Tensor mean = conv.bias.defined() ? norm.mean - conv.bias : norm.mean;
  return {conv.weight * scale.view({-1, 1, 1, 1}), norm.bias - mean * scale};
}

bool takes_winograd(const Conv& layer, int64_t around, const at::Tensor& x) {
  return switches().winograd && layer.weight.size(2) == 3 && layer.stride == 1 &&
         layer.groups == 1 && around == 1 && winograd_takes(x, layer.weight);
}

at::Tensor convolve(const Conv& layer, const at::Tensor& x, Phase phase, bool relu) {
  if (phase == Phase::kEvaluate && packs_convolutions(x))
    return packed_convolve(layer, nullptr, x, relu);
  return convolve_with(layer, x, layer.weight, layer.bias, relu);
}

at::Tensor convolve(const Conv& conv, const Norm& norm, const at::Tensor& x, Phase phase,
                    bool relu) {
  if (!folds(norm, phase)) {
    at::Tensor y = normalise(norm, convolve(conv, x, phase), phase);
    return relu ? y.relu_() : y;
  }
  if (phase == Phase::kEvaluate && packs_convolutions(x))
    return packed_convolve(conv, &norm, x, relu);
  const FoldedConv folded = fold(conv, norm);
  return convolve_with(conv, x, folded.weight, folded.bias, relu);
}

at::Tensor normalise(const Norm& norm, const at::Tensor& x, Phase phase) {
  if (norm.policy == NormPolicy::kGroup) return group_norm(norm, x);
  const bool batch = norm.policy == NormPolicy::kTrain && phase != Phase::kEvaluate;
  // The second forward of a checkpointed block leaves the running statistics alone.
  const bool running = !batch || phase == Phase::kTrain;
  // The operator moves the running statistics behind the back of their version counters. Before it,
  // since it keeps them for its backward.
  if (batch && running) {
    mark_changed(norm.mean);
    mark_changed(norm.variance);
  }
  // Over channels-last maps LibTorch sums the statistics in float32, over NCHW in float64.
  return at::batch_norm(batch ? x.contiguous() : x, norm.weight, norm.bias,
                        running ? norm.mean : at::Tensor(), running ? norm.variance : at::Tensor(),
                        batch, norm.momentum, norm.eps,
                        /*cudnn_enabled=*/true);
}

at::Tensor group_norm(const Norm& layer, const at::Tensor& x) {
  const int64_t groups = std::gcd<int64_t>(32, x.size(1));
  // In float32 under reduced precision: the statistics run over whole maps.
  // On NCHW: LibTorch's backward over channels-last maps reads outside its buffers (segmentation
  // fault in GroupNormBackwardKernelImplChannelsLastInternal, LibTorch 2.13).
  return at::group_norm(x.to(at::kFloat).contiguous(), groups, layer.weight, layer.bias, layer.eps)
      .to(x.scalar_type());
}

at::Tensor layer_norm(const Norm& layer, const at::Tensor& x) {
  const at::Tensor last = x.permute({0, 2, 3, 1});
  return at::layer_norm(last.to(at::kFloat), {x.size(1)}, layer.weight, layer.bias, layer.eps)
      .to(x.scalar_type())
      .permute({0, 3, 1, 2})
      // A view would be channels-last, and every convolution after it too.
      .contiguous(x.suggest_memory_format());
}

at::Tensor max_pool(const at::Tensor& x, const SlidingWindow& window) {
  const auto [input, around] = pad(x, window, -std::numeric_limits<double>::infinity());
  return at::max_pool2d(input, {window.kernel, window.kernel}, {window.stride, window.stride},
                        {around, around});
}

at::Tensor average_pool(const at::Tensor& x, const SlidingWindow& window) {
  return at::avg_pool2d(x, {window.kernel, window.kernel}, {window.stride, window.stride}, {0, 0});
}

at::Tensor Builder::add(const std::string& name, int stage, Role role, bool frozen,
                        const at::Tensor& value) {
  at::Tensor stored = value.to(device_);
  list_.add({name, stored, role, stage, frozen, false});
  return stored;
}

void Builder::fill(at::Tensor& weight, Init init, double area, int in, int out) {
  switch (init) {
    case Init::kKaimingNormalFanOut:
      weight.normal_(0, std::sqrt(2 / (area * out)), generator_);
      break;
    case Init::kSmallNormal:
      weight.normal_(0, 0.01, generator_);
      break;
    case Init::kNormal02:
      weight.normal_(0, 0.02, generator_);
      break;
    case Init::kKaimingUniform:
    case Init::kGlorotUniform: {
      const double bound = init == Init::kKaimingUniform ? std::sqrt(3 / (area * in))
                                                         : std::sqrt(6 / (area * (in + out)));
      weight.uniform_(-bound, bound, generator_);
    }
  }
}

Conv Builder::conv(const std::string& name, int stage, const ConvShape& shape, Init init,
                   double bias) {
  const int in = shape.in / shape.groups;
  const std::array<int64_t, 4> size{shape.out, in, shape.kernel, shape.kernel};
  const double area = static_cast<double>(shape.kernel) * shape.kernel;
  at::Tensor weight = device_.is_meta() ? at::empty(size, at::device(device_)) : at::empty(size);
  if (!device_.is_meta()) fill(weight, init, area, in, shape.out);
  Conv layer{add(name + ".weight", stage, Role::kWeight, false, weight),
             {},
             shape.stride,
             shape.border,
             shape.groups};
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

Norm Builder::layer_norm(const std::string& name, int stage, int channels, double eps) {
  return {NormPolicy::kGroup,
          add(name + ".weight", stage, Role::kNorm, false, at::ones({channels})),
          add(name + ".bias", stage, Role::kNorm, false, at::zeros({channels})),
          {},
          {},
          eps};
}

at::Tensor Builder::scale(const std::string& name, int stage, int channels, double value) {
  return add(name + ".weight", stage, Role::kNorm, false, at::full({channels}, value));
}

}  // namespace mammo
