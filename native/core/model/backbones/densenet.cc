// DenseNet-121/169/201: taps are the last concatenations of the dense blocks, before the norm that
// follows; the network's final norm is therefore not part of it. Transitions floor odd sizes. Names
// as torchvision's. Method: Huang et al. 2016.
#include <map>
#include <string>

#include "core/model/backbone.h"

namespace mammo {
namespace {

const std::map<std::string, std::array<int, 4>> kLayers{
    {"densenet121", {6, 12, 24, 16}},
    {"densenet169", {6, 12, 32, 32}},
    {"densenet201", {6, 12, 48, 32}},
};
constexpr int kGrowth = 32, kBottleneck = 4 * kGrowth;

}  // namespace

void build_densenet(BackboneBuilder& b) {
  const auto& layers = kLayers.at(b.config.backbone);
  const std::string root = "backbone.features.";
  int at = b.conv(root + "conv0", -1, 64, 7, {.stride = 2});
  at = b.apply(Op::kRelu, b.norm(root + "norm0", at));
  at = b.pool(Op::kMaxPool, root + "pool0", at, {3, 2, border(b.config.padding)});
  b.cut();
  for (int s = 0; s < 4; ++s) {
    b.stage(s + 2);
    if (s > 0) {
      const std::string name = root + "transition" + std::to_string(s) + ".";
      const int half = b.channels(at) / 2;
      at = b.apply(Op::kRelu, b.norm(name + "norm", at));
      at = b.conv(name + "conv", at, half, 1);
      at = b.pool(Op::kAvgPool, name + "pool", at, {2, 2, Border::kValid});
      b.cut();
    }
    for (int i = 1; i <= layers[s]; ++i) {
      const std::string name =
          root + "denseblock" + std::to_string(s + 1) + ".denselayer" + std::to_string(i) + ".";
      int y = b.apply(Op::kRelu, b.norm(name + "norm1", at));
      y = b.conv(name + "conv1", y, kBottleneck, 1);
      y = b.apply(Op::kRelu, b.norm(name + "norm2", y));
      y = b.conv(name + "conv2", y, kGrowth, 3);
      at = b.concat(name + "concat", at, y);
      b.cut();
    }
    b.tap(s + 2, at);
  }
}

}  // namespace mammo
