// Feature pyramid: C2..C5 in, P2..P8 out. The merge path reaches down to the lowest level in use.
// Method: retinanet spec 1.3.
#pragma once

#include <array>
#include <map>
#include <vector>

#include "core/config.h"
#include "core/model/backbone.h"
#include "core/model/layers.h"

namespace mammo {

struct Fpn {
  std::vector<int> levels;
  bool p6_from_c5;
  std::map<int, Conv> lateral, output, extra;  // by level
};

Fpn make_fpn(const ModelConfig& config, const std::array<int, 6>& channels, Builder& builder);

/// True where the pyramid reads C<level>.
bool reads_tap(const Fpn& fpn, int level);

/// One map per configured level, in order.
std::vector<at::Tensor> fpn_forward(const Fpn& fpn, const Taps& taps);

}  // namespace mammo
