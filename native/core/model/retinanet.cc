// The network and its training pass.
#include "core/model/retinanet.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <utility>

namespace mammo {

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
  for (const at::Tensor& map : fpn_forward(net.fpn, backbone_forward(net, input))) {
    logits.push_back(tower_forward(net.heads.classification, map));
    deltas.push_back(tower_forward(net.heads.box, map));
  }
  return {at::cat(logits, 1), at::cat(deltas, 1)};
}

BackbonePass::BackbonePass(const Retinanet& net, const at::Tensor& input, int frozen_stages,
                           bool checkpoint)
    : net_(net) {
  at::Tensor x = input;
  for (const Segment& segment : net.backbone.segments) {
    const bool trained = segment.stage > frozen_stages;
    // The first segment is short and reads the image, which nobody gives up: computing it again
    // would save little.
    const bool first = segment.first == 0;
    const bool saved = trained && checkpoint && !first;
    // Frozen convolutions leave channels-last maps, trained ones work on NCHW.
    if (trained) x = x.contiguous();
    if (saved) saved_.push_back({x.detach(), &segment});
    Taps taps;
    {
      c10::AutoGradMode grad(trained && !saved);
      x = run_segment(net.backbone, segment, x, trained ? Phase::kTrain : Phase::kEvaluate, taps);
    }
    if (first && trained && checkpoint) first_ = x;
    for (int level = 2; level <= 5; ++level) {
      if (!taps[level].defined() || !reads_tap(net.fpn, level)) continue;
      if (trained) outputs_[level] = taps[level];
      leaves_[level] = taps[level].contiguous().detach().requires_grad_(trained);
    }
  }
}

void BackbonePass::backward() {
  if (!saved_.empty()) return backward_by_segment();
  std::vector<at::Tensor> outputs, gradients;
  for (int level = 2; level <= 5; ++level) {
    if (!outputs_[level].defined() || !outputs_[level].requires_grad()) continue;
    if (!leaves_[level].grad().defined()) continue;
    outputs.push_back(std::move(outputs_[level]));
    gradients.push_back(leaves_[level].grad());
    leaves_[level].reset();
  }
  if (!outputs.empty()) torch::autograd::backward(outputs, gradients);
}

// From the last segment up: the gradient of a segment's output is what the segment above asks of
// its input, plus what the pyramid asks of the taps.
void BackbonePass::backward_by_segment() {
  at::Tensor gradient;
  while (!saved_.empty()) {
    const Saved saved = std::move(saved_.back());
    saved_.pop_back();
    const Segment& segment = *saved.segment;
    std::vector<std::pair<int, at::Tensor>> asked;  // level, gradient of its tap
    for (const Tap& tap : net_.backbone.taps) {
      if (tap.node < segment.first || tap.node >= segment.last) continue;
      at::Tensor& leaf = leaves_[tap.level];
      if (!leaf.defined() || !leaf.grad().defined()) continue;
      const at::Tensor own = leaf.grad();
      if (tap.node + 1 == segment.last)
        gradient = gradient.defined() ? gradient + own : own;
      else
        asked.emplace_back(tap.level, own);
      leaf.reset();
      outputs_[tap.level].reset();
    }
    if (!gradient.defined() && asked.empty()) continue;
    const bool more = !saved_.empty() || first_.defined();
    const at::Tensor input = saved.input.requires_grad_(more);
    std::vector<at::Tensor> outputs, gradients;
    {
      c10::AutoGradMode grad(true);
      Taps taps;
      const at::Tensor output = run_segment(net_.backbone, segment, input, Phase::kRecompute, taps);
      if (gradient.defined()) {
        outputs.push_back(output);
        gradients.push_back(gradient);
      }
      for (const auto& [level, own] : asked) {
        if (!taps[level].requires_grad()) continue;
        outputs.push_back(taps[level]);
        gradients.push_back(own);
      }
    }
    torch::autograd::backward(outputs, gradients);
    gradient = input.grad();
  }
  if (first_.defined() && gradient.defined()) torch::autograd::backward({first_}, {gradient});
}

}  // namespace mammo
