// Focal loss and its gradient from logits, block by block: targets of a block are spread to one
// state per logit, then one vector loop makes loss and gradient. exp and log1p are our own
// polynomials, because a library call would keep the loop scalar. Block sums are added in block
// order, whatever thread made them. Method: retinanet spec 3.4.
#include "core/ops/cpu/focal_loss.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>
#include <vector>

#include "core/ops/cpu/clones.h"

namespace mammo::cpu {
namespace {

constexpr int64_t kBlock = 2048;  // logits of a block: 8 KiB each of logits, states, losses and
                                  // gradients stay in the first cache
constexpr int kLanes = 16;        // running sums of a block

// State of a logit: the value of `match` where it is negative (-1 background, -2 ignored), 0 for
// the anchor's own class.
struct Constants {
  float alpha_positive, alpha_negative, gamma;
  int power;  // gamma where that is an integer up to 15
};

enum class Power { kTwo, kInteger, kReal };

// exp(-a) for a >= 0: 2^n e^r with |r| <= ln(2)/2; the series beyond 1 + r is a Chebyshev fit,
// relative error below 1e-7. 0 where the result is under the normal range.
MAMMO_INLINE float exp_negative(float a) {
  constexpr float kRound =
      12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer held in the low bits
  const float clamped = a < 87.3f ? a : 87.3f;
  const float shifted = clamped * -1.44269504f + kRound;
  const float n = shifted - kRound;
  float r = -clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  float p = 0.001394978298f;
  p = p * r + 0.00837597082f;
  p = p * r + 0.0416662f;
  p = p * r + 0.16666405263f;
  p = p * r + 0.50000001144f;
  p = p * (r * r) + r + 1.0f;
  const int32_t exponent = (std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound) + 127)
                           << 23;
  const float value = p * std::bit_cast<float>(exponent);
  return a < 87.3f ? value : 0.0f;
}

// log1p(e) for e in [0, 1] as 2 atanh(t), t = e / (2 + e); the series in t^2 <= 1/9 is a Chebyshev
// fit, relative error 1e-10.
MAMMO_INLINE float log1p_unit(float e, float t) {
  const float w = t * t;
  float p = 0.12204701802f;
  p = p * w + 0.10697133691f;
  p = p * w + 0.14310311703f;
  p = p * w + 0.19999347406f;
  p = p * w + 0.33333339627f;
  return 2.0f * t + 2.0f * t * (w * p);
}

template <Power kPower>
MAMMO_INLINE void block(const Constants& c, const float* logits, const int32_t* state,
                        int64_t count, float* losses, float* gradient) {
  for (int64_t i = 0; i < count; ++i) {
    const bool positive = state[i] >= 0;
    const float alpha = state[i] == -2 ? 0.0f : positive ? c.alpha_positive : c.alpha_negative;
    const float x = logits[i];
    const float z = positive ? x : -x;
    const float e = exp_negative(std::fabs(z));
    // One division serves both 1 / (1 + e) and e / (2 + e).
    const float inverse = 1.0f / ((1.0f + e) * (2.0f + e));
    const float large = (2.0f + e) * inverse;  // sigmoid(|z|)
    const float small = e * large;             // sigmoid(-|z|)
    const float rest = log1p_unit(e, e * ((1.0f + e) * inverse));
    const float q = z >= 0 ? small : large;      // 1 - p_t
    const float p = z >= 0 ? large : small;      // p_t
    const float cost = rest + (z < 0 ? -z : 0);  // -ln p_t
    float factor;
    if constexpr (kPower == Power::kTwo) {
      factor = q * q;
    } else if constexpr (kPower == Power::kInteger) {
      const float q2 = q * q, q4 = q2 * q2;
      factor = (c.power & 1 ? q : 1.0f) * (c.power & 2 ? q2 : 1.0f) * (c.power & 4 ? q4 : 1.0f) *
               (c.power & 8 ? q4 * q4 : 1.0f);
    } else {
      factor = exp_negative(c.gamma * (rest + (z > 0 ? z : 0)));  // q = exp(-softplus(z))
    }
    const float weight = alpha * factor;
    const float broken =
        x - x;  // NaN where the logit is not finite, which the polynomials do not carry
    losses[i] = weight * cost + broken;
    const float slope = weight * (c.gamma * p * cost + q) + broken;
    gradient[i] = positive ? -slope : slope;
  }
}

using Block = void (*)(const Constants&, const float*, const int32_t*, int64_t, float*, float*);

MAMMO_INLINE void block_two_loop(const Constants& c, const float* x, const int32_t* s, int64_t n,
                                 float* loss, float* gradient) {
  block<Power::kTwo>(c, x, s, n, loss, gradient);
}
constexpr Clones<block_two_loop> block_two;
MAMMO_INLINE void block_integer_loop(const Constants& c, const float* x, const int32_t* s,
                                     int64_t n, float* loss, float* gradient) {
  block<Power::kInteger>(c, x, s, n, loss, gradient);
}
constexpr Clones<block_integer_loop> block_integer;
MAMMO_INLINE void block_real_loop(const Constants& c, const float* x, const int32_t* s, int64_t n,
                                  float* loss, float* gradient) {
  block<Power::kReal>(c, x, s, n, loss, gradient);
}
constexpr Clones<block_real_loop> block_real;

Block choose_block(double gamma) {
  if (gamma == 2) return block_two.run;
  return gamma <= 15 && gamma == std::floor(gamma) ? block_integer.run : block_real.run;
}

MAMMO_INLINE double sum_loop(const float* values, int64_t count) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += static_cast<double>(values[i + l]);
  }
  for (int l = 0; i < count; ++i, ++l) lanes[l] += static_cast<double>(values[i]);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) lanes[l] += lanes[l + width];
  }
  return lanes[0];
}
constexpr Clones<sum_loop> sum;

// Double logits, for gradient checks: plain library functions.
double block_double(const FocalShape& shape, const double* logits, const int32_t* state,
                    int64_t count, double* gradient) {
  double total = 0;
  for (int64_t i = 0; i < count; ++i) {
    const bool positive = state[i] >= 0;
    const double own = positive ? shape.alpha : 1 - shape.alpha;
    const double alpha = state[i] == -2 ? 0 : shape.alpha < 0 ? 1 : own;
    const double z = positive ? logits[i] : -logits[i];
    const double e = std::exp(-std::abs(z)), rest = std::log1p(e);
    const double large = 1 / (1 + e), small = e / (1 + e);
    const double q = z >= 0 ? small : large, p = z >= 0 ? large : small;
    const double cost = rest + std::max(-z, 0.0);
    const double weight = alpha * std::exp(-shape.gamma * (rest + std::max(z, 0.0)));
    const double broken = logits[i] - logits[i];
    total += weight * cost + broken;
    if (gradient != nullptr) {
      const double slope = weight * (shape.gamma * p * cost + q) + broken;
      gradient[i] = positive ? -slope : slope;
    }
  }
  return total;
}

}  // namespace

template <class T>
void focal_loss(const FocalShape& shape, const T* logits, const int32_t* match,
                const int32_t* labels, const int64_t* box_offsets, T* gradient, double* sums) {
  const int64_t classes = shape.classes;
  const int64_t step = std::max<int64_t>(1, kBlock / classes);  // anchors of a block
  const int64_t blocks = (shape.anchors + step - 1) / step;     // of an image
  const bool weighted = shape.alpha >= 0;
  const Constants constants{weighted ? static_cast<float>(shape.alpha) : 1.0f,
                            weighted ? static_cast<float>(1 - shape.alpha) : 1.0f,
                            static_cast<float>(shape.gamma),
                            shape.gamma <= 15 ? static_cast<int>(shape.gamma) : 0};
  const Block run = choose_block(shape.gamma);
  std::vector<double> partial(shape.images * blocks);
  at::parallel_for(0, shape.images * blocks, 8, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> states(classes == 1 ? 0 : step * classes);
    std::vector<float> losses(step * classes), scratch(step * classes);
    std::vector<float> wide(std::is_same_v<T, float> ? 0 : step * classes);
    for (int64_t b = begin; b < end; ++b) {
      const int64_t image = b / blocks, first = b % blocks * step;
      const int64_t anchors = std::min(step, shape.anchors - first), count = anchors * classes;
      const int32_t* state = match + image * shape.anchors + first;
      if (classes > 1) {
        const int32_t* own = labels + box_offsets[image];
        for (int64_t a = 0; a < anchors; ++a) {
          std::fill_n(states.begin() + a * classes, classes, state[a] == -2 ? -2 : -1);
          if (state[a] >= 0) states[a * classes + own[state[a]]] = 0;
        }
        state = states.data();
      }
      const int64_t at = (image * shape.anchors + first) * classes;
      T* out = gradient == nullptr ? nullptr : gradient + at;
      if constexpr (std::is_same_v<T, double>) {
        partial[b] = block_double(shape, logits + at, state, count, out);
      } else if constexpr (std::is_same_v<T, float>) {
        // Without a gradient to keep it still goes into the block's scratch: cheaper than a second
        // loop to maintain.
        run(constants, logits + at, state, count, losses.data(), out ? out : scratch.data());
        partial[b] = sum(losses.data(), count);
      } else {
        for (int64_t i = 0; i < count; ++i) wide[i] = static_cast<float>(logits[at + i]);
        run(constants, wide.data(), state, count, losses.data(), scratch.data());
        partial[b] = sum(losses.data(), count);
        if (out != nullptr) {
          for (int64_t i = 0; i < count; ++i) out[i] = static_cast<T>(scratch[i]);
        }
      }
    }
  });
  for (int64_t image = 0; image < shape.images; ++image) {
    double total = 0;
    for (int64_t b = 0; b < blocks; ++b) total += partial[image * blocks + b];
    sums[image] = total;
  }
}

template void focal_loss(const FocalShape&, const float*, const int32_t*, const int32_t*,
                         const int64_t*, float*, double*);
template void focal_loss(const FocalShape&, const double*, const int32_t*, const int32_t*,
                         const int64_t*, double*, double*);
template void focal_loss(const FocalShape&, const at::BFloat16*, const int32_t*, const int32_t*,
                         const int64_t*, at::BFloat16*, double*);
template void focal_loss(const FocalShape&, const at::Half*, const int32_t*, const int32_t*,
                         const int64_t*, at::Half*, double*);

}  // namespace mammo::cpu
