// ResNet-18/34/50/101/152, ResNeXt-50/101, SE-ResNet-50/101/152, SE-ResNeXt-50/101: taps at the
// ends of the stages. Names as torchvision's, SE modules as timm's. Methods: He et al. 2015, Xie et
// al. 2016, Hu et al. 2017; strides as torchvision or keras-resnet (`stride_in_1x1`).
#include <map>
#include <string>

#include "core/model/backbone.h"

namespace mammo {
namespace {

struct Plan {
  bool bottleneck;
  std::array<int, 4> blocks;
  int groups = 1;
  int base_width = 64;  // width of a group of the 3x3, per 64 planes
  bool squeeze = false;
};

const std::map<std::string, Plan> kPlans{
    {"resnet18", {false, {2, 2, 2, 2}}},
    {"resnet34", {false, {3, 4, 6, 3}}},
    {"resnet50", {true, {3, 4, 6, 3}}},
    {"resnet101", {true, {3, 4, 23, 3}}},
    {"resnet152", {true, {3, 8, 36, 3}}},
    {"resnext50_32x4d", {true, {3, 4, 6, 3}, 32, 4}},
    {"resnext101_32x8d", {true, {3, 4, 23, 3}, 32, 8}},
    {"seresnet50", {true, {3, 4, 6, 3}, 1, 64, true}},
    {"seresnet101", {true, {3, 4, 23, 3}, 1, 64, true}},
    {"seresnet152", {true, {3, 8, 36, 3}, 1, 64, true}},
    {"seresnext50_32x4d", {true, {3, 4, 6, 3}, 32, 4, true}},
    {"seresnext101_32x4d", {true, {3, 4, 23, 3}, 32, 4, true}},
};

constexpr int kReduction = 16;  // of squeeze and excitation

int block(BackboneBuilder& b, const Plan& plan, const std::string& name, int from, int planes,
          int stride) {
  const int out = plan.bottleneck ? planes * 4 : planes;
  int at = from;
  const auto layer = [&](int i, int to, int kernel, int step, int groups) {
    const std::string n = std::to_string(i);
    at = b.conv(name + "conv" + n, at, to, kernel, {.stride = step, .groups = groups});
    at = b.norm(name + "bn" + n, at);
  };
  if (plan.bottleneck) {
    const int width = planes * plan.base_width / 64 * plan.groups;
    const bool first = b.config.stride_in_1x1;
    layer(1, width, 1, first ? stride : 1, 1);
    at = b.apply(Op::kRelu, at);
    layer(2, width, 3, first ? 1 : stride, plan.groups);
    at = b.apply(Op::kRelu, at);
    layer(3, out, 1, 1, 1);
  } else {
    layer(1, planes, 3, stride, 1);
    at = b.apply(Op::kRelu, at);
    layer(2, planes, 3, 1, 1);
  }
  if (plan.squeeze)
    at = b.squeeze_excite(name + "se", at, out / kReduction, Op::kRelu, Op::kSigmoid);
  int shortcut = from;
  if (stride != 1 || b.channels(from) != out) {
    shortcut = b.norm(name + "downsample.1",
                      b.conv(name + "downsample.0", from, out, 1, {.stride = stride}));
  }
  return b.apply(Op::kRelu, b.add(name + "add", at, shortcut));
}

}  // namespace

void build_resnet(BackboneBuilder& b) {
  const Plan& plan = kPlans.at(b.config.backbone);
  const std::string root = "backbone.";
  int at = b.conv(root + "conv1", -1, b.config.stem_width, 7, {.stride = 2});
  at = b.apply(Op::kRelu, b.norm(root + "bn1", at));
  at = b.pool(Op::kMaxPool, root + "maxpool", at, {3, 2, border(b.config.padding)});
  b.cut();
  for (int s = 0; s < 4; ++s) {
    b.stage(s + 2);
    for (int i = 0; i < plan.blocks[s]; ++i) {
      const std::string name = root + "layer" + std::to_string(s + 1) + "." + std::to_string(i);
      at = block(b, plan, name + ".", at, b.config.stem_width << s, s > 0 && i == 0 ? 2 : 1);
      b.cut();
    }
    b.tap(s + 2, at);
  }
}

}  // namespace mammo
