// Optimisers against the published formulas written out per element in double, Adam against the
// numbers that Keras computed (optimizer_keras.json in the folder MAMMO_ORACLES), and clipping.
#include "core/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "check.h"

using namespace mammo;

namespace {

// A weight of several pieces and a bias, both trained, and a buffer.
struct Fixture {
  ParameterList list;
  at::Generator generator = at::detail::createCPUGenerator(11);

  Fixture() {
    list.add({"w", random({3, 25000}), Role::kWeight, 0, false, false});
    list.add({"b", random({7}), Role::kBias, 0, false, false});
    list.add({"s", random({7}), Role::kBuffer, 0, true, false});
    list.freeze_stages(0);
  }
  at::Tensor random(at::IntArrayRef shape) { return at::empty(shape).normal_(0, 1, generator); }
  void set_gradients() {
    for (const Parameter& p : list) {
      if (p.trainable) p.value.mutable_grad() = random(p.value.sizes());
    }
  }
  at::Tensor value(const char* name) const { return list.find(name)->value.detach(); }
};

OptimizerConfig config(OptimizerKind kind) {
  return {kind, 0.9, false, 0.9, 0.99, 1e-3, false, false};
}

struct Element {
  double p, m = 0, v = 0;
};

// One element's update straight from the papers; g already clipped.
void reference(Element& e, double g, const OptimizerConfig& c, double lr, double decay, int t) {
  if (c.kind == OptimizerKind::kSgd) {
    g += decay * e.p;
    e.m = c.momentum * e.m + g;
    e.p -= lr * (c.nesterov ? g + c.momentum * e.m : e.m);
    return;
  }
  if (c.kind == OptimizerKind::kAdamW)
    e.p -= lr * decay * e.p;
  else
    g += decay * e.p;
  e.m = c.beta1 * e.m + (1 - c.beta1) * g;
  e.v = c.beta2 * e.v + (1 - c.beta2) * g * g;
  const double m_hat = e.m / (1 - std::pow(c.beta1, t)), v_hat = e.v / (1 - std::pow(c.beta2, t));
  if (c.eps_outside_bias_correction) {
    e.p -= lr * std::sqrt(1 - std::pow(c.beta2, t)) / (1 - std::pow(c.beta1, t)) * e.m /
           (std::sqrt(e.v) + c.eps);
  } else {
    e.p -= lr * m_hat / (std::sqrt(v_hat) + c.eps);
  }
}

void compare(const OptimizerConfig& c) {
  Fixture f;
  Optimizer optimizer(c);
  const std::vector<int64_t> probes{0, 1, 17, 32767, 32768, 74999};
  std::vector<Element> weights;
  for (const int64_t i : probes) weights.push_back({f.value("w").view(-1)[i].item<double>()});
  Element bias{f.value("b")[3].item<double>()};
  const at::Tensor buffer = f.value("s").clone();
  for (int t = 1; t <= 3; ++t) {
    f.set_gradients();
    const at::Tensor gw = f.list.find("w")->value.grad().view(-1).clone(),
                     gb = f.list.find("b")->value.grad().clone();
    const GradientScale scale = optimizer.measure(f.list, {});
    EXPECT_NEAR(scale.norm,
                std::sqrt(gw.to(at::kDouble).square().sum().item<double>() +
                          gb.to(at::kDouble).square().sum().item<double>()),
                1e-9);
    optimizer.step(f.list, scale, 0.01, 0.1);
    for (size_t k = 0; k < probes.size(); ++k) {
      reference(weights[k], gw[probes[k]].item<double>(), c, 0.01, 0.1, t);
      EXPECT_NEAR(f.value("w").view(-1)[probes[k]].item<double>(), weights[k].p, 2e-6);
    }
    reference(bias, gb[3].item<double>(), c, 0.01, c.decay_norms ? 0.1 : 0, t);
    EXPECT_NEAR(f.value("b")[3].item<double>(), bias.p, 2e-6);
  }
  EXPECT(at::equal(f.value("s"), buffer));
  EXPECT_EQUAL(optimizer.state().at("w").step, 3);
  EXPECT(!optimizer.state().contains("s"));
}

void formulas() {
  for (const OptimizerKind kind :
       {OptimizerKind::kSgd, OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
    OptimizerConfig c = config(kind);
    compare(c);
    c.decay_norms = true;
    c.nesterov = true;
    c.eps_outside_bias_correction = true;
    compare(c);
  }
}

void clipping() {
  Fixture f;
  f.set_gradients();
  Optimizer optimizer(config(OptimizerKind::kSgd));
  const auto norm = [&](const char* name) {
    return f.list.find(name)->value.grad().norm().item<double>();
  };
  const double w = norm("w"), b = norm("b"), all = std::hypot(w, b);
  GradientScale s = optimizer.measure(f.list, {.value = {}, .norm_per_tensor = {}, .norm = 1.0});
  EXPECT_NEAR(s.norm, all, 1e-3);
  EXPECT_NEAR(s.factors[0], 1 / all, 1e-8);
  EXPECT_NEAR(s.factors[1], 1 / all, 1e-8);
  s = optimizer.measure(f.list, {.value = {}, .norm_per_tensor = {}, .norm = 2 * all});
  EXPECT_EQUAL(s.factors[0], 1);
  s = optimizer.measure(f.list, {.value = {}, .norm_per_tensor = (w + b) / 2, .norm = {}});
  EXPECT_NEAR(s.factors[0], (w + b) / 2 / w, 1e-6);
  EXPECT_EQUAL(s.factors[1], 1);
  s = optimizer.measure(f.list, {.value = 0.25, .norm_per_tensor = {}, .norm = {}});
  EXPECT_NEAR(s.norm, all, 1e-3);
  EXPECT_NEAR(f.list.find("w")->value.grad().abs().max().item<double>(), 0.25, 0);
  f.list.find("w")->value.mutable_grad()[0][0] = std::nan("");
  EXPECT(std::isnan(optimizer.measure(f.list, {}).norm));
}

using Json = nlohmann::json;

at::Tensor tensor_of(const Json& values) {
  std::vector<float> flat;
  std::vector<int64_t> shape;
  for (const Json* j = &values; j->is_array(); j = &j->front())
    shape.push_back(static_cast<int64_t>(j->size()));
  for (const Json& row : values) {
    if (!row.is_array()) flat.push_back(row.get<float>());
    for (const Json& value : row.is_array() ? row : Json::array())
      flat.push_back(value.get<float>());
  }
  return at::tensor(flat).view(shape);
}

// Five steps on given gradients, without clipping and with each of Keras' three ways.
void keras_adam() {
  const char* folder = std::getenv("MAMMO_ORACLES");
  std::ifstream file(std::string(folder ? folder : ".") + "/optimizer_keras.json");
  if (!file) {
    std::cerr << "skipped: no optimizer_keras.json; set MAMMO_ORACLES to the oracle folder\n";
    return;
  }
  const Json oracle = Json::parse(file);
  const char* names[] = {"a", "b", "c"};
  int clipped = 0;
  for (const Json& run : oracle.at("runs")) {
    const Json& options = run.at("options");
    const double lr = options.at("learning_rate");
    const auto limit = [&](const char* key) {
      return options.contains(key) ? std::optional<double>(options.at(key)) : std::nullopt;
    };
    const ClipOptions clip{limit("clipvalue"), limit("clipnorm"), limit("global_clipnorm")};
    clipped += clip.value || clip.norm_per_tensor || clip.norm;
    OptimizerConfig c = config(OptimizerKind::kAdam);
    c.beta1 = options.at("beta_1");
    c.beta2 = options.at("beta_2");
    c.eps = options.at("epsilon");
    c.eps_outside_bias_correction = true;
    Optimizer optimizer(c);
    ParameterList list;
    for (size_t i = 0; i < 3; ++i) {
      list.add({names[i], tensor_of(oracle.at("start")[i]), Role::kWeight, 0, false, false});
    }
    list.freeze_stages(0);
    const Json& after = run.at("variables_after_each_step");
    for (size_t t = 0; t < after.size(); ++t) {
      for (size_t i = 0; i < 3; ++i) {
        const at::Tensor value = list.find(names[i])->value;
        value.mutable_grad() = tensor_of(oracle.at("gradients")[t][i]);
      }
      optimizer.step(list, optimizer.measure(list, clip), lr, 0);
      for (size_t i = 0; i < 3; ++i) {
        const at::Tensor value = list.find(names[i])->value.detach();
        const double worst = (value - tensor_of(after[t][i])).abs().max().item<double>();
        // Numbers up to 2.4 in float32 (spacing 2.4e-7): two such steps beside the update's
        // rounding.
        EXPECT_NEAR(worst, 0, 5e-7 + 1e-6 * lr);
      }
    }
  }
  EXPECT(clipped >= 4);
}

// A parameter that no loss reached behaves as one with gradient zero: its moments fade, decay
// applies.
void missing_gradient_is_zero() {
  Fixture f;
  f.set_gradients();
  f.list.find("b")->value.mutable_grad().reset();
  const at::Tensor before = f.value("b").clone();
  OptimizerConfig c = config(OptimizerKind::kSgd);
  c.decay_norms = true;
  Optimizer optimizer(c);
  optimizer.step(f.list, optimizer.measure(f.list, {}), 0.1, 0.5);
  EXPECT_NEAR((f.value("b") - before * 0.95).abs().max().item<double>(), 0, 1e-6);
}

void threads_do_not_change_results() {
  std::vector<at::Tensor> results;
  for (const int threads : {1, 2}) {
    at::set_num_threads(threads);
    Fixture f;
    Optimizer optimizer(config(OptimizerKind::kAdamW));
    for (int t = 0; t < 2; ++t) {
      f.set_gradients();
      optimizer.step(f.list,
                     optimizer.measure(f.list, {.value = {}, .norm_per_tensor = {}, .norm = 1.0}),
                     0.01, 0.1);
    }
    results.push_back(f.value("w").clone());
  }
  EXPECT(at::equal(results[0], results[1]));
}

}  // namespace

int main() {
  check::run("formulas", formulas);
  check::run("Adam as Keras computes it", keras_adam);
  check::run("clipping", clipping);
  check::run("missing gradient is zero", missing_gradient_is_zero);
  check::run("threads do not change results", threads_do_not_change_results);
  return check::failures;
}
