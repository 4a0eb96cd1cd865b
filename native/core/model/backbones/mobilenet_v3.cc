// MobileNetV3-Large: taps features.3, .6, .12 and .16. Names as torchvision's; its batch norms move
// by 0.01. Method: Howard et al. 2019.
#include <algorithm>
#include <string>

#include "core/model/backbone.h"

namespace mammo {
namespace {

constexpr double kMomentum = 0.01;

// To the nearest multiple of 8, not below 90 %.
int round_to_eight(int value) {
  const int rounded = std::max(8, (value + 4) / 8 * 8);
  return rounded * 10 < value * 9 ? rounded + 8 : rounded;
}

}  // namespace

void build_mobilenet_v3(BackboneBuilder& b) {
  struct Row {
    int kernel, hidden, out;
    bool squeeze, hard;
    int stride;
  };
  const Row rows[] = {
      {3, 16, 16, false, false, 1}, {3, 64, 24, false, false, 2}, {3, 72, 24, false, false, 1},
      {5, 72, 40, true, false, 2},  {5, 120, 40, true, false, 1}, {5, 120, 40, true, false, 1},
      {3, 240, 80, false, true, 2}, {3, 200, 80, false, true, 1}, {3, 184, 80, false, true, 1},
      {3, 184, 80, false, true, 1}, {3, 480, 112, true, true, 1}, {3, 672, 112, true, true, 1},
      {5, 672, 160, true, true, 2}, {5, 960, 160, true, true, 1}, {5, 960, 160, true, true, 1},
  };
  int index = 0;
  const auto name = [&] { return "backbone.features." + std::to_string(index) + "."; };
  const auto layer = [&](const std::string& n, int from, int out, int kernel, int stride,
                         int groups) {
    return b.norm(n + "1", b.conv(n + "0", from, out, kernel, {.stride = stride, .groups = groups}),
                  kMomentum);
  };
  int at = b.apply(Op::kHardswish, layer(name(), -1, 16, 3, 2, 1));
  b.cut();
  int stage = 1;
  for (const Row& row : rows) {
    ++index;
    if (row.stride == 2) b.stage(++stage);
    const Op activation = row.hard ? Op::kHardswish : Op::kRelu;
    const int in = b.channels(at);
    int y = at, part = 0;
    const auto next = [&] { return name() + "block." + std::to_string(part++); };
    if (row.hidden != in) y = b.apply(activation, layer(next() + ".", y, row.hidden, 1, 1, 1));
    y = b.apply(activation, layer(next() + ".", y, row.hidden, row.kernel, row.stride, row.hidden));
    if (row.squeeze) {
      y = b.squeeze_excite(next(), y, round_to_eight(row.hidden / 4), Op::kRelu, Op::kHardsigmoid);
    }
    y = layer(next() + ".", y, row.out, 1, 1, 1);
    at = row.stride == 1 && in == row.out ? b.add(name() + "add", y, at) : y;
    b.cut();
    if (index == 3 || index == 6 || index == 12) b.tap(stage, at);
  }
  ++index;
  at = b.apply(Op::kHardswish, layer(name(), at, 960, 1, 1, 1));
  b.cut();
  b.tap(stage, at);
}

}  // namespace mammo
