// ResNet-18/34/50/101/152 as a list of residual blocks with taps at the stage ends. Stages are
// numbered as pyramid levels: 1 the stem, 2..5 the four stages, whose outputs are C2..C5. Method:
// He et al. 2015; strides as torchvision or keras-resnet.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "core/config.h"
#include "core/model/layers.h"

namespace mammo {

struct Block {
  int stage;                         // 2..5
  std::vector<ConvNorm> body;        // two (basic) or three (bottleneck)
  std::optional<ConvNorm> shortcut;  // where stride or width change
};

struct Resnet {
  ConvNorm stem;
  Padding padding;
  std::vector<Block> blocks;
  std::array<int, 6> channels;  // [2..5] of C2..C5
};

Resnet make_resnet(const ModelConfig& config, Builder& builder);

/// 7x7 convolution, ReLU, pool: stride 4.
at::Tensor stem_forward(const Resnet& net, const at::Tensor& x, Phase phase);
at::Tensor block_forward(const Block& block, const at::Tensor& x, Phase phase);

}  // namespace mammo
