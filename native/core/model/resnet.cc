// ResNet.
#include "core/model/resnet.h"

#include <map>
#include <string>

namespace mammo {
namespace {

struct Depth {
  bool bottleneck;
  std::array<int, 4> blocks;
};

const std::map<std::string, Depth> kDepths{
    {"resnet18", {false, {2, 2, 2, 2}}},  {"resnet34", {false, {3, 4, 6, 3}}},
    {"resnet50", {true, {3, 4, 6, 3}}},   {"resnet101", {true, {3, 4, 23, 3}}},
    {"resnet152", {true, {3, 8, 36, 3}}},
};

}  // namespace

Resnet make_resnet(const ModelConfig& config, Builder& builder) {
  const Depth& depth = kDepths.at(config.backbone);
  const auto conv_norm = [&](const std::string& conv, const std::string& norm, int stage, int in,
                             int out, int kernel, int stride) {
    return ConvNorm{builder.conv(conv, stage, {in, out, kernel, stride, false, config.padding},
                                 Init::kKaimingNormalFanOut),
                    builder.norm(norm, stage, out, config.norm, config.norm_eps)};
  };

  const std::string root = "backbone.";
  Resnet net{conv_norm(root + "conv1", root + "bn1", 1, config.channels, config.stem_width, 7, 2),
             config.padding,
             {},
             {}};
  int in = config.stem_width;
  for (int s = 0; s < 4; ++s) {
    const int stage = s + 2;
    const int planes = config.stem_width << s;
    const int out = depth.bottleneck ? planes * 4 : planes;
    for (int b = 0; b < depth.blocks[s]; ++b) {
      const int stride = s > 0 && b == 0 ? 2 : 1;
      const std::string name =
          root + "layer" + std::to_string(s + 1) + "." + std::to_string(b) + ".";
      Block block{stage, {}, std::nullopt};
      const auto layer = [&](int i, int from, int to, int kernel, int step) {
        const std::string n = std::to_string(i);
        block.body.push_back(
            conv_norm(name + "conv" + n, name + "bn" + n, stage, from, to, kernel, step));
      };
      if (depth.bottleneck) {
        layer(1, in, planes, 1, config.stride_in_1x1 ? stride : 1);
        layer(2, planes, planes, 3, config.stride_in_1x1 ? 1 : stride);
        layer(3, planes, out, 1, 1);
      } else {
        layer(1, in, planes, 3, stride);
        layer(2, planes, planes, 3, 1);
      }
      if (stride != 1 || in != out) {
        block.shortcut =
            conv_norm(name + "downsample.0", name + "downsample.1", stage, in, out, 1, stride);
      }
      net.blocks.push_back(std::move(block));
      in = out;
    }
    net.channels[stage] = in;
  }
  return net;
}

// The in-place operations below act on fresh outputs of convolution, norm or addition, whose
// backward does not read them.

at::Tensor stem_forward(const Resnet& net, const at::Tensor& x, Phase phase) {
  return max_pool(convolve(net.stem, x, phase).relu_(), net.padding);
}

at::Tensor block_forward(const Block& block, const at::Tensor& x, Phase phase) {
  at::Tensor y = x;
  for (size_t i = 0; i < block.body.size(); ++i) {
    if (i > 0) y.relu_();
    y = convolve(block.body[i], y, phase);
  }
  return y.add_(block.shortcut ? convolve(*block.shortcut, x, phase) : x).relu_();
}

}  // namespace mammo
