// Memory of large CPU tensors. A full-size step allocates and frees maps of hundreds of MiB many
// times; asking the system each time means page faults for up to half of the step. Freed blocks are
// kept and handed out again, in huge pages where the system allows, and never so many that used and
// kept blocks together exceed the most that was ever in use.
#pragma once

#include <cstdint>

namespace mammo {

/// Makes LibTorch take CPU tensors of 1 MiB and more from the arena. For the whole process, once;
/// later calls do nothing.
void install_arena();

/// Gives all kept blocks back to the system.
void trim_arena();

struct ArenaUse {
  int64_t used_bytes, kept_bytes, peak_used_bytes;
};
ArenaUse arena_use();

}  // namespace mammo
