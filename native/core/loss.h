// The training loss and its three normalisers. Levels are independent sums, so each level's heads
// run, are scored and run backward before the next level starts: only one level's activations are
// ever alive. Method: retinanet spec 3.4.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "core/config.h"
#include "core/model/heads.h"
#include "core/ops/anchors.h"
#include "core/roots.h"
#include "core/targets.h"
#include "core/timer.h"

namespace mammo {

/// The running mean of positives per micro-batch that `ema` divides by. Part of a checkpoint.
struct NormaliserState {
  double mean;
};

/// What the sum of each image's loss is multiplied by. `update` moves the running mean (training),
/// once per micro-batch.
std::vector<double> image_weights(const std::vector<int64_t>& positives_per_image,
                                  const LossConfig& config, NormaliserState& state, bool update);

/// Sums per image before any normaliser, double [n], filled level by level.
struct LossSums {
  at::Tensor classification, box;
};

LossSums make_loss_sums(int64_t images, at::Device device);

/// What a level's loss needs besides its map.
struct LossContext {
  const Heads& heads;
  const AnchorGrid& grid;
  const MatchedTargets& targets;
  const DetectorConfig& config;
  at::Tensor weights;  // double [n] on the device: image weight times the loss scale
  /// Largest map, in bytes, whose classification tower is trained at once; larger ones go in
  /// strips.
  int64_t strip_bytes = int64_t{32} << 20;
};

/// Adds one level's loss to `sums`. With `train` it also runs backward: parameter gradients
/// accumulate, and the gradient of `map` [n, c, h, w] is returned. Without, the result is
/// undefined. The box tower runs only where positives are near, the classification tower on one
/// strip of rows after the other; both are exact while the towers have no norm. With `joint`
/// nothing runs backward yet: the roots are collected there, connected to `map`, and the result is
/// undefined.
at::Tensor add_level_loss(const LossContext& context, size_t level, const at::Tensor& map,
                          bool train, LossSums& sums, Timer& timer, Roots* joint = nullptr);

}  // namespace mammo
