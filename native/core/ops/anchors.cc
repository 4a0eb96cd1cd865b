// Base anchors, strides and the cached table of a canvas. The arithmetic follows the references:
// torchvision's generator works in float32 throughout, keras-retinanet takes ratios, scales and
// size * scale in float32 and the rest in double.
#include "core/ops/anchors.h"

#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <cmath>
#include <list>
#include <mutex>
#include <string>

#include "core/error.h"
#include "core/ops/cpu/anchors.h"

namespace mammo {
namespace {

// Half width and half height of one base anchor.
std::array<double, 2> half_sides(const AnchorConfig& config, double size, double scale,
                                 double ratio) {
  const float r = static_cast<float>(ratio);
  const float product = static_cast<float>(size) * static_cast<float>(scale);
  if (config.shape_by_area) {
    const double side = config.truncate_sizes ? std::trunc(size * scale) : product;
    const double width = std::sqrt(side * side / static_cast<double>(r));
    return {width / 2, width * static_cast<double>(r) / 2};
  }
  const float side = config.truncate_sizes ? static_cast<float>(std::trunc(size * scale)) : product;
  const float root = std::sqrt(r);
  const float inverse = 1.0f / root;
  return {inverse * side / 2, root * side / 2};
}

struct Key {
  AnchorConfig config;
  std::vector<GridSize> grids;
  std::array<int64_t, 2> canvas;
  at::Device device;
};

bool same(const Key& a, const Key& b) {
  const AnchorConfig &x = a.config, &y = b.config;
  return a.device == b.device && a.canvas == b.canvas && a.grids == b.grids && x.sizes == y.sizes &&
         x.strides == y.strides && x.scales == y.scales && x.ratios == y.ratios &&
         x.shape_by_area == y.shape_by_area && x.truncate_sizes == y.truncate_sizes &&
         x.round_corners == y.round_corners && x.offset == y.offset &&
         x.floor_division_strides == y.floor_division_strides;
}

}  // namespace

AnchorGrid make_anchor_grid(const AnchorConfig& config, const std::vector<GridSize>& grids,
                            const std::array<int64_t, 2>& canvas) {
  const size_t levels = grids.size();
  if (config.sizes.size() != levels || config.strides.size() != levels) {
    throw Error("ARGUMENT", "anchors: expected one size and one stride per level, got " +
                                std::to_string(levels) + " levels, " +
                                std::to_string(config.sizes.size()) + " sizes, " +
                                std::to_string(config.strides.size()) + " strides");
  }
  AnchorGrid grid;
  const size_t per_cell = config.ratios.size() * config.scales.size();
  if (per_cell < 1 || per_cell > std::tuple_size_v<decltype(grid.base)::value_type>) {
    throw Error("ARGUMENT", "anchors: expected 1 to 32 ratio and scale combinations, got " +
                                std::to_string(per_cell));
  }
  grid.per_cell = static_cast<int>(per_cell);
  grid.offset = static_cast<float>(config.offset);
  grid.total = 0;
  for (size_t l = 0; l < levels; ++l) {
    const auto [rows, cols] = grids[l];
    if (rows < 1 || cols < 1) {
      throw Error("ARGUMENT", "anchors: level " + std::to_string(l) + " has an empty feature map");
    }
    AnchorLevel level{rows, cols, 0, 0, grid.total};
    if (config.floor_division_strides) {
      level.stride_y = static_cast<float>(canvas[0] / rows);
      level.stride_x = static_cast<float>(canvas[1] / cols);
    } else {
      level.stride_y = level.stride_x = static_cast<float>(config.strides[l]);
    }
    const double centre_x = config.offset * level.stride_x;
    const double centre_y = config.offset * level.stride_y;
    auto& base = grid.base.emplace_back();
    size_t a = 0;
    for (double ratio : config.ratios) {
      for (double scale : config.scales) {
        auto [x, y] = half_sides(config, config.sizes[l], scale, ratio);
        if (config.round_corners) {
          x = std::nearbyint(x);  // half to even: the default rounding mode
          y = std::nearbyint(y);
        }
        base[a++] = {static_cast<float>(centre_x - x), static_cast<float>(centre_y - y),
                     static_cast<float>(centre_x + x), static_cast<float>(centre_y + y)};
      }
    }
    grid.levels.push_back(level);
    grid.total += rows * cols * grid.per_cell;
  }
  return grid;
}

at::Tensor anchor_table(const AnchorConfig& config, const std::vector<GridSize>& grids,
                        const std::array<int64_t, 2>& canvas, at::Device device) {
  constexpr size_t kEntries = 4;  // a table of 2.5 million anchors is 41 MB
  static std::mutex mutex;
  static std::list<std::pair<Key, at::Tensor>> cache;  // the latest used first

  const Key key{config, grids, canvas, device};
  const std::lock_guard lock(mutex);
  const auto found = std::find_if(cache.begin(), cache.end(),
                                  [&](const auto& entry) { return same(entry.first, key); });
  if (found != cache.end()) {
    cache.splice(cache.begin(), cache, found);
    return found->second;
  }
  const AnchorGrid grid = make_anchor_grid(config, grids, canvas);
  // Not from the arena: its huge pages are new here, and under a hypervisor that takes idle ones
  // back (free page reporting) a new huge page costs up to forty times its zeroing. Freed small
  // pages are never taken back.
  auto* values = new float[grid.total * 4];
  at::Tensor table = at::from_blob(
      values, {grid.total, 4}, [](void* data) { delete[] static_cast<float*>(data); }, at::kFloat);
  cpu::fill_anchors(grid, values);
  table = table.to(device);
  cache.emplace_front(key, table);
  if (cache.size() > kEntries) cache.pop_back();
  return table;
}

}  // namespace mammo
