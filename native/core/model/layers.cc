// Layers and their initialisation.
#include "core/model/layers.h"

#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>
#include <vector>

#include "core/ops/max_pool.h"
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

// The norm as a factor of the convolution without bias, and what is added.
struct FixedNorm {
  at::Tensor scale, shift;
};

FixedNorm fixed_norm(const Conv& conv, const Norm& norm) {
  const at::Tensor scale = norm.weight * (norm.variance + norm.eps).rsqrt();
  const at::Tensor mean = conv.bias.defined() ? norm.mean - conv.bias : norm.mean;
  return {scale, norm.bias - mean * scale};
}

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The gradient before a ReLU whose result is y, in dy's memory where nobody else holds it. Nodes
// take `upstream` by reference for its sake: it is the engine's own list, and a copy would hold
// every gradient a second time.
at::Tensor before_relu(at::Tensor dy, const at::Tensor& y) {
  if (dy.use_count() == 1 && dy.storage().use_count() == 1 && dy.is_non_overlapping_and_dense())
    return at::threshold_backward_out(dy, dy, y, 0);
  return at::threshold_backward(dy, y, 0);
}

// What a convolution that keeps its gradient is made of besides input, weight and bias.
struct ConvPlan {
  at::Tensor scale;  // of a fixed norm, folded into the weight; or undefined
  int64_t stride, around, groups;
  bool winograd, relu;
  at::Tensor known;  // the result where it was kept, or undefined
};

// The convolution with what is folded into it. Keeps the weights themselves, which exist anyway,
// and folds them again in the backward: the folded ones of a ResNet-50 are 90 MiB.
struct ConvNode : torch::autograd::Function<ConvNode> {
  // `bias` [out], or empty where there is none: a node takes no undefined tensors.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias, const ConvPlan& plan) {
    at::Tensor y = plan.known.defined() ? plan.known.detach() : run(x, weight, bias, plan);
    context->save_for_backward({x, weight, plan.scale, plan.relu ? y : at::Tensor()});
    context->saved_data["window"] = std::vector<int64_t>{plan.stride, plan.around, plan.groups};
    context->saved_data["winograd"] = plan.winograd;
    context->saved_data["bias"] = bias.requires_grad();
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list& upstream) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1], &scale = saved[2], &y = saved[3];
    const std::array<bool, 3> wanted{context->needs_input_grad(0), context->needs_input_grad(1),
                                     context->saved_data["bias"].toBool()};
    const at::Tensor w = folded(weight, scale, x);
    at::Tensor dx, dw, db;
    if (context->saved_data["winograd"].toBool()) {
      const WinogradGradients g = winograd_backward(x, w, y, std::move(upstream[0]), wanted);
      dx = g.x;
      dw = g.weight;
      db = g.bias;
    } else {
      const std::vector<int64_t> window = context->saved_data["window"].toIntVector();
      const int64_t stride = window[0];
      const at::Tensor dy =
          y.defined() ? before_relu(std::move(upstream[0]), y) : std::move(upstream[0]);
      // A window of one pixel is a product. For its input gradient the convolution library goes
      // through a layout of its own: up to twice the time, and two more maps of this size.
      const bool product = wanted[0] && x.is_cpu() && weight.size(2) == 1 && weight.size(3) == 1 &&
                           window == std::vector<int64_t>{stride, 0, 1};
      if (product) {
        dx = at::matmul(w.view({w.size(0), w.size(1)}).t(), dy.flatten(2))
                 .view({x.size(0), x.size(1), dy.size(2), dy.size(3)});
        if (stride > 1) {  // the pixels between were not read
          const at::Tensor read = std::move(dx);
          dx = at::zeros_like(x);
          dx.slice(2, 0, x.size(2), stride).slice(3, 0, x.size(3), stride).copy_(read);
        }
      }
      at::Tensor other;
      std::tie(other, dw, db) = at::convolution_backward(
          dy, x, w, weight.size(0), {stride, stride}, {window[1], window[1]}, {1, 1}, false, {0, 0},
          window[2], {wanted[0] && !product, wanted[1], wanted[2]});
      if (!product) dx = other;
    }
    if (dw.defined()) {
      dw = dw.to(weight.scalar_type());
      if (scale.defined()) dw.mul_(scale.view({-1, 1, 1, 1}));
    }
    if (db.defined()) db = db.to(weight.scalar_type());
    return {dx, dw, db, at::Tensor()};
  }

  static at::Tensor run(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                        const ConvPlan& plan) {
    const at::Tensor w = folded(weight, plan.scale, x);
    const at::Tensor b = bias.numel() > 0 ? bias : at::Tensor();
    if (plan.winograd) return winograd_convolve(x, w, b, plan.relu);
    at::Tensor y =
        at::conv2d(x, w, b.defined() ? b.to(x.scalar_type()) : b, {plan.stride, plan.stride},
                   {plan.around, plan.around}, {1, 1}, plan.groups);
    return plan.relu ? y.relu_() : y;
  }

 private:
  static at::Tensor folded(const at::Tensor& weight, const at::Tensor& scale, const at::Tensor& x) {
    const at::Tensor own = weight.detach();
    return (scale.defined() ? own * scale.view({-1, 1, 1, 1}) : own).to(x.scalar_type());
  }
};

// max(0, a + b), in the memory of `a` with `overwrite`.
struct AddReluNode : torch::autograd::Function<AddReluNode> {
  static at::Tensor forward(AutogradContext* context, at::Tensor a, const at::Tensor& b,
                            bool overwrite) {
    at::Tensor y = overwrite ? a.add_(b) : a.add(b);
    if (overwrite) context->mark_dirty({y});
    y.relu_();
    context->save_for_backward({y});
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list& upstream) {
    const at::Tensor d = before_relu(std::move(upstream[0]), context->get_saved_variables()[0]);
    return {d, d, at::Tensor()};
  }
};

at::Tensor convolve_with(const Conv& layer, const at::Tensor& x, const at::Tensor& scale,
                         const at::Tensor& bias, bool relu, const at::Tensor& known) {
  const auto [padded, around] = pad_for(layer, x);
  const bool winograd = takes_winograd(layer, around, padded);
  const ConvPlan plan{scale, layer.stride, around, layer.groups, winograd, relu, known};
  return ConvNode::apply(winograd ? padded : padded.contiguous(), layer.weight,
                         bias.defined() ? bias : at::empty({0}, layer.weight.options()), plan);
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
  const FixedNorm fixed = fixed_norm(conv, norm);
  return {conv.weight * fixed.scale.view({-1, 1, 1, 1}), fixed.shift};
}

bool takes_winograd(const Conv& layer, int64_t around, const at::Tensor& x) {
  return switches().winograd && layer.weight.size(2) == 3 && layer.stride == 1 &&
         layer.groups == 1 && around == 1 && winograd_takes(x, layer.weight);
}

at::Tensor convolve(const Conv& layer, const at::Tensor& x, Phase phase, bool relu,
                    const at::Tensor& known) {
  if (phase == Phase::kEvaluate && packs_convolutions(x))
    return packed_convolve(layer, nullptr, x, relu);
  return convolve_with(layer, x, /*scale=*/{}, layer.bias, relu, known);
}

at::Tensor convolve(const Conv& conv, const Norm& norm, const at::Tensor& x, Phase phase, bool relu,
                    const at::Tensor& known) {
  if (!folds(norm, phase)) {
    at::Tensor y = normalise(norm, convolve(conv, x, phase), phase);
    return relu ? y.relu_() : y;
  }
  if (phase == Phase::kEvaluate && packs_convolutions(x))
    return packed_convolve(conv, &norm, x, relu);
  const FixedNorm fixed = fixed_norm(conv, norm);
  return convolve_with(conv, x, fixed.scale, fixed.shift, relu, known);
}

at::Tensor add_relu(const at::Tensor& a, const at::Tensor& b, bool overwrite) {
  return AddReluNode::apply(a, b, overwrite);
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

bool takes_relu_max_pool(const at::Tensor& x) {
  return at::GradMode::is_enabled() && switches().compact_pool && relu_max_pool_takes(x);
}

at::Tensor relu_max_pool(const at::Tensor& x, const SlidingWindow& window) {
  const PoolWindow w{window.kernel,
                     window.stride,
                     {padding(window, x.size(2)).first, padding(window, x.size(3)).first},
                     {window.output(x.size(2)), window.output(x.size(3))}};
  return relu_max_pool(x, w);
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
