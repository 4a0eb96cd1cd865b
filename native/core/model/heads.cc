// Heads.
#include "core/model/heads.h"

#include <cmath>
#include <string>

namespace mammo {

Heads make_heads(const ModelConfig& config, int anchors_per_cell, Builder& builder) {
  const int width = config.fpn_channels;
  const auto tower = [&](const std::string& name, const std::string& last, bool group,
                         int per_anchor, double bias) {
    Tower t{{}, {}, {}, per_anchor};
    for (int i = 0; i < config.head_depth; ++i) {
      const std::string layer = name + ".tower." + std::to_string(i);
      t.convs.push_back(
          builder.conv(layer + ".conv", 0, {width, width, 3, 1, !group}, Init::kSmallNormal));
      if (group) {
        // The heads' own epsilon is PyTorch's; norm_eps belongs to the backbone's weights.
        t.norms.push_back(builder.norm(layer + ".norm", 0, width, NormPolicy::kGroup, 1e-5));
      }
    }
    t.last = builder.conv(name + "." + last, 0, {width, anchors_per_cell * per_anchor, 3, 1, true},
                          Init::kSmallNormal, bias);
    return t;
  };
  const double foreground = -std::log((1 - config.prior) / config.prior);
  Tower classification =
      tower("head.cls", "logits", config.group_norm_classification, config.classes, foreground);
  Tower box = tower("head.box", "deltas", config.group_norm_box, 4, 0);
  return {std::move(classification), std::move(box)};
}

at::Tensor tower_forward(const Tower& tower, const at::Tensor& map) {
  at::Tensor x = map;
  const bool plain = tower.norms.empty();
  // One change of layout before the tower instead of two around each of its convolutions.
  if (plain && !tower.convs.empty() && takes_winograd(tower.convs.front(), /*around=*/1, map))
    x = map.contiguous(at::MemoryFormat::ChannelsLast);
  for (size_t i = 0; i < tower.convs.size(); ++i) {
    x = convolve(tower.convs[i], x, Phase::kEvaluate, /*relu=*/plain);
    if (!plain) x = group_norm(tower.norms[i], x).relu_();
  }
  const at::Tensor y = convolve(tower.last, x).to(at::kFloat);  // channel = anchor * per_anchor + j
  return y.permute({0, 2, 3, 1}).reshape({y.size(0), -1, tower.per_anchor});
}

}  // namespace mammo
