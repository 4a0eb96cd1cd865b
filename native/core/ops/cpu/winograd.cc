// Transforms and a register-blocked matrix product, written once over the vector type and compiled
// for AVX-512 and for AVX2.
#include "core/ops/cpu/winograd.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "core/ops/cpu/clones.h"

namespace mammo::cpu {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)

namespace {

// Tiles that are transformed and multiplied together: a multiple of both register blocks, small
// enough for the transformed values to stay in the second and third cache.
constexpr int64_t kChunk = 84;
// Columns of the product that lie together in the transformed weights.
constexpr int64_t kPanel = 32;
// Rows of scratch are longer than the channels, so that they do not fall into one cache set.
constexpr int64_t kPad = 16;

struct Wide {  // 512 bits
  typedef float V __attribute__((vector_size(64), aligned(4), may_alias));
  typedef int32_t I __attribute__((vector_size(64)));
  static constexpr int kLanes = 16, kRows = 14;
};
struct Narrow {  // 256 bits
  typedef float V __attribute__((vector_size(32), aligned(4), may_alias));
  typedef int32_t I __attribute__((vector_size(32)));
  static constexpr int kLanes = 8, kRows = 6;
};

int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

struct Tiling {
  int64_t down, across, per_image, total, chunks;
};
Tiling tiling(const WinogradShape& s) {
  Tiling t{};
  t.down = (s.rows + 1) / 2;
  t.across = (s.cols + 1) / 2;
  t.per_image = t.down * t.across;
  t.total = s.images * t.per_image;
  t.chunks = (t.total + kChunk - 1) / kChunk;
  return t;
}

struct Tile {
  int64_t image, y, x;  // of its first output pixel
};
MAMMO_INLINE Tile tile_at(const Tiling& t, int64_t i) {
  const int64_t in_image = i % t.per_image;
  return {i / t.per_image, in_image / t.across * 2, in_image % t.across * 2};
}

// c[r][0..32) (+)= sum over k of a[r * a_row + k * a_k] * b[k * kPanel + 0..32), for kCount rows.
template <class S, int kCount, bool kAdd>
MAMMO_INLINE void block(const float* a, int64_t a_row, int64_t a_k, const float* b, int64_t depth,
                        float* c, int64_t c_row) {
  using V = typename S::V;
  constexpr int kVectors = 2;
  for (int part = 0; part < kPanel; part += kVectors * S::kLanes) {
    V sum[kCount][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        sum[r][v] = kAdd ? *reinterpret_cast<const V*>(c + r * c_row + part + v * S::kLanes) : V{};
    }
    const float* bk = b + part;
    const float* ak = a;
    for (int64_t k = 0; k < depth; ++k, bk += kPanel, ak += a_k) {
      const V b0 = *reinterpret_cast<const V*>(bk);
      const V b1 = *reinterpret_cast<const V*>(bk + S::kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kCount; ++r) {
        const float x = ak[r * a_row];
        sum[r][0] += x * b0;
        sum[r][1] += x * b1;
      }
    }
#pragma GCC unroll 16
    for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        *reinterpret_cast<V*>(c + r * c_row + part + v * S::kLanes) = sum[r][v];
    }
  }
}

template <class S, bool kAdd>
MAMMO_INLINE void rows_of(const float* a, int64_t a_row, int64_t a_k, const float* b, int64_t depth,
                          float* c, int64_t c_row, int64_t rows) {
  int64_t r = 0;
  for (; r + S::kRows <= rows; r += S::kRows)
    block<S, S::kRows, kAdd>(a + r * a_row, a_row, a_k, b, depth, c + r * c_row, c_row);
  for (; r + 4 <= rows; r += 4)
    block<S, 4, kAdd>(a + r * a_row, a_row, a_k, b, depth, c + r * c_row, c_row);
  for (; r < rows; ++r)
    block<S, 1, kAdd>(a + r * a_row, a_row, a_k, b, depth, c + r * c_row, c_row);
}

// Pixels outside the map, and everything where the gate is closed, are 0.
template <class S>
MAMMO_INLINE void read(typename S::V& value, bool inside, const float* x, const float* gate,
                       int64_t at) {
  using V = typename S::V;
  value = inside ? *reinterpret_cast<const V*>(x + at) : V{};
  if (inside && gate != nullptr) value = *reinterpret_cast<const V*>(gate + at) > V{} ? value : V{};
}

// v[position][...] = B^T d B of the tile's 4x4 pixels, `stride` floats between positions.
template <class S>
MAMMO_INLINE void transform_input(const WinogradShape& s, const Tile& at, const float* x,
                                  const float* gate, float* v, int64_t stride) {
  using V = typename S::V;
  for (int64_t c = 0; c < s.in; c += S::kLanes) {
    V d[4][4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const int64_t y = at.y - 1 + i, x_ = at.x - 1 + j;
        const bool inside = y >= 0 && y < s.rows && x_ >= 0 && x_ < s.cols;
        const int64_t from = ((at.image * s.rows + y) * s.cols + x_) * s.in + c;
        read<S>(d[i][j], inside, x, gate, from);
      }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const V a = d[i][0], b = d[i][1], e = d[i][2], f = d[i][3];
      d[i][0] = a - e;
      d[i][1] = b + e;
      d[i][2] = e - b;
      d[i][3] = b - f;
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const V a = d[0][j], b = d[1][j], e = d[2][j], f = d[3][j];
      float* to = v + j * stride + c;
      *reinterpret_cast<V*>(to) = a - e;
      *reinterpret_cast<V*>(to + 4 * stride) = b + e;
      *reinterpret_cast<V*>(to + 8 * stride) = e - b;
      *reinterpret_cast<V*>(to + 12 * stride) = b - f;
    }
  }
}

// y = A^T m A, and what belongs to it.
template <class S>
MAMMO_INLINE void transform_output(const WinogradShape& s, const Tile& at, const float* m,
                                   int64_t stride, const WinogradExtras& extras, float* y) {
  using V = typename S::V;
  for (int64_t c = 0; c < s.out; c += S::kLanes) {
    V t[2][4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const float* from = m + j * stride + c;
      const V a = *reinterpret_cast<const V*>(from);
      const V b = *reinterpret_cast<const V*>(from + 4 * stride);
      const V e = *reinterpret_cast<const V*>(from + 8 * stride);
      const V f = *reinterpret_cast<const V*>(from + 12 * stride);
      t[0][j] = a + b + e;
      t[1][j] = b - e - f;
    }
    const V bias = extras.bias == nullptr ? V{} : *reinterpret_cast<const V*>(extras.bias + c);
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        if (at.y + i >= s.rows || at.x + j >= s.cols) continue;
        const int64_t to = ((at.image * s.rows + at.y + i) * s.cols + at.x + j) * s.out + c;
        V out = (j == 0 ? t[i][0] + t[i][1] + t[i][2] : t[i][1] - t[i][2] - t[i][3]) + bias;
        if (extras.sum != nullptr) out += *reinterpret_cast<const V*>(extras.sum + to);
        // Not a maximum: NaN must stay.
        if (extras.relu) out = out < V{} ? V{} : out;
        *reinterpret_cast<V*>(y + to) = out;
      }
    }
  }
}

// z[position] = A dy A^T of the tile's 2x2 outputs, laid out in panels [panel][tile][32]; db gets
// the sum of the four.
template <class S>
MAMMO_INLINE void transform_gradient(const WinogradShape& s, const Tile& at, const float* dy,
                                     const float* gate, float* z, int64_t stride, int64_t row,
                                     float* db) {
  using V = typename S::V;
  for (int64_t c = 0; c < s.out; c += S::kLanes) {
    V d[2][2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        const bool inside = at.y + i < s.rows && at.x + j < s.cols;
        const int64_t from = ((at.image * s.rows + at.y + i) * s.cols + at.x + j) * s.out + c;
        read<S>(d[i][j], inside, dy, gate, from);
      }
    }
    if (db != nullptr) *reinterpret_cast<V*>(db + c) += (d[0][0] + d[0][1]) + (d[1][0] + d[1][1]);
    float* to = z + c / kPanel * (kChunk * kPanel) + row * kPanel + c % kPanel;
    const V rows[4][2] = {{d[0][0], d[0][1]},
                          {d[0][0] + d[1][0], d[0][1] + d[1][1]},
                          {d[0][0] - d[1][0], d[0][1] - d[1][1]},
                          {-d[1][0], -d[1][1]}};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      float* at_row = to + 4 * i * stride;
      *reinterpret_cast<V*>(at_row) = rows[i][0];
      *reinterpret_cast<V*>(at_row + stride) = rows[i][0] + rows[i][1];
      *reinterpret_cast<V*>(at_row + 2 * stride) = rows[i][0] - rows[i][1];
      *reinterpret_cast<V*>(at_row + 3 * stride) = -rows[i][1];
    }
  }
}

struct Buffers {
  int64_t v_row, v_stride, m_row, m_stride;  // floats per tile and per position
};
Buffers buffers(const WinogradShape& s) {
  const int64_t v_row = s.in + kPad, m_row = round_up(s.out, kPanel) + kPad;
  return {v_row, kChunk * v_row, m_row, kChunk * m_row};
}

template <class S>
MAMMO_INLINE void convolve_chunk(const WinogradShape& s, const Tiling& t, int64_t first,
                                 int64_t count, const float* x, const float* weights,
                                 const WinogradExtras& extras, float* y, float* scratch) {
  const Buffers b = buffers(s);
  float* v = scratch;
  float* m = scratch + 16 * b.v_stride;
  for (int64_t i = 0; i < count; ++i)
    transform_input<S>(s, tile_at(t, first + i), x, extras.gate, v + i * b.v_row, b.v_stride);
  const int64_t panels = round_up(s.out, kPanel) / kPanel;
  for (int position = 0; position < 16; ++position) {
    for (int64_t p = 0; p < panels; ++p) {
      rows_of<S, false>(v + position * b.v_stride, b.v_row, 1,
                        weights + (position * panels + p) * s.in * kPanel, s.in,
                        m + position * b.m_stride + p * kPanel, b.m_row, count);
    }
  }
  for (int64_t i = 0; i < count; ++i)
    transform_output<S>(s, tile_at(t, first + i), m + i * b.m_row, b.m_stride, extras, y);
}

template <class S>
MAMMO_INLINE void gradient_transforms(const WinogradShape& s, const Tiling& t, int64_t first,
                                      int64_t begin, int64_t end, const float* x, const float* dy,
                                      const float* gate, float* v, float* z, float* db) {
  const int64_t v_row = s.in + kPad, z_stride = kChunk * round_up(s.out, kPanel);
  for (int64_t i = begin; i < end; ++i) {
    const Tile at = tile_at(t, first + i);
    transform_input<S>(s, at, x, nullptr, v + i * v_row, kChunk * v_row);
    transform_gradient<S>(s, at, dy, gate, z, z_stride, i, db);
  }
}

template <class S>
MAMMO_INLINE void gradient_products(const WinogradShape& s, int64_t count, int64_t begin,
                                    int64_t end, const float* v, const float* z, float* sums) {
  const int64_t v_row = s.in + kPad, width = round_up(s.out, kPanel), panels = width / kPanel;
  for (int64_t i = begin; i < end; ++i) {
    const int64_t position = i / panels, p = i % panels;
    rows_of<S, true>(v + position * kChunk * v_row, 1, v_row,
                     z + position * kChunk * width + p * kChunk * kPanel, count,
                     sums + position * s.in * width + p * kPanel, width, s.in);
  }
}

#define MAMMO_WIDE __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#define MAMMO_NARROW __attribute__((target("avx2,fma")))

MAMMO_WIDE void convolve_wide(const WinogradShape& s, const Tiling& t, int64_t first, int64_t count,
                              const float* x, const float* weights, const WinogradExtras& extras,
                              float* y, float* scratch) {
  convolve_chunk<Wide>(s, t, first, count, x, weights, extras, y, scratch);
}
MAMMO_NARROW void convolve_narrow(const WinogradShape& s, const Tiling& t, int64_t first,
                                  int64_t count, const float* x, const float* weights,
                                  const WinogradExtras& extras, float* y, float* scratch) {
  convolve_chunk<Narrow>(s, t, first, count, x, weights, extras, y, scratch);
}
MAMMO_WIDE void transforms_wide(const WinogradShape& s, const Tiling& t, int64_t first,
                                int64_t begin, int64_t end, const float* x, const float* dy,
                                const float* gate, float* v, float* z, float* db) {
  gradient_transforms<Wide>(s, t, first, begin, end, x, dy, gate, v, z, db);
}
MAMMO_NARROW void transforms_narrow(const WinogradShape& s, const Tiling& t, int64_t first,
                                    int64_t begin, int64_t end, const float* x, const float* dy,
                                    const float* gate, float* v, float* z, float* db) {
  gradient_transforms<Narrow>(s, t, first, begin, end, x, dy, gate, v, z, db);
}
MAMMO_WIDE void products_wide(const WinogradShape& s, int64_t count, int64_t begin, int64_t end,
                              const float* v, const float* z, float* sums) {
  gradient_products<Wide>(s, count, begin, end, v, z, sums);
}
MAMMO_NARROW void products_narrow(const WinogradShape& s, int64_t count, int64_t begin, int64_t end,
                                  const float* v, const float* z, float* sums) {
  gradient_products<Narrow>(s, count, begin, end, v, z, sums);
}

bool wide() { return vectors() == Vectors::kAvx512; }

}  // namespace

bool winograd_runs() { return vectors() >= Vectors::kAvx2; }

int64_t winograd_weight_size(int64_t in, int64_t out) { return 16 * in * round_up(out, kPanel); }

int64_t winograd_scratch_size(const WinogradShape& s, int threads) {
  const Buffers b = buffers(s);
  return std::min<int64_t>(threads, tiling(s).chunks) * 16 * (b.v_stride + b.m_stride);
}

int64_t winograd_gradient_scratch_size(const WinogradShape& s) {
  const int64_t width = round_up(s.out, kPanel);
  return 16 * kChunk * (s.in + kPad + width) + 16 * s.in * width + kChunk * s.out;
}

void winograd_weights(const float* weights, int64_t in, int64_t out, bool turned,
                      float* transformed) {
  // The product's depth and width: of the turned weights the channels change places.
  const int64_t depth = turned ? out : in, width = turned ? in : out;
  const int64_t panels = round_up(width, kPanel) / kPanel;
  const int64_t depth_stride = turned ? in * 9 : 9, width_stride = turned ? 9 : in * 9;
  at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t k = 0; k < depth; ++k) {
        float u[16][kPanel] = {};
        const int64_t count = std::min(kPanel, width - p * kPanel);
        float g[9][kPanel] = {};
        for (int64_t n = 0; n < count; ++n) {
          const float* from = weights + k * depth_stride + (p * kPanel + n) * width_stride;
          for (int i = 0; i < 9; ++i) g[i][n] = from[turned ? 8 - i : i];
        }
        float t[4][3][kPanel];
        for (int j = 0; j < 3; ++j) {
          for (int64_t n = 0; n < kPanel; ++n) {
            const float a = g[j][n], b = g[3 + j][n], c = g[6 + j][n];
            t[0][j][n] = a;
            t[1][j][n] = 0.5f * (a + b + c);
            t[2][j][n] = 0.5f * (a - b + c);
            t[3][j][n] = c;
          }
        }
        for (int i = 0; i < 4; ++i) {
          for (int64_t n = 0; n < kPanel; ++n) {
            const float a = t[i][0][n], b = t[i][1][n], c = t[i][2][n];
            u[4 * i][n] = a;
            u[4 * i + 1][n] = 0.5f * (a + b + c);
            u[4 * i + 2][n] = 0.5f * (a - b + c);
            u[4 * i + 3][n] = c;
          }
        }
        for (int position = 0; position < 16; ++position) {
          std::copy_n(u[position], kPanel,
                      transformed + ((position * panels + p) * depth + k) * kPanel);
        }
      }
    }
  });
}

void winograd_convolve(const WinogradShape& s, const float* x, const float* weights,
                       const WinogradExtras& extras, float* y, float* scratch, int threads) {
  const Tiling t = tiling(s);
  const int64_t workers = std::min<int64_t>(threads, t.chunks);
  const Buffers b = buffers(s);
  const auto run = wide() ? convolve_wide : convolve_narrow;
  // One range per worker, so that each has scratch of its own.
  at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; ++w) {
      float* own = scratch + w * 16 * (b.v_stride + b.m_stride);
      for (int64_t chunk = t.chunks * w / workers; chunk < t.chunks * (w + 1) / workers; ++chunk) {
        const int64_t first = chunk * kChunk;
        run(s, t, first, std::min(kChunk, t.total - first), x, weights, extras, y, own);
      }
    }
  });
}

void winograd_weight_gradient(const WinogradShape& s, const float* x, const float* dy,
                              const float* gate, float* dw, float* db, float* scratch) {
  const Tiling t = tiling(s);
  const int64_t width = round_up(s.out, kPanel), panels = width / kPanel;
  float* v = scratch;
  float* z = v + 16 * kChunk * (s.in + kPad);
  float* sums = z + 16 * kChunk * width;
  float* bias_rows = sums + 16 * s.in * width;  // one per piece of tiles
  std::fill_n(sums, 16 * s.in * width, 0.f);
  if (width != s.out) std::fill_n(z, 16 * kChunk * width, 0.f);
  std::vector<double> bias(db == nullptr ? 0 : s.out, 0);
  const auto transform = wide() ? transforms_wide : transforms_narrow;
  const auto multiply = wide() ? products_wide : products_narrow;
  constexpr int64_t kPiece = 12;
  for (int64_t first = 0; first < t.total; first += kChunk) {
    const int64_t count = std::min(kChunk, t.total - first);
    const int64_t pieces = (count + kPiece - 1) / kPiece;
    if (db != nullptr) std::fill_n(bias_rows, pieces * s.out, 0.f);
    at::parallel_for(0, pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        transform(s, t, first, i * kPiece, std::min(count, (i + 1) * kPiece), x, dy, gate, v, z,
                  db == nullptr ? nullptr : bias_rows + i * s.out);
      }
    });
    at::parallel_for(0, 16 * panels, 1, [&](int64_t begin, int64_t end) {
      multiply(s, count, begin, end, v, z, sums);
    });
    for (size_t c = 0; c < bias.size(); ++c) {
      for (int64_t i = 0; i < pieces; ++i)
        bias[c] += bias_rows[i * s.out + static_cast<int64_t>(c)];
    }
  }
  for (size_t c = 0; c < bias.size(); ++c) db[c] = static_cast<float>(bias[c]);
  // dw = G^T s G
  at::parallel_for(0, s.in, 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      for (int64_t n = 0; n < s.out; ++n) {
        float m[4][4], g[3][4];
        for (int position = 0; position < 16; ++position)
          m[position / 4][position % 4] = sums[(position * s.in + k) * width + n];
        for (int j = 0; j < 4; ++j) {
          const float plus = 0.5f * (m[1][j] + m[2][j]);
          g[0][j] = m[0][j] + plus;
          g[1][j] = 0.5f * (m[1][j] - m[2][j]);
          g[2][j] = plus + m[3][j];
        }
        float* to = dw + (n * s.in + k) * 9;
        for (int i = 0; i < 3; ++i) {
          const float plus = 0.5f * (g[i][1] + g[i][2]);
          to[3 * i] = g[i][0] + plus;
          to[3 * i + 1] = 0.5f * (g[i][1] - g[i][2]);
          to[3 * i + 2] = plus + g[i][3];
        }
      }
    }
  });
}

#else

bool winograd_runs() { return false; }
int64_t winograd_weight_size(int64_t, int64_t) { return 0; }
int64_t winograd_scratch_size(const WinogradShape&, int) { return 0; }
int64_t winograd_gradient_scratch_size(const WinogradShape&) { return 0; }
void winograd_weights(const float*, int64_t, int64_t, bool, float*) {}
void winograd_convolve(const WinogradShape&, const float*, const float*, const WinogradExtras&,
                       float*, float*, int) {}
void winograd_weight_gradient(const WinogradShape&, const float*, const float*, const float*,
                              float*, float*, float*) {}

#endif

}  // namespace mammo::cpu
