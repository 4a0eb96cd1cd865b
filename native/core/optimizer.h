// SGD, Adam and AdamW over the list of parameters, with clipping. On the CPU one fused pass over
// all parameters; elsewhere plain tensor operations with the same result up to rounding. Semantics:
// PyTorch's optimisers; Keras' epsilon by option.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/model/parameters.h"

namespace mammo {

/// Applied in this order; each sees what the one before left.
struct ClipOptions {
  std::optional<double> value;            // clamp every element to +-value
  std::optional<double> norm_per_tensor;  // scale a tensor's gradient to at most this norm (Keras)
  std::optional<double> norm;  // scale all gradients together (PyTorch's clip_grad_norm_)
};

/// Measured gradients of the trainable parameters, in the order of the list.
struct GradientScale {
  double norm;                  // global, before any clipping
  std::vector<double> factors;  // what each parameter's gradient is to be multiplied by
};

struct Moments {
  at::Tensor first, second;  // like the parameter; second undefined for sgd
  int64_t step = 0;          // updates so far
};

class Optimizer {
 public:
  explicit Optimizer(const OptimizerConfig& config) : config_(config) {}

  /// Reads the gradients (undefined ones become zeros), clamps them when asked, and decides the
  /// factors. `loss_scale` is what the loss was multiplied by: norms and limits are those of the
  /// gradients divided by it. The one wait for the device of a step.
  GradientScale measure(const ParameterList& parameters, const ClipOptions& clip,
                        double loss_scale = 1) const;
  /// Updates every trainable parameter and its moments.
  void step(const ParameterList& parameters, const GradientScale& scale, double lr,
            double weight_decay);

  /// By parameter name; parameters that were never updated are absent.
  const std::map<std::string, Moments>& state() const { return state_; }
  void set_state(std::map<std::string, Moments> state) { state_ = std::move(state); }

 private:
  Moments& moments(const Parameter& parameter);

  OptimizerConfig config_;
  std::map<std::string, Moments> state_;
};

}  // namespace mammo
