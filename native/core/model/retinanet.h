// The network: backbone, pyramid, heads and the list of their parameters. Pure tensors; targets,
// losses and selection are elsewhere. Method: retinanet spec 1.
#pragma once

#include <array>
#include <functional>
#include <vector>

#include "core/config.h"
#include "core/model/backbone.h"
#include "core/model/fpn.h"
#include "core/model/heads.h"
#include "core/model/parameters.h"
#include "core/ops/anchors.h"

namespace mammo {

struct Retinanet {
  ParameterList parameters;
  Backbone backbone;
  Fpn fpn;
  Heads heads;
};

/// Parameters are drawn from `generator` (a CPU generator) in a fixed order: the same seed gives
/// the same network everywhere.
Retinanet make_retinanet(const ModelConfig& config, int anchors_per_cell, at::Generator generator,
                         at::Device device);

/// Rows and columns of every configured level: of the real maps, which some backbones floor.
std::vector<GridSize> grid_sizes(const Retinanet& net, const std::array<int64_t, 2>& canvas);

struct HeadOutputs {
  at::Tensor logits;  // float32 [n, total, K], order level, y, x, anchor
  at::Tensor deltas;  // float32 [n, total, 4]
};

/// Inference: input [n, channels, H, W], running statistics.
HeadOutputs forward(const Retinanet& net, const at::Tensor& input);

/// C2..C5 as far as the pyramid reads them, without any gradient.
Taps backbone_forward(const Retinanet& net, const at::Tensor& input);

/// The backbone in training: forward now, backward later. Stages up to `frozen_stages` run without
/// gradient and with fixed statistics. What `recompute` names is computed again in the backward:
/// every block alone, of which only the input is kept; or early, the blocks up to the first of C3,
/// of which their small maps are kept too (run_segment), and a stem that would keep much.
/// Segments of one part are computed again `at_once`, with their graph (C2 and a block of most
/// backbones); more go in two halves, the first of which runs once more.
class BackbonePass {
 public:
  BackbonePass(const Retinanet& net, const at::Tensor& input, int frozen_stages,
               Recompute recompute, size_t at_once = 4);

  /// Leaves for the pyramid to start from: detached, requiring a gradient where something below is
  /// trained.
  const Taps& taps() const { return leaves_; }
  /// Carries the gradients of taps() down into the parameters. Once.
  void backward();

 private:
  at::Tensor backward_again(at::Tensor gradient);

  struct Saved {
    at::Tensor input;    // detached
    size_t first, last;  // segments, without the last
    KeptMaps kept;
  };
  const Retinanet& net_;
  size_t at_once_;
  Taps outputs_, leaves_;     // outputs_ carry the graph, unless their segment was saved
  std::vector<Saved> saved_;  // what is computed again: a run of the trained segments
  at::Tensor first_;          // output with its graph of the segment before the saved ones
  at::Tensor resumed_;        // leaf that the segments after the saved ones start from
};

}  // namespace mammo
