// The network and its training pass.
#include "core/model/retinanet.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/ops/max_pool.h"
#include "core/roots.h"
#include "core/switches.h"

namespace mammo {
namespace {

// A stem of one convolution, its norm folded, and a max pool: relu_max_pool, where it runs, keeps
// next to nothing of it.
bool keeps_little_of_stem(const Backbone& net, const at::Tensor& input) {
  const Segment& stem = net.segments.front();
  int convolutions = 0;
  for (int i = stem.first; i < stem.last; ++i) {
    const Node& node = net.nodes[i];
    convolutions += node.op == Op::kConv;
    if (node.op == Op::kNorm && !folds(node.norm, Phase::kTrain)) return false;
  }
  return convolutions == 1 && net.nodes[stem.last - 1].op == Op::kMaxPool &&
         net.segments[1].stage > 1 && switches().compact_pool && relu_max_pool_takes(input);
}

}  // namespace

Retinanet make_retinanet(const ModelConfig& config, int anchors_per_cell, at::Generator generator,
                         at::Device device) {
  at::NoGradGuard no_grad;
  Retinanet net;
  Builder builder(net.parameters, std::move(generator), device);
  net.backbone = make_backbone(config, builder);
  std::array<int, 6> channels{};
  for (const Tap& tap : net.backbone.taps) channels[tap.level] = tap.channels;
  net.fpn = make_fpn(config, channels, builder);
  net.heads = make_heads(config, anchors_per_cell, builder);
  net.parameters.freeze_stages(config.frozen_stages);
  return net;
}

std::vector<GridSize> grid_sizes(const Retinanet& net, const std::array<int64_t, 2>& canvas) {
  const auto taps = tap_sizes(net.backbone, canvas);
  std::vector<GridSize> sizes;
  for (int level : net.fpn.levels) {
    GridSize size = taps[std::min(level, 5)];
    for (int l = 6; l <= level; ++l) size = {(size[0] + 1) / 2, (size[1] + 1) / 2};
    sizes.push_back(size);
  }
  return sizes;
}

Taps backbone_forward(const Retinanet& net, const at::Tensor& input) {
  Taps taps;
  at::Tensor x = input;
  for (const Segment& segment : net.backbone.segments) {
    x = run_segment(net.backbone, segment, x, Phase::kEvaluate, taps);
    for (int level = 2; level <= 5; ++level) {
      if (!reads_tap(net.fpn, level)) taps[level].reset();
    }
  }
  return taps;
}

HeadOutputs forward(const Retinanet& net, const at::Tensor& input) {
  std::vector<at::Tensor> logits, deltas;
  const Taps taps = backbone_forward(net, input);
  std::map<int, at::Tensor> merged = fpn_merge(net.fpn, taps);
  at::Tensor map;
  for (int level : net.fpn.levels) {
    map = fpn_map(net.fpn, level, merged, taps, map);
    logits.push_back(tower_forward(net.heads.classification, map));
    deltas.push_back(tower_forward(net.heads.box, map));
  }
  return {at::cat(logits, 1), at::cat(deltas, 1)};
}

BackbonePass::BackbonePass(const Retinanet& net, const at::Tensor& input, int frozen_stages,
                           Recompute recompute, size_t at_once)
    : net_(net), at_once_(at_once) {
  const bool early = recompute == Recompute::kEarly;
  const int last_stage = recompute == Recompute::kAll ? 5 : 0;
  at::Tensor x = input;
  for (size_t i = 0; i < net.backbone.segments.size(); ++i) {
    const Segment& segment = net.backbone.segments[i];
    const bool trained = segment.stage > frozen_stages;
    // Block by block, the stem is what one block more costs, and is kept. Early, the largest maps
    // are the ends of the blocks of C2: all of them are given up at once, with what the first block
    // of C3 keeps at C2's size.
    const int before = i == 0 ? 0 : net.backbone.segments[i - 1].stage;
    const bool joins = before == 2 && segment.stage == 3;  // to the part before
    const bool given_up = segment.stage == 1 ? !keeps_little_of_stem(net.backbone, input)
                                             : segment.stage == 2 || joins;
    const bool saved = trained && (early ? given_up : segment.stage <= last_stage && i > 0);
    // Frozen convolutions leave channels-last maps, trained ones work on NCHW.
    if (trained) x = x.contiguous();
    if (saved) {
      if (x.requires_grad()) first_ = x;
      x = x.detach();
      if (early && !saved_.empty() && (joins || before == segment.stage))
        saved_.back().last = i + 1;
      else
        saved_.push_back({x, i, i + 1, {}});
    } else if (!saved_.empty() && !resumed_.defined()) {
      x = resumed_ = x.detach().requires_grad_(true);
    }
    Taps taps;
    {
      c10::AutoGradMode grad(trained && !saved);
      x = run_segment(net.backbone, segment, x, trained ? Phase::kTrain : Phase::kEvaluate, taps,
                      early && saved ? &saved_.back().kept : nullptr);
    }
    for (int level = 2; level <= 5; ++level) {
      if (!taps[level].defined() || !reads_tap(net.fpn, level)) continue;
      if (trained) outputs_[level] = taps[level];
      leaves_[level] = taps[level].contiguous().detach().requires_grad_(trained);
    }
  }
}

void BackbonePass::backward() {
  const int first_saved = saved_.empty() ? 0 : net_.backbone.segments[saved_.front().first].first;
  Roots above, below;  // of the segments after the saved ones, and of the one before them
  for (const Tap& tap : net_.backbone.taps) {
    at::Tensor& output = outputs_[tap.level];
    at::Tensor& leaf = leaves_[tap.level];
    if (!output.defined() || !output.requires_grad() || !leaf.grad().defined()) continue;
    (tap.node < first_saved ? below : above).add(std::move(output), leaf.grad());
    leaf.reset();
  }
  above.backward();
  if (!saved_.empty()) {
    at::Tensor gradient;
    if (resumed_.defined()) gradient = resumed_.grad();
    resumed_.reset();
    gradient = backward_again(std::move(gradient));
    if (first_.defined() && gradient.defined()) below.add(std::move(first_), gradient);
  }
  below.backward();
}

// From the last saved part down: the gradient of its output is what the part after it asks of its
// input, plus what the pyramid asks of the taps.
at::Tensor BackbonePass::backward_again(at::Tensor gradient) {
  const std::vector<Segment>& segments = net_.backbone.segments;
  while (!saved_.empty()) {
    Saved saved = std::move(saved_.back());
    saved_.pop_back();
    if (saved.last - saved.first > at_once_) {
      const size_t middle = (saved.first + saved.last) / 2;
      const at::NoGradGuard no_grad;
      at::Tensor x = saved.input;
      Taps taps;
      for (size_t i = saved.first; i < middle; ++i)
        x = run_segment(net_.backbone, segments[i], x, Phase::kRecompute, taps, &saved.kept);
      Saved upper{x.detach(), middle, saved.last, {}};
      while (!saved.kept.empty() && saved.kept.rbegin()->first >= segments[middle].first)
        upper.kept.insert(saved.kept.extract(std::prev(saved.kept.end())));
      saved_.push_back({saved.input, saved.first, middle, std::move(saved.kept)});
      saved_.push_back(std::move(upper));
      continue;
    }
    const int first = segments[saved.first].first, last = segments[saved.last - 1].last;
    std::vector<std::pair<int, at::Tensor>> asked;  // level, gradient of its tap
    for (const Tap& tap : net_.backbone.taps) {
      if (tap.node < first || tap.node >= last) continue;
      at::Tensor& leaf = leaves_[tap.level];
      if (!leaf.defined() || !leaf.grad().defined()) continue;
      const at::Tensor own = leaf.grad();
      if (tap.node + 1 == last)
        gradient = gradient.defined() ? gradient + own : own;
      else
        asked.emplace_back(tap.level, own);
      leaf.reset();
      outputs_[tap.level].reset();
    }
    if (!gradient.defined() && asked.empty()) continue;
    const bool more = !saved_.empty() || first_.defined();
    const at::Tensor input = saved.input.requires_grad_(more);
    Roots roots;
    {
      c10::AutoGradMode grad(true);
      Taps taps;
      at::Tensor x = input;
      for (size_t i = saved.first; i < saved.last; ++i)
        x = run_segment(net_.backbone, segments[i], x, Phase::kRecompute, taps, &saved.kept);
      saved.kept.clear();
      if (gradient.defined()) roots.add(std::move(x), std::move(gradient));
      for (const auto& [level, own] : asked) {
        if (taps[level].requires_grad()) roots.add(taps[level], own);
      }
    }
    roots.backward();
    gradient = input.grad();
  }
  return gradient;
}

}  // namespace mammo
