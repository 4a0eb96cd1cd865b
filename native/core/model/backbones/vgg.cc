// VGG-16/19, with and without batch norm: taps after pools 2 to 5, which floor odd sizes. Names as
// torchvision's `features`. Method: Simonyan & Zisserman 2014.
#include <string>
#include <vector>

#include "core/model/backbone.h"

namespace mammo {

void build_vgg(BackboneBuilder& b) {
  const bool deep = b.config.backbone.starts_with("vgg19");
  const bool norms = b.config.backbone.ends_with("_bn");
  const int repeats[] = {2, 2, deep ? 4 : 3, deep ? 4 : 3, deep ? 4 : 3};
  const int widths[] = {64, 128, 256, 512, 512};
  int at = -1, index = 0;
  const auto name = [&] { return "backbone.features." + std::to_string(index++); };
  for (int s = 0; s < 5; ++s) {
    b.stage(s + 1);
    for (int i = 0; i < repeats[s]; ++i) {
      at = b.conv(name(), at, widths[s], 3, {.bias = true});
      if (norms) at = b.norm(name(), at);
      at = b.apply(Op::kRelu, at);
      ++index;  // the activation has a number too
      if (i + 1 < repeats[s]) b.cut();
    }
    at = b.pool(Op::kMaxPool, name(), at, {2, 2, Border::kValid});
    b.cut();
    if (s > 0) b.tap(s + 1, at);
  }
}

}  // namespace mammo
