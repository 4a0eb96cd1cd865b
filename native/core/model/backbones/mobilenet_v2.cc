// MobileNetV2: taps features.3, .6, .13 and .18. Names as torchvision's. Method: Sandler et al.
// 2018.
#include <string>

#include "core/model/backbone.h"

namespace mammo {

void build_mobilenet_v2(BackboneBuilder& b) {
  struct Group {
    int expansion, out, repeats, stride;
  };
  const Group groups[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                          {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};
  int index = 0;
  const auto name = [&] { return "backbone.features." + std::to_string(index) + "."; };
  const auto layer = [&](const std::string& conv, const std::string& norm, int from, int out,
                         int kernel, int stride, int groups) {
    return b.norm(norm, b.conv(conv, from, out, kernel, {.stride = stride, .groups = groups}));
  };
  int at = b.apply(Op::kRelu6, layer(name() + "0", name() + "1", -1, 32, 3, 2, 1));
  b.cut();
  int stage = 1;
  for (const Group& group : groups) {
    for (int i = 0; i < group.repeats; ++i) {
      ++index;
      const int stride = i == 0 ? group.stride : 1;
      if (stride == 2) b.stage(++stage);
      const int in = b.channels(at), hidden = in * group.expansion;
      int y = at, part = 0;
      const auto inner = [&](int out, int kernel, int step, int channels) {
        const std::string n = name() + "conv." + std::to_string(part++) + ".";
        y = b.apply(Op::kRelu6, layer(n + "0", n + "1", y, out, kernel, step, channels));
      };
      if (group.expansion > 1) inner(hidden, 1, 1, 1);
      inner(hidden, 3, stride, hidden);
      const std::string n = name() + "conv.";
      y = layer(n + std::to_string(part), n + std::to_string(part + 1), y, group.out, 1, 1, 1);
      at = stride == 1 && in == group.out ? b.add(name() + "add", y, at) : y;
      b.cut();
      if (index == 3 || index == 6 || index == 13) b.tap(stage, at);
    }
  }
  ++index;
  at = b.apply(Op::kRelu6, layer(name() + "0", name() + "1", at, 1280, 1, 1, 1));
  b.cut();
  b.tap(stage, at);
}

}  // namespace mammo
