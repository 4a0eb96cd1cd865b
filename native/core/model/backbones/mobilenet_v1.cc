// MobileNet v1 of widths 1, 0.75, 0.5, 0.25: taps after the ReLU6 of pointwise convolutions 3, 5,
// 11 and 13. Names and the padding of strided layers (one zero after, none before, so that odd
// sizes are floored) as keras-applications. Method: Howard et al. 2017.
#include <string>

#include "core/model/backbone.h"

namespace mammo {

void build_mobilenet_v1(BackboneBuilder& b) {
  const std::string& model = b.config.backbone;
  const int percent = std::stoi(model.substr(model.rfind('_') + 1));
  const int widths[] = {64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024};
  const double momentum = 0.01;  // keras-applications' 0.99
  const std::string root = "backbone.";
  const auto step = [&](const std::string& name, int from, int out, int kernel, int stride,
                        int groups) {
    const int at = b.conv(root + name, from, out, kernel,
                          {.stride = stride,
                           .groups = groups,
                           .border = stride == 2 ? Border::kEnd : Border::kSymmetric});
    return b.apply(Op::kRelu6, b.norm(root + name + "_bn", at, momentum));
  };
  int at = step("conv1", -1, 32 * percent / 100, 3, 2, 1);
  b.cut();
  int stage = 1;
  for (int i = 0; i < 13; ++i) {
    const std::string number = std::to_string(i + 1);
    const bool strided = i == 1 || i == 3 || i == 5 || i == 11;
    if (strided) b.stage(++stage);
    at = step("conv_dw_" + number, at, b.channels(at), 3, strided ? 2 : 1, b.channels(at));
    at = step("conv_pw_" + number, at, widths[i] * percent / 100, 1, 1, 1);
    b.cut();
    if (i == 2 || i == 4 || i == 10 || i == 12) b.tap(stage, at);
  }
}

}  // namespace mammo
