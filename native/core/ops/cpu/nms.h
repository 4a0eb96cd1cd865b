// Greedy non-maximum suppression on the CPU.
#pragma once

#include <cstdint>
#include <vector>

namespace mammo::cpu {

/// boxes [count,4], scores [count], labels [count] or null (one class) -> the first `limit` kept
/// indices by descending score, equal scores by index.
std::vector<int64_t> nms(const float* boxes, const float* scores, const int64_t* labels,
                         int64_t count, double threshold, int64_t limit);

}  // namespace mammo::cpu
