// Times of the ops beside the plain ATen formulation of the same result, at the size of an INbreast
// image (4084 x 3328, P3 to P7). The median of several runs on this machine, with LibTorch's number
// of threads; not a comparison with other packages.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <numeric>
#include <vector>

#include "core/ops/anchors.h"
#include "core/ops/focal_loss.h"
#include "core/ops/matcher.h"
#include "core/ops/nms.h"
#include "core/ops/warp.h"

using namespace mammo;

namespace {

double milliseconds(const std::function<void()>& work, int runs = 15) {
  work();
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::milli> passed =
        std::chrono::steady_clock::now() - start;
    times.push_back(passed.count());
  }
  return *std::min_element(times.begin(), times.end());
}

void report(const char* name, double ours, double plain) {
  std::printf("%-44s %10.3f ms   plain %10.3f ms   %7.1f x\n", name, ours, plain, plain / ours);
}

AnchorConfig anchors() {
  return {{32, 64, 128, 256, 512},
          {8, 16, 32, 64, 128},
          {1, 1.2599210498948732, 1.5874010519681994},
          {0.5, 1, 2},
          true,
          false,
          false,
          0.5,
          false};
}

std::vector<GridSize> grids(const std::array<int64_t, 2>& canvas) {
  std::vector<GridSize> g;
  for (int64_t s = 8; s <= 128; s *= 2)
    g.push_back({(canvas[0] + s - 1) / s, (canvas[1] + s - 1) / s});
  return g;
}

at::Tensor plain_anchors(const AnchorGrid& grid) {
  std::vector<at::Tensor> levels;
  for (size_t l = 0; l < grid.levels.size(); ++l) {
    const AnchorLevel& level = grid.levels[l];
    const auto yx = at::meshgrid(
        {at::arange(level.rows) * level.stride_y, at::arange(level.cols) * level.stride_x}, "ij");
    const at::Tensor shifts = at::stack({yx[1], yx[0], yx[1], yx[0]}, 2).view({-1, 1, 4});
    const at::Tensor base = at::from_blob(const_cast<float*>(grid.base[l][0].data()),
                                          {1, grid.per_cell, 4}, at::kFloat);
    levels.push_back((shifts + base).view({-1, 4}));
  }
  return at::cat(levels);
}

at::Tensor plain_match(const at::Tensor& boxes, const at::Tensor& table) {
  const auto area = [](const at::Tensor& b) {
    return (b.select(1, 2) - b.select(1, 0)) * (b.select(1, 3) - b.select(1, 1));
  };
  const at::Tensor low = at::max(boxes.slice(1, 0, 2).unsqueeze(1), table.slice(1, 0, 2));
  const at::Tensor high = at::min(boxes.slice(1, 2, 4).unsqueeze(1), table.slice(1, 2, 4));
  const at::Tensor sides = (high - low).clamp_min(0);
  const at::Tensor inter = sides.select(2, 0) * sides.select(2, 1);
  const at::Tensor iou = inter / (area(boxes).unsqueeze(1) + area(table) - inter);
  auto [best, index] = iou.max(0);
  const at::Tensor all = index.clone();
  index.masked_fill_(best < 0.4, -1);
  index.masked_fill_((best >= 0.4).logical_and(best < 0.5), -2);
  const at::Tensor ties = at::nonzero(iou == std::get<0>(iou.max(1)).unsqueeze(1)).select(1, 1);
  return index.index_put_({ties}, all.index_select(0, ties));
}

at::Tensor plain_focal(const at::Tensor& x, const at::Tensor& y) {
  const at::Tensor p = at::sigmoid(x);
  const at::Tensor ce = at::binary_cross_entropy_with_logits(x, y, {}, {}, at::Reduction::None);
  const at::Tensor pt = p * y + (1 - p) * (1 - y);
  return (ce * (1 - pt).pow(2) * (0.25 * y + 0.75 * (1 - y))).sum();
}

std::vector<int64_t> plain_nms(const at::Tensor& boxes, const at::Tensor& scores,
                               double threshold) {
  const float* b = boxes.data_ptr<float>();
  const int64_t count = boxes.size(0);
  const at::Tensor order = std::get<1>(scores.sort(true, 0, true));
  std::vector<char> gone(count, 0);
  std::vector<float> area(count);
  for (int64_t i = 0; i < count; ++i)
    area[i] = (b[4 * i + 2] - b[4 * i]) * (b[4 * i + 3] - b[4 * i + 1]);
  std::vector<int64_t> kept;
  const int64_t* o = order.data_ptr<int64_t>();
  for (int64_t s = 0; s < count; ++s) {
    const int64_t i = o[s];
    if (gone[i]) continue;
    kept.push_back(i);
    for (int64_t t = s + 1; t < count; ++t) {
      const int64_t j = o[t];
      if (gone[j]) continue;
      const float w =
          std::max(0.0f, std::min(b[4 * i + 2], b[4 * j + 2]) - std::max(b[4 * i], b[4 * j]));
      const float h = std::max(
          0.0f, std::min(b[4 * i + 3], b[4 * j + 3]) - std::max(b[4 * i + 1], b[4 * j + 1]));
      const float inter = w * h;
      if (inter / (area[i] + area[j] - inter) > threshold) gone[j] = 1;
    }
  }
  return kept;
}

at::Tensor boxes_of_size(int64_t count, double canvas, double smallest, double largest) {
  const at::Tensor low = at::rand({count, 2}) * (canvas - largest);
  return at::cat({low, low + smallest + at::rand({count, 2}) * (largest - smallest)}, 1);
}

}  // namespace

int main() {
  at::manual_seed(0);
  std::printf("threads %d\n", at::get_num_threads());
  const std::array<int64_t, 2> canvas{4084, 3328};
  const AnchorGrid grid = make_anchor_grid(anchors(), grids(canvas), canvas);
  const at::Tensor table = anchor_table(anchors(), grids(canvas), canvas, at::kCPU);

  int64_t turn = 0;  // another offset each time, so that the cache never helps
  report("anchors, 2.55 M, new canvas", milliseconds([&] {
           AnchorConfig c = anchors();
           c.offset = 0.5 + 1e-3 * static_cast<double>(++turn);
           anchor_table(c, grids(canvas), canvas, at::kCPU);
         }),
         milliseconds([&] { plain_anchors(grid); }));
  anchor_table(anchors(), grids(canvas), canvas, at::kCPU);
  report("anchors, 2.55 M, known canvas",
         milliseconds([&] { anchor_table(anchors(), grids(canvas), canvas, at::kCPU); }),
         milliseconds([&] { plain_anchors(grid); }));

  const MatcherConfig rules{
      MatcherKind::kIou, 0.5f, 0.4f, false, true, 0.2f, OutsideRule::kIgnoreBackground, 4, true};
  for (int64_t count : {4, 16}) {
    const at::Tensor boxes = boxes_of_size(count, 3300, 60, 700);
    const std::string name = "matching, 2.55 M x " + std::to_string(count);
    report(name.c_str(),
           milliseconds([&] { match_anchors(grid, boxes, at::empty({0, 4}), canvas, rules); }),
           milliseconds([&] { plain_match(boxes, table); }, 3));
  }

  const at::Tensor logits = at::randn({1, grid.total, 1}) - 4;
  const at::Tensor match =
      match_anchors(grid, boxes_of_size(4, 3300, 60, 700), at::empty({0, 4}), canvas, rules)
          .unsqueeze(0);
  const at::Tensor labels = at::zeros({4}, at::kInt);
  const at::Tensor offsets = at::tensor(std::vector<int64_t>{0, 4});
  const at::Tensor targets = (match >= 0).to(at::kFloat).unsqueeze(2);
  for (double gamma : {2.0, 5.0, 3.5}) {
    const at::Tensor x = logits.clone().requires_grad_(true);
    const std::string name =
        "focal forward + backward, gamma " + std::to_string(gamma).substr(0, 3);
    report(name.c_str(), milliseconds([&] {
             x.mutable_grad() = at::Tensor();
             torch::autograd::backward({focal_loss(x, match, labels, offsets, 0.25, gamma).sum()},
                                       {});
           }),
           milliseconds(
               [&] {
                 x.mutable_grad() = at::Tensor();
                 torch::autograd::backward({plain_focal(x, targets)}, {});
               },
               3));
  }
  report("focal forward",
         milliseconds([&] { focal_loss(logits, match, labels, offsets, 0.25, 2); }),
         milliseconds([&] { plain_focal(logits, targets); }, 3));

  for (int64_t count : {1000, 5000, 20000}) {
    const at::Tensor boxes = boxes_of_size(count, 4000, 10, 100), scores = at::rand({count});
    const std::string name = "nms, " + std::to_string(count) + " scattered";
    report(name.c_str(), milliseconds([&] { nms(boxes, scores, 0.5); }),
           milliseconds([&] { plain_nms(boxes, scores, 0.5); }, 3));
  }
  const at::Tensor crowd = boxes_of_size(5000, 400, 100, 300), scores = at::rand({5000});
  report("nms, 5000 crowded", milliseconds([&] { nms(crowd, scores, 0.5); }),
         milliseconds([&] { plain_nms(crowd, scores, 0.5); }, 3));

  const at::Tensor pixels = at::randint(0, 4096, {4084 * 3328}, at::kInt).to(at::kShort);
  const std::array<int64_t, 2> padded{4096, 3328};
  Window window{0,      4084,         3328, {1, 0, 0, 0, 1, 0}, 0, 1449.5f,
                221.7f, {1, 0, 1, 0}, 0,    {4084, 3328}};
  const at::Tensor image = pixels.view({4084, 3328});
  const double plain = milliseconds(
      [&] { at::constant_pad_nd((image.to(at::kFloat) - 1449.5) / 221.7, {0, 0, 0, 12}, -6.54); },
      3);
  report("warp, 13.6 M pixels, copy",
         milliseconds([&] { warp_windows(pixels, {window}, 1, padded); }, 3), plain);
  window.affine = {0.99, -0.1, 12, 0.1, 0.99, -8};
  report("warp, 13.6 M pixels, rotation (plain: copy)",
         milliseconds([&] { warp_windows(pixels, {window}, 1, padded); }, 3), plain);
  return 0;
}
