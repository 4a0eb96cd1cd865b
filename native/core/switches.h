// One switch per trick, so that the effect of each can be measured alone. All are on unless the
// environment says otherwise; results are the same to rounding either way. For measurements, not a
// part of the configuration: the tests of exactness and `bench ablation` turn them.
#pragma once

namespace mammo {

struct Switches {
  bool arena = true;         // large CPU tensors from the caching arena
  bool sparse_box = true;    // box tower on windows around positives only
  bool fold_norm = true;     // fixed batch norm folded into the convolution's weights
  bool level_wise = true;    // a level's heads run backward before the next level starts
  bool strips = true;        // classification tower of large maps on strips of rows
  bool fused_focal = true;   // loss and gradient in one pass
  bool packed_conv = true;   // convolution, addition and ReLU in one call where no gradient is kept
  bool winograd = true;      // 3x3 convolutions of stride 1 by minimal filtering
  bool compact_pool = true;  // the stem's ReLU and pool in one node that keeps a byte per pixel
};

/// For tests that compare a trick with the plain way in one process: what switches() says from now
/// on.
void set_switches(const Switches& switches);

/// Reads MAMMO_OFF (names of the switches above, comma separated) once. Error ARGUMENT for an
/// unknown name.
const Switches& switches();

}  // namespace mammo
