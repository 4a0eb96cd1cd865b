// The moving average of the weights (Polyak; TensorFlow's ExponentialMovingAverage): a second set
// of parameters that evaluation and export use while training goes on with the first. How fast it
// moves is the caller's decision at every update.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

#include "core/model/parameters.h"

namespace mammo {

/// By parameter name, running statistics included; empty until the first update with averaging.
using Averages = std::map<std::string, at::Tensor>;

/// average += (1 - decay) * (value - average); the first call starts from the values. A value that
/// does not change leaves an equal average unchanged, bit for bit.
void update_averages(Averages& averages, const ParameterList& parameters, double decay);

/// While it lives the parameters hold their averages; nothing happens when there are none. No
/// numbers are copied.
class AveragesInUse {
 public:
  AveragesInUse(const Averages& averages, const ParameterList& parameters);
  ~AveragesInUse();
  AveragesInUse(const AveragesInUse&) = delete;
  AveragesInUse& operator=(const AveragesInUse&) = delete;

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> trained_;  // parameter, its own storage
};

}  // namespace mammo
