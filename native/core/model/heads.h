// The two towers, shared by all pyramid levels: classification logits and box deltas. Method:
// retinanet spec 1.4.
#pragma once

#include <optional>
#include <vector>

#include "core/config.h"
#include "core/model/layers.h"

namespace mammo {

struct Tower {
  std::vector<Conv> convs;
  std::vector<Norm> norms;  // as many as convs, or none
  Conv last;
  int per_anchor;  // numbers per anchor: K or 4

  /// Cells on each side that an output cell depends on; without norms nothing beyond them matters.
  int radius() const { return static_cast<int>(convs.size()) + 1; }
  bool local() const { return norms.empty(); }
};

struct Heads {
  Tower classification;  // head.cls
  Tower box;             // head.box
};

Heads make_heads(const ModelConfig& config, int anchors_per_cell, Builder& builder);

/// map [n, c, h, w] -> float32 [n, h*w*A, per_anchor], order y, x, anchor.
at::Tensor tower_forward(const Tower& tower, const at::Tensor& map);

}  // namespace mammo
