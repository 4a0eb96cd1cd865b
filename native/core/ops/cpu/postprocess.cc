// Candidates: a vector loop over blocks of logits finds the few blocks that hold anything above the
// threshold.
#include "core/ops/cpu/postprocess.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "core/ops/cpu/clones.h"

namespace mammo::cpu {
namespace {

constexpr int64_t kBlock = 4096;

struct Seen {
  int32_t above, broken;
};

MAMMO_INLINE Seen scan_loop(const float* values, int64_t count, float cut) {
  int32_t above = 0, broken = 0;
  for (int64_t i = 0; i < count; ++i) {
    above |= values[i] > cut ? 1 : 0;
    broken |= (std::bit_cast<int32_t>(values[i]) & 0x7f800000) == 0x7f800000 ? 1 : 0;
  }
  return {above, broken};
}
constexpr Clones<scan_loop> scan;

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// A logit below which no score can be above the threshold; rounding is allowed for.
float logit_cut(float threshold) {
  if (!(threshold > 0)) return -INFINITY;
  if (!(threshold < 1)) return 0;
  const double t = threshold;
  const double cut = std::log(t / (1 - t));
  return static_cast<float>(cut - 1e-3 * (1 + std::abs(cut)));
}

bool better(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.index < b.index;
}

}  // namespace

std::vector<Candidate> select_candidates(const float* logits, int64_t classes,
                                         const AnchorGrid& grid, float threshold, int64_t topk,
                                         bool best_class) {
  const float cut = logit_cut(threshold);
  const int64_t step = std::max<int64_t>(1, kBlock / classes);  // anchors
  std::vector<Candidate> all;
  for (const AnchorLevel& level : grid.levels) {
    const int64_t end_of_level = level.first + level.rows * level.cols * grid.per_cell;
    const int64_t blocks = (end_of_level - level.first + step - 1) / step;
    std::vector<std::vector<Candidate>> found(blocks);
    std::atomic<bool> broken = false;
    at::parallel_for(0, blocks, 16, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = level.first + b * step, last = std::min(first + step, end_of_level);
        const Seen seen = scan(logits + first * classes, (last - first) * classes, cut);
        if (seen.broken) broken = true;
        if (!seen.above || seen.broken) continue;
        const auto consider = [&](int64_t index) {
          const float score = sigmoid(logits[index]);
          if (score > threshold) found[b].push_back({index, logits[index], score});
        };
        for (int64_t a = first; a < last; ++a) {
          const float* row = logits + a * classes;
          if (best_class) {
            consider(a * classes + (std::max_element(row, row + classes) - row));
          } else {
            for (int64_t k = 0; k < classes; ++k) {
              if (row[k] > cut) consider(a * classes + k);
            }
          }
        }
      }
    });
    if (broken) throw Error("NON_FINITE", "postprocess: logits are not finite");
    std::vector<Candidate> level_found;
    for (const auto& part : found) level_found.insert(level_found.end(), part.begin(), part.end());
    if (topk >= 0 && static_cast<int64_t>(level_found.size()) > topk) {
      std::nth_element(level_found.begin(), level_found.begin() + topk, level_found.end(), better);
      level_found.resize(topk);
    }
    all.insert(all.end(), level_found.begin(), level_found.end());
  }
  return all;
}

}  // namespace mammo::cpu
