// Every number of the network that is stored: a flat list of named tensors. The layers (layers.h)
// hold handles to the same tensors, so writing here changes the network. Names: retinanet spec
// section 8.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <unordered_map>
#include <vector>

namespace mammo {

enum class Role { kWeight, kBias, kNorm, kBuffer };

const char* role_name(Role role);

struct Parameter {
  std::string name;
  at::Tensor value;  // float32, contiguous
  Role role;
  int stage;    // 1 the stem, 2..5 the backbone's stages, 0 pyramid and heads
  bool frozen;  // never trained, whatever the trainable prefix: buffers, norms of policy `frozen`
  bool trainable;  // now
};

/// For those who write into a parameter by its address or change what it stands on: whoever keeps
/// something made from it asks its version counter.
inline void mark_changed(const at::Tensor& value) { value.unsafeGetTensorImpl()->bump_version(); }

class ParameterList {
 public:
  /// The name must be new.
  void add(Parameter parameter);
  /// nullptr when there is none of that name.
  const Parameter* find(const std::string& name) const;
  /// Makes stages 1..n of the backbone fixed and everything else that may be trained trainable.
  /// Drops gradients of what is fixed.
  void freeze_stages(int n);

  std::vector<Parameter>::const_iterator begin() const { return list_.begin(); }
  std::vector<Parameter>::const_iterator end() const { return list_.end(); }
  size_t size() const { return list_.size(); }

 private:
  std::vector<Parameter> list_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace mammo
