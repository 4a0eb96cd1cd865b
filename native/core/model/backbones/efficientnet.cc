// EfficientNet-B0..B7: taps are the activations of the expansions of blocks 3a, 4a and 6a and the
// top activation, as in keras-retinanet. Stochastic depth and dropout are left out. Names as
// torchvision's. Method: Tan & Le 2019.
#include <algorithm>
#include <cmath>
#include <string>

#include "core/model/backbone.h"

namespace mammo {
namespace {

struct Scale {
  double width, depth, momentum;
};
// The momentum is torchvision's: TensorFlow's 0.99 for the large ones.
constexpr Scale kScales[] = {{1.0, 1.0, 0.1}, {1.0, 1.1, 0.1},  {1.1, 1.2, 0.1},  {1.2, 1.4, 0.1},
                             {1.4, 1.8, 0.1}, {1.6, 2.2, 0.01}, {1.8, 2.6, 0.01}, {2.0, 3.1, 0.01}};

// To the nearest multiple of 8, not below 90 %.
int widen(int channels, double width) {
  const double value = channels * width;
  int rounded = std::max(8, static_cast<int>(value + 4) / 8 * 8);
  if (rounded < 0.9 * value) rounded += 8;
  return rounded;
}

}  // namespace

void build_efficientnet(BackboneBuilder& b) {
  struct Row {
    int expansion, kernel, stride, out, repeats;
  };
  const Row rows[] = {{1, 3, 1, 16, 1},  {6, 3, 2, 24, 2},  {6, 5, 2, 40, 2}, {6, 3, 2, 80, 3},
                      {6, 5, 1, 112, 3}, {6, 5, 2, 192, 4}, {6, 3, 1, 320, 1}};
  const Scale scale = kScales[b.config.backbone.back() - '0'];
  const std::string root = "backbone.features.";
  const auto layer = [&](const std::string& n, int from, int out, int kernel, int stride,
                         int groups) {
    return b.norm(n + ".1",
                  b.conv(n + ".0", from, out, kernel, {.stride = stride, .groups = groups}),
                  scale.momentum);
  };
  int at = b.apply(Op::kSilu, layer(root + "0", -1, widen(32, scale.width), 3, 2, 1));
  b.cut();
  int stage = 1;
  for (int s = 0; s < 7; ++s) {
    const Row& row = rows[s];
    const int out = widen(row.out, scale.width);
    const int repeats = static_cast<int>(std::ceil(row.repeats * scale.depth));
    for (int i = 0; i < repeats; ++i) {
      const int stride = i == 0 ? row.stride : 1;
      const int in = b.channels(at), hidden = in * row.expansion;
      const std::string name = root + std::to_string(s + 1) + "." + std::to_string(i) + ".";
      int y = at, part = 0;
      const auto next = [&] { return name + "block." + std::to_string(part++); };
      if (row.expansion > 1) {
        y = b.apply(Op::kSilu, layer(next(), y, hidden, 1, 1, 1));
        // The expansion of a strided block has no shortcut around it: the last map of its size.
        if (stride == 2 && s > 1) {
          b.cut();
          b.tap(stage, y);
        }
      }
      if (stride == 2) b.stage(++stage);
      y = b.apply(Op::kSilu, layer(next(), y, hidden, row.kernel, stride, hidden));
      y = b.squeeze_excite(next(), y, std::max(1, in / 4), Op::kSilu, Op::kSigmoid);
      y = layer(next(), y, out, 1, 1, 1);
      at = stride == 1 && in == out ? b.add(name + "add", y, at) : y;
      b.cut();
    }
  }
  at = b.apply(Op::kSilu, layer(root + "8", at, 4 * b.channels(at), 1, 1, 1));
  b.cut();
  b.tap(stage, at);
}

}  // namespace mammo
