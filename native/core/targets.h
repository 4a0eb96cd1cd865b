// Ground truth of a batch laid over the anchors: who is positive for which box, who is ignored.
// Computed before the forward, because every normaliser needs the number of positives. Method:
// retinanet spec 3.2.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/config.h"
#include "core/ops/anchors.h"
#include "core/session.h"

namespace mammo {

/// One positive anchor, known on the host.
struct Positive {
  int64_t image;
  int64_t anchor;  // index within its level
  int64_t box;     // index in the batch's list of boxes
};

struct MatchedTargets {
  std::vector<at::Tensor> match;                 // per level int32 [n, anchors of the level]
  std::vector<std::vector<Positive>> positives;  // per level, by image, then anchor
  std::vector<int64_t> per_image;                // positives of each image
  at::Tensor boxes;                              // float32 [m,4] on the device
  at::Tensor labels;                             // int32 [m] on the device
  at::Tensor box_offsets;                        // int64 [n+1] on the CPU

  int64_t total() const;
};

using ImageSize = std::array<int64_t, 2>;  // real height, width

/// Error ARGUMENT for boxes without area or not finite, labels outside [0, classes) and offsets
/// that do not fit.
MatchedTargets match_targets(const AnchorGrid& grid, const TargetBatch& targets,
                             const std::vector<ImageSize>& sizes, const DetectorConfig& config,
                             at::Device device);

}  // namespace mammo
