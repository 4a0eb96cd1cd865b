// Anchor table: each row of cells is the base anchors shifted, four floats an anchor, rows in
// parallel.
#include "core/ops/cpu/anchors.h"

#include <ATen/Parallel.h>

namespace mammo::cpu {
namespace {

// Four floats at once, at any address.
using Box = float __attribute__((vector_size(16)));
using BoxAt = float __attribute__((vector_size(16), aligned(4)));

// `base` [width] already stands at the row's y.
void fill_row(const float* base, int64_t width, int64_t cols, float stride, float* out) {
  for (int64_t j = 0; j < cols; ++j) {
    const float dx = static_cast<float>(j) * stride;
    const Box shift{dx, 0, dx, 0};
    for (int64_t k = 0; k < width; k += 4) {
      *reinterpret_cast<BoxAt*>(out + k) = *reinterpret_cast<const BoxAt*>(base + k) + shift;
    }
    out += width;
  }
}

}  // namespace

void fill_anchors(const AnchorGrid& grid, float* out) {
  const int64_t width = 4 * grid.per_cell;
  for (size_t l = 0; l < grid.levels.size(); ++l) {
    const AnchorLevel& level = grid.levels[l];
    at::parallel_for(0, level.rows, 16, [&](int64_t begin, int64_t end) {
      std::array<float, 4 * 32> base;
      for (int64_t i = begin; i < end; ++i) {
        const float dy = static_cast<float>(i) * level.stride_y;
        for (int64_t k = 0; k < width; ++k) {
          base[k] = grid.base[l][k / 4][k % 4] + (k % 2 == 1 ? dy : 0.0f);
        }
        fill_row(base.data(), width, level.cols, level.stride_x,
                 out + 4 * level.first + i * level.cols * width);
      }
    });
  }
}

}  // namespace mammo::cpu
