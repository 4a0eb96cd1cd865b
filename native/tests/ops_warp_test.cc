// Warping: copy, bilinear sampling against a plain double loop, block means, borders, padding,
// intensity, noise, threads.
#include <ATen/Parallel.h>

#include "check.h"
#include "core/ops/warp.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;

namespace {

using Size = std::array<int64_t, 2>;
using Affine = std::array<double, 6>;
const Affine kIdentity{1, 0, 0, 0, 1, 0};

at::Tensor picture(int64_t rows, int64_t cols) {
  at::manual_seed(11);
  return at::randint(1, 65536, {rows, cols}, at::kInt);
}

at::Tensor to_pixels(const at::Tensor& values) {
  return values.flatten().to(at::kShort);  // the bit pattern of uint16
}

Window window(int64_t rows, int64_t cols, const Affine& affine, const Size& size) {
  return {0, rows, cols, affine, 0, 0, 1, {1, 0, 1, 0}, 0, size, {}};
}

at::Tensor warp(const at::Tensor& values, const Window& w, const Size& canvas, int channels = 1) {
  return warp_windows(to_pixels(values), {w}, channels, canvas)[0];
}

// Bilinear sampling as defined, in double, of an image of doubles.
double sample(const at::Tensor& image, const Affine& m, int64_t i, int64_t j) {
  const double x = m[0] * (j + 0.5) + m[1] * (i + 0.5) + m[2] - 0.5;
  const double y = m[3] * (j + 0.5) + m[4] * (i + 0.5) + m[5] - 0.5;
  const auto left = static_cast<int64_t>(std::floor(x)), top = static_cast<int64_t>(std::floor(y));
  const auto tap = [&](int64_t r, int64_t c) {
    const bool inside = r >= 0 && c >= 0 && r < image.size(0) && c < image.size(1);
    return inside ? image.accessor<double, 2>()[r][c] : 0.0;
  };
  const double a = x - left, b = y - top;
  return (1 - b) * ((1 - a) * tap(top, left) + a * tap(top, left + 1)) +
         b * ((1 - a) * tap(top + 1, left) + a * tap(top + 1, left + 1));
}

double worst(const at::Tensor& out, const at::Tensor& image, const Affine& m) {
  double error = 0;
  for (int64_t i = 0; i < out.size(0); ++i) {
    for (int64_t j = 0; j < out.size(1); ++j) {
      error = std::max(error, std::abs(out[i][j].item<double>() - sample(image, m, i, j)));
    }
  }
  return error;
}

}  // namespace

int main() {
  check::run("identity copies all 16 bits, padding is raw 0, channels are equal", [] {
    const at::Tensor image = picture(37, 53);
    const at::Tensor out = warp(image, window(37, 53, kIdentity, {37, 53}), {64, 64}, 3);
    EXPECT(out[0].slice(0, 0, 37).slice(1, 0, 53).equal(image.to(at::kFloat)));
    EXPECT_EQUAL(out[0].to(at::kDouble).sum().item<double>(), image.sum().item<double>());
    EXPECT(out[1].equal(out[0]) && out[2].equal(out[0]));
    EXPECT(image.max().item<int>() > 40000);
  });

  check::run("a whole-pixel translation, partly outside", [] {
    const at::Tensor image = picture(20, 30), wide = image.to(at::kDouble);
    for (const Affine& m : {Affine{1, 0, 5, 0, 1, -3}, Affine{1, 0, -7, 0, 1, 12},
                            Affine{1, 0, 100, 0, 1, 0}, Affine{1, 0, -100, 0, 1, -100}}) {
      EXPECT_EQUAL(worst(warp(image, window(20, 30, m, {32, 48}), {32, 48})[0], wide, m), 0.0);
    }
  });

  check::run("rotation, shear, flip, enlargement: 0.05 grey levels", [] {
    const at::Tensor image = picture(40, 60), wide = image.to(at::kDouble);
    const double c = std::cos(0.3), s = std::sin(0.3);
    for (const Affine& m : {Affine{c, -s, 10.25, s, c, -4.5}, Affine{-1, 0, 60, 0, 1, 0},
                            Affine{0.3, 0.05, 1.5, -0.02, 0.4, 2.25}, Affine{1, 0, 0.5, 0, 1, 0.25},
                            Affine{0, 1, 0, 1, 0, 0}, Affine{1e9, 0, 0, 0, 1e9, 0}}) {
      EXPECT_NEAR(worst(warp(image, window(40, 60, m, {50, 70}), {50, 70})[0], wide, m), 0, 0.05);
    }
    // A horizontal flip is exact.
    const Affine flip{-1, 0, 60, 0, 1, 0};
    EXPECT(warp(image, window(40, 60, flip, {40, 60}), {40, 60})[0].equal(
        image.flip(1).to(at::kFloat)));
  });

  check::run("block means first; border blocks average what exists", [] {
    const at::Tensor image = picture(21, 34);
    for (int k : {1, 2, 3}) {
      const int64_t side = 1 << k, r = (21 + side - 1) / side, c = (34 + side - 1) / side;
      const at::Tensor means = at::empty({r, c}, at::kDouble);
      for (int64_t i = 0; i < r; ++i) {
        for (int64_t j = 0; j < c; ++j) {
          means[i][j] = image.slice(0, i * side, std::min<int64_t>(21, (i + 1) * side))
                            .slice(1, j * side, std::min<int64_t>(34, (j + 1) * side))
                            .to(at::kDouble)
                            .mean();
        }
      }
      const double s = static_cast<double>(side);
      Window w = window(21, 34, {s, 0, 0, 0, s, 0}, {r, c});
      w.reduce = k;
      EXPECT_NEAR(worst(warp(image, w, {r, c})[0], means, kIdentity), 0, 0.005);
      w.affine = {1.3 * s, 0.1 * s, 0.4 * s, 0, 0.9 * s, -0.2 * s};
      EXPECT_NEAR(worst(warp(image, w, {r, c})[0], means, {1.3, 0.1, 0.4, 0, 0.9, -0.2}), 0, 0.05);
    }
  });

  check::run(
      "elastic: against a plain double loop, ramps follow the displacement, none is none", [] {
        const Elastic elastic{9.5, 64, 77};
        const auto displaced = [&](double x, double y) {
          const double u = x / 64, v = y / 64, i = std::floor(u), j = std::floor(v);
          double across[4], down[4], dx = 0, dy = 0;
          elastic_weights(u - i, across);
          elastic_weights(v - j, down);
          for (int b = 0; b < 4; ++b) {
            for (int a = 0; a < 4; ++a) {
              const auto col = static_cast<int64_t>(i) + a - 1, r = static_cast<int64_t>(j) + b - 1;
              dx += 9.5 * across[a] * down[b] * elastic_node(77, 0, col, r);
              dy += 9.5 * across[a] * down[b] * elastic_node(77, 1, col, r);
            }
          }
          return std::array<double, 2>{x + dx, y + dy};
        };
        const at::Tensor image = picture(90, 300), wide = image.to(at::kDouble);
        const Affine m{0.9, 0.1, 3.5, -0.05, 1.1, 2};
        Window w = window(90, 300, m, {80, 300});
        w.elastic = elastic;
        const at::Tensor out = warp(image, w, {80, 300})[0];
        double error = 0, largest = 0;
        for (int64_t i = 0; i < 80; ++i) {
          for (int64_t j = 0; j < 300; ++j) {
            const auto p = displaced(j + 0.5, i + 0.5);
            largest = std::max({largest, std::abs(p[0] - j - 0.5), std::abs(p[1] - i - 0.5)});
            const double x = m[0] * p[0] + m[1] * p[1] + m[2], y = m[3] * p[0] + m[4] * p[1] + m[5];
            const double expected = sample(wide, {1, 0, x - 0.5, 0, 1, y - 0.5}, 0, 0);
            error = std::max(error, std::abs(out[i][j].item<double>() - expected));
          }
        }
        EXPECT_NEAR(error, 0, 0.05);
        EXPECT(largest > 2 && largest < 9.5);

        // A 16-bit ramp shows where each pixel came from.
        const at::Tensor ramp = (at::arange(300) * 200).expand({90, 300}).to(at::kInt).contiguous();
        w.affine = kIdentity;
        const at::Tensor moved = warp(ramp, w, {80, 300})[0];
        for (int64_t j = 20; j < 280; j += 13) {
          const double x = displaced(j + 0.5, 40.5)[0];
          EXPECT_NEAR(moved[40][j].item<double>(), 200 * (x - 0.5), 0.05);
        }
        w.elastic = {0, 64, 77};
        EXPECT(warp(image, w, {80, 300})[0].equal(image.slice(0, 0, 80).to(at::kFloat)));
        w.elastic = {9.5, 40, 77};
        EXPECT_THROWS("ARGUMENT", "5 amplitudes", warp(image, w, {80, 300}));
      });

  check::run("normalisation; padding and outside equal normalised raw 0", [] {
    const at::Tensor image = picture(10, 10);
    Window w = window(10, 10, {1, 0, -4, 0, 1, 0}, {10, 14});
    w.mean = 1449.5f;
    w.std = 221.7f;
    const at::Tensor out = warp(image, w, {16, 16})[0];
    const float air = (0 - 1449.5f) / 221.7f;
    EXPECT_NEAR(air, -6.54, 0.005);
    EXPECT(out.slice(1, 0, 4).equal(at::full({16, 4}, air)));
    EXPECT(out.slice(0, 10).equal(at::full({6, 16}, air)));
    EXPECT(out.slice(0, 0, 10).slice(1, 4, 14).allclose((image.to(at::kFloat) - 1449.5f) / 221.7f,
                                                        1e-6, 1e-6));
  });

  check::run("contrast, brightness, gamma on non-zero pixels", [] {
    at::Tensor image = picture(8, 8);
    image[3][3] = 0;
    Window w = window(8, 8, kIdentity, {8, 8});
    w.mean = 20000;
    w.std = 5000;
    w.intensity = {1.5f, 0.25f, 1, 0};
    const at::Tensor v = (image.to(at::kFloat) - 20000) / 5000;
    at::Tensor expected = v * 1.5 + 0.25;
    expected[3][3] = -4;
    EXPECT(warp(image, w, {8, 8})[0].allclose(expected, 1e-6, 1e-6));
    w.intensity = {1, 0, 0.7f, 0};
    const at::Tensor g = 65535 * (image.to(at::kDouble) / 65535).pow(0.7);
    EXPECT(warp(image, w, {8, 8})[0].allclose(((g - 20000) / 5000).to(at::kFloat), 1e-5, 1e-5));
  });

  check::run("noise: standard normal, a function of seed and pixel, none on zero pixels", [] {
    at::Tensor image = at::full({300, 300}, 1000, at::kInt);
    image.slice(0, 0, 10).zero_();
    Window w = window(300, 300, kIdentity, {300, 300});
    w.intensity = {1, 0, 1, 2};
    w.noise_seed = 5;
    const at::Tensor a = warp(image, w, {300, 300})[0];
    EXPECT_EQUAL(a.slice(0, 0, 10).abs().max().item<double>(), 0.0);
    const at::Tensor n = (a.slice(0, 10) - 1000).to(at::kDouble);
    EXPECT_NEAR(n.mean().item<double>(), 0, 0.03);
    EXPECT_NEAR(n.std().item<double>(), 2, 0.03);
    EXPECT_NEAR((n.slice(1, 1) * n.slice(1, 0, 299)).mean().item<double>(), 0, 0.06);
    EXPECT_NEAR((n.slice(0, 1) * n.slice(0, 0, 289)).mean().item<double>(), 0, 0.06);
    // A window that starts elsewhere in the canvas: pixels keep their noise.
    EXPECT(warp(image, w, {320, 384})[0].slice(0, 0, 300).slice(1, 0, 300).equal(a));
    w.noise_seed = 6;
    EXPECT(!warp(image, w, {300, 300})[0].equal(a));
  });

  check::run("several windows, any number of threads", [] {
    const at::Tensor image = picture(90, 80);
    Window a = window(50, 60, {0.9, 0.1, 3, -0.1, 1.1, 2}, {64, 60});
    a.intensity = {1.1f, 0.1f, 0.9f, 0.3f};
    Window b = window(30, 40, {2, 0, 0, 0, 2, 0}, {15, 20});
    b.offset = 3000;
    b.reduce = 1;
    const auto run = [&] { return warp_windows(to_pixels(image), {a, b}, 2, {64, 64}); };
    at::set_num_threads(1);
    const at::Tensor one = run();
    at::set_num_threads(3);
    EXPECT(one.equal(run()));
    at::set_num_threads(2);
    EXPECT_EQUAL(warp_windows(to_pixels(image), {}, 1, {64, 64}).size(0), 0);
  });

  check::run("arguments", [] {
    const at::Tensor image = picture(4, 4);
    EXPECT_THROWS("ARGUMENT", "4 x 5 pixels", warp(image, window(4, 5, kIdentity, {4, 4}), {8, 8}));
    EXPECT_THROWS("ARGUMENT", "within the canvas",
                  warp(image, window(4, 4, kIdentity, {4, 9}), {8, 8}));
    Window w = window(4, 4, kIdentity, {4, 4});
    w.std = 0;
    EXPECT_THROWS("ARGUMENT", "standard deviation", warp(image, w, {8, 8}));
  });
  return check::failures;
}
