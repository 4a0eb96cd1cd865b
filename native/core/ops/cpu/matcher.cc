// Matching row by row of the feature maps. An anchor overlaps a box only in a rectangle of cells,
// so each row looks only at the boxes whose rectangle it crosses: every other anchor is background
// without an IoU. Pass one takes the maximum IoU of every box, pass two decides each anchor; both
// call the same function, so that the low-quality rule may compare bits. The best IoU and its box
// live in a buffer of one row. Method: retinanet spec 3.2.
#include "core/ops/cpu/matcher.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/ops/cpu/clones.h"
#include "core/ops/matcher.h"

namespace mammo::cpu {
namespace {

struct Box {
  float x1, y1, x2, y2, area;
};

// Cells [y0, y1) x [x0, x1) of one base anchor that may overlap one box.
struct Span {
  int32_t y0, y1, x0, x1;
};

// IoU of `box` with anchors [x0, x1) of one base anchor in the row at `dy`, torchvision's
// arithmetic in float32.
MAMMO_INLINE void row_iou_loop(const std::array<float, 4>& base, float dy, float stride,
                               const Box& box, int64_t x0, int64_t x1, float* out) {
  const float top = base[1] + dy, bottom = base[3] + dy;
  const float overlap = std::min(bottom, box.y2) - std::max(top, box.y1);
  const float high = overlap > 0 ? overlap : 0;
  const float height = bottom - top;
  for (int64_t j = x0; j < x1; ++j) {
    const float dx = static_cast<float>(static_cast<int32_t>(j)) * stride;
    const float left = base[0] + dx, right = base[2] + dx;
    const float width = std::min(right, box.x2) - std::max(left, box.x1);
    const float inter = (width > 0 ? width : 0) * high;
    const float joint = box.area + (right - left) * height - inter;
    const float iou = inter / joint;
    out[j - x0] = joint > 0 ? iou : 0;
  }
}
constexpr Clones<row_iou_loop> row_iou;

// IoUs are not negative, so their bits order as integers do, which makes the maximum a vector
// operation.
MAMMO_INLINE float maximum_loop(const float* values, int64_t count) {
  int32_t best = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t bits = std::bit_cast<int32_t>(values[i]);
    best = bits > best ? bits : best;
  }
  return std::bit_cast<float>(best);
}
constexpr Clones<maximum_loop> maximum;

MAMMO_INLINE void keep_best_loop(const float* iou, int32_t index, int64_t count, float* best,
                                 int32_t* box) {
  for (int64_t i = 0; i < count; ++i) {
    const bool better = iou[i] > best[i];  // strictly: the lower index wins a tie
    best[i] = better ? iou[i] : best[i];
    box[i] = better ? index : box[i];
  }
}
constexpr Clones<keep_best_loop> keep_best;

MAMMO_INLINE void mark_equal_loop(const float* iou, float value, int64_t count, int32_t* marks) {
  for (int64_t i = 0; i < count; ++i) marks[i] |= iou[i] == value ? 1 : 0;
}
constexpr Clones<mark_equal_loop> mark_equal;

MAMMO_INLINE void decide_loop(const float* best, const int32_t* box, const int32_t* low,
                              int64_t count, float positive, float negative, int32_t at_negative,
                              int32_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    const float v = best[i];
    const int32_t other = v < negative ? kBackground : v == negative ? at_negative : kIgnored;
    out[i] = (v >= positive) | (low[i] != 0) ? box[i] : other;
  }
}
constexpr Clones<decide_loop> decide;

// A cell range that surely holds every overlap: rounding may widen it by one cell, never narrow it.
std::pair<int32_t, int32_t> cells(float low, float high, float base_low, float base_high,
                                  float stride, int64_t count) {
  const double first = std::floor((static_cast<double>(low) - base_high) / stride) - 1;
  const double last = std::ceil((static_cast<double>(high) - base_low) / stride) + 2;
  const double end = static_cast<double>(count);
  return {static_cast<int32_t>(std::clamp(first, 0.0, end)),
          static_cast<int32_t>(std::clamp(last, 0.0, end))};
}

struct Overlaps {
  std::vector<Box> boxes;
  std::vector<std::vector<Span>> spans;  // [level][box * per_cell + a]
  std::vector<std::vector<Span>> hulls;  // [level][box]: rows and columns over all base anchors
};

std::vector<Box> read_boxes(const float* rows, int64_t count) {
  std::vector<Box> boxes(count);
  for (int64_t i = 0; i < count; ++i) {
    const float* r = rows + 4 * i;
    boxes[i] = {r[0], r[1], r[2], r[3], (r[2] - r[0]) * (r[3] - r[1])};
  }
  return boxes;
}

Overlaps find_overlaps(const AnchorGrid& grid, const float* rows, int64_t count) {
  Overlaps o{read_boxes(rows, count), {}, {}};
  for (size_t l = 0; l < grid.levels.size(); ++l) {
    const AnchorLevel& level = grid.levels[l];
    auto& spans = o.spans.emplace_back();
    auto& hulls = o.hulls.emplace_back();
    for (const Box& box : o.boxes) {
      Span hull{INT32_MAX, 0, INT32_MAX, 0};
      for (int a = 0; a < grid.per_cell; ++a) {
        const auto& base = grid.base[l][a];
        const auto [x0, x1] = cells(box.x1, box.x2, base[0], base[2], level.stride_x, level.cols);
        const auto [y0, y1] = cells(box.y1, box.y2, base[1], base[3], level.stride_y, level.rows);
        spans.push_back({y0, y1, x0, x1});
        hull = {std::min(hull.y0, y0), std::max(hull.y1, y1), std::min(hull.x0, x0),
                std::max(hull.x1, x1)};
      }
      hulls.push_back(hull);
    }
  }
  return o;
}

// The best IoU of every box over all anchors.
std::vector<float> box_maxima(const AnchorGrid& grid, const Overlaps& overlaps) {
  const size_t count = overlaps.boxes.size();
  std::vector<std::atomic<int32_t>> best(count);  // bits; a maximum does not depend on the order
  for (size_t l = 0; l < grid.levels.size(); ++l) {
    const AnchorLevel& level = grid.levels[l];
    at::parallel_for(0, level.rows, 4, [&](int64_t begin, int64_t end) {
      std::vector<float> iou(level.cols);
      for (size_t b = 0; b < count; ++b) {
        const Span& hull = overlaps.hulls[l][b];
        float local = 0;
        for (int64_t i = std::max<int64_t>(begin, hull.y0); i < std::min<int64_t>(end, hull.y1);
             ++i) {
          const float dy = static_cast<float>(i) * level.stride_y;
          for (int a = 0; a < grid.per_cell; ++a) {
            const Span& s = overlaps.spans[l][b * grid.per_cell + a];
            if (i < s.y0 || i >= s.y1 || s.x0 >= s.x1) continue;
            row_iou(grid.base[l][a], dy, level.stride_x, overlaps.boxes[b], s.x0, s.x1, iou.data());
            local = std::max(local, maximum(iou.data(), s.x1 - s.x0));
          }
        }
        const int32_t bits = std::bit_cast<int32_t>(local);
        int32_t seen = best[b].load();
        while (bits > seen && !best[b].compare_exchange_weak(seen, bits)) {
        }
      }
    });
  }
  std::vector<float> maxima(count);
  for (size_t b = 0; b < count; ++b) maxima[b] = std::bit_cast<float>(best[b].load());
  return maxima;
}

struct Rules {
  float positive, negative;
  int32_t at_negative;
  std::vector<float> low_quality;  // per box: the IoU whose anchors it claims, NaN for none
  bool claim_all;                  // a box claims IoU 0: every anchor returns to its best box
};

Rules make_rules(const AnchorGrid& grid, const Overlaps& overlaps, const MatcherConfig& config) {
  Rules rules{config.positive_iou, config.negative_iou,
              config.negative_inclusive ? kBackground : kIgnored,
              std::vector<float>(overlaps.boxes.size(), NAN), false};
  if (!config.low_quality) return rules;
  rules.low_quality = box_maxima(grid, overlaps);
  for (float& value : rules.low_quality) {
    if (!(value >= config.low_quality_min_iou)) {
      value = NAN;
    } else if (value == 0) {
      rules.claim_all = true;
    }
  }
  return rules;
}

// One row of cells: all of its anchors.
struct RowBuffers {
  std::vector<float> iou, best;
  std::vector<int32_t> box, low, decided;
  explicit RowBuffers(int64_t count)
      : iou(count), best(count), box(count), low(count), decided(count) {}
};

void match_row(const AnchorGrid& grid, size_t l, int64_t i, const Overlaps& overlaps,
               const Rules& rules, const std::vector<int32_t>& active, int32_t untouched,
               RowBuffers& r, int32_t* out) {
  const AnchorLevel& level = grid.levels[l];
  const int64_t per_cell = grid.per_cell;
  int32_t x0 = INT32_MAX, x1 = 0;
  for (int32_t b : active) {
    x0 = std::min(x0, overlaps.hulls[l][b].x0);
    x1 = std::max(x1, overlaps.hulls[l][b].x1);
  }
  std::fill_n(out, level.cols * per_cell, untouched);
  if (x0 >= x1) return;
  const float dy = static_cast<float>(i) * level.stride_y;
  const int64_t width = x1 - x0;
  for (int64_t a = 0; a < per_cell; ++a) {
    std::fill_n(r.best.begin(), width, 0.0f);
    std::fill_n(r.box.begin(), width, 0);  // where all IoUs are 0 the first box is the best
    std::fill_n(r.low.begin(), width, rules.claim_all ? 1 : 0);
    for (int32_t b : active) {
      const Span& s = overlaps.spans[l][b * per_cell + a];
      if (i < s.y0 || i >= s.y1 || s.x0 >= s.x1) continue;
      const int64_t count = s.x1 - s.x0, at = s.x0 - x0;
      row_iou(grid.base[l][a], dy, level.stride_x, overlaps.boxes[b], s.x0, s.x1, r.iou.data());
      keep_best(r.iou.data(), b, count, r.best.data() + at, r.box.data() + at);
      const float claimed = rules.low_quality[b];
      if (claimed > 0) mark_equal(r.iou.data(), claimed, count, r.low.data() + at);
    }
    decide(r.best.data(), r.box.data(), r.low.data(), width, rules.positive, rules.negative,
           rules.at_negative, r.decided.data());
    int32_t* column = out + x0 * per_cell + a;
    for (int64_t j = 0; j < width; ++j) column[j * per_cell] = r.decided[j];
  }
}

void match_by_iou(const AnchorGrid& grid, const float* rows, int64_t count,
                  const MatcherConfig& config, int32_t* match) {
  const Overlaps overlaps = find_overlaps(grid, rows, count);
  const Rules rules = make_rules(grid, overlaps, config);
  int32_t untouched = 0;  // what an anchor without any overlap gets
  const float zero = 0;
  const int32_t first = 0, claimed = rules.claim_all ? 1 : 0;
  decide(&zero, &first, &claimed, 1, rules.positive, rules.negative, rules.at_negative, &untouched);
  for (size_t l = 0; l < grid.levels.size(); ++l) {
    const AnchorLevel& level = grid.levels[l];
    at::parallel_for(0, level.rows, 4, [&](int64_t begin, int64_t end) {
      RowBuffers buffers(level.cols);
      std::vector<int32_t> active;
      for (int64_t i = begin; i < end; ++i) {
        active.clear();
        for (int64_t b = 0; b < count; ++b) {
          const Span& hull = overlaps.hulls[l][b];
          if (i >= hull.y0 && i < hull.y1) active.push_back(static_cast<int32_t>(b));
        }
        match_row(grid, l, i, overlaps, rules, active, untouched, buffers,
                  match + level.first + i * level.cols * grid.per_cell);
      }
    });
  }
}

struct Candidate {
  int64_t anchor;
  float iou;
  bool inside;
};

// The topk * per_cell anchors of each level with the nearest centres: anchors of a cell share
// theirs, so these are topk cells, ties by index.
std::vector<Candidate> atss_candidates(const AnchorGrid& grid, const Box& box, int topk) {
  constexpr double kInside = 0.01;  // pixels
  const double x = (static_cast<double>(box.x1) + box.x2) / 2;
  const double y = (static_cast<double>(box.y1) + box.y2) / 2;
  std::vector<Candidate> found;
  for (size_t l = 0; l < grid.levels.size(); ++l) {
    const AnchorLevel& level = grid.levels[l];
    // The nearest topk cells lie within topk cells of the nearest one along either axis.
    const auto around = [&](double v, float stride, int64_t count) {
      const double cell = std::round(v / stride - static_cast<double>(grid.offset));
      const auto c = static_cast<int64_t>(std::clamp(cell, 0.0, static_cast<double>(count - 1)));
      return std::pair{std::max<int64_t>(0, c - topk), std::min<int64_t>(count, c + topk + 1)};
    };
    const auto [y0, y1] = around(y, level.stride_y, level.rows);
    const auto [x0, x1] = around(x, level.stride_x, level.cols);
    std::vector<std::pair<double, int64_t>> near;  // squared distance, cell
    for (int64_t i = y0; i < y1; ++i) {
      for (int64_t j = x0; j < x1; ++j) {
        const double dx = (static_cast<double>(j) + grid.offset) * level.stride_x - x;
        const double dy = (static_cast<double>(i) + grid.offset) * level.stride_y - y;
        near.emplace_back(dx * dx + dy * dy, i * level.cols + j);
      }
    }
    const size_t keep = std::min<size_t>(near.size(), topk);
    std::partial_sort(near.begin(), near.begin() + keep, near.end());
    for (size_t n = 0; n < keep; ++n) {
      const int64_t i = near[n].second / level.cols, j = near[n].second % level.cols;
      const double cx = (static_cast<double>(j) + grid.offset) * level.stride_x;
      const double cy = (static_cast<double>(i) + grid.offset) * level.stride_y;
      const bool inside = std::min({cx - box.x1, cy - box.y1, box.x2 - cx, box.y2 - cy}) > kInside;
      for (int a = 0; a < grid.per_cell; ++a) {
        float iou;
        row_iou(grid.base[l][a], static_cast<float>(i) * level.stride_y, level.stride_x, box, j,
                j + 1, &iou);
        found.push_back({level.first + near[n].second * grid.per_cell + a, iou, inside});
      }
    }
  }
  return found;
}

void match_by_atss(const AnchorGrid& grid, const float* rows, int64_t count,
                   const MatcherConfig& config, int32_t* match) {
  std::fill_n(match, grid.total, kBackground);
  std::vector<float> best(count > 0 ? grid.total : 0, -1.0f);
  const std::vector<Box> boxes = read_boxes(rows, count);
  const auto claim = [&](const Candidate& c, int64_t b) {
    if (c.iou <= best[c.anchor]) return;  // the lower index wins a tie
    best[c.anchor] = c.iou;
    match[c.anchor] = static_cast<int32_t>(b);
  };
  for (int64_t b = 0; b < count; ++b) {
    const std::vector<Candidate> candidates = atss_candidates(grid, boxes[b], config.atss_topk);
    double mean = 0, squares = 0;
    const double n = static_cast<double>(candidates.size());
    for (const Candidate& c : candidates) mean += c.iou / n;
    for (const Candidate& c : candidates) squares += (c.iou - mean) * (c.iou - mean);
    // A single candidate has no deviation; it is positive.
    const double threshold = candidates.size() < 2 ? 0 : mean + std::sqrt(squares / (n - 1));
    bool any = false;
    const Candidate* nearest = nullptr;
    for (const Candidate& c : candidates) {
      if (nearest == nullptr || c.iou > nearest->iou) nearest = &c;
      if (c.iou < threshold || (config.atss_centre_in_box && !c.inside)) continue;
      any = true;
      claim(c, b);
    }
    if (!any && nearest != nullptr) claim(*nearest, b);
  }
}

// What overrides background (and, for kIgnoreAll, everything): centres in the padding and in ignore
// regions.
void apply_ignore_rules(const AnchorGrid& grid, const float* ignore, int64_t ignored,
                        const std::array<int64_t, 2>& size, OutsideRule outside, int32_t* match) {
  for (const AnchorLevel& level : grid.levels) {
    const auto centre = [&](int64_t cell, float stride) {
      return (static_cast<float>(cell) + grid.offset) * stride;
    };
    // The first row and column whose centre is at or beyond the real image.
    const auto border = [&](int64_t count, float stride, int64_t limit) {
      int64_t cell = 0;
      while (cell < count && centre(cell, stride) < static_cast<float>(limit)) ++cell;
      return cell;
    };
    const auto cover = [&](int64_t i, int64_t x0, int64_t x1, bool all) {
      int32_t* row = match + level.first + i * level.cols * grid.per_cell;
      for (int64_t k = x0 * grid.per_cell; k < x1 * grid.per_cell; ++k) {
        if (all || row[k] == kBackground) row[k] = kIgnored;
      }
    };
    if (outside != OutsideRule::kBackground) {
      const bool all = outside == OutsideRule::kIgnoreAll;
      const int64_t last_row = border(level.rows, level.stride_y, size[0]);
      const int64_t last_col = border(level.cols, level.stride_x, size[1]);
      for (int64_t i = 0; i < level.rows; ++i) {
        cover(i, i < last_row ? last_col : 0, level.cols, all);
      }
    }
    for (int64_t r = 0; r < ignored; ++r) {
      const float* region = ignore + 4 * r;
      int64_t x0 = 0, x1 = level.cols;
      while (x0 < x1 && centre(x0, level.stride_x) < region[0]) ++x0;
      while (x1 > x0 && !(centre(x1 - 1, level.stride_x) < region[2])) --x1;
      for (int64_t i = 0; i < level.rows; ++i) {
        const float y = centre(i, level.stride_y);
        if (y >= region[1] && y < region[3]) cover(i, x0, x1, false);
      }
    }
  }
}

}  // namespace

void match_anchors(const AnchorGrid& grid, const float* boxes, int64_t count, const float* ignore,
                   int64_t ignored, const std::array<int64_t, 2>& size, const MatcherConfig& config,
                   int32_t* match) {
  if (count == 0) {
    std::fill_n(match, grid.total, kBackground);
  } else if (config.kind == MatcherKind::kIou) {
    match_by_iou(grid, boxes, count, config, match);
  } else {
    match_by_atss(grid, boxes, count, config, match);
  }
  apply_ignore_rules(grid, ignore, ignored, size, config.outside, match);
}

}  // namespace mammo::cpu
