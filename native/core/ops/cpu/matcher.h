// Matching of one image on the CPU.
#pragma once

#include <array>
#include <cstdint>

#include "core/ops/anchors.h"

namespace mammo::cpu {

/// boxes [count,4], ignore [ignored,4], match [grid.total]; the same result for any number of
/// threads.
void match_anchors(const AnchorGrid& grid, const float* boxes, int64_t count, const float* ignore,
                   int64_t ignored, const std::array<int64_t, 2>& size, const MatcherConfig& config,
                   int32_t* match);

}  // namespace mammo::cpu
