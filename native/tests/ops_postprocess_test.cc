// Head outputs to detections: each rule by a hand case.
#include <limits>

#include "check.h"
#include "core/ops/postprocess.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;

namespace {

using Size = std::array<int64_t, 2>;

// One level of 4 x 4 cells of 8 pixels, one anchor of 8 x 8 exactly on each cell: 16 anchors that
// do not overlap.
const Size kCanvas{32, 32};

AnchorGrid tiles() {
  AnchorConfig c = keras_anchors();
  c.sizes = {8};
  c.strides = {8};
  c.ratios = c.scales = {1};
  return make_anchor_grid(c, {{4, 4}}, kCanvas);
}

PostConfig rules() { return {0.05f, 1000, 0.5f, false, false, 100, 0, ClipRule::kImage}; }

CoderConfig coder() { return default_config().detector.coder; }

float logit(double p) { return static_cast<float>(std::log(p / (1 - p))); }

at::Tensor silent(int64_t classes, int64_t images = 1) {
  return at::full({images, 16, classes}, -10, at::kFloat);
}

ImageDetections detect(const at::Tensor& logits, const PostConfig& config,
                       const at::Tensor& deltas = at::zeros({1, 16, 4}), Size size = kCanvas) {
  return postprocess(logits, deltas, tiles(), {size}, kCanvas, coder(), config)[0];
}

}  // namespace

int main() {
  check::run("threshold, order, labels, boxes", [] {
    at::Tensor x = silent(2);
    x[0][5][1] = logit(0.9);
    x[0][3][0] = logit(0.6);
    x[0][9][0] = logit(0.04);
    const ImageDetections d = detect(x, rules());
    EXPECT(d.boxes.equal(rows({8, 8, 16, 16, 24, 0, 32, 8})));
    EXPECT(d.scores.allclose(at::tensor({0.9f, 0.6f}), 1e-6));
    EXPECT(d.labels.equal(at::tensor(std::vector<int>{1, 0}, at::kInt)));
    EXPECT_EQUAL(detect(silent(2), rules()).boxes.size(0), 0);
  });

  check::run("a score must be strictly above the threshold", [] {
    at::Tensor x = silent(1);
    x[0][2][0] = 0;
    PostConfig c = rules();
    c.score_threshold = 0.5f;
    EXPECT_EQUAL(detect(x, c).boxes.size(0), 0);
    x[0][2][0] = 1e-6;
    EXPECT_EQUAL(detect(x, c).boxes.size(0), 1);
  });

  check::run("equal scores: the lower anchor first, also at the cut of top-k", [] {
    at::Tensor x = silent(1);
    for (int a : {11, 4, 7, 1}) x[0][a][0] = 2;
    PostConfig c = rules();
    c.topk_per_level = 2;
    EXPECT(detect(x, c).boxes.equal(rows({8, 0, 16, 8, 0, 8, 8, 16})));
    c.topk_per_level.reset();
    EXPECT_EQUAL(detect(x, c).boxes.size(0), 4);
    c.max_detections = 3;
    EXPECT(detect(x, c).boxes.equal(rows({8, 0, 16, 8, 0, 8, 8, 16, 24, 8, 32, 16})));
  });

  check::run("suppression by class, across classes, best class only", [] {
    at::Tensor x = silent(2), deltas = at::zeros({1, 16, 4});
    x[0][0][0] = logit(0.9);
    x[0][0][1] = logit(0.8);
    x[0][1][1] = logit(0.7);
    deltas[0][1][0] = -1;  // anchor 1 lands on anchor 0
    PostConfig c = rules();
    EXPECT(detect(x, c, deltas).labels.equal(at::tensor(std::vector<int>{0, 1}, at::kInt)));
    c.agnostic = true;
    EXPECT(detect(x, c, deltas).labels.equal(at::tensor(std::vector<int>{0}, at::kInt)));
    c.agnostic = false;
    c.best_class_only = true;
    deltas.zero_();
    EXPECT(detect(x, c, deltas).labels.equal(at::tensor(std::vector<int>{0, 1}, at::kInt)));
    EXPECT(detect(x, c, deltas).boxes.equal(rows({0, 0, 8, 8, 8, 0, 16, 8})));
  });

  check::run("clipping to the image, to the canvas less one, not at all; smallest side", [] {
    at::Tensor x = silent(1), deltas = at::zeros({1, 16, 4});
    x[0][15][0] = 3;
    deltas[0][15][0] = 0.5;
    PostConfig c = rules();
    EXPECT(detect(x, c, deltas, {30, 31}).boxes.equal(rows({28, 24, 31, 30})));
    c.clip = ClipRule::kCanvasMinusOne;
    EXPECT(detect(x, c, deltas, {30, 31}).boxes.equal(rows({28, 24, 31, 31})));
    c.clip = ClipRule::kNone;
    EXPECT(detect(x, c, deltas, {30, 31}).boxes.equal(rows({28, 24, 36, 32})));
    c.clip = ClipRule::kImage;
    c.min_size = 3;
    EXPECT_EQUAL(detect(x, c, deltas, {30, 31}).boxes.size(0), 1);
    c.min_size = 3.5f;
    EXPECT_EQUAL(detect(x, c, deltas, {30, 31}).boxes.size(0), 0);
  });

  check::run("two images are two lists; bf16 outputs are decoded in float32", [] {
    at::Tensor x = silent(1, 2);
    x[1][6][0] = 4;
    const auto d = postprocess(x.to(at::kBFloat16), at::zeros({2, 16, 4}, at::kBFloat16), tiles(),
                               {kCanvas, kCanvas}, kCanvas, coder(), rules());
    EXPECT_EQUAL(d[0].boxes.size(0), 0);
    EXPECT(d[1].boxes.equal(rows({16, 8, 24, 16})));
  });

  check::run("what is not finite is an error", [] {
    for (float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      at::Tensor x = silent(1);
      x[0][6][0] = bad;
      EXPECT_THROWS("NON_FINITE", "logits", detect(x, rules()));
    }
    at::Tensor x = silent(1), deltas = at::zeros({1, 16, 4});
    x[0][6][0] = 3;
    deltas[0][6][2] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROWS("NON_FINITE", "deltas", detect(x, rules(), deltas));
    EXPECT_THROWS("ARGUMENT", "expected logits", detect(at::zeros({1, 15, 1}), rules()));
  });
  return check::failures;
}
