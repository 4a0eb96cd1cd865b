// Averages of weights.
#include "core/averages.h"

namespace mammo {

void update_averages(Averages& averages, const ParameterList& parameters, double decay) {
  at::NoGradGuard no_grad;
  for (const Parameter& p : parameters) {
    at::Tensor& average = averages[p.name];
    if (average.defined())
      average.lerp_(p.value.detach(), 1 - decay);
    else
      average = p.value.detach().clone();
  }
}

AveragesInUse::AveragesInUse(const Averages& averages, const ParameterList& parameters) {
  if (averages.empty()) return;
  at::NoGradGuard no_grad;
  for (const Parameter& p : parameters) {
    at::Tensor value = p.value;  // a second handle to the same tensor
    trained_.emplace_back(value, value.detach());
    value.set_data(averages.at(p.name));
    mark_changed(value);
  }
}

AveragesInUse::~AveragesInUse() {
  at::NoGradGuard no_grad;
  for (auto& [value, own] : trained_) {
    value.set_data(own);
    mark_changed(value);
  }
}

}  // namespace mammo
