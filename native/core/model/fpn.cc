// Feature pyramid.
#include "core/model/fpn.h"

#include <algorithm>
#include <string>

namespace mammo {

Fpn make_fpn(const ModelConfig& config, const std::array<int, 6>& channels, Builder& builder) {
  const int width = config.fpn_channels;
  const Init init = config.fpn_glorot ? Init::kGlorotUniform : Init::kKaimingUniform;
  Fpn fpn{config.levels, config.p6_from_c5, {}, {}, {}};
  const auto name = [](const char* part, int level) {
    return std::string("fpn.") + part + "." + std::to_string(level);
  };
  for (int level = config.levels.front(); level <= 5; ++level) {
    fpn.lateral[level] =
        builder.conv(name("lateral", level), 0, {channels[level], width, 1, 1, true}, init);
  }
  for (int level : config.levels) {
    if (level <= 5) {
      fpn.output[level] = builder.conv(name("output", level), 0, {width, width, 3, 1, true}, init);
    } else {
      const int in = level == 6 && config.p6_from_c5 ? channels[5] : width;
      fpn.extra[level] = builder.conv(name("extra", level), 0,
                                      {in, width, 3, 2, true, border(config.padding)}, init);
    }
  }
  return fpn;
}

bool reads_tap(const Fpn& fpn, int level) {
  return fpn.lateral.contains(level) || (level == 5 && fpn.p6_from_c5 && fpn.extra.contains(6));
}

std::vector<at::Tensor> fpn_forward(const Fpn& fpn, const Taps& taps) {
  std::map<int, at::Tensor> maps;
  at::Tensor merged;
  for (int level = 5; level >= fpn.levels.front(); --level) {
    const Conv& lateral = fpn.lateral.at(level);
    if (merged.defined()) {
      at::Tensor above = at::upsample_nearest2d(merged, {taps[level].size(2), taps[level].size(3)});
      merged = packs_convolutions(taps[level])
                   ? packed_convolve(lateral, nullptr, taps[level], /*relu=*/false, above)
                   : convolve(lateral, taps[level]).add_(above);
    } else {
      merged = convolve(lateral, taps[level]);
    }
    if (fpn.output.contains(level)) maps[level] = convolve(fpn.output.at(level), merged);
  }
  for (const auto& [level, conv] : fpn.extra) {
    if (level == 6)
      maps[6] = convolve(conv, fpn.p6_from_c5 ? taps[5] : maps.at(5));
    else
      maps[level] = convolve(conv, at::relu(maps.at(level - 1)));
  }
  std::vector<at::Tensor> list;
  for (int level : fpn.levels) list.push_back(maps.at(level));
  return list;
}

}  // namespace mammo
