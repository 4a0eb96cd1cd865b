// Writes the anchors of a grid on the CPU.
#pragma once

#include "core/ops/anchors.h"

namespace mammo::cpu {

/// out: [grid.total, 4] xyxy.
void fill_anchors(const AnchorGrid& grid, float* out);

}  // namespace mammo::cpu
