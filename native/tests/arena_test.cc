// The arena: blocks come back, nothing is kept beyond the watermark, foreign and small blocks are
// freed where they came from.
#include "core/arena.h"

#include <ATen/ATen.h>

#include "check.h"

using namespace mammo;

namespace {

constexpr int64_t kMiB = 1 << 20;

at::Tensor block(int64_t mib) { return at::empty({mib * kMiB}, at::kByte); }

void reuse() {
  trim_arena();
  void* first = nullptr;
  {
    const at::Tensor a = block(8);
    first = a.data_ptr();
    EXPECT_EQUAL(arena_use().used_bytes, 8 * kMiB);
    EXPECT_EQUAL(reinterpret_cast<uintptr_t>(first) % 4096, 0u);
  }
  EXPECT_EQUAL(arena_use().used_bytes, 0);
  EXPECT_EQUAL(arena_use().kept_bytes, 8 * kMiB);
  const at::Tensor again = block(8);
  EXPECT(again.data_ptr() == first);
  EXPECT_EQUAL(arena_use().kept_bytes, 0);
}

void watermark() {
  trim_arena();
  for (int64_t mib = 2; mib <= 64; mib += 6) block(mib).fill_(1);
  const ArenaUse use = arena_use();
  EXPECT(use.used_bytes + use.kept_bytes <= use.peak_used_bytes);
  trim_arena();
  EXPECT_EQUAL(arena_use().kept_bytes, 0);
}

void small_tensors_stay_outside() {
  const ArenaUse before = arena_use();
  const at::Tensor small = at::zeros({1000}), empty = at::empty({0});
  EXPECT_EQUAL(arena_use().used_bytes, before.used_bytes);
}

}  // namespace

int main() {
  const at::Tensor before = block(16);  // LibTorch's own; freed under the arena
  install_arena();
  install_arena();
  check::run("reuse", reuse);
  check::run("watermark", watermark);
  check::run("small tensors stay outside", small_tensors_stay_outside);
  return check::failures;
}
