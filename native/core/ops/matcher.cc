// Matching: checks and choice of the device.
#include "core/ops/matcher.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/ops/cpu/matcher.h"
#ifdef MAMMO_WITH_CUDA
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>

#include "core/ops/cuda/matcher.h"
#endif

namespace mammo {
namespace {

at::Tensor rows(const at::Tensor& t, const char* name) {
  if (t.dim() != 2 || t.size(1) != 4 || t.scalar_type() != at::kFloat) {
    throw Error("ARGUMENT", std::string("matcher: expected ") + name + " float32 [n,4]");
  }
  return t.contiguous();
}

#ifdef MAMMO_WITH_CUDA
at::Tensor match_cuda(const AnchorGrid& grid, const at::Tensor& boxes, const at::Tensor& ignore,
                      const std::array<int64_t, 2>& size, const MatcherConfig& config) {
  const c10::cuda::CUDAGuard guard(boxes.device());
  const auto bytes = boxes.options().dtype(at::kByte);
  at::Tensor match = at::empty({grid.total}, boxes.options().dtype(at::kInt));
  const int64_t count = boxes.size(0);
  at::Tensor work = at::empty({cuda::matcher_workspace(grid, count, config)}, bytes);
  cuda::match_anchors(grid, boxes.data_ptr<float>(), count, ignore.data_ptr<float>(),
                      ignore.size(0), size, config, work.data_ptr(), match.data_ptr<int32_t>(),
                      at::cuda::getCurrentCUDAStream());
  return match;
}
#endif

}  // namespace

at::Tensor match_anchors(const AnchorGrid& grid, const at::Tensor& boxes, const at::Tensor& ignore,
                         const std::array<int64_t, 2>& size, const MatcherConfig& config) {
  const at::Tensor b = rows(boxes, "boxes"), g = rows(ignore, "ignore regions");
  if (b.device() != g.device()) {
    throw Error("ARGUMENT", "matcher: expected boxes and ignore regions on one device");
  }
  if (config.kind == MatcherKind::kAtss && config.atss_topk < 1) {
    throw Error("ARGUMENT", "matcher: expected atss topk >= 1");
  }
  if (b.is_cpu()) {
    at::Tensor match = at::empty({grid.total}, b.options().dtype(at::kInt));
    cpu::match_anchors(grid, b.data_ptr<float>(), b.size(0), g.data_ptr<float>(), g.size(0), size,
                       config, match.data_ptr<int32_t>());
    return match;
  }
#ifdef MAMMO_WITH_CUDA
  return match_cuda(grid, b, g, size, config);
#else
  throw Error("DEVICE", "matcher: this build has no kernels for " + b.device().str());
#endif
}

}  // namespace mammo
