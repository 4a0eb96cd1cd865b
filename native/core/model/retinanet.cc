// The network and its training pass.
#include "core/model/retinanet.h"

#include <torch/csrc/autograd/autograd.h>

namespace mammo {

Retinanet make_retinanet(const ModelConfig& config, int anchors_per_cell, at::Generator generator,
                         at::Device device) {
  at::NoGradGuard no_grad;
  Retinanet net;
  Builder builder(net.parameters, std::move(generator), device);
  net.backbone = make_resnet(config, builder);
  net.fpn = make_fpn(config, net.backbone.channels, builder);
  net.heads = make_heads(config, anchors_per_cell, builder);
  net.parameters.freeze_stages(config.frozen_stages);
  return net;
}

std::vector<GridSize> grid_sizes(const ModelConfig& config, const std::array<int64_t, 2>& canvas) {
  std::vector<GridSize> sizes;
  for (int level : config.levels) {
    const int64_t stride = int64_t{1} << level;
    sizes.push_back({(canvas[0] + stride - 1) / stride, (canvas[1] + stride - 1) / stride});
  }
  return sizes;
}

Taps backbone_forward(const Retinanet& net, const at::Tensor& input) {
  Taps taps;
  at::Tensor x = stem_forward(net.backbone, input, Phase::kEvaluate);
  const auto& blocks = net.backbone.blocks;
  for (size_t i = 0; i < blocks.size(); ++i) {
    x = block_forward(blocks[i], x, Phase::kEvaluate);
    const int stage = blocks[i].stage;
    const bool last = i + 1 == blocks.size() || blocks[i + 1].stage != stage;
    if (last && reads_tap(net.fpn, stage)) taps[stage] = x;
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
  const auto phase = [&](int stage) {
    return stage > frozen_stages ? Phase::kTrain : Phase::kEvaluate;
  };
  at::Tensor x;
  {
    c10::AutoGradMode grad(frozen_stages < 1);
    x = stem_forward(net.backbone, input, phase(1));
  }
  if (checkpoint && frozen_stages < 1) stem_ = x;

  const auto& blocks = net.backbone.blocks;
  for (size_t i = 0; i < blocks.size(); ++i) {
    const int stage = blocks[i].stage;
    const bool trained = stage > frozen_stages;
    const bool last = i + 1 == blocks.size() || blocks[i + 1].stage != stage;
    const int tap = last && reads_tap(net.fpn, stage) ? stage : 0;
    if (trained && checkpoint) segments_.push_back({x.detach(), &blocks[i], tap});
    {
      c10::AutoGradMode grad(trained && !checkpoint);
      x = block_forward(blocks[i], x, phase(stage));
    }
    if (tap != 0) {
      outputs_[tap] = x;
      leaves_[tap] = x.detach().requires_grad_(trained);
    }
  }
}

void BackbonePass::backward() {
  if (!segments_.empty()) return backward_by_block();
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

// From the last block up: the gradient of a block's output is what the block above asks of its
// input plus what the pyramid asks of the tap.
void BackbonePass::backward_by_block() {
  at::Tensor gradient;
  while (!segments_.empty()) {
    Segment segment = std::move(segments_.back());
    segments_.pop_back();
    if (segment.tap != 0 && leaves_[segment.tap].grad().defined()) {
      const at::Tensor own = leaves_[segment.tap].grad();
      gradient = gradient.defined() ? gradient + own : own;
      leaves_[segment.tap].reset();
      outputs_[segment.tap].reset();
    }
    if (!gradient.defined()) continue;
    const bool more = !segments_.empty() || stem_.defined();
    at::Tensor input = segment.input.requires_grad_(more);
    at::Tensor output;
    {
      c10::AutoGradMode grad(true);
      output = block_forward(*segment.block, input, Phase::kRecompute);
    }
    torch::autograd::backward({output}, {gradient});
    gradient = input.grad();
  }
  if (stem_.defined() && gradient.defined()) torch::autograd::backward({stem_}, {gradient});
}

}  // namespace mammo
