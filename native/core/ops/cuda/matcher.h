// Launchers of the matcher. Same rules and the same float32 arithmetic as cpu/matcher.cc (compile
// without contraction of multiplications and additions), therefore the same result.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "core/ops/cuda/grid.h"

namespace mammo::cuda {

/// MatcherConfig of core/config.h as plain data; outside: 0 background, 1 ignore background, 2
/// ignore all.
struct MatchRules {
  bool atss;
  float positive, negative;
  bool negative_inclusive;
  bool low_quality;
  float low_quality_min;
  int outside;
  int topk;  // at most kMaxTopk
  bool centre_in_box;
  float height, width;  // of the real image
};

constexpr int kMaxTopk = 64;

/// Bytes of `work`.
size_t matcher_workspace(const Grid& grid, int64_t count, const MatchRules& rules);

/// boxes [count,4], ignore [ignored,4], match [grid.total], all on the device.
void match_anchors(const Grid& grid, const float* boxes, int64_t count, const float* ignore,
                   int64_t ignored, const MatchRules& rules, void* work, int32_t* match,
                   cudaStream_t stream);

}  // namespace mammo::cuda
