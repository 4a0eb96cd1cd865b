// Warping on the CPU.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/ops/warp.h"

namespace mammo::cpu {

/// out [windows, channels, canvas h, canvas w]. Arguments are checked by the caller.
void warp_windows(const uint16_t* pixels, const std::vector<Window>& windows, int channels,
                  const std::array<int64_t, 2>& canvas, float* out);

}  // namespace mammo::cpu
