// One level's loss: the classification tower on strips of rows against the whole map. Values of the
// losses are in ops_losses_test, windows of the box tower in session_test.
#include "core/loss.h"

#include <ATen/CPUGeneratorImpl.h>

#include "check.h"
#include "configs.h"

using namespace mammo;

namespace {

struct Outcome {
  at::Tensor sums, gradient;
  std::vector<at::Tensor> parameters;
};

double apart(const at::Tensor& a, const at::Tensor& b) {
  return ((a - b).abs().max() / (b.abs().max() + 1e-12)).item<double>();
}

// Loss and gradients of one level of `rows` x 40 cells, two images, one box each: near the top and
// across the middle.
Outcome outcome(int64_t rows, bool group, int64_t strip_bytes, bool train = true) {
  SessionConfig c = test::tiny_config();
  ModelConfig& m = c.detector.model;
  m.levels = {3};
  m.group_norm_classification = group;
  c.detector.anchors.sizes = {32};
  c.detector.anchors.strides = {8};
  at::Generator generator = at::detail::createCPUGenerator(3);
  ParameterList parameters;
  Builder builder(parameters, generator, at::kCPU);
  const Heads heads = make_heads(m, 9, builder);
  const std::array<int64_t, 2> canvas{8 * rows, 320};
  const AnchorGrid grid = make_anchor_grid(c.detector.anchors, {{rows, 40}}, canvas);
  const float middle = 4.0f * static_cast<float>(rows);
  const TargetBatch targets{
      {10, 6, 50, 40, 200, middle - 30, 240, middle + 20}, {0, 1}, {0, 1, 2}, {}, {0, 0, 0}};
  const MatchedTargets matched =
      match_targets(grid, targets, {canvas, canvas}, c.detector, at::kCPU);
  const at::Tensor map = at::empty({2, m.fpn_channels, rows, 40}).normal_(0, 1, generator);
  LossContext context{heads, grid, matched, c.detector, at::tensor({0.5, 2.0}, at::kDouble)};
  context.strip_bytes = strip_bytes;
  LossSums sums = make_loss_sums(2, at::kCPU);
  Timer timer;
  Outcome o;
  o.gradient = add_level_loss(context, 0, map, train, sums, timer);
  o.sums = at::stack({sums.classification, sums.box});
  for (const Parameter& p : parameters) {
    if (p.value.grad().defined()) o.parameters.push_back(p.value.grad());
  }
  return o;
}

constexpr int64_t kWhole = int64_t{1} << 40;

// Heights with a short last strip, with strips of equal height, with one strip; a budget of one
// byte asks for the lowest strips that are allowed.
void strips_equal_the_whole_map() {
  for (const int64_t rows : {11, 12, 13, 24, 37, 60, 64}) {
    const Outcome whole = outcome(rows, false, kWhole);
    for (const int64_t bytes : {int64_t{1}, 16 * 40 * 2 * 4 * rows / 3, 16 * 40 * 2 * 4 * rows}) {
      const Outcome strips = outcome(rows, false, bytes);
      EXPECT(apart(strips.sums, whole.sums) < 1e-6);
      EXPECT(apart(strips.gradient, whole.gradient) < 1e-5);
      EXPECT_EQUAL(strips.parameters.size(), whole.parameters.size());
      for (size_t i = 0; i < whole.parameters.size(); ++i)
        EXPECT(apart(strips.parameters[i], whole.parameters[i]) < 1e-5);
    }
  }
}

// The statistics of a group norm are those of the whole map; without training nothing is kept.
void what_must_stay_whole_does() {
  EXPECT(at::equal(outcome(60, true, 1).gradient, outcome(60, true, kWhole).gradient));
  EXPECT(at::equal(outcome(60, false, 1, false).sums, outcome(60, false, kWhole, false).sums));
  EXPECT(!at::equal(outcome(60, false, 1).gradient, outcome(60, false, kWhole).gradient));
}

}  // namespace

int main() {
  check::run("strips equal the whole map", strips_equal_the_whole_map);
  check::run("what must stay whole does", what_must_stay_whole_does);
  return check::failures;
}
