// Non-maximum suppression: checks and choice of the device.
#include "core/ops/nms.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/ops/cpu/nms.h"
#ifdef MAMMO_WITH_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "core/ops/cuda/nms.h"
#endif

namespace mammo {
namespace {

#ifdef MAMMO_WITH_CUDA
at::Tensor suppress_cuda(const at::Tensor& boxes, const at::Tensor& scores,
                         const at::Tensor& labels, double threshold) {
  const c10::cuda::CUDAGuard guard(boxes.device());
  const int64_t count = boxes.size(0);
  const at::Tensor order = std::get<1>(at::sort(scores, /*stable=*/true, 0, /*descending=*/true));
  const at::Tensor sorted = boxes.index_select(0, order);
  const at::Tensor classes = labels.defined() ? labels.index_select(0, order) : labels;
  const auto options = boxes.options();
  at::Tensor mask = at::empty({count + 1, cuda::nms_words(count)}, options.dtype(at::kLong));
  at::Tensor kept = at::empty({count}, options.dtype(at::kBool));
  cuda::nms(sorted.data_ptr<float>(), classes.defined() ? classes.data_ptr<int64_t>() : nullptr,
            count, threshold, reinterpret_cast<uint64_t*>(mask.data_ptr<int64_t>()),
            kept.data_ptr<bool>(), c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return order.masked_select(kept);
}
#endif

at::Tensor suppress(const at::Tensor& boxes, const at::Tensor& scores, const at::Tensor& labels,
                    double threshold) {
  const auto indices = boxes.options().dtype(at::kLong);
  if (boxes.size(0) == 0) return at::empty({0}, indices);
  const at::Tensor b = boxes.contiguous(), s = scores.to(at::kFloat).contiguous();
  const at::Tensor l = labels.defined() ? labels.to(at::kLong).contiguous() : labels;
  if (boxes.is_cpu()) {
    const std::vector<int64_t> kept =
        cpu::nms(b.data_ptr<float>(), s.data_ptr<float>(),
                 l.defined() ? l.data_ptr<int64_t>() : nullptr, b.size(0), threshold, b.size(0));
    at::Tensor result = at::empty({static_cast<int64_t>(kept.size())}, indices);
    std::copy(kept.begin(), kept.end(), result.data_ptr<int64_t>());
    return result;
  }
#ifdef MAMMO_WITH_CUDA
  return suppress_cuda(b, s, l, threshold);
#else
  throw Error("DEVICE", "nms: this build has no kernels for " + boxes.device().str());
#endif
}

void check_arguments(const at::Tensor& boxes, const at::Tensor& scores) {
  if (boxes.dim() != 2 || boxes.size(1) != 4 || boxes.scalar_type() != at::kFloat) {
    throw Error("ARGUMENT", "nms: expected boxes float32 [n,4]");
  }
  if (scores.dim() != 1 || scores.size(0) != boxes.size(0) || scores.device() != boxes.device()) {
    throw Error("ARGUMENT", "nms: expected one score per box, on the same device");
  }
}

}  // namespace

at::Tensor nms(const at::Tensor& boxes, const at::Tensor& scores, double iou_threshold) {
  check_arguments(boxes, scores);
  return suppress(boxes, scores, at::Tensor(), iou_threshold);
}

at::Tensor batched_nms(const at::Tensor& boxes, const at::Tensor& scores, const at::Tensor& labels,
                       double iou_threshold) {
  check_arguments(boxes, scores);
  if (labels.sizes() != scores.sizes() || labels.device() != boxes.device() ||
      (labels.scalar_type() != at::kLong && labels.scalar_type() != at::kInt)) {
    throw Error("ARGUMENT", "nms: expected one integer label per box, on the same device");
  }
  return suppress(boxes, scores, labels, iou_threshold);
}

}  // namespace mammo
