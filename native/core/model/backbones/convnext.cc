// ConvNeXt-T: taps are the stages' outputs, each with a layer norm of its own (ours; the published
// network normalises only for its classifier). No stochastic depth. Names as torchvision's, whose
// linear layers are 1x1 convolutions here. Epsilon: the configuration's, 1e-6 in the registry.
// Method: Liu et al. 2022.
#include <string>

#include "core/model/backbone.h"

namespace mammo {

void build_convnext(BackboneBuilder& b) {
  const int depths[] = {3, 3, 9, 3};
  const std::string root = "backbone.features.";
  const auto conv = [&](const std::string& name, int from, int out, int kernel, int stride,
                        int groups) {
    return b.conv(name, from, out, kernel,
                  {.stride = stride,
                   .groups = groups,
                   .bias = true,
                   .init = Init::kNormal02,
                   .border = stride > 1 ? Border::kValid : Border::kSymmetric});
  };
  const auto reads = [&](int level) { return level >= b.config.levels.front(); };
  int at = b.layer_norm(root + "0.1", conv(root + "0.0", -1, 96, 4, 4, 1), b.config.norm_eps);
  b.cut();
  for (int s = 0; s < 4; ++s) {
    b.stage(s + 2);
    const int width = 96 << s;
    if (s > 0) {
      const std::string name = root + std::to_string(2 * s) + ".";
      at = conv(name + "1", b.layer_norm(name + "0", at, b.config.norm_eps), width, 2, 2, 1);
      b.cut();
    }
    for (int i = 0; i < depths[s]; ++i) {
      const std::string name = root + std::to_string(2 * s + 1) + "." + std::to_string(i) + ".";
      int y = conv(name + "block.0", at, width, 7, 1, width);
      y = b.layer_norm(name + "block.2", y, b.config.norm_eps);
      y = b.apply(Op::kGelu, conv(name + "block.3", y, 4 * width, 1, 1, 1));
      y = b.scale(name + "layer_scale", conv(name + "block.5", y, width, 1, 1, 1), 1e-6);
      at = b.add(name + "add", y, at);
      b.cut();
    }
    // Opens the next segment, which reads the same map.
    const int level = s + 2;
    if (level == 5 || reads(level))
      b.tap(level,
            b.layer_norm("backbone.tap_norm." + std::to_string(level), at, b.config.norm_eps));
  }
}

}  // namespace mammo
