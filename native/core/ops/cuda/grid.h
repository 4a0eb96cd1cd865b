// An anchor grid as plain data that can be passed to a kernel by value; filled from AnchorGrid by
// the op's dispatch file.
#pragma once

#include <cstdint>

namespace mammo::cuda {

constexpr int kMaxLevels = 8;
constexpr int kMaxPerCell = 32;

struct GridLevel {
  int64_t rows, cols, first;
  float stride_y, stride_x;
};

struct Grid {
  int32_t levels, per_cell;
  float offset;
  int64_t total;
  GridLevel level[kMaxLevels];
  float base[kMaxLevels][kMaxPerCell][4];
};

}  // namespace mammo::cuda
