// The scale of the loss.
#include "core/loss_scale.h"

namespace mammo {
namespace {

constexpr double kFirst = 65536;
constexpr int64_t kPatience = 2000;

}  // namespace

LossScale first_loss_scale() { return {kFirst, 0}; }

void scale_after_update(LossScale& scale) {
  if (++scale.clean < kPatience) return;
  scale = {scale.factor * 2, 0};
}

bool scale_after_overflow(LossScale& scale) {
  if (scale.factor <= 1) return false;
  scale = {scale.factor / 2, 0};
  return true;
}

}  // namespace mammo
