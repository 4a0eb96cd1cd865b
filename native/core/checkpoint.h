// What a checkpoint holds and how it is checked: weights, moments and step counts of the optimiser,
// the normaliser's state, the random stream, the whole configuration and the caller's own metadata,
// in one .safetensors file. With a moving average of the weights the parameters' names hold the
// averages, which is what every reader of weights wants, and training's own weights stand apart. A
// checkpoint is read and judged completely before anything of the session changes.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <optional>
#include <string>

#include "core/averages.h"
#include "core/config.h"
#include "core/loss.h"
#include "core/loss_scale.h"
#include "core/model/parameters.h"
#include "core/optimizer.h"
#include "core/session.h"

namespace mammo {

/// Handles to everything that is saved; the tensors are shared with the session.
struct TrainingState {
  const DetectorConfig& detector;
  const OptimizerConfig& optimizer_config;
  const ParameterList& parameters;
  const std::map<std::string, Moments>& moments;
  NormaliserState normaliser;
  at::Tensor random;                                   // uint8, the generator's state
  const Averages* averages = nullptr;                  // none, or empty: not averaged
  std::optional<LossScale> loss_scale = std::nullopt;  // in fp16 only
};

void save_checkpoint(const std::string& path, const TrainingState& state,
                     const std::string& metadata);

/// A checkpoint of kind `all` that agrees with the session. The optional prefix settings come from
/// the file.
struct RestoredState {
  std::map<std::string, at::Tensor> values;  // by parameter name
  std::map<std::string, Moments> moments;
  Averages averages;  // empty: not averaged
  NormaliserState normaliser;
  std::optional<LossScale> loss_scale;
  at::Tensor random;
  int frozen_stages;
  Recompute checkpoint_activations;
  std::string metadata;
};

/// Everything, or Error CHECKPOINT: another format version, a parameter missing or of another
/// shape, a configuration that differs (the message names the keys; frozenStages and
/// checkpointActivations may differ and are restored), a scale of the loss on one side only.
RestoredState read_full_checkpoint(const std::string& path, const TrainingState& current);

/// Parameters of any .safetensors file that have the name and shape of ours; all others are
/// reported. Error CHECKPOINT when none fits.
struct RestoredWeights {
  std::map<std::string, at::Tensor> values;
  LoadReport report;
  std::string metadata;  // empty for a file that is no checkpoint of ours
};
RestoredWeights read_weights(const std::string& path, const ParameterList& parameters);

}  // namespace mammo
