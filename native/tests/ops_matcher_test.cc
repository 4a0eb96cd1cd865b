// Matching: numbers of both references, every rule, and the comparison with a plain IoU matrix.
#include <ATen/Parallel.h>

#include <map>
#include <random>

#include "check.h"
#include "core/ops/matcher.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;

namespace {

using Size = std::array<int64_t, 2>;

MatcherConfig torchvision_matcher(bool low_quality = true) {
  return {MatcherKind::kIou, 0.5f, 0.4f, false, low_quality, 0, OutsideRule::kBackground, 4, true};
}
MatcherConfig keras_matcher() {
  return {MatcherKind::kIou, 0.5f, 0.4f, true, false, 0, OutsideRule::kIgnoreAll, 4, true};
}
MatcherConfig mammo_matcher() { return default_config().detector.matcher; }

at::Tensor match(const AnchorConfig& anchors, const Size& canvas, const at::Tensor& boxes,
                 const MatcherConfig& config, Size size = {0, 0},
                 const at::Tensor& ignore = at::empty({0, 4})) {
  if (size[0] == 0) size = canvas;
  return match_anchors(make_anchor_grid(anchors, grids_of(canvas), canvas), boxes, ignore, size,
                       config);
}

void expect_counts(const at::Tensor& m, int64_t positive, int64_t ignored, int64_t negative) {
  EXPECT_EQUAL((m >= 0).sum().item<int64_t>(), positive);
  EXPECT_EQUAL((m == kIgnored).sum().item<int64_t>(), ignored);
  EXPECT_EQUAL((m == kBackground).sum().item<int64_t>(), negative);
}

// IoU matrix [boxes, anchors] in float32.
at::Tensor iou_matrix(const at::Tensor& boxes, const at::Tensor& anchors) {
  const at::Tensor b = boxes.unsqueeze(1), a = anchors.unsqueeze(0);
  const auto side = [](const at::Tensor& t, int axis) {
    return t.select(-1, axis + 2) - t.select(-1, axis);
  };
  const auto overlap = [&](int axis) {
    return (at::minimum(b.select(-1, axis + 2), a.select(-1, axis + 2)) -
            at::maximum(b.select(-1, axis), a.select(-1, axis)))
        .clamp_min(0);
  };
  const at::Tensor inter = overlap(0) * overlap(1);
  return inter / (side(b, 0) * side(b, 1) + side(a, 0) * side(a, 1) - inter);
}

// The rules of spec 3.2 on the matrix, without outside and ignore rules.
at::Tensor match_by_matrix(const at::Tensor& boxes, const at::Tensor& anchors,
                           const MatcherConfig& c) {
  const at::Tensor iou = iou_matrix(boxes, anchors);
  at::Tensor best = std::get<0>(iou.max(0));
  // The lowest box index among the maxima.
  const at::Tensor index =
      at::where(iou == best, at::arange(boxes.size(0)).unsqueeze(1), boxes.size(0))
          .amin({0})
          .to(at::kInt);
  const at::Tensor below = c.negative_inclusive ? best <= c.negative_iou : best < c.negative_iou;
  at::Tensor m = at::where(best >= c.positive_iou, index,
                           at::where(below, kBackground, kIgnored).to(at::kInt));
  if (c.low_quality) {
    const at::Tensor top = iou.amax({1}, true);
    const at::Tensor low = ((iou == top).logical_and(top >= c.low_quality_min_iou)).any(0);
    m = at::where(low, index, m);
  }
  return m;
}

at::Tensor random_boxes(int64_t count, double canvas, double largest, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> place(0, 1);
  at::Tensor boxes = at::empty({count, 4});
  auto rows = boxes.accessor<float, 2>();
  for (int64_t i = 0; i < count; ++i) {
    for (int axis = 0; axis < 2; ++axis) {
      const double side = 4 + place(generator) * largest;
      const double low = place(generator) * (canvas - side);
      rows[i][axis] = static_cast<float>(std::round(low * 4) / 4);
      rows[i][axis + 2] = static_cast<float>(std::round((low + side) * 4) / 4);
    }
  }
  return boxes;
}

}  // namespace

int main() {
  const at::Tensor box = rows({10, 10, 42, 40});

  check::run("keras-retinanet targets of 64 x 64", [&] {
    const at::Tensor m = match(keras_anchors(), {64, 64}, box, keras_matcher());
    // The reference has 31 and 729: it averages float corners, and the averages of two anchors of
    // P7, whose exact centres lie on the border at 64, come out as 63.999...
    expect_counts(m, 14, 33, 727);
    const std::vector<int64_t> ids{162, 165, 166, 171, 174, 175, 177,
                                   234, 237, 238, 243, 246, 247, 249};
    EXPECT((m >= 0).nonzero().flatten().equal(at::tensor(ids)));
    expect_counts(match(keras_anchors(), {64, 64}, box, keras_matcher(), {40, 64}), 14, 339, 421);
  });

  check::run("torchvision matching of 64 x 64", [&] {
    for (bool low : {false, true}) {
      expect_counts(match(torchvision_anchors(), {64, 64}, box, torchvision_matcher(low)), 13, 22,
                    739);
    }
    const at::Tensor small = rows({10, 10, 18, 16});
    expect_counts(match(torchvision_anchors(), {64, 64}, small, torchvision_matcher(true)), 20, 0,
                  754);
    expect_counts(match(torchvision_anchors(), {64, 64}, small, torchvision_matcher(false)), 0, 0,
                  774);
    MatcherConfig floor = torchvision_matcher(true);
    floor.low_quality_min_iou = 0.2f;
    expect_counts(match(torchvision_anchors(), {64, 64}, small, floor), 0, 0, 774);
  });

  check::run("no box: all background, the ignore rules still hold", [] {
    const at::Tensor none = at::empty({0, 4});
    expect_counts(match(keras_anchors(), {64, 64}, none, torchvision_matcher()), 0, 0, 774);
    EXPECT_EQUAL((match(keras_anchors(), {64, 64}, none, mammo_matcher(), {32, 64}) == kIgnored)
                         .sum()
                         .item<int64_t>() > 0,
                 true);
  });

  check::run("IoU exactly at the thresholds", [] {
    AnchorConfig c = keras_anchors();
    c.sizes = {16};
    c.strides = {8};
    c.ratios = c.scales = {1};
    const AnchorGrid grid = make_anchor_grid(c, {{4, 4}}, {32, 32});
    const auto at_iou = [&](const at::Tensor& b, const MatcherConfig& config) {
      return match_anchors(grid, b, at::empty({0, 4}), {32, 32}, config)[5].item<int32_t>();
    };
    // Anchor 5 is [4, 4, 20, 20].
    const at::Tensor half = rows({4, 4, 20, 12}), two_fifths = rows({4, 4, 20, 44});
    EXPECT_EQUAL(at_iou(half, torchvision_matcher(false)), 0);
    EXPECT_EQUAL(at_iou(two_fifths, torchvision_matcher(false)), kIgnored);
    MatcherConfig inclusive = torchvision_matcher(false);
    inclusive.negative_inclusive = true;
    EXPECT_EQUAL(at_iou(two_fifths, inclusive), kBackground);
  });

  check::run("a low-quality tie at IoU 0: torchvision matches every anchor, a floor none", [] {
    const at::Tensor far = rows({5000, 5000, 5010, 5010});
    const at::Tensor m = match(torchvision_anchors(), {64, 64}, far, torchvision_matcher(true));
    expect_counts(m, 774, 0, 0);
    expect_counts(match(keras_anchors(), {64, 64}, far, mammo_matcher(), {5000, 5000}), 0, 0, 774);
    const at::Tensor two = at::cat({rows({10, 10, 42, 40}), far});
    EXPECT(match(torchvision_anchors(), {64, 64}, two, torchvision_matcher(true))
               .equal(at::zeros({774}, at::kInt)));
  });

  check::run("identical boxes: the first wins", [&] {
    const at::Tensor m =
        match(keras_anchors(), {64, 64}, at::cat({box, box}), torchvision_matcher());
    EXPECT_EQUAL((m == 1).sum().item<int64_t>(), 0);
    EXPECT_EQUAL((m == 0).sum().item<int64_t>() > 0, true);
  });

  check::run("two masses in one crop: both have anchors", [] {
    const at::Tensor two = rows({20, 20, 90, 100, 150, 140, 230, 230});
    const at::Tensor m = match(keras_anchors(), {256, 256}, two, mammo_matcher());
    EXPECT_EQUAL((m == 0).sum().item<int64_t>() > 0, true);
    EXPECT_EQUAL((m == 1).sum().item<int64_t>() > 0, true);
  });

  check::run("the same as an IoU matrix", [] {
    for (uint32_t seed = 0; seed < 12; ++seed) {
      const Size canvas{384, 320};
      const bool keras = seed % 2 == 0;
      const AnchorConfig anchors = keras ? keras_anchors() : torchvision_anchors();
      const at::Tensor t = anchor_table(anchors, grids_of(canvas), canvas, at::kCPU);
      at::Tensor boxes = random_boxes(1 + seed * 3, 300, seed % 3 == 0 ? 12 : 250, seed);
      if (seed == 5) boxes = at::cat({boxes, boxes, rows({900, 900, 950, 960})});
      for (bool low : {false, true}) {
        for (float floor : {0.0f, 0.2f}) {
          for (bool inclusive : {false, true}) {
            MatcherConfig c = torchvision_matcher(low);
            c.low_quality_min_iou = floor;
            c.negative_inclusive = inclusive;
            EXPECT(match(anchors, canvas, boxes, c).equal(match_by_matrix(boxes, t, c)));
            c.positive_iou = 0.6f;
            c.negative_iou = 0.3f;
            EXPECT(match(anchors, canvas, boxes, c).equal(match_by_matrix(boxes, t, c)));
          }
        }
      }
    }
  });

  check::run("ignore regions and padding override background only; kIgnoreAll everything", [&] {
    MatcherConfig c = torchvision_matcher();
    const at::Tensor plain = match(keras_anchors(), {64, 64}, box, c);
    const at::Tensor all = rows({0, 0, 1000, 1000});
    const at::Tensor m = match(keras_anchors(), {64, 64}, box, c, {64, 64}, all);
    EXPECT(m.equal(at::where(plain == kBackground, kIgnored, plain).to(at::kInt)));
    // Centres of P3 are 4, 12, ...; a region from 4 to 12 holds the first and not the second.
    const at::Tensor corner =
        match(keras_anchors(), {64, 64}, at::empty({0, 4}), c, {64, 64}, rows({4, 4, 12, 12}));
    EXPECT_EQUAL((corner.slice(0, 0, 9) == kIgnored).sum().item<int64_t>(), 9);
    EXPECT_EQUAL((corner.slice(0, 9, 18) == kIgnored).sum().item<int64_t>(), 0);
    c.outside = OutsideRule::kIgnoreBackground;
    EXPECT((match(keras_anchors(), {64, 64}, box, c, {20, 20}) >= 0).equal(plain >= 0));
    c.outside = OutsideRule::kIgnoreAll;
    EXPECT_EQUAL((match(keras_anchors(), {64, 64}, box, c, {10, 10}) >= 0).sum().item<int64_t>(),
                 0);
  });

  check::run("the centre test is exact at the border: (j + .5) * stride >= width", [] {
    MatcherConfig c = mammo_matcher();
    const at::Tensor none = at::empty({0, 4});
    const auto ignored_columns = [&](int64_t width) {
      const at::Tensor m = match(keras_anchors(), {64, 64}, none, c, {64, width});
      return (m.slice(0, 0, 8 * 9).view({8, 9}).select(1, 0) == kIgnored).sum().item<int64_t>();
    };
    EXPECT_EQUAL(ignored_columns(64), 0);
    EXPECT_EQUAL(ignored_columns(61), 0);
    EXPECT_EQUAL(ignored_columns(60), 1);  // the last centre is at 60
    EXPECT_EQUAL(ignored_columns(59), 1);
  });

  check::run("ATSS: the definition, written out", [] {
    MatcherConfig c = mammo_matcher();
    c.kind = MatcherKind::kAtss;
    c.outside = OutsideRule::kBackground;
    const Size canvas{256, 256};
    const AnchorConfig anchors = keras_anchors();
    const AnchorGrid grid = make_anchor_grid(anchors, grids_of(canvas), canvas);
    const at::Tensor t = anchor_table(anchors, grids_of(canvas), canvas, at::kCPU);
    for (bool centre : {false, true}) {
      c.atss_centre_in_box = centre;
      const at::Tensor boxes = random_boxes(6, 256, 120, 3);
      const at::Tensor iou = iou_matrix(boxes, t);
      const at::Tensor centres = (t.slice(1, 0, 2) + t.slice(1, 2, 4)) / 2;
      std::vector<std::pair<float, int32_t>> best(grid.total, {-1.0f, kBackground});
      for (int32_t b = 0; b < boxes.size(0); ++b) {
        std::vector<int64_t> candidates;
        const at::Tensor middle = (boxes[b].slice(0, 0, 2) + boxes[b].slice(0, 2, 4)) / 2;
        const at::Tensor distance = (centres - middle).to(at::kDouble).square().sum(1);
        for (const AnchorLevel& level : grid.levels) {
          const int64_t count = level.rows * level.cols * 9;
          // A micropixel of rounding: anchors of one cell share their centre.
          const at::Tensor d = (distance.narrow(0, level.first, count) * 1e2).round();
          const at::Tensor order = std::get<1>(d.sort(/*stable=*/true, 0, false));
          for (int64_t n = 0; n < std::min<int64_t>(36, count); ++n) {
            candidates.push_back(level.first + order[n].item<int64_t>());
          }
        }
        const at::Tensor index = at::tensor(candidates);
        const at::Tensor values = iou[b].index_select(0, index).to(at::kDouble);
        const double threshold = values.mean().item<double>() + values.std().item<double>();
        int64_t positives = 0;
        const auto claim = [&](int64_t anchor) {
          const float v = iou[b][anchor].item<float>();
          if (v > best[anchor].first) best[anchor] = {v, b};
          ++positives;
        };
        for (size_t n = 0; n < candidates.size(); ++n) {
          const at::Tensor at = centres[candidates[n]];
          const bool inside = at::cat({at - boxes[b].slice(0, 0, 2), boxes[b].slice(0, 2, 4) - at})
                                  .min()
                                  .item<float>() > 0.01f;
          if (values[n].item<double>() >= threshold && (inside || !centre)) claim(candidates[n]);
        }
        if (positives == 0) claim(candidates[values.argmax().item<int64_t>()]);
      }
      const at::Tensor m = match(anchors, canvas, boxes, c);
      for (int64_t i = 0; i < grid.total; ++i) EXPECT_EQUAL(m[i].item<int32_t>(), best[i].second);
    }
  });

  check::run("ATSS: a single candidate, a tiny box without a centre inside", [] {
    AnchorConfig one = keras_anchors();
    one.sizes = {32};
    one.strides = {8};
    one.ratios = one.scales = {1};
    MatcherConfig c = mammo_matcher();
    c.kind = MatcherKind::kAtss;
    const AnchorGrid single = make_anchor_grid(one, {{1, 1}}, {8, 8});
    EXPECT_EQUAL(
        match_anchors(single, rows({0, 0, 8, 8}), at::empty({0, 4}), {8, 8}, c)[0].item<int32_t>(),
        0);
    const at::Tensor m = match(keras_anchors(), {64, 64}, rows({9, 9, 11, 11}), c);
    EXPECT_EQUAL((m >= 0).sum().item<int64_t>(), 1);
  });

  check::run("the same for any number of threads", [] {
    const at::Tensor boxes = random_boxes(40, 512, 300, 9);
    for (MatcherKind kind : {MatcherKind::kIou, MatcherKind::kAtss}) {
      MatcherConfig c = mammo_matcher();
      c.kind = kind;
      at::set_num_threads(1);
      const at::Tensor a = match(keras_anchors(), {512, 512}, boxes, c);
      at::set_num_threads(3);
      EXPECT(a.equal(match(keras_anchors(), {512, 512}, boxes, c)));
      at::set_num_threads(2);
    }
  });

  check::run("boxes must be float32 rows of four", [] {
    EXPECT_THROWS("ARGUMENT", "boxes float32 [n,4]",
                  match(keras_anchors(), {64, 64}, at::zeros({2, 3}), mammo_matcher()));
  });
  return check::failures;
}
