// Matching on the device. By IoU: one kernel takes each box's maximum (a maximum of integers, so
// atomics cannot change it), one decides each anchor. ATSS: candidates by (box, level), claims by
// box, then anchors.
#include <cfloat>

#include "core/ops/cuda/matcher.h"

namespace mammo::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBoxesAtOnce = 256;
constexpr int kBackground = -1, kIgnored = -2;

struct Anchor {
  float x1, y1, x2, y2;
  float cx, cy;  // centre of the cell
};

__device__ Anchor anchor_at(const Grid& grid, int64_t index) {
  int l = grid.levels - 1;
  while (index < grid.level[l].first) --l;
  const GridLevel& level = grid.level[l];
  const int64_t cell = (index - level.first) / grid.per_cell;
  const float* base = grid.base[l][(index - level.first) % grid.per_cell];
  const float column = static_cast<float>(cell % level.cols);
  const float row = static_cast<float>(cell / level.cols);
  const float dx = column * level.stride_x, dy = row * level.stride_y;
  return {base[0] + dx,
          base[1] + dy,
          base[2] + dx,
          base[3] + dy,
          (column + grid.offset) * level.stride_x,
          (row + grid.offset) * level.stride_y};
}

__device__ float iou(const Anchor& a, const float4& b) {
  const float width = fminf(a.x2, b.z) - fmaxf(a.x1, b.x);
  const float height = fminf(a.y2, b.w) - fmaxf(a.y1, b.y);
  const float inter = (width > 0 ? width : 0) * (height > 0 ? height : 0);
  const float joint = (b.z - b.x) * (b.w - b.y) + (a.x2 - a.x1) * (a.y2 - a.y1) - inter;
  return joint > 0 ? inter / joint : 0;
}

__device__ int32_t after_ignore_rules(const Anchor& a, int32_t match, const MatchRules& rules,
                                      const float4* ignore, int64_t ignored) {
  const bool outside = a.cx >= rules.width || a.cy >= rules.height;
  if (rules.outside == 2 && outside) return kIgnored;
  if (match != kBackground) return match;
  if (rules.outside == 1 && outside) return kIgnored;
  for (int64_t r = 0; r < ignored; ++r) {
    const float4 g = ignore[r];
    if (a.cx >= g.x && a.cx < g.z && a.cy >= g.y && a.cy < g.w) return kIgnored;
  }
  return match;
}

__global__ void box_maxima(Grid grid, const float4* boxes, int64_t count, int32_t* best) {
  __shared__ float4 some[kBoxesAtOnce];
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const bool live = index < grid.total;
  const Anchor a = anchor_at(grid, live ? index : 0);
  for (int64_t first = 0; first < count; first += kBoxesAtOnce) {
    const int here = static_cast<int>(min(count - first, int64_t{kBoxesAtOnce}));
    __syncthreads();
    for (int i = threadIdx.x; i < here; i += kThreads) some[i] = boxes[first + i];
    __syncthreads();
    for (int i = 0; i < here; ++i) {
      int32_t bits = live ? __float_as_int(iou(a, some[i])) : 0;
      if (!__any_sync(0xffffffffu, bits > 0)) continue;
      for (int step = 16; step > 0; step /= 2) {
        bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, step));
      }
      if (threadIdx.x % 32 == 0) atomicMax(best + first + i, bits);
    }
  }
}

__global__ void decide(Grid grid, const float4* boxes, int64_t count, const float4* ignore,
                       int64_t ignored, MatchRules rules, const int32_t* maxima, int32_t* match) {
  __shared__ float4 some[kBoxesAtOnce];
  __shared__ float claims[kBoxesAtOnce];
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const bool live = index < grid.total;
  const Anchor a = anchor_at(grid, live ? index : 0);
  float best = -1;
  int32_t box = 0;
  bool low = false;
  for (int64_t first = 0; first < count; first += kBoxesAtOnce) {
    const int here = static_cast<int>(min(count - first, int64_t{kBoxesAtOnce}));
    __syncthreads();
    for (int i = threadIdx.x; i < here; i += kThreads) {
      some[i] = boxes[first + i];
      const float top = rules.low_quality ? __int_as_float(maxima[first + i]) : -1;
      claims[i] = rules.low_quality && top >= rules.low_quality_min ? top : -1;
    }
    __syncthreads();
    for (int i = 0; i < here; ++i) {
      const float v = iou(a, some[i]);
      if (v > best) {
        best = v;
        box = static_cast<int32_t>(first) + i;
      }
      low = low || v == claims[i];
    }
  }
  if (!live) return;
  int32_t result = kBackground;
  if (count > 0) {
    const bool below =
        best < rules.negative || (rules.negative_inclusive && best == rules.negative);
    result = best >= rules.positive || low ? box : below ? kBackground : kIgnored;
  }
  match[index] = after_ignore_rules(a, result, rules, ignore, ignored);
}

struct Candidate {
  int64_t anchor;
  float iou;
  bool inside;
};

__host__ __device__ inline int64_t candidates_per_box(const Grid& grid, const MatchRules& rules) {
  return int64_t{grid.levels} * rules.topk * grid.per_cell;
}

// One thread per (box, level): the topk nearest cells, all their anchors. Missing ones have anchor
// -1.
__global__ void find_candidates(Grid grid, const float4* boxes, int64_t count, MatchRules rules,
                                Candidate* out) {
  const int64_t thread = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (thread >= count * grid.levels) return;
  const int64_t b = thread / grid.levels;
  const int l = static_cast<int>(thread % grid.levels);
  const GridLevel& level = grid.level[l];
  const float4 box = boxes[b];
  const double x = (static_cast<double>(box.x) + box.z) / 2;
  const double y = (static_cast<double>(box.y) + box.w) / 2;
  const double offset = grid.offset;
  const double cell_x = min(max(round(x / level.stride_x - offset), 0.0), level.cols - 1.0);
  const double cell_y = min(max(round(y / level.stride_y - offset), 0.0), level.rows - 1.0);
  const int64_t x0 = max(int64_t{0}, static_cast<int64_t>(cell_x) - rules.topk);
  const int64_t x1 = min(level.cols, static_cast<int64_t>(cell_x) + rules.topk + 1);
  const int64_t y0 = max(int64_t{0}, static_cast<int64_t>(cell_y) - rules.topk);
  const int64_t y1 = min(level.rows, static_cast<int64_t>(cell_y) + rules.topk + 1);
  double distance[kMaxTopk];
  int64_t cell[kMaxTopk];
  int kept = 0;
  for (int64_t i = y0; i < y1; ++i) {
    for (int64_t j = x0; j < x1; ++j) {
      const double dx = (j + offset) * level.stride_x - x;
      const double dy = (i + offset) * level.stride_y - y;
      const double d = dx * dx + dy * dy;
      if (kept == rules.topk && d >= distance[kept - 1]) continue;
      int place = kept < rules.topk ? kept++ : kept - 1;
      for (; place > 0 && d < distance[place - 1]; --place) {
        distance[place] = distance[place - 1];
        cell[place] = cell[place - 1];
      }
      distance[place] = d;
      cell[place] = i * level.cols + j;
    }
  }
  out += b * candidates_per_box(grid, rules) + int64_t{l} * rules.topk * grid.per_cell;
  for (int n = 0; n < rules.topk; ++n) {
    for (int k = 0; k < grid.per_cell; ++k, ++out) {
      if (n >= kept) {
        *out = {-1, 0, false};
        continue;
      }
      const double cx = (cell[n] % level.cols + offset) * level.stride_x;
      const double cy = (cell[n] / level.cols + offset) * level.stride_y;
      const double margin = min(min(cx - box.x, cy - box.y), min(box.z - cx, box.w - cy));
      const int64_t anchor = level.first + cell[n] * grid.per_cell + k;
      *out = {anchor, iou(anchor_at(grid, anchor), box), margin > 0.01};
    }
  }
}

// The larger IoU wins, then the lower box; never 0.
__device__ unsigned long long claim_key(float value, int64_t box) {
  const unsigned long long bits = static_cast<unsigned>(__float_as_int(value));
  return bits << 32 | (0xffffffffull - static_cast<unsigned long long>(box));
}

__global__ void claim(Grid grid, int64_t count, MatchRules rules, const Candidate* candidates,
                      unsigned long long* claims) {
  const int64_t b = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (b >= count) return;
  const int64_t most = candidates_per_box(grid, rules);
  const Candidate* own = candidates + b * most;
  int64_t found = 0;
  for (int64_t i = 0; i < most; ++i) found += own[i].anchor >= 0;
  const double n = static_cast<double>(found);
  double mean = 0, squares = 0;
  for (int64_t i = 0; i < most; ++i) {
    if (own[i].anchor >= 0) mean += own[i].iou / n;
  }
  for (int64_t i = 0; i < most; ++i) {
    if (own[i].anchor >= 0) squares += (own[i].iou - mean) * (own[i].iou - mean);
  }
  const double threshold = found < 2 ? 0 : mean + sqrt(squares / (n - 1));
  bool any = false;
  int64_t best = -1;
  for (int64_t i = 0; i < most; ++i) {
    if (own[i].anchor < 0) continue;
    if (best < 0 || own[i].iou > own[best].iou) best = i;
    if (own[i].iou < threshold || (rules.centre_in_box && !own[i].inside)) continue;
    any = true;
    atomicMax(claims + own[i].anchor, claim_key(own[i].iou, b));
  }
  if (!any && best >= 0) atomicMax(claims + own[best].anchor, claim_key(own[best].iou, b));
}

__global__ void read_claims(Grid grid, const float4* ignore, int64_t ignored, MatchRules rules,
                            const unsigned long long* claims, int32_t* match) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= grid.total) return;
  const unsigned long long key = claims[index];
  const int32_t result =
      key == 0 ? kBackground : static_cast<int32_t>(0xffffffffull - (key & 0xffffffffull));
  match[index] = after_ignore_rules(anchor_at(grid, index), result, rules, ignore, ignored);
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

size_t matcher_workspace(const Grid& grid, int64_t count, const MatchRules& rules) {
  if (count == 0) return 0;
  if (!rules.atss) return count * sizeof(int32_t);
  return grid.total * sizeof(unsigned long long) +
         count * candidates_per_box(grid, rules) * sizeof(Candidate);
}

void match_anchors(const Grid& grid, const float* boxes, int64_t count, const float* ignore,
                   int64_t ignored, const MatchRules& rules, void* work, int32_t* match,
                   cudaStream_t stream) {
  const auto* box = reinterpret_cast<const float4*>(boxes);
  const auto* region = reinterpret_cast<const float4*>(ignore);
  const unsigned blocks = blocks_for(grid.total);
  if (!rules.atss || count == 0) {
    auto* maxima = static_cast<int32_t*>(work);
    if (rules.low_quality && count > 0) {
      cudaMemsetAsync(maxima, 0, count * sizeof(int32_t), stream);
      box_maxima<<<blocks, kThreads, 0, stream>>>(grid, box, count, maxima);
    }
    decide<<<blocks, kThreads, 0, stream>>>(grid, box, count, region, ignored, rules, maxima,
                                            match);
    return;
  }
  auto* claims = static_cast<unsigned long long*>(work);
  auto* candidates = reinterpret_cast<Candidate*>(claims + grid.total);
  cudaMemsetAsync(claims, 0, grid.total * sizeof(unsigned long long), stream);
  find_candidates<<<blocks_for(count * grid.levels), kThreads, 0, stream>>>(grid, box, count, rules,
                                                                            candidates);
  claim<<<blocks_for(count), kThreads, 0, stream>>>(grid, count, rules, candidates, claims);
  read_claims<<<blocks, kThreads, 0, stream>>>(grid, region, ignored, rules, claims, match);
}

}  // namespace mammo::cuda
