// Feature pyramid: C2..C5 in, P2..P8 out. The merge path reaches down to the lowest level in use.
// Method: retinanet spec 1.3.
#pragma once

#include <array>
#include <map>
#include <vector>

#include "core/config.h"
#include "core/model/backbone.h"
#include "core/model/layers.h"
#include "core/roots.h"

namespace mammo {

struct Fpn {
  std::vector<int> levels;
  bool p6_from_c5;
  std::map<int, Conv> lateral, output, extra;  // by level
};

Fpn make_fpn(const ModelConfig& config, const std::array<int, 6>& channels, Builder& builder);

/// True where the pyramid reads C<level>.
bool reads_tap(const Fpn& fpn, int level);

/// The top-down path: C<level> merged with all above it, for levels up to 5.
std::map<int, at::Tensor> fpn_merge(const Fpn& fpn, const Taps& taps);

/// P<level>. Up to 5 it is made from `merged`, which gives its own map up; from 6 on from C5 or
/// from `below`, the map one level finer, which may be undefined otherwise.
at::Tensor fpn_map(const Fpn& fpn, int level, std::map<int, at::Tensor>& merged, const Taps& taps,
                   const at::Tensor& below);

/// The pyramid in training, level by level: a map and its gradient live only while its heads run,
/// since the convolution that made it runs backward at once.
class FpnPass {
 public:
  /// `taps` are leaves. Not `by_level`, the maps hang together in one graph down to the taps, for
  /// the caller to run backward.
  FpnPass(const Fpn& fpn, const Taps& taps, bool by_level);

  /// The map of the `index`-th level; in order, each once.
  at::Tensor map(size_t index);
  /// Takes the gradient of the newest map, and the map: its backward does not read it.
  void backward(at::Tensor map, at::Tensor gradient);
  /// Carries all gradients down into the parameters and the taps. After the last map.
  void finish();

 private:
  const Fpn& fpn_;
  const Taps& taps_;
  std::map<int, at::Tensor> merged_;  // with their graph
  std::map<int, at::Tensor> leaves_;  // the same, detached
  at::Tensor below_;                  // newest map from level 5 on: the next one starts there
  Roots coarse_;                      // maps from level 5 on: small, and made from each other
  int level_ = 0;                     // of the newest map
};

}  // namespace mammo
