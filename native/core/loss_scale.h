// The scale of the loss in fp16 training: gradients below 6e-8 vanish in half precision and above
// 65504 overflow, so the loss is multiplied before backward and the gradients are divided after it.
// State and rule only; who multiplies is the session. Rule and constants: PyTorch's GradScaler.
#pragma once

#include <cstdint>

namespace mammo {

struct LossScale {
  double factor;  // a power of two: multiplying and dividing round nothing
  int64_t clean;  // updates since the factor last changed
};

/// What a run begins with.
LossScale first_loss_scale();

/// After an update: doubled after every 2000 without overflow.
void scale_after_update(LossScale& scale);

/// After gradients that were not finite, whose update is left out: halved. False at 1, where the
/// scale is not to blame; nothing changes then.
bool scale_after_overflow(LossScale& scale);

}  // namespace mammo
