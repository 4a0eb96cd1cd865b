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

std::map<int, at::Tensor> fpn_merge(const Fpn& fpn, const Taps& taps) {
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
    if (fpn.output.contains(level)) maps[level] = merged;
  }
  return maps;
}

at::Tensor fpn_map(const Fpn& fpn, int level, std::map<int, at::Tensor>& merged, const Taps& taps,
                   const at::Tensor& below) {
  if (level <= 5) {
    const at::Tensor own = std::move(merged.at(level));
    merged.erase(level);
    return convolve(fpn.output.at(level), own);
  }
  const Conv& conv = fpn.extra.at(level);
  if (level == 6) return convolve(conv, fpn.p6_from_c5 ? taps[5] : below);
  return convolve(conv, at::relu(below));
}

FpnPass::FpnPass(const Fpn& fpn, const Taps& taps, bool by_level)
    : fpn_(fpn), taps_(taps), merged_(fpn_merge(fpn, taps)), leaves_(merged_) {
  if (!by_level) return;
  for (auto& [level, leaf] : leaves_) leaf = leaf.detach().requires_grad_(leaf.requires_grad());
}

at::Tensor FpnPass::map(size_t index) {
  level_ = fpn_.levels[index];
  std::map<int, at::Tensor> sources = leaves_;  // the leaves stay, for their gradients
  at::Tensor map = fpn_map(fpn_, level_, sources, taps_, below_);
  if (level_ >= 5) below_ = map;
  return map;
}

void FpnPass::backward(at::Tensor map, at::Tensor gradient) {
  Roots own;
  Roots& roots = level_ < 5 ? own : coarse_;
  roots.add(std::move(map), std::move(gradient));
  own.backward();
}

void FpnPass::finish() {
  below_.reset();
  coarse_.backward();
  Roots roots;
  for (auto& [level, merged] : merged_) {
    if (leaves_[level].grad().defined()) roots.add(std::move(merged), leaves_[level].grad());
  }
  leaves_.clear();
  roots.backward();
}

}  // namespace mammo
