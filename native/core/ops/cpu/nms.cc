// Greedy suppression that compares a box only with kept boxes nearby: kept boxes stand in every
// cell of a uniform grid that they touch. The result is the one of comparing all pairs, because
// boxes that share no cell do not overlap and an IoU of 0 is never above a threshold >= 0. IoU
// arithmetic and its order are torchvision's (float32, the comparison in double).
#include "core/ops/cpu/nms.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace mammo::cpu {
namespace {

struct Kept {
  float x1, y1, x2, y2, area;
  int64_t label;
};

// Bits that order floats descending; the index below them breaks ties. -0 equals 0, NaN comes
// first.
uint64_t descending_key(float score, int64_t index) {
  if (std::isnan(score)) return static_cast<uint64_t>(index);
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(~ascending) << 32 | static_cast<uint64_t>(index);
}

// Cells of the grid along one axis; out-of-range and NaN coordinates fall into the border cells.
struct Axis {
  float low, inverse;
  int64_t cells;
  int64_t operator()(float v) const {
    const float cell = (v - low) * inverse;
    return cell > 0 ? static_cast<int64_t>(std::min(cell, static_cast<float>(cells - 1))) : 0;
  }
};

// About the mean side of a box per cell, at most `limit` cells.
Axis make_axis(const float* boxes, int64_t count, int first, int64_t limit) {
  float low = INFINITY, high = -INFINITY;
  double sides = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float a = boxes[4 * i + first], b = boxes[4 * i + first + 2];
    if (!std::isfinite(a) || !std::isfinite(b)) continue;
    low = std::min(low, a);
    high = std::max(high, b);
    sides += std::max(b - a, 0.0f);
  }
  const double extent = static_cast<double>(high) - low;
  if (!(extent > 0)) return {0, 0, 1};
  const double mean = sides / static_cast<double>(count);
  const double wanted = mean > 0 ? extent / mean : static_cast<double>(limit);
  const int64_t cells = std::clamp<int64_t>(static_cast<int64_t>(std::min(wanted, 1e6)), 1, limit);
  return {low, static_cast<float>(static_cast<double>(cells) / extent), cells};
}

}  // namespace

std::vector<int64_t> nms(const float* boxes, const float* scores, const int64_t* labels,
                         int64_t count, double threshold, int64_t limit) {
  std::vector<uint64_t> order(count);
  for (int64_t i = 0; i < count; ++i) order[i] = descending_key(scores[i], i);
  std::sort(order.begin(), order.end());

  // Below 0 even boxes far apart suppress each other: one cell for all.
  const int64_t side =
      threshold >= 0 ? 1 + static_cast<int64_t>(std::sqrt(static_cast<double>(count))) : 1;
  const Axis column = make_axis(boxes, count, 0, side), row = make_axis(boxes, count, 1, side);
  std::vector<std::vector<Kept>> cells(column.cells * row.cells);

  const auto suppressed = [&](const Kept& box, int64_t r0, int64_t r1, int64_t c0, int64_t c1) {
    for (int64_t r = r0; r <= r1; ++r) {
      for (int64_t c = c0; c <= c1; ++c) {
        for (const Kept& other : cells[r * column.cells + c]) {
          if (other.label != box.label) continue;
          const float width = std::min(other.x2, box.x2) - std::max(other.x1, box.x1);
          const float height = std::min(other.y2, box.y2) - std::max(other.y1, box.y1);
          const float inter = std::max(0.0f, width) * std::max(0.0f, height);
          const float iou = inter / (other.area + box.area - inter);  // 0/0 suppresses nothing
          if (static_cast<double>(iou) > threshold) return true;
        }
      }
    }
    return false;
  };

  std::vector<int64_t> kept;
  for (uint64_t key : order) {
    if (static_cast<int64_t>(kept.size()) >= limit) break;
    const int64_t i = static_cast<int64_t>(key & 0xffffffffu);
    const float* b = boxes + 4 * i;
    const Kept box{b[0], b[1], b[2], b[3], (b[2] - b[0]) * (b[3] - b[1]), labels ? labels[i] : 0};
    const int64_t r0 = row(box.y1), r1 = row(box.y2), c0 = column(box.x1), c1 = column(box.x2);
    if (suppressed(box, r0, r1, c0, c1)) continue;
    kept.push_back(i);
    for (int64_t r = r0; r <= r1; ++r) {
      for (int64_t c = c0; c <= c1; ++c) cells[r * column.cells + c].push_back(box);
    }
  }
  return kept;
}

}  // namespace mammo::cpu
