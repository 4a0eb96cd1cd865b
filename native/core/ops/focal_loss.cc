// Sigmoid focal loss: checks, the autograd node and the choice of the device. The gradient is made
// together with the loss and waits in the node; backward scales it per image, in place, and gives
// it away.
#include "core/ops/focal_loss.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <string>

#include "core/error.h"
#include "core/ops/cpu/focal_loss.h"
#ifdef MAMMO_WITH_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "core/ops/cuda/focal_loss.h"
#endif

namespace mammo {
namespace {

struct Arguments {
  at::Tensor logits, match, labels, box_offsets;
  double alpha, gamma;
  bool differentiate;
};

// Writes the gradient of each image's sum into `gradient` when that is defined.
at::Tensor forward(const Arguments& a, at::Tensor gradient) {
  const int64_t images = a.logits.size(0), anchors = a.logits.size(1), classes = a.logits.size(2);
  const FocalShape shape{images, anchors, classes, a.alpha, a.gamma};
  if (a.logits.numel() == 0) return at::zeros({images}, a.logits.options().dtype(at::kDouble));
  if (a.logits.is_cpu()) {
    at::Tensor sums = at::empty({images}, a.logits.options().dtype(at::kDouble));
    const auto run = [&]<class T>(T* logits) {
      cpu::focal_loss(shape, logits, a.match.data_ptr<int32_t>(), a.labels.data_ptr<int32_t>(),
                      a.box_offsets.data_ptr<int64_t>(),
                      gradient.defined() ? gradient.data_ptr<T>() : nullptr,
                      sums.data_ptr<double>());
    };
    switch (a.logits.scalar_type()) {
      case at::kFloat:
        run(a.logits.data_ptr<float>());
        break;
      case at::kDouble:
        run(a.logits.data_ptr<double>());
        break;
      case at::kBFloat16:
        run(a.logits.data_ptr<at::BFloat16>());
        break;
      case at::kHalf:
        run(a.logits.data_ptr<at::Half>());
        break;
      default:
        throw Error("ARGUMENT", "focal loss: expected logits of a float type");
    }
    return sums;
  }
#ifdef MAMMO_WITH_CUDA
  const c10::cuda::CUDAGuard guard(a.logits.device());
  const cuda::FocalArguments arguments{images, anchors, classes, a.alpha, a.gamma};
  const auto options = a.logits.options();
  at::Tensor sums = at::empty({images}, options.dtype(at::kDouble));
  at::Tensor partial =
      at::empty({images * cuda::focal_blocks(arguments)}, options.dtype(at::kDouble));
  const at::Tensor offsets = a.box_offsets.to(options.device(), at::kLong, /*non_blocking=*/true);
  const cuda::FocalType type = [&] {
    switch (a.logits.scalar_type()) {
      case at::kFloat:
        return cuda::FocalType::kFloat;
      case at::kDouble:
        return cuda::FocalType::kDouble;
      case at::kBFloat16:
        return cuda::FocalType::kBFloat16;
      case at::kHalf:
        return cuda::FocalType::kHalf;
      default:
        throw Error("ARGUMENT", "focal loss: expected logits of a float type");
    }
  }();
  cuda::focal_loss(arguments, type, a.logits.data_ptr(), a.match.data_ptr<int32_t>(),
                   a.labels.data_ptr<int32_t>(), offsets.data_ptr<int64_t>(),
                   gradient.defined() ? gradient.data_ptr() : nullptr, partial.data_ptr<double>(),
                   sums.data_ptr<double>(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return sums;
#else
  throw Error("DEVICE", "focal loss: this build has no kernels for " + a.logits.device().str());
#endif
}

struct FocalNode : torch::autograd::Function<FocalNode> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& logits,
                            const Arguments& rest) {
    Arguments a = rest;
    a.logits = logits.contiguous();
    at::Tensor gradient;
    if (a.differentiate) gradient = at::empty_like(a.logits);
    at::Tensor sums = mammo::forward(a, gradient);
    if (gradient.defined() && gradient.numel() == 0) gradient.zero_();
    context->saved_data["gradient"] = gradient;
    return sums;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list upstream) {
    at::Tensor gradient = context->saved_data["gradient"].toTensor();
    if (!gradient.defined()) {
      throw Error("INTERNAL", "focal loss: backward runs once per forward");
    }
    context->saved_data["gradient"] = at::Tensor();
    gradient.mul_(upstream[0].view({-1, 1, 1}).to(gradient.scalar_type()));
    return {gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor focal_loss(const at::Tensor& logits, const at::Tensor& match, const at::Tensor& labels,
                      const at::Tensor& box_offsets, double alpha, double gamma) {
  if (logits.dim() != 3) throw Error("ARGUMENT", "focal loss: expected logits [n,N,K]");
  if (match.scalar_type() != at::kInt || match.dim() != 2 || match.size(0) != logits.size(0) ||
      match.size(1) != logits.size(1)) {
    throw Error("ARGUMENT", "focal loss: expected match int32 [n,N] like the logits");
  }
  if (labels.scalar_type() != at::kInt || labels.dim() != 1) {
    throw Error("ARGUMENT", "focal loss: expected labels int32 [m]");
  }
  if (!box_offsets.is_cpu() || box_offsets.scalar_type() != at::kLong ||
      box_offsets.numel() != logits.size(0) + 1) {
    throw Error("ARGUMENT", "focal loss: expected box offsets int64 [n+1] on the CPU");
  }
  if (match.device() != logits.device() || labels.device() != logits.device()) {
    throw Error("ARGUMENT", "focal loss: expected logits, match and labels on one device");
  }
  if (!(gamma >= 0)) throw Error("ARGUMENT", "focal loss: expected gamma >= 0");
  const Arguments rest{at::Tensor(),
                       match.contiguous(),
                       labels.contiguous(),
                       box_offsets.contiguous(),
                       alpha,
                       gamma,
                       at::GradMode::is_enabled() && logits.requires_grad()};
  return FocalNode::apply(logits, rest);
}

at::Tensor composed_focal_loss(const at::Tensor& logits, const at::Tensor& match,
                               const at::Tensor& labels, const at::Tensor& box_offsets,
                               double alpha, double gamma) {
  at::Tensor target = at::zeros_like(logits);
  for (int64_t image = 0; image < logits.size(0); ++image) {
    const at::Tensor rows = at::nonzero(match[image] >= 0).select(1, 0);
    const at::Tensor boxes =
        match[image].index_select(0, rows) + box_offsets[image].item<int64_t>();
    target[image].index_put_({rows, labels.index_select(0, boxes).to(at::kLong)},
                             at::ones({}, target.options()));
  }
  const at::Tensor p = logits.sigmoid();
  const at::Tensor cost = at::binary_cross_entropy_with_logits(logits, target, {}, {}, 0);
  const at::Tensor p_target = p * target + (1 - p) * (1 - target);
  const at::Tensor weight = alpha * target + (1 - alpha) * (1 - target);
  const at::Tensor counted = (match != -2).unsqueeze(-1);
  return (cost * (1 - p_target).pow(gamma) * weight * counted).sum({1, 2}, false, at::kDouble);
}

}  // namespace mammo
