// Suppression: hand cases, ties, boxes without area, and the comparison with all pairs at any
// threshold.
#include <algorithm>
#include <numeric>

#include "check.h"
#include "core/ops/nms.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;

namespace {

std::vector<int64_t> list(const at::Tensor& t) {
  return {t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel()};
}

// The definition: all pairs, in float32.
std::vector<int64_t> all_pairs(const at::Tensor& boxes, const at::Tensor& scores,
                               const at::Tensor& labels, double threshold) {
  const auto b = boxes.accessor<float, 2>();
  const float* s = scores.data_ptr<float>();
  std::vector<int64_t> order(boxes.size(0)), kept;
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return s[x] > s[y]; });
  const auto area = [&](int64_t i) { return (b[i][2] - b[i][0]) * (b[i][3] - b[i][1]); };
  for (int64_t i : order) {
    const bool gone = std::any_of(kept.begin(), kept.end(), [&](int64_t k) {
      if (labels.defined() && labels[i].item<int64_t>() != labels[k].item<int64_t>()) return false;
      const float w = std::max(0.0f, std::min(b[i][2], b[k][2]) - std::max(b[i][0], b[k][0]));
      const float h = std::max(0.0f, std::min(b[i][3], b[k][3]) - std::max(b[i][1], b[k][1]));
      const float inter = w * h;
      return static_cast<double>(inter / (area(k) + area(i) - inter)) > threshold;
    });
    if (!gone) kept.push_back(i);
  }
  return kept;
}

at::Tensor scattered(int64_t count, double canvas, double side) {
  const at::Tensor low = at::rand({count, 2}) * canvas;
  return at::cat({low, low + at::rand({count, 2}) * side}, 1);
}

}  // namespace

int main() {
  check::run("strictly above the threshold, ties by index", [] {
    const at::Tensor boxes = rows({0, 0, 10, 10, 0, 0, 10, 5, 20, 20, 30, 30, 20, 20, 30, 30});
    const at::Tensor scores = at::tensor({0.9f, 0.8f, 0.5f, 0.5f});
    EXPECT(list(nms(boxes, scores, 0.5)) == (std::vector<int64_t>{0, 1, 2}));  // IoU exactly 1/2
    EXPECT(list(nms(boxes, scores, 0.49)) == (std::vector<int64_t>{0, 2}));
  });

  check::run("boxes without area never suppress, nothing in gives nothing", [] {
    const at::Tensor boxes = rows({5, 5, 5, 5, 5, 5, 5, 5, 0, 0, 10, 10, 3, 3, 3, 9});
    EXPECT_EQUAL(nms(boxes, at::ones({4}), 0).size(0), 4);
    EXPECT_EQUAL(nms(at::empty({0, 4}), at::empty({0}), 0.5).size(0), 0);
  });

  check::run("the same as all pairs: scattered and crowded boxes, one class and several", [] {
    at::manual_seed(1);
    for (int trial = 0; trial < 20; ++trial) {
      const at::Tensor boxes = trial % 2 == 0 ? scattered(400, 1000, 120)
                                              : (scattered(300, 60, 50) * 0.25).round() * 4 - 20;
      // Coarse scores: many ties.
      const at::Tensor scores = (at::rand({boxes.size(0)}) * 20).round() - 5;
      const at::Tensor labels = at::randint(0, 3, {boxes.size(0)}, at::kLong);
      for (double threshold : {-0.1, 0.0, 0.1, 0.3, 0.5, 0.7, 1.0}) {
        EXPECT(list(nms(boxes, scores, threshold)) ==
               all_pairs(boxes, scores, at::Tensor(), threshold));
        EXPECT(list(batched_nms(boxes, scores, labels, threshold)) ==
               all_pairs(boxes, scores, labels, threshold));
      }
    }
  });

  check::run("boxes on grid lines, huge and inverted boxes", [] {
    const at::Tensor boxes = rows(
        {0, 0, 1e6f, 1e6f, 0, 0, 1, 1, 1, 1, 2, 2, 5, 5, 4, 4, 0, 0, 1e6f, 999999, 1, 0, 2, 1});
    const at::Tensor scores = at::tensor({1.0f, 0.9f, 0.8f, 0.7f, 0.6f, 0.5f});
    EXPECT(list(nms(boxes, scores, 0.5)) == all_pairs(boxes, scores, at::Tensor(), 0.5));
  });

  check::run("arguments", [] {
    EXPECT_THROWS("ARGUMENT", "one score per box", nms(at::zeros({2, 4}), at::zeros({3}), 0.5));
    EXPECT_THROWS("ARGUMENT", "boxes float32",
                  nms(at::zeros({2, 4}, at::kDouble), at::zeros({2}), 0.5));
  });
  return check::failures;
}
