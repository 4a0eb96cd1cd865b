// Warping row by row of the output. Positions are computed in double, because a float position at
// pixel 4000 would cost a fifth of a grey level; taps outside the window are raw 0. A whole-pixel
// translation is a copy. Noise is a function of seed and pixel, so threads and order cannot matter.
// Method: datasets spec 4.4 and 4.5.
#include "core/ops/cpu/warp.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/ops/cpu/clones.h"
#include "core/ops/random_pixel.h"

namespace mammo::cpu {
namespace {

// Block means; blocks at the right and lower border average the pixels that exist.
std::vector<float> reduce_blocks(const uint16_t* pixels, const Window& w) {
  const int64_t side = int64_t{1} << w.reduce;
  const int64_t rows = (w.rows + side - 1) >> w.reduce, cols = (w.cols + side - 1) >> w.reduce;
  std::vector<float> out(rows * cols);
  at::parallel_for(0, rows, 8, [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> sums(w.cols);  // at most 2^15 rows of 16 bits
    for (int64_t i = begin; i < end; ++i) {
      const int64_t y1 = std::min(w.rows, (i + 1) * side);
      std::fill(sums.begin(), sums.end(), 0u);
      for (int64_t y = i * side; y < y1; ++y) {
        const uint16_t* row = pixels + y * w.cols;
        for (int64_t x = 0; x < w.cols; ++x) sums[x] += row[x];
      }
      for (int64_t j = 0; j < cols; ++j) {
        const int64_t x1 = std::min(w.cols, (j + 1) * side);
        uint64_t sum = 0;
        for (int64_t x = j * side; x < x1; ++x) sum += sums[x];
        const auto count = static_cast<double>((y1 - i * side) * (x1 - j * side));
        out[i * cols + j] = static_cast<float>(static_cast<double>(sum) / count);
      }
    }
  });
  return out;
}

template <class T>
struct Source {
  const T* data;
  int64_t rows, cols;
};

constexpr int64_t kBlock = 256;

// Upper left tap and weights of pixels [x0, x0 + count) of a row whose first pixel centre maps to
// (x, y), in index coordinates.
MAMMO_INLINE void positions_loop(double x, double y, double step_x, double step_y, int64_t x0,
                                 int64_t count, int32_t* left, int32_t* top, float* wx, float* wy) {
  // Far outside is outside: the clamp keeps the conversion to int defined.
  constexpr double kFar = 1 << 24;
  for (int64_t i = 0; i < count; ++i) {
    const auto n = static_cast<double>(static_cast<int32_t>(x0 + i));
    double px = x + n * step_x, py = y + n * step_y;
    px = px < -kFar ? -kFar : px > kFar ? kFar : px;
    py = py < -kFar ? -kFar : py > kFar ? kFar : py;
    // floor without a library call: truncation, less one where that rounded up
    auto ix = static_cast<int32_t>(px), iy = static_cast<int32_t>(py);
    ix -= static_cast<double>(ix) > px ? 1 : 0;
    iy -= static_cast<double>(iy) > py ? 1 : 0;
    left[i] = ix;
    top[i] = iy;
    wx[i] = static_cast<float>(px - ix);
    wy[i] = static_cast<float>(py - iy);
  }
}
constexpr Clones<positions_loop> positions;

// The same for the places (px, py), in index coordinates.
MAMMO_INLINE void split_positions_loop(const double* xs, const double* ys, int64_t count,
                                       int32_t* left, int32_t* top, float* wx, float* wy) {
  constexpr double kFar = 1 << 24;
  for (int64_t i = 0; i < count; ++i) {
    const double px = xs[i] < -kFar ? -kFar : xs[i] > kFar ? kFar : xs[i];
    const double py = ys[i] < -kFar ? -kFar : ys[i] > kFar ? kFar : ys[i];
    auto ix = static_cast<int32_t>(px), iy = static_cast<int32_t>(py);
    ix -= static_cast<double>(ix) > px ? 1 : 0;
    iy -= static_cast<double>(iy) > py ? 1 : 0;
    left[i] = ix;
    top[i] = iy;
    wx[i] = static_cast<float>(px - ix);
    wy[i] = static_cast<float>(py - iy);
  }
}
constexpr Clones<split_positions_loop> split_positions;

MAMMO_INLINE void blend_loop(const float* taps, const float* wx, const float* wy, int64_t count,
                             float* out) {
  const float *a = taps, *b = taps + kBlock, *c = taps + 2 * kBlock, *d = taps + 3 * kBlock;
  for (int64_t i = 0; i < count; ++i) {
    const float upper = a[i] + (b[i] - a[i]) * wx[i];
    const float lower = c[i] + (d[i] - c[i]) * wx[i];
    out[i] = upper + (lower - upper) * wy[i];
  }
}
constexpr Clones<blend_loop> blend;

// v = (raw - mean) / std where raw is 0, otherwise contrast and brightness on top.
MAMMO_INLINE void normalise_loop(const float* raw, int64_t count, float mean, float std,
                                 float contrast, float brightness, float* out) {
  for (int64_t i = 0; i < count; ++i) {
    const float v = (raw[i] - mean) / std;
    out[i] = raw[i] != 0 ? v * contrast + brightness : v;
  }
}
constexpr Clones<normalise_loop> normalise;

MAMMO_INLINE void widen_integers_loop(const uint16_t* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = static_cast<float>(in[i]);
}
constexpr Clones<widen_integers_loop> widen_integers;
MAMMO_INLINE void widen_floats_loop(const float* in, int64_t count, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = in[i];
}
constexpr Clones<widen_floats_loop> widen_floats;
void widen(const uint16_t* in, int64_t count, float* out) { widen_integers(in, count, out); }
void widen(const float* in, int64_t count, float* out) { widen_floats(in, count, out); }

template <class T>
void gather(const Source<T>& s, const int32_t* left, const int32_t* top, int64_t count,
            float* taps) {
  const auto at = [&](int64_t y, int64_t x) {
    const bool inside = y >= 0 && x >= 0 && y < s.rows && x < s.cols;
    return inside ? static_cast<float>(s.data[y * s.cols + x]) : 0.0f;
  };
  for (int64_t i = 0; i < count; ++i) {
    const int64_t x = left[i], y = top[i];
    if (x >= 0 && y >= 0 && x + 1 < s.cols && y + 1 < s.rows) {
      const T* p = s.data + y * s.cols + x;
      taps[i] = static_cast<float>(p[0]);
      taps[kBlock + i] = static_cast<float>(p[1]);
      taps[2 * kBlock + i] = static_cast<float>(p[s.cols]);
      taps[3 * kBlock + i] = static_cast<float>(p[s.cols + 1]);
    } else {
      taps[i] = at(y, x);
      taps[kBlock + i] = at(y, x + 1);
      taps[2 * kBlock + i] = at(y + 1, x);
      taps[3 * kBlock + i] = at(y + 1, x + 1);
    }
  }
}

// Raw values of one output row, at most the real width.
template <class T>
void sample_row(const Source<T>& s, const double* m, int64_t row, int64_t width, float* raw) {
  const double yc = static_cast<double>(row) + 0.5;
  const double x = m[0] * 0.5 + m[1] * yc + m[2] - 0.5, y = m[3] * 0.5 + m[4] * yc + m[5] - 0.5;
  constexpr double kFar = 1 << 24;
  if (m[0] == 1 && m[3] == 0 && x == std::floor(x) && y == std::floor(y) && std::abs(x) < kFar &&
      std::abs(y) < kFar) {
    const auto dx = static_cast<int64_t>(x), sy = static_cast<int64_t>(y);
    const int64_t begin = std::clamp<int64_t>(-dx, 0, width);
    const int64_t end = std::clamp<int64_t>(s.cols - dx, begin, width);
    std::fill_n(raw, width, 0.0f);
    if (sy >= 0 && sy < s.rows) widen(s.data + sy * s.cols + dx + begin, end - begin, raw + begin);
    return;
  }
  int32_t left[kBlock], top[kBlock];
  float wx[kBlock], wy[kBlock], taps[4 * kBlock];
  for (int64_t x0 = 0; x0 < width; x0 += kBlock) {
    const int64_t count = std::min(kBlock, width - x0);
    positions(x, y, m[0], m[3], x0, count, left, top, wx, wy);
    gather(s, left, top, count, taps);
    blend(taps, wx, wy, count, raw + x0);
  }
}

// The displacement along one output row: the spline is separable, so the four node rows around it
// are mixed once and each pixel weighs four mixed nodes.
class DisplacedRow {
 public:
  DisplacedRow(const Elastic& e, double y, int64_t width) : spacing_(e.spacing) {
    const double v = y / spacing_, j = std::floor(v);
    double down[4];
    elastic_weights(v - j, down);
    const auto nodes = static_cast<int64_t>(std::floor(static_cast<double>(width) / spacing_)) + 4;
    for (uint32_t axis : {0u, 1u}) {
      mixed_[axis].resize(nodes);
      for (int64_t i = 0; i < nodes; ++i) {
        double sum = 0;
        for (int b = 0; b < 4; ++b) {
          sum += down[b] * elastic_node(e.seed, axis, i - 1, static_cast<int64_t>(j) + b - 1);
        }
        mixed_[axis][i] = e.amplitude * sum;
      }
    }
  }

  // x and y displacement at the place x of the row, 0 <= x <= width.
  std::array<double, 2> at(double x) const {
    const double u = x / spacing_;
    const auto i = static_cast<int64_t>(u);
    double across[4];
    elastic_weights(u - static_cast<double>(i), across);
    std::array<double, 2> d{0, 0};
    for (int axis = 0; axis < 2; ++axis) {
      for (int a = 0; a < 4; ++a) d[axis] += across[a] * mixed_[axis][i + a];
    }
    return d;
  }

 private:
  double spacing_;
  std::array<std::vector<double>, 2> mixed_;
};

// Raw values of one output row whose places are displaced before the affine.
template <class T>
void sample_displaced_row(const Source<T>& s, const double* m, const Elastic& elastic, int64_t row,
                          int64_t width, float* raw) {
  const double yc = static_cast<double>(row) + 0.5;
  const DisplacedRow displaced(elastic, yc, width);
  int32_t left[kBlock], top[kBlock];
  float wx[kBlock], wy[kBlock], taps[4 * kBlock];
  double px[kBlock], py[kBlock];
  for (int64_t x0 = 0; x0 < width; x0 += kBlock) {
    const int64_t count = std::min(kBlock, width - x0);
    for (int64_t i = 0; i < count; ++i) {
      const double xc = static_cast<double>(x0 + i) + 0.5;
      const auto d = displaced.at(xc);
      const double x = xc + d[0], y = yc + d[1];
      px[i] = m[0] * x + m[1] * y + m[2] - 0.5;
      py[i] = m[3] * x + m[4] * y + m[5] - 0.5;
    }
    split_positions(px, py, count, left, top, wx, wy);
    gather(s, left, top, count, taps);
    blend(taps, wx, wy, count, raw + x0);
  }
}

template <class T>
void warp_window(const Source<T>& source, const Window& w, int channels,
                 const std::array<int64_t, 2>& canvas, float* out) {
  const double scale = std::ldexp(1.0, -w.reduce);
  double m[6];
  for (int i = 0; i < 6; ++i) m[i] = w.affine[i] * scale;
  const float empty = (0 - w.mean) / w.std;
  const auto [contrast, brightness, gamma, sigma] = w.intensity;
  const int64_t width = w.size[1];
  at::parallel_for(0, canvas[0], 16, [&](int64_t begin, int64_t end) {
    std::vector<float> raw(width);
    for (int64_t i = begin; i < end; ++i) {
      float* row = out + i * canvas[1];
      const int64_t real = i < w.size[0] ? width : 0;
      if (real > 0) {
        if (w.elastic.amplitude == 0) {
          sample_row(source, m, i, real, raw.data());
        } else {
          sample_displaced_row(source, m, w.elastic, i, real, raw.data());
        }
        if (gamma != 1) {
          for (float& v : raw) v = 65535.0f * std::pow(v / 65535.0f, gamma);
        }
        normalise(raw.data(), real, w.mean, w.std, contrast, brightness, row);
        if (sigma != 0) {
          for (int64_t j = 0; j < real; ++j) {
            if (raw[j] != 0) row[j] += sigma * pixel_normal(w.noise_seed, i, j);
          }
        }
      }
      std::fill(row + real, row + canvas[1], empty);
      for (int c = 1; c < channels; ++c) {
        std::memcpy(row + c * canvas[0] * canvas[1], row, canvas[1] * sizeof(float));
      }
    }
  });
}

}  // namespace

void warp_windows(const uint16_t* pixels, const std::vector<Window>& windows, int channels,
                  const std::array<int64_t, 2>& canvas, float* out) {
  for (const Window& w : windows) {
    const uint16_t* data = pixels + w.offset;
    if (w.reduce == 0) {
      warp_window(Source<uint16_t>{data, w.rows, w.cols}, w, channels, canvas, out);
    } else {
      const std::vector<float> reduced = reduce_blocks(data, w);
      const int64_t side = int64_t{1} << w.reduce;
      warp_window(
          Source<float>{reduced.data(), (w.rows + side - 1) / side, (w.cols + side - 1) / side}, w,
          channels, canvas, out);
    }
    out += channels * canvas[0] * canvas[1];
  }
}

}  // namespace mammo::cpu
