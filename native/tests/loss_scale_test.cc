// The rule of the loss scale: halved at an overflow, doubled after 2000 updates without one, never
// below 1.
#include "core/loss_scale.h"

#include "check.h"

using namespace mammo;

namespace {

void grows() {
  LossScale scale = first_loss_scale();
  EXPECT_EQUAL(scale.factor, 65536);
  for (int i = 0; i < 1999; ++i) scale_after_update(scale);
  EXPECT_EQUAL(scale.factor, 65536);
  EXPECT_EQUAL(scale.clean, 1999);
  scale_after_update(scale);
  EXPECT_EQUAL(scale.factor, 131072);
  EXPECT_EQUAL(scale.clean, 0);
}

void an_overflow_starts_the_count_anew() {
  LossScale scale = first_loss_scale();
  for (int i = 0; i < 1500; ++i) scale_after_update(scale);
  EXPECT(scale_after_overflow(scale));
  EXPECT_EQUAL(scale.factor, 32768);
  for (int i = 0; i < 1999; ++i) scale_after_update(scale);
  EXPECT_EQUAL(scale.factor, 32768);
  scale_after_update(scale);
  EXPECT_EQUAL(scale.factor, 65536);
}

void ends_at_one() {
  LossScale scale = first_loss_scale();
  int halvings = 0;
  while (scale_after_overflow(scale)) ++halvings;
  EXPECT_EQUAL(halvings, 16);
  EXPECT_EQUAL(scale.factor, 1);
  scale_after_update(scale);
  EXPECT(!scale_after_overflow(scale));
  EXPECT_EQUAL(scale.clean, 1);
}

}  // namespace

int main() {
  check::run("grows", grows);
  check::run("an overflow starts the count anew", an_overflow_starts_the_count_anew);
  check::run("ends at one", ends_at_one);
  return check::failures;
}
