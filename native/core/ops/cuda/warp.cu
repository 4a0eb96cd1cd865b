// Warping on the device: block means first where asked for, then one thread per output pixel.
#include "core/ops/cuda/warp.h"
#include "core/ops/random_pixel.h"

namespace mammo::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void block_means(const uint16_t* pixels, WarpArguments w, int64_t rows, int64_t cols,
                            float* out) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= rows * cols) return;
  const int64_t side = int64_t{1} << w.reduce;
  const int64_t y0 = index / cols * side, x0 = index % cols * side;
  const int64_t y1 = min(w.rows, y0 + side), x1 = min(w.cols, x0 + side);
  unsigned long long sum = 0;
  for (int64_t y = y0; y < y1; ++y) {
    for (int64_t x = x0; x < x1; ++x) sum += pixels[y * w.cols + x];
  }
  const double count = static_cast<double>((y1 - y0) * (x1 - x0));
  out[index] = static_cast<float>(static_cast<double>(sum) / count);
}

template <class T>
__device__ float tap(const T* data, int64_t rows, int64_t cols, int64_t y, int64_t x) {
  const bool inside = y >= 0 && x >= 0 && y < rows && x < cols;
  return inside ? static_cast<float>(data[y * cols + x]) : 0.0f;
}

// Sixteen nodes per pixel: hashing them is cheaper than a table in memory.
__device__ void displace(const Elastic& e, double* x, double* y) {
  if (e.amplitude == 0) return;
  const double u = *x / e.spacing, v = *y / e.spacing;
  const double i = floor(u), j = floor(v);
  double across[4], down[4], dx = 0, dy = 0;
  elastic_weights(u - i, across);
  elastic_weights(v - j, down);
  for (int b = 0; b < 4; ++b) {
    for (int a = 0; a < 4; ++a) {
      const double weight = across[a] * down[b];
      const int64_t column = static_cast<int64_t>(i) + a - 1, row = static_cast<int64_t>(j) + b - 1;
      dx += weight * elastic_node(e.seed, 0, column, row);
      dy += weight * elastic_node(e.seed, 1, column, row);
    }
  }
  *x += e.amplitude * dx;
  *y += e.amplitude * dy;
}

template <class T>
__device__ float sample(const T* data, int64_t rows, int64_t cols, const WarpArguments& w,
                        int64_t i, int64_t j) {
  constexpr double kFar = 1 << 24;
  double xc = static_cast<double>(j) + 0.5, yc = static_cast<double>(i) + 0.5;
  displace(w.elastic, &xc, &yc);
  const double scale = 1.0 / static_cast<double>(int64_t{1} << w.reduce);
  const double* m = w.affine;
  const double x = min(max((m[0] * xc + m[1] * yc + m[2]) * scale - 0.5, -kFar), kFar);
  const double y = min(max((m[3] * xc + m[4] * yc + m[5]) * scale - 0.5, -kFar), kFar);
  const double left = floor(x), top = floor(y);
  const auto wx = static_cast<float>(x - left), wy = static_cast<float>(y - top);
  const auto c = static_cast<int64_t>(left), r = static_cast<int64_t>(top);
  const float a = tap(data, rows, cols, r, c), b = tap(data, rows, cols, r, c + 1);
  const float d = tap(data, rows, cols, r + 1, c), e = tap(data, rows, cols, r + 1, c + 1);
  const float upper = a + (b - a) * wx, lower = d + (e - d) * wx;
  return upper + (lower - upper) * wy;
}

template <class T>
__global__ void warp_pixels(const T* data, int64_t rows, int64_t cols, WarpArguments w,
                            float* out) {
  const int64_t plane = w.canvas_rows * w.canvas_cols;
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= plane) return;
  const int64_t i = index / w.canvas_cols, j = index % w.canvas_cols;
  float raw = 0;
  if (i < w.height && j < w.width) raw = sample(data, rows, cols, w, i, j);
  if (w.gamma != 1 && raw != 0) raw = 65535.0f * powf(raw / 65535.0f, w.gamma);
  float v = (raw - w.mean) / w.std;
  if (raw != 0) {
    v = v * w.contrast + w.brightness;
    if (w.sigma != 0) v += w.sigma * pixel_normal(w.noise_seed, i, j);
  }
  for (int64_t c = 0; c < w.channels; ++c) out[c * plane + index] = v;
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

void warp_window(const uint16_t* pixels, const WarpArguments& w, float* reduced, float* out,
                 cudaStream_t stream) {
  const unsigned blocks = blocks_for(w.canvas_rows * w.canvas_cols);
  if (w.reduce == 0) {
    warp_pixels<<<blocks, kThreads, 0, stream>>>(pixels, w.rows, w.cols, w, out);
    return;
  }
  const int64_t side = int64_t{1} << w.reduce;
  const int64_t rows = (w.rows + side - 1) / side, cols = (w.cols + side - 1) / side;
  block_means<<<blocks_for(rows * cols), kThreads, 0, stream>>>(pixels, w, rows, cols, reduced);
  warp_pixels<<<blocks, kThreads, 0, stream>>>(reduced, rows, cols, w, out);
}

}  // namespace mammo::cuda
