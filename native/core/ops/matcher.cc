// Matching: checks and choice of the device.
#include "core/ops/matcher.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/ops/cpu/matcher.h"
#ifdef MAMMO_WITH_CUDA
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

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
cuda::Grid device_grid(const AnchorGrid& grid) {
  if (grid.levels.size() > cuda::kMaxLevels) {
    throw Error("ARGUMENT", "matcher: expected at most 8 levels");
  }
  cuda::Grid g{
      static_cast<int32_t>(grid.levels.size()), grid.per_cell, grid.offset, grid.total, {}, {}};
  for (size_t l = 0; l < grid.levels.size(); ++l) {
    const AnchorLevel& level = grid.levels[l];
    g.level[l] = {level.rows, level.cols, level.first, level.stride_y, level.stride_x};
    for (int a = 0; a < grid.per_cell; ++a) {
      std::copy_n(grid.base[l][a].data(), 4, g.base[l][a]);
    }
  }
  return g;
}

at::Tensor match_cuda(const AnchorGrid& grid, const at::Tensor& boxes, const at::Tensor& ignore,
                      const std::array<int64_t, 2>& size, const MatcherConfig& config) {
  if (config.atss_topk > cuda::kMaxTopk) {
    throw Error("ARGUMENT", "matcher: expected atss topk of at most 64 on a CUDA device");
  }
  const c10::cuda::CUDAGuard guard(boxes.device());
  const cuda::Grid g = device_grid(grid);
  const cuda::MatchRules rules{
      config.kind == MatcherKind::kAtss, config.positive_iou,        config.negative_iou,
      config.negative_inclusive,         config.low_quality,         config.low_quality_min_iou,
      static_cast<int>(config.outside),  config.atss_topk,           config.atss_centre_in_box,
      static_cast<float>(size[0]),       static_cast<float>(size[1])};
  at::Tensor match = at::empty({grid.total}, boxes.options().dtype(at::kInt));
  const auto bytes = static_cast<int64_t>(cuda::matcher_workspace(g, boxes.size(0), rules));
  at::Tensor work = at::empty({bytes}, boxes.options().dtype(at::kByte));
  cuda::match_anchors(g, boxes.data_ptr<float>(), boxes.size(0), ignore.data_ptr<float>(),
                      ignore.size(0), rules, work.data_ptr(), match.data_ptr<int32_t>(),
                      c10::cuda::getCurrentCUDAStream());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
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
