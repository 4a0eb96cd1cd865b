// Anchors: numbers of both references, counts of real canvases, cache.
#include <ATen/Parallel.h>

#include "check.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;

namespace {

at::Tensor table(const AnchorConfig& config, const std::array<int64_t, 2>& canvas) {
  return anchor_table(config, grids_of(canvas), canvas, at::kCPU);
}

void expect_row(const at::Tensor& t, int64_t row, const std::vector<double>& expected,
                double tolerance) {
  for (int j = 0; j < 4; ++j) EXPECT_NEAR(t[row][j].item<double>(), expected[j], tolerance);
}

double total(const at::Tensor& t) { return t.to(at::kDouble).sum().item<double>(); }

}  // namespace

int main() {
  check::run("keras-retinanet anchors of 64 x 64", [] {
    const at::Tensor t = table(keras_anchors(), {64, 64});
    EXPECT_EQUAL(t.size(0), 774);
    expect_row(t, 0, {-18.627417, -7.313708, 26.627417, 15.313708}, 2e-6);
    expect_row(t, 9, {-10.627417, -7.313708, 34.627417, 15.313708}, 2e-6);
    expect_row(t, 773, {-223.35028, -510.70056, 351.35028, 638.70056}, 5e-5);
    EXPECT_NEAR(total(t), 100224, 0.01);
  });

  check::run("one anchor of a side of 32 on 2 x 2 cells", [] {
    AnchorConfig c = keras_anchors();
    c.sizes = {32};
    c.strides = {8};
    c.ratios = c.scales = {1};
    const at::Tensor t = anchor_table(c, {{2, 2}}, {16, 16}, at::kCPU);
    EXPECT(t.equal(rows({-12, -12, 20, 20, -4, -12, 28, 20, -12, -4, 20, 28, -4, -4, 28, 28})));
  });

  check::run("three levels, four ratios, three scales", [] {
    AnchorConfig c = keras_anchors();
    c.sizes = {32, 64, 128};
    c.strides = {8, 16, 32};
    c.ratios = {0.5, 1, 2, 3};
    c.scales = {1, 1.2, 1.6};
    EXPECT_EQUAL(anchor_table(c, grids_of({64, 64}, 3, 5), {64, 64}, at::kCPU).size(0), 1008);
  });

  check::run("torchvision anchors", [] {
    const at::Tensor t = table(torchvision_anchors(), {64, 64});
    EXPECT_EQUAL(t.size(0), 774);
    EXPECT(t[0].equal(rows({-23, -11, 23, 11})[0]));
    EXPECT(t[773].equal(rows({-287, -574, 287, 574})[0]));
    EXPECT_EQUAL(total(t), 80640.0);
    const std::array<int64_t, 2> canvas{800, 800};
    const AnchorGrid grid = make_anchor_grid(torchvision_anchors(), grids_of(canvas), canvas);
    EXPECT_EQUAL(grid.total, 120087);
    const std::vector<float> strides{8, 16, 32, 61, 114};
    for (int l = 0; l < 5; ++l) EXPECT_EQUAL(grid.levels[l].stride_x, strides[l]);
  });

  check::run("strides come from the configuration: 800 x 800 has 64 and 128", [] {
    const AnchorGrid grid = make_anchor_grid(keras_anchors(), grids_of({800, 800}), {800, 800});
    EXPECT_EQUAL(grid.levels[3].stride_y, 64.0f);
    EXPECT_EQUAL(grid.levels[4].stride_y, 128.0f);
  });

  check::run("counts of the INbreast canvases", [] {
    const auto count = [](std::array<int64_t, 2> canvas) {
      return make_anchor_grid(keras_anchors(), grids_of(canvas), canvas).total;
    };
    EXPECT_EQUAL(count({3328, 2560}), 1595880);
    EXPECT_EQUAL(count({4084, 3328}), 2549664);
    EXPECT_EQUAL(count({4096, 3328}), 2553408);
    EXPECT_EQUAL(count({2210, 1700}), 709659);
  });

  check::run("float32 far from the origin: the exact value rounded, within one unit", [] {
    const at::Tensor t = table(keras_anchors(), {4096, 3328});
    const double width = 32 * std::sqrt(2.0),
                 x = (415 + 0.5) * 8;  // first anchor of cell (511, 415)
    const int64_t row = (511 * 416 + 415) * 9;
    EXPECT_NEAR(t[row][0].item<double>(), x - width / 2, 2.5e-4);
    EXPECT_NEAR(t[row][2].item<double>(), x + width / 2, 2.5e-4);
  });

  check::run("the table is made once per canvas and is the same for any number of threads", [] {
    const at::Tensor a = table(keras_anchors(), {320, 256});
    EXPECT_EQUAL(a.data_ptr(), table(keras_anchors(), {320, 256}).data_ptr());
    for (int64_t side = 128; side <= 128 * 5; side += 128) table(keras_anchors(), {side, side});
    at::set_num_threads(1);
    const at::Tensor b = table(keras_anchors(), {320, 256});
    EXPECT(a.data_ptr() != b.data_ptr());
    EXPECT(a.equal(b));
    at::set_num_threads(2);
  });

  check::run("levels, sizes and strides must agree", [] {
    EXPECT_THROWS("ARGUMENT", "one size and one stride per level",
                  make_anchor_grid(keras_anchors(), {{8, 8}}, {64, 64}));
  });
  return check::failures;
}
