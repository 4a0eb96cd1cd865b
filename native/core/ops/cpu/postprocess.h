// Choice of candidates of one image on the CPU.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ops/anchors.h"

namespace mammo::cpu {

struct Candidate {
  int64_t index;  // anchor * classes + class
  float logit, score;
};

/// logits [grid.total, classes]. Candidates with a score strictly above `threshold`; per level the
/// `topk` of the largest logits, ties by index (topk < 0: all). best_class: one candidate per
/// anchor, its largest class, ties to the first. Throws Error("NON_FINITE").
std::vector<Candidate> select_candidates(const float* logits, int64_t classes,
                                         const AnchorGrid& grid, float threshold, int64_t topk,
                                         bool best_class);

}  // namespace mammo::cpu
