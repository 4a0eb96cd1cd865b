// Optimisers.
#include "core/optimizer.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "core/ops/cpu/clones.h"

namespace mammo {
namespace {

using cpu::Clones;

// One parameter's update, reduced to the numbers its elements need.
struct Rule {
  OptimizerKind kind;
  float grad_factor;  // clipping
  float decay;        // added to the gradient: weight decay * parameter (sgd, adam)
  float shrink;       // the parameter is multiplied by this first (adamw)
  float lr;           // adam: bias-corrected
  float momentum;
  bool nesterov;
  float beta1, beta2;
  float root_factor;  // adam: sqrt(second) * this + eps
  float eps;
};

Rule make_rule(const OptimizerConfig& c, double lr, double decay, double factor, int64_t step) {
  Rule r{};
  r.kind = c.kind;
  r.grad_factor = static_cast<float>(factor);
  r.decay = c.kind == OptimizerKind::kAdamW ? 0.f : static_cast<float>(decay);
  r.shrink = c.kind == OptimizerKind::kAdamW ? static_cast<float>(1 - lr * decay) : 1.f;
  r.lr = static_cast<float>(lr);
  r.momentum = static_cast<float>(c.momentum);
  r.nesterov = c.nesterov;
  r.beta1 = static_cast<float>(c.beta1);
  r.beta2 = static_cast<float>(c.beta2);
  r.eps = static_cast<float>(c.eps);
  if (c.kind != OptimizerKind::kSgd) {
    const double t = static_cast<double>(step);
    const double correction1 = 1 - std::pow(c.beta1, t);
    const double correction2 = std::sqrt(1 - std::pow(c.beta2, t));
    r.lr = static_cast<float>(c.eps_outside_bias_correction ? lr * correction2 / correction1
                                                            : lr / correction1);
    r.root_factor = c.eps_outside_bias_correction ? 1.f : static_cast<float>(1 / correction2);
  }
  return r;
}

MAMMO_INLINE void sgd_range_loop(float* __restrict p, const float* __restrict g,
                                 float* __restrict m, int64_t n, const Rule& rule) {
  const float factor = rule.grad_factor, decay = rule.decay, lr = rule.lr, momentum = rule.momentum;
  const float direct = rule.nesterov ? 1.f : 0.f, through = rule.nesterov ? momentum : 1.f;
  for (int64_t i = 0; i < n; ++i) {
    const float d = g[i] * factor + decay * p[i];
    m[i] = momentum * m[i] + d;
    p[i] -= lr * (direct * d + through * m[i]);
  }
}
constexpr Clones<sgd_range_loop> sgd_range;

MAMMO_INLINE void adam_range_loop(float* __restrict p, const float* __restrict g,
                                  float* __restrict m, float* __restrict v, int64_t n,
                                  const Rule& rule) {
  const float factor = rule.grad_factor, decay = rule.decay, shrink = rule.shrink, lr = rule.lr;
  const float beta1 = rule.beta1, beta2 = rule.beta2, root_factor = rule.root_factor,
              eps = rule.eps;
  for (int64_t i = 0; i < n; ++i) {
    const float d = g[i] * factor + decay * p[i];
    m[i] = beta1 * m[i] + (1 - beta1) * d;
    v[i] = beta2 * v[i] + (1 - beta2) * d * d;
    p[i] = p[i] * shrink - lr * (m[i] / (std::sqrt(v[i]) * root_factor + eps));
  }
}
constexpr Clones<adam_range_loop> adam_range;

MAMMO_INLINE double square_sum_loop(const float* g, int64_t n) {
  // Sixteen running sums: the order is fixed by the data, not by the vector width in use.
  double lanes[16] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    for (int j = 0; j < 16; ++j) lanes[j] += static_cast<double>(g[i + j]) * g[i + j];
  }
  for (int j = 0; i < n; ++i, ++j) lanes[j] += static_cast<double>(g[i]) * g[i];
  double sum = 0;
  for (double lane : lanes) sum += lane;
  return sum;
}
constexpr Clones<square_sum_loop> square_sum;

// All parameters cut into pieces of equal size, so that threads share the work whatever the shapes
// are. The cut does not depend on the number of threads, therefore neither does any result.
constexpr int64_t kPiece = 1 << 15;

struct Piece {
  size_t parameter;
  int64_t begin, end;
};

std::vector<Piece> cut(const std::vector<at::Tensor>& tensors) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (int64_t begin = 0; begin < tensors[i].numel(); begin += kPiece) {
      pieces.push_back({i, begin, std::min(begin + kPiece, tensors[i].numel())});
    }
  }
  return pieces;
}

std::vector<at::Tensor> trainable_gradients(const ParameterList& parameters) {
  std::vector<at::Tensor> gradients;
  for (const Parameter& p : parameters) {
    if (!p.trainable) continue;
    const at::Tensor value = p.value;  // a second handle to the same tensor
    at::Tensor& gradient = value.mutable_grad();
    if (!gradient.defined())
      gradient = at::zeros_like(p.value);
    else if (!gradient.is_contiguous())
      gradient = gradient.contiguous();
    gradients.push_back(gradient);
  }
  return gradients;
}

std::vector<double> square_sums(const std::vector<at::Tensor>& tensors) {
  std::vector<double> sums(tensors.size(), 0);
  if (!tensors.empty() && tensors[0].device().is_cpu()) {
    const std::vector<Piece> pieces = cut(tensors);
    std::vector<double> parts(pieces.size());
    at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Piece& piece = pieces[i];
        parts[i] = square_sum(tensors[piece.parameter].data_ptr<float>() + piece.begin,
                              piece.end - piece.begin);
      }
    });
    for (size_t i = 0; i < pieces.size(); ++i) sums[pieces[i].parameter] += parts[i];
    return sums;
  }
  std::vector<at::Tensor> norms;
  for (const at::Tensor& t : tensors) norms.push_back(t.square().sum(at::kDouble));
  if (norms.empty()) return sums;
  const at::Tensor host = at::stack(norms).cpu();
  std::copy_n(host.data_ptr<double>(), sums.size(), sums.begin());
  return sums;
}

double total_norm(const std::vector<double>& squares, const std::vector<double>& factors) {
  double sum = 0;
  for (size_t i = 0; i < squares.size(); ++i) sum += squares[i] * factors[i] * factors[i];
  return std::sqrt(sum);
}

// The same update from whole-tensor operations, for devices without a kernel of ours.
void update_tensor(at::Tensor p, const at::Tensor& g, Moments& m, const Rule& r) {
  if (r.shrink != 1) p.mul_(r.shrink);
  at::Tensor d = g * r.grad_factor;
  if (r.decay != 0) d.add_(p, r.decay);
  if (r.kind == OptimizerKind::kSgd) {
    m.first.mul_(r.momentum).add_(d);
    p.sub_(r.nesterov ? d.add_(m.first, r.momentum) : m.first, r.lr);
    return;
  }
  m.first.mul_(r.beta1).add_(d, 1 - r.beta1);
  m.second.mul_(r.beta2).addcmul_(d, d, 1 - r.beta2);
  p.addcdiv_(m.first, m.second.sqrt().mul_(r.root_factor).add_(r.eps), -r.lr);
}

}  // namespace

GradientScale Optimizer::measure(const ParameterList& parameters, const ClipOptions& clip,
                                 double loss_scale) const {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients = trainable_gradients(parameters);
  std::vector<double> squares = square_sums(gradients);
  GradientScale scale{0, std::vector<double>(gradients.size(), 1 / loss_scale)};
  scale.norm = total_norm(squares, scale.factors);
  if (clip.value) {
    const double limit = *clip.value * loss_scale;
    for (at::Tensor& gradient : gradients) gradient.clamp_(-limit, limit);
    squares = square_sums(gradients);
  }
  if (clip.norm_per_tensor) {
    for (size_t i = 0; i < squares.size(); ++i) {
      const double norm = std::sqrt(squares[i]) / loss_scale;
      if (norm > *clip.norm_per_tensor) scale.factors[i] *= *clip.norm_per_tensor / norm;
    }
  }
  if (clip.norm) {
    const double factor = *clip.norm / (total_norm(squares, scale.factors) + 1e-6);
    if (factor < 1) {
      for (double& f : scale.factors) f *= factor;
    }
  }
  return scale;
}

Moments& Optimizer::moments(const Parameter& parameter) {
  Moments& m = state_[parameter.name];
  if (!m.first.defined()) {
    m.first = at::zeros_like(parameter.value);
    if (config_.kind != OptimizerKind::kSgd) m.second = at::zeros_like(parameter.value);
  }
  return m;
}

void Optimizer::step(const ParameterList& parameters, const GradientScale& scale, double lr,
                     double weight_decay) {
  at::NoGradGuard no_grad;
  const std::vector<at::Tensor> gradients = trainable_gradients(parameters);
  std::vector<at::Tensor> values;
  std::vector<Moments*> states;
  std::vector<Rule> rules;
  for (const Parameter& p : parameters) {
    if (!p.trainable) continue;
    Moments& m = moments(p);
    ++m.step;
    const bool decayed = p.role == Role::kWeight || config_.decay_norms;
    rules.push_back(
        make_rule(config_, lr, decayed ? weight_decay : 0, scale.factors[values.size()], m.step));
    values.push_back(p.value);
    states.push_back(&m);
  }
  if (values.empty()) return;
  if (!values[0].device().is_cpu()) {
    for (size_t i = 0; i < values.size(); ++i)
      update_tensor(values[i], gradients[i], *states[i], rules[i]);
    return;
  }
  for (const at::Tensor& value : values) mark_changed(value);
  const std::vector<Piece> pieces = cut(values);
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto [k, from, to] = pieces[i];
      float* p = values[k].data_ptr<float>() + from;
      const float* g = gradients[k].data_ptr<float>() + from;
      float* m = states[k]->first.data_ptr<float>() + from;
      if (rules[k].kind == OptimizerKind::kSgd) {
        sgd_range(p, g, m, to - from, rules[k]);
      } else {
        adam_range(p, g, m, states[k]->second.data_ptr<float>() + from, to - from, rules[k]);
      }
    }
  });
}

}  // namespace mammo
