// The list of named tensors.
#include "core/model/parameters.h"

#include "core/error.h"

namespace mammo {

const char* role_name(Role role) {
  switch (role) {
    case Role::kWeight:
      return "weight";
    case Role::kBias:
      return "bias";
    case Role::kNorm:
      return "norm";
    case Role::kBuffer:
      return "buffer";
  }
  throw Error("INTERNAL", "role_name: unknown role");
}

void ParameterList::add(Parameter parameter) {
  if (!index_.emplace(parameter.name, list_.size()).second) {
    throw Error("INTERNAL", "two parameters are called " + parameter.name);
  }
  list_.push_back(std::move(parameter));
}

const Parameter* ParameterList::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &list_[found->second];
}

void ParameterList::freeze_stages(int n) {
  for (Parameter& p : list_) {
    p.trainable = !p.frozen && (p.stage == 0 || p.stage > n);
    p.value.requires_grad_(p.trainable);
    if (!p.trainable) p.value.mutable_grad().reset();
  }
}

}  // namespace mammo
