// Every switch of switches.h against the plain way: values and gradients of whole sessions and of
// the convolutions that the switches replace. Tests of single tricks with more cases stand beside
// their parts: windows of the box tower in session_test, the matcher and the focal loss in ops_*.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>
#include <unistd.h>

#include <filesystem>

#include "check.h"
#include "configs.h"
#include "core/model/layers.h"
#include "core/ops/cpu/winograd.h"
#include "core/ops/winograd.h"
#include "core/session.h"
#include "core/switches.h"
#include "noise.h"

using namespace mammo;
using test::noise;

namespace {

constexpr Switches kPlain{false, false, false, false, false, false, false, false, false};

struct With {
  explicit With(const Switches& s) : before(switches()) { set_switches(s); }
  ~With() { set_switches(before); }
  Switches before;
};

double relative(const at::Tensor& a, const at::Tensor& b) {
  return ((a.to(at::kDouble) - b.to(at::kDouble)).abs().max() /
          (b.abs().max().to(at::kDouble) + 1e-12))
      .item<double>();
}

// 3x3, as a network in training computes it.
at::Tensor trained(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b, bool relu) {
  return convolve(Conv{w, b, 1, Border::kSymmetric}, x, Phase::kTrain, relu);
}

// Sizes with half tiles, single rows, more than one chunk of tiles, panels that are not full.
void winograd_equals_the_direct_convolution() {
  if (!cpu::winograd_runs()) return;
  struct Case {
    int64_t n, in, out, rows, cols;
  };
  for (const auto [n, in, out, rows, cols] : std::vector<Case>{{1, 16, 16, 15, 17},
                                                               {2, 32, 48, 13, 9},
                                                               {1, 48, 80, 21, 40},
                                                               {3, 64, 32, 16, 16},
                                                               {1, 16, 64, 1, 200},
                                                               {2, 256, 16, 9, 16}}) {
    for (const bool relu : {false, true}) {
      for (const bool last : {false, true}) {
        const auto format = last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
        at::Tensor x = noise({n, in, rows, cols}, 1).contiguous(format);
        at::Tensor w = noise({out, in, 3, 3}, 2, 0.1), b = noise({out}, 3);
        const at::Tensor dy = noise({n, out, rows, cols}, 4);
        EXPECT(winograd_takes(x, w));
        const auto leaf = [](const at::Tensor& t) {
          return t.to(at::kDouble, false, true).requires_grad_(true);
        };
        const at::Tensor xd = leaf(x), wd = leaf(w), bd = leaf(b);
        at::Tensor expected = at::conv2d(xd, wd, bd, {1, 1}, {1, 1});
        for (at::Tensor* t : {&x, &w, &b}) t->requires_grad_(true);
        const at::Tensor y = trained(x, w, b, relu);
        EXPECT(y.is_contiguous(format));
        EXPECT(relative(y.detach(), relu ? expected.detach().relu() : expected.detach()) < 2e-6);
        // The same units are on, so that rounding at 0 decides nothing.
        const at::Tensor gate = relu ? (y.detach() > 0).to(at::kDouble) : at::ones_like(expected);
        torch::autograd::backward({expected}, {dy.to(at::kDouble) * gate});
        torch::autograd::backward({y}, {dy});
        EXPECT(relative(x.grad(), xd.grad()) < 3e-6);
        EXPECT(relative(w.grad(), wd.grad()) < 3e-6);
        EXPECT(relative(b.grad(), bd.grad()) < 3e-6);
        // Without gradients, onto a sum, with weights transformed before.
        at::NoGradGuard no_grad;
        at::Tensor sum = dy.contiguous(at::MemoryFormat::ChannelsLast).clone();
        const at::Tensor added = winograd_convolve(x.contiguous(at::MemoryFormat::ChannelsLast), w,
                                                   b, relu, sum, winograd_transform(w));
        const at::Tensor whole = expected.detach() + dy.to(at::kDouble);
        EXPECT(relative(added, relu ? whole.relu() : whole) < 3e-6);
        EXPECT(added.data_ptr() == sum.data_ptr());
      }
    }
  }
}

// No gradient of the input, of the weights or of a bias where nobody asks for it.
void winograd_computes_what_is_asked() {
  if (!cpu::winograd_runs()) return;
  for (const bool input : {false, true}) {
    at::Tensor x = noise({1, 16, 16, 16}, 1), w = noise({16, 16, 3, 3}, 2), b = noise({16}, 3);
    x.requires_grad_(input);
    w.requires_grad_(!input);
    torch::autograd::backward({trained(x, w, {}, true).sum()}, {});
    EXPECT_EQUAL(x.grad().defined(), input);
    EXPECT_EQUAL(w.grad().defined(), !input);
    b.requires_grad_(true);
    x = x.detach();
    w = w.detach();
    const at::Tensor y = trained(x, w, b, true);
    torch::autograd::backward({y.sum()}, {});
    EXPECT(relative(b.grad(), (y.detach() > 0).sum({0, 2, 3})) < 1e-6);
  }
}

void winograd_is_the_same_with_any_threads() {
  if (!cpu::winograd_runs()) return;
  std::vector<at::Tensor> results[2];
  for (int t = 0; t < 2; ++t) {
    at::set_num_threads(t + 1);
    at::Tensor x = noise({2, 32, 30, 31}, 1).requires_grad_(true),
               w = noise({48, 32, 3, 3}, 2).requires_grad_(true),
               b = noise({48}, 3).requires_grad_(true);
    const at::Tensor y = trained(x, w, b, true);
    torch::autograd::backward({y}, {noise(y.sizes(), 4)});
    results[t] = {y.detach(), x.grad(), w.grad(), b.grad()};
  }
  for (size_t i = 0; i < 4; ++i) EXPECT(at::equal(results[0][i], results[1][i]));
}

constexpr int64_t kHeight = 128, kWidth = 96;

ImageBatch images(int channels) {
  const at::Tensor x = noise({2, channels, kHeight, kWidth}, 5);
  ImageBatch batch{{kHeight, kWidth}, {kHeight, kWidth, kHeight, kWidth}, std::nullopt, {}};
  batch.input.emplace(x.data_ptr<float>(), x.data_ptr<float>() + x.numel());
  return batch;
}

// Two lesions that share windows on one image, one at the border on the other.
TargetBatch targets() {
  TargetBatch t;
  t.boxes = {10, 20, 50, 64, 30, 40, 70, 90, 60, 0, 95, 40};
  t.labels = {0, 1, 1};
  t.box_offsets = {0, 2, 3};
  t.ignore_offsets = {0, 0, 0};
  return t;
}

// Widths that winograd takes, three channels, every level.
SessionConfig config(const std::string& backbone, NormPolicy norm, int frozen) {
  SessionConfig c = test::tiny_config();
  ModelConfig& m = c.detector.model;
  m.backbone = backbone;
  m.stem_width = 16;
  m.norm = norm;
  m.channels = 3;
  m.fpn_channels = 32;
  m.frozen_stages = frozen;
  c.detector.loss.normaliser = Normaliser::kPerImage;  // no state that moves
  // Steps as large as any: what is stale shows.
  c.optimizer.kind = OptimizerKind::kSgd;
  return c;
}

const StepOptions kLook{0, 0, std::nullopt, std::nullopt, std::nullopt, 1, false, false};

struct Outcome {
  double loss, evaluated;
  std::map<std::string, at::Tensor> values;
};

at::Tensor tensor(const std::vector<float>& v) { return at::tensor(at::ArrayRef<float>(v)); }

Outcome outcome(Session& session, int channels) {
  Outcome o{};
  const RawOutputs raw = session.forward(images(channels));
  o.values["logits"] = tensor(raw.logits);
  o.values["deltas"] = tensor(raw.deltas);
  o.evaluated = session.evaluate_loss(images(channels), targets()).loss;
  o.loss = session.train_step(images(channels), targets(), kLook).loss;
  for (const ParameterInfo& p : session.parameters()) {
    if (p.trainable) o.values[p.name] = tensor(session.get_gradient(p.name).data);
  }
  session.zero_gradients();
  return o;
}

void expect_equal(const Outcome& a, const Outcome& b, double tolerance, const std::string& what) {
  const int before = check::failures;
  EXPECT_NEAR(a.loss, b.loss, 2e-6 * std::abs(b.loss));
  EXPECT_NEAR(a.evaluated, b.evaluated, 2e-6 * std::abs(b.evaluated));
  EXPECT_EQUAL(a.values.size(), b.values.size());
  for (const auto& [name, value] : b.values) {
    const double difference = relative(a.values.at(name), value);
    if (!(difference <= tolerance)) std::cerr << name << " differs by " << difference << "\n";
    EXPECT(difference <= tolerance);
  }
  if (check::failures != before) std::cerr << "in: " << what << "\n";
}

// Gradients within 2e-4: a unit of a ReLU within rounding of 0 is on or off by chance (1.1e-4
// seen).
void every_switch_alone_changes_nothing() {
  const std::vector<std::pair<const char*, bool Switches::*>> all{
      {"sparse_box", &Switches::sparse_box},   {"fold_norm", &Switches::fold_norm},
      {"level_wise", &Switches::level_wise},   {"strips", &Switches::strips},
      {"fused_focal", &Switches::fused_focal}, {"packed_conv", &Switches::packed_conv},
      {"winograd", &Switches::winograd},       {"compact_pool", &Switches::compact_pool}};
  const SessionConfig c = config("resnet18", NormPolicy::kFrozen, 2);
  Session session(c);
  const Outcome plain = [&] {
    const With with(kPlain);
    return outcome(session, 3);
  }();
  for (const auto& [name, member] : all) {
    Switches one = kPlain;
    one.*member = true;
    const With with(one);
    expect_equal(outcome(session, 3), plain, 2e-4, std::string("only ") + name);
  }
  for (const auto& [name, member] : all) {
    Switches others{};
    others.*member = false;
    const With with(others);
    expect_equal(outcome(session, 3), plain, 2e-4, std::string("all but ") + name);
  }
}

void all_together_change_nothing() {
  struct Case {
    const char* backbone;
    NormPolicy norm;
    int frozen;
    Recompute recompute;
  };
  for (const auto& [backbone, norm, frozen, recompute] :
       std::vector<Case>{{"resnet50", NormPolicy::kFrozen, 0, Recompute::kNothing},
                         {"resnet50", NormPolicy::kFrozen, 3, Recompute::kAll},
                         {"resnet50", NormPolicy::kFrozen, 0, Recompute::kEarly},
                         {"resnet18", NormPolicy::kTrain, 2, Recompute::kNothing},
                         {"resnet18", NormPolicy::kGroup, 5, Recompute::kNothing},
                         {"seresnext50_32x4d", NormPolicy::kFrozen, 5, Recompute::kNothing},
                         {"densenet121", NormPolicy::kFrozen, 5, Recompute::kNothing},
                         {"mobilenet_v3_large", NormPolicy::kFrozen, 5, Recompute::kNothing},
                         {"efficientnet_b0", NormPolicy::kFrozen, 5, Recompute::kNothing},
                         {"vgg16_bn", NormPolicy::kFrozen, 5, Recompute::kNothing},
                         {"convnext_tiny", NormPolicy::kFrozen, 5, Recompute::kNothing}}) {
    SessionConfig c = config(backbone, norm, frozen);
    if (std::string_view(backbone).find("resnet") != 0) c.detector.model.stem_width = 64;
    c.detector.model.checkpoint_activations = recompute;
    // DenseNet's taps end without a norm, so that deltas are large and overlaps of the box loss
    // flip between its branches.
    if (std::string_view(backbone) == "densenet121") c.detector.loss.box = BoxLossKind::kSmoothL1;
    Session fast(c), slow(c);
    const Outcome a = outcome(fast, 3);
    const With with(kPlain);
    expect_equal(a, outcome(slow, 3), 2e-4, backbone);
  }
}

// Weights are laid out once for passes without gradients; nothing may go on with old ones.
void laid_out_weights_follow_their_parameters() {
  for (const NormPolicy norm : {NormPolicy::kTrain, NormPolicy::kFrozen}) {
    SessionConfig c = config("resnet18", norm, 2);
    c.detector.model.stem_width = 8;  // some convolutions by oneDNN, some by winograd
    Session session(c);
    const ImageBatch batch = images(3);
    const auto same = [&](const std::string& what) {
      const std::vector<float> fast = session.forward(batch).logits;
      const With with(kPlain);
      const double difference = relative(tensor(fast), tensor(session.forward(batch).logits));
      if (!(difference < 1e-5)) std::cerr << what << ": " << difference << "\n";
      EXPECT(difference < 1e-5);
    };
    StepOptions step{0.05, 0, std::nullopt, std::nullopt, std::nullopt, 1, true, false};
    same("at first");
    session.train_step(batch, targets(), step);
    same("after a step");
    step.update = false;
    session.train_step(batch, targets(), step);
    same("after running statistics moved alone");
    const std::filesystem::path file =
        std::filesystem::temp_directory_path() / ("tricks-" + std::to_string(::getpid()));
    session.save_checkpoint(file, "{}");
    for (const std::string name : {"backbone.layer1.0.conv1.weight", "backbone.layer1.0.bn1.bias",
                                   "fpn.output.3.weight", "head.cls.logits.bias"}) {
      TensorValue value = session.get_tensor(name);
      for (float& v : value.data) v = 1.5f * v + 0.1f;
      session.set_tensor(name, value.data);
      same("after " + name + " was set");
    }
    session.load_checkpoint(file, LoadWhat::kAll);
    same("after loading");
    std::filesystem::remove(file);
    step.update = true;
    step.ema_decay = 0.5;
    for (int i = 0; i < 3; ++i) {
      session.train_step(batch, targets(), step);
      same("with averages");
    }
    session.update(R"({"frozenStages": 0})");
    session.train_step(batch, targets(), step);
    same("after more was trained");
  }
}

}  // namespace

int main() {
  at::set_num_threads(1);
  check::run("winograd equals the direct convolution", winograd_equals_the_direct_convolution);
  check::run("winograd computes what is asked", winograd_computes_what_is_asked);
  check::run("winograd is the same with any threads", winograd_is_the_same_with_any_threads);
  at::set_num_threads(1);
  check::run("laid out weights follow their parameters", laid_out_weights_follow_their_parameters);
  check::run("every switch alone changes nothing", every_switch_alone_changes_nothing);
  check::run("all together change nothing", all_together_change_nothing);
  return check::failures;
}
