// ReLU and max pooling on the CPU: first the largest value of each column of a window, a whole row
// of columns at once, then the largest of those.
#include "core/ops/cpu/max_pool.h"

#include <algorithm>
#include <vector>

#include "core/ops/cpu/clones.h"

namespace mammo::cpu {
namespace {

// Largest values of rows first..last-1 per column, and the row (counted from `first` on, plus
// `base`) where each stands first. NaN is larger than all.
template <class T>
MAMMO_INLINE void column_maxima(const T* x, int64_t cols, int64_t first, int64_t last, int base,
                                T* best, T* row) {
  for (int64_t c = 0; c < cols; ++c) {
    best[c] = x[first * cols + c];
    row[c] = static_cast<T>(base);
  }
  for (int64_t r = first + 1; r < last; ++r) {
    const T* values = x + r * cols;
    const T number = static_cast<T>(base + (r - first));
    for (int64_t c = 0; c < cols; ++c) {
      const bool larger = values[c] > best[c] || values[c] != values[c];
      best[c] = larger ? values[c] : best[c];
      row[c] = larger ? number : row[c];
    }
  }
}

template <class T>
void pool(const PoolShape& s, const T* x, T* y, uint8_t* place) {
  constexpr Clones<column_maxima<T>> column_maxima_of;
  std::vector<T> scratch(2 * s.cols);
  T *best = scratch.data(), *row = best + s.cols;
  for (int64_t oy = 0; oy < s.out_rows; ++oy) {
    const int64_t top = oy * s.stride - s.top;
    const int64_t first = std::max<int64_t>(top, 0), last = std::min(top + s.kernel, s.rows);
    column_maxima_of(x, s.cols, first, last, static_cast<int>(first - top), best, row);
    for (int64_t ox = 0; ox < s.out_cols; ++ox) {
      const int64_t left = ox * s.stride - s.left;
      const int64_t from = std::max<int64_t>(left, 0), to = std::min(left + s.kernel, s.cols);
      int64_t at = from;
      for (int64_t c = from + 1; c < to; ++c) {
        const bool larger =
            best[c] > best[at] || best[c] != best[c] || (best[c] == best[at] && row[c] < row[at]);
        at = larger ? c : at;
      }
      const int64_t to_index = oy * s.out_cols + ox;
      y[to_index] = best[at] < 0 ? T(0) : best[at];
      place[to_index] = static_cast<uint8_t>(static_cast<int>(row[at]) * s.kernel + (at - left));
    }
  }
}

template <class T>
void scatter(const PoolShape& s, const T* y, const uint8_t* place, const T* dy, T* dx) {
  std::fill(dx, dx + s.rows * s.cols, T(0));
  for (int64_t oy = 0; oy < s.out_rows; ++oy) {
    for (int64_t ox = 0; ox < s.out_cols; ++ox) {
      const int64_t i = oy * s.out_cols + ox;
      if (y[i] <= 0) continue;
      const int64_t row = oy * s.stride - s.top + place[i] / s.kernel;
      const int64_t col = ox * s.stride - s.left + place[i] % s.kernel;
      dx[row * s.cols + col] += dy[i];
    }
  }
}

}  // namespace

void relu_max_pool(const PoolShape& s, const float* x, float* y, uint8_t* place) {
  pool(s, x, y, place);
}

void relu_max_pool(const PoolShape& s, const double* x, double* y, uint8_t* place) {
  pool(s, x, y, place);
}

void relu_max_pool_backward(const PoolShape& s, const float* y, const uint8_t* place,
                            const float* dy, float* dx) {
  scatter(s, y, place, dy, dx);
}

void relu_max_pool_backward(const PoolShape& s, const double* y, const uint8_t* place,
                            const double* dy, double* dx) {
  scatter(s, y, place, dy, dx);
}

}  // namespace mammo::cpu
