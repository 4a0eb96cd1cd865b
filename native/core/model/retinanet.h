// The network: backbone, pyramid, heads and the list of their parameters. Pure tensors; targets,
// losses and selection are elsewhere. Method: retinanet spec 1.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "core/config.h"
#include "core/model/fpn.h"
#include "core/model/heads.h"
#include "core/model/parameters.h"
#include "core/model/resnet.h"
#include "core/ops/anchors.h"

namespace mammo {

struct Retinanet {
  ParameterList parameters;
  Resnet backbone;
  Fpn fpn;
  Heads heads;
};

/// Parameters are drawn from `generator` (a CPU generator) in a fixed order: the same seed gives
/// the same network everywhere.
Retinanet make_retinanet(const ModelConfig& config, int anchors_per_cell, at::Generator generator,
                         at::Device device);

/// Rows and columns of every configured level. Each stride-2 layer gives ceil(n / 2), with either
/// padding.
std::vector<GridSize> grid_sizes(const ModelConfig& config, const std::array<int64_t, 2>& canvas);

struct HeadOutputs {
  at::Tensor logits;  // float32 [n, total, K], order level, y, x, anchor
  at::Tensor deltas;  // float32 [n, total, 4]
};

/// Inference: input [n, channels, H, W], running statistics.
HeadOutputs forward(const Retinanet& net, const at::Tensor& input);

/// C2..C5 as far as the pyramid reads them, without any gradient.
Taps backbone_forward(const Retinanet& net, const at::Tensor& input);

/// The backbone in training: forward now, backward later. Stages up to `frozen_stages` run without
/// gradient and with fixed statistics. With `checkpoint` only the blocks' inputs are kept, and each
/// block is computed again in the backward.
class BackbonePass {
 public:
  BackbonePass(const Retinanet& net, const at::Tensor& input, int frozen_stages, bool checkpoint);

  /// Leaves for the pyramid to start from: detached, requiring a gradient where something below is
  /// trained.
  const Taps& taps() const { return leaves_; }
  /// Carries the gradients of taps() down into the parameters. Once.
  void backward();

 private:
  void backward_by_block();

  struct Segment {
    at::Tensor input;  // detached
    const Block* block;
    int tap;  // the level whose tap is this block's output, or 0
  };
  const Retinanet& net_;
  Taps outputs_, leaves_;          // outputs_ carry the graph
  std::vector<Segment> segments_;  // trained blocks, when checkpointed
  at::Tensor stem_;  // the stem's output with its graph, when trained and checkpointed
};

}  // namespace mammo
