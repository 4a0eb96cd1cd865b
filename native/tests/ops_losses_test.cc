// Focal loss, box losses and coders: the numbers of the specification, gradients by finite
// differences, edge cases.
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>

#include "check.h"
#include "core/ops/box_loss.h"
#include "core/ops/coder.h"
#include "core/ops/focal_loss.h"
#include "ops_fixtures.h"

using namespace mammo;
using namespace mammo::test;

namespace {

// One image whose `states` are matches; every box has class 0.
at::Tensor focal(const at::Tensor& logits, const std::vector<int32_t>& states, double alpha,
                 double gamma) {
  const int64_t count = static_cast<int64_t>(states.size());
  return focal_loss(logits.view({1, count, -1}), at::tensor(states, at::kInt).view({1, count}),
                    at::zeros({1}, at::kInt), at::tensor(std::vector<int64_t>{0, 1}), alpha, gamma);
}

struct Value {
  double loss, gradient;
};

Value focal_value(double x, bool positive, double alpha, double gamma, at::ScalarType type) {
  const at::Tensor leaf = at::full({1}, x, type).requires_grad_(true);
  const at::Tensor loss = focal(leaf, {positive ? 0 : -1}, alpha, gamma);
  torch::autograd::backward({loss.sum()}, {});
  return {loss.item<double>(), leaf.grad().item<double>()};
}

// The formula in double, element by element, from the states [n,N] and labels.
at::Tensor focal_reference(const at::Tensor& logits, const at::Tensor& match,
                           const at::Tensor& labels, const at::Tensor& offsets, double alpha,
                           double gamma) {
  const at::Tensor x = logits.to(at::kDouble);
  at::Tensor y = at::zeros_like(x), weight = at::ones_like(x);
  for (int64_t i = 0; i < x.size(0); ++i) {
    for (int64_t a = 0; a < x.size(1); ++a) {
      const int32_t m = match[i][a].item<int32_t>();
      if (m == -2) weight[i][a].zero_();
      if (m >= 0) y[i][a][labels[offsets[i].item<int64_t>() + m].item<int64_t>()] = 1;
    }
  }
  const at::Tensor z = at::where(y > 0, x, -x);
  const at::Tensor a = y * alpha + (1 - y) * (1 - alpha);
  return (weight * a * at::sigmoid(-z).pow(gamma) * at::softplus(-z, 1, 1e9)).sum({1, 2});
}

CoderConfig centre() { return {false, {1, 1, 1, 1}, 4.135166556742356f}; }
CoderConfig corner() { return {true, {0.2f, 0.2f, 0.2f, 0.2f}, std::nullopt}; }

LossConfig loss_of(BoxLossKind kind, double beta = 0) {
  LossConfig c = default_config().detector.loss;
  c.box = kind;
  c.box_beta = beta;
  return c;
}

double iou_loss(const std::vector<double>& a, const std::vector<double>& b, BoxLossKind kind) {
  return iou_family_loss(rows_double(a), rows_double(b), kind).item<double>();
}

}  // namespace

int main() {
  check::run("focal loss from logits: values and gradients of the specification", [] {
    struct Case {
      double x;
      bool positive;
      double alpha, gamma, loss, gradient;
    };
    const std::vector<Case> cases{
        {-4.59511985, false, 0.25, 2, 7.537751893e-7, 2.242475e-6},
        {-4.59511985, true, 0.25, 2, 1.128381825, -0.2651424},
        {0, false, 0.25, 2, 0.1299650964, 0.2237151},
        {0, true, 0.25, 2, 0.04332169878, -0.0745717},
        {100, false, 0.25, 2, 75, 0.75},
        {0, true, 0.95, 5, 0.02057780692, -0.06628827},
        {2, false, 0.95, 5, 0.05637702067, 0.05694821},
    };
    for (const Case& c : cases) {
      for (at::ScalarType type : {at::kDouble, at::kFloat}) {
        const Value v = focal_value(c.x, c.positive, c.alpha, c.gamma, type);
        EXPECT_NEAR(v.loss / c.loss, 1, type == at::kDouble ? 2e-9 : 2e-6);
        EXPECT_NEAR(v.gradient / c.gradient, 1, 1e-6);
      }
    }
  });

  check::run("focal loss of probabilities 0.9, 0.1, (ignored), 0.2", [] {
    const auto logit = [](double p) { return std::log(p / (1 - p)); };
    const at::Tensor x = at::tensor({logit(0.9), logit(0.1), 3.0, logit(0.2)}, at::kDouble);
    // The reference's values add 1e-7 inside the logarithms.
    EXPECT_NEAR(
        focal(x, {0, -1, -2, -1}, 0.25, 2).item<double>(),
        0.25 * 0.01 * -std::log(0.9) + 0.75 * (0.01 * -std::log(0.9) + 0.04 * -std::log(0.8)),
        1e-12);
    const at::Tensor negatives = at::tensor({logit(0.01), logit(0.01), 0.0}, at::kDouble);
    EXPECT_NEAR(focal(negatives, {-1, -1, -1}, 0.25, 2).item<double>(), 0.129966566, 3e-7);
  });

  check::run("initial background of 2,549,664 anchors", [] {
    const int64_t count = 2549664;
    const at::Tensor x = at::full({1, count, 1}, -4.59511985, at::kFloat);
    const at::Tensor m = at::full({1, count}, -1, at::kInt);
    const double loss =
        focal_loss(x, m, at::empty({0}, at::kInt), at::tensor(std::vector<int64_t>{0, 0}), 0.25, 2)
            .item<double>();
    EXPECT_NEAR(loss, 1.9219, 5e-5);
    EXPECT_NEAR(loss, 2549664 * 7.537751893e-7, 2e-6);
  });

  check::run("focal loss against the formula in double, many settings, classes and images", [] {
    at::manual_seed(3);
    for (int64_t classes : {1, 2, 3, 7, 3000}) {
      const int64_t anchors = classes > 100 ? 5 : 700;
      const at::Tensor x = at::randn({2, anchors, classes}) * 6;
      const at::Tensor m = at::randint(-2, 3, {2, anchors}, at::kInt);
      const at::Tensor labels = at::randint(0, classes, {6}, at::kInt);
      const at::Tensor offsets = at::tensor(std::vector<int64_t>{0, 3, 6});
      for (auto [alpha, gamma] : std::vector<std::pair<double, double>>{
               {0.25, 2}, {0.95, 5}, {0.95, 3.5}, {0.999, 6.5}, {0.5, 1}, {0.25, 0}, {0.3, 17}}) {
        const at::Tensor leaf = x.clone().requires_grad_(true);
        const at::Tensor truth = x.to(at::kDouble).requires_grad_(true);
        const at::Tensor ours = focal_loss(leaf, m, labels, offsets, alpha, gamma);
        const at::Tensor expected = focal_reference(truth, m, labels, offsets, alpha, gamma);
        EXPECT_EQUAL(ours.allclose(expected.detach(), 2e-6, 1e-12), true);
        EXPECT_EQUAL(focal_loss(x, m, labels, offsets, alpha, gamma).equal(ours.detach()), true);
        const at::Tensor upstream = at::tensor({0.5, -2.0}, at::kDouble);
        torch::autograd::backward({ours}, {upstream});
        torch::autograd::backward({expected}, {upstream});
        EXPECT_EQUAL(leaf.grad().to(at::kDouble).allclose(truth.grad(), 4e-6, 1e-12), true);
        const double exact =
            (focal_loss(x.to(at::kDouble), m, labels, offsets, alpha, gamma) - expected.detach())
                .abs()
                .max()
                .item<double>();
        EXPECT_NEAR(exact, 0, 1e-8);
      }
    }
  });

  check::run("focal loss: gradient by finite differences", [] {
    at::manual_seed(4);
    const at::Tensor x = at::randn({2, 9, 3}, at::kDouble) * 3;
    const at::Tensor m = at::randint(-2, 2, {2, 9}, at::kInt);
    const at::Tensor labels = at::tensor(std::vector<int>{2, 0, 1, 1}, at::kInt);
    const at::Tensor offsets = at::tensor(std::vector<int64_t>{0, 2, 4});
    for (double gamma : {0.0, 1.0, 2.0, 3.5}) {
      EXPECT_NEAR(
          gradient_error(
              [&](const at::Tensor& v) { return focal_loss(v, m, labels, offsets, 0.25, gamma); },
              x),
          0, 1e-8);
    }
  });

  check::run("focal loss: extreme logits are finite, broken ones are seen", [] {
    for (double x : {-100.0, 100.0, -1e30, 1e30}) {
      for (bool positive : {false, true}) {
        const Value v = focal_value(x, positive, 0.25, 2, at::kFloat);
        EXPECT(std::isfinite(v.loss) && std::isfinite(v.gradient));
      }
    }
    const double nan = std::numeric_limits<double>::quiet_NaN();
    EXPECT(std::isnan(focal(at::full({1}, nan, at::kFloat), {-1}, 0.25, 2).item<double>()));
    // Also where the anchor is ignored: the network is broken.
    EXPECT(std::isnan(focal(at::full({1}, nan, at::kFloat), {-2}, 0.25, 2).item<double>()));
  });

  check::run("focal loss: no boxes teach, all ignored costs 0, no anchors", [] {
    const at::Tensor x = at::zeros({1, 5, 2}).requires_grad_(true);
    const at::Tensor labels = at::empty({0}, at::kInt);
    const at::Tensor offsets = at::tensor(std::vector<int64_t>{0, 0});
    at::Tensor loss = focal_loss(x, at::full({1, 5}, -1, at::kInt), labels, offsets, 0.25, 2);
    torch::autograd::backward({loss.sum()}, {});
    EXPECT(loss.item<double>() > 0 && x.grad().abs().min().item<double>() > 0);
    loss = focal_loss(x, at::full({1, 5}, -2, at::kInt), labels, offsets, 0.25, 2);
    EXPECT_EQUAL(loss.item<double>(), 0.0);
    EXPECT_EQUAL(
        focal_loss(at::zeros({1, 0, 2}), at::zeros({1, 0}, at::kInt), labels, offsets, 0.25, 2)
            .item<double>(),
        0.0);
  });

  check::run("focal loss: bf16 logits, other strides, any number of threads", [] {
    at::manual_seed(5);
    const at::Tensor x = at::randn({1, 40000, 1}) * 4;
    const at::Tensor m = at::randint(-2, 2, {1, 40000}, at::kInt);
    const at::Tensor labels = at::zeros({2}, at::kInt);
    const at::Tensor offsets = at::tensor(std::vector<int64_t>{0, 2});
    const auto value = [&](const at::Tensor& v) {
      return focal_loss(v, m, labels, offsets, 0.25, 2).item<double>();
    };
    const at::Tensor half = x.to(at::kBFloat16);
    EXPECT_EQUAL(value(half), value(half.to(at::kFloat)));
    at::set_num_threads(1);
    const double one = value(x);
    at::set_num_threads(3);
    EXPECT_EQUAL(value(x), one);
    at::set_num_threads(2);
    const at::Tensor strided = at::cat({x, x}, 2).slice(2, 0, 1);
    EXPECT_EQUAL(value(strided), one);
    const at::Tensor leaf = half.clone().requires_grad_(true);
    torch::autograd::backward({focal_loss(leaf, m, labels, offsets, 0.25, 2).sum()}, {});
    EXPECT_EQUAL(leaf.grad().scalar_type() == at::kBFloat16, true);
  });

  check::run("IoU losses of the specification", [] {
    const std::vector<double> a{0, 0, 10, 10};
    struct Case {
      std::vector<double> b;
      double giou, diou, ciou;
    };
    for (const Case& c : std::vector<Case>{{{5, 5, 15, 15}, 1.0793651, 0.9682540, 0.9682540},
                                           {{2, 2, 10, 18}, 0.6986450, 0.6710769, 0.6737780},
                                           {{20, 20, 30, 30}, 1.7777778, 1.4444444, 1.4444444}}) {
      EXPECT_NEAR(iou_loss(a, c.b, BoxLossKind::kGiou), c.giou, 1e-7);
      EXPECT_NEAR(iou_loss(a, c.b, BoxLossKind::kDiou), c.diou, 1e-7);
      EXPECT_NEAR(iou_loss(a, c.b, BoxLossKind::kCiou), c.ciou, 1e-7);
    }
    for (BoxLossKind kind : {BoxLossKind::kGiou, BoxLossKind::kDiou, BoxLossKind::kCiou}) {
      EXPECT_NEAR(iou_loss(a, a, kind), 0, 1e-7);
    }
  });

  check::run("smooth L1 with sigma 3, summed over the coordinates", [] {
    // Deltas 0; with a unit anchor and the corner coder of deviation 1 the target is box - anchor.
    const CoderConfig unit{true, {1, 1, 1, 1}, std::nullopt};
    const at::Tensor anchors = rows({0, 0, 1, 1}).expand({3, 4});
    const at::Tensor boxes = rows({0, 0, 1, 2, 0, 0, 2, 1, 0, 0, 1.05f, 1});
    const at::Tensor loss =
        box_loss(at::zeros({3, 4}), anchors, boxes, unit, loss_of(BoxLossKind::kSmoothL1, 1.0 / 9));
    EXPECT_NEAR(loss.sum().item<double>() / 3, 0.6333796296, 1e-6);
    const at::Tensor l1 =
        box_loss(at::zeros({3, 4}), anchors, boxes, unit, loss_of(BoxLossKind::kL1));
    EXPECT(box_loss(at::zeros({3, 4}), anchors, boxes, unit, loss_of(BoxLossKind::kSmoothL1, 0))
               .equal(l1));
    EXPECT_NEAR(l1.sum().item<double>(), 2.05, 1e-6);
  });

  check::run("coders: the specification's examples", [] {
    const at::Tensor t = encode_boxes(rows({8, 4, 40, 52}), rows({0, 0, 32, 32}), centre());
    EXPECT(t.allclose(rows({0.25f, 0.375f, 0, 0.405465f}), 1e-6, 1e-6));
    const at::Tensor anchors = rows(
        {100, 100, 300, 300, 80, 120, 200, 200, 0, 0, 10, 10, 50, 50, 100, 100, 20, 20, 40, 40});
    const at::Tensor deltas =
        rows({0, 0.1f, 0, 0, 0, 0, 0.1f, 0, 0, 0, 0, 0, 0.1f, 0.1f, 0, 0, 0, 0, 0.1f, 0.1f});
    const at::Tensor expected = rows({100, 104, 300, 300, 80,  120, 202.4f, 200, 0,     0,
                                      10,  10,  51,  51,  100, 100, 20,     20,  40.4f, 40.4f});
    EXPECT(decode_boxes(deltas, anchors, corner()).allclose(expected, 1e-6, 1e-5));
    // keras-retinanet's targets 165 and 246 of box [10,10,42,40].
    const at::Tensor two = encode_boxes(rows({10, 10, 42, 40, 10, 10, 42, 40}),
                                        rows({4, 4, 36, 36, 12, 12, 44, 44}), corner());
    EXPECT(two.allclose(
        rows({0.9375f, 0.9375f, 0.9375f, 0.625f, -0.3125f, -0.3125f, -0.3125f, -0.625f}), 1e-6,
        1e-6));
  });

  check::run("decoding undoes encoding; dw, dh are clamped above only", [] {
    at::manual_seed(6);
    const at::Tensor low = at::rand({50, 2}) * 4000, sides = at::rand({50, 2}) * 300 + 5;
    const at::Tensor boxes = at::cat({low, low + sides}, 1);
    const at::Tensor anchors = boxes + 3 * at::randn({50, 1});
    for (const CoderConfig& c : {centre(), corner()}) {
      const at::Tensor back = decode_boxes(encode_boxes(boxes, anchors, c), anchors, c);
      EXPECT(back.allclose(boxes, 0, 2e-3));
    }
    const at::Tensor huge = decode_boxes(rows({0, 0, 50, -50}), rows({0, 0, 16, 16}), centre());
    EXPECT_NEAR((huge[0][2] - huge[0][0]).item<double>(), 1000, 1e-2);
    EXPECT_NEAR((huge[0][3] - huge[0][1]).item<double>(), 0, 1e-6);
  });

  check::run("geometry is float32 beyond 2048 with bf16 deltas", [] {
    const at::Tensor anchors = rows({3001, 2999, 3038, 3040});
    const at::Tensor box = decode_boxes(at::zeros({1, 4}, at::kBFloat16), anchors, centre());
    EXPECT(box.scalar_type() == at::kFloat);
    EXPECT(box.equal(anchors));
  });

  check::run("box losses: gradients by finite differences", [] {
    at::manual_seed(8);
    const at::Tensor anchors = rows_double({0, 0, 32, 32, 10, 4, 40, 60, 5, 5, 25, 20, 0, 0, 9, 9});
    const at::Tensor boxes =
        rows_double({3, 5, 30, 41, 8, 11, 52, 60.5, 6, 4, 31, 18, 70, 80, 90, 120});
    const at::Tensor deltas = at::randn({4, 4}, at::kDouble) * 0.3;
    for (const CoderConfig& coder : {centre(), corner()}) {
      for (auto [kind, beta] :
           std::vector<std::pair<BoxLossKind, double>>{{BoxLossKind::kL1, 0},
                                                       {BoxLossKind::kSmoothL1, 0.5},
                                                       {BoxLossKind::kGiou, 0},
                                                       {BoxLossKind::kDiou, 0}}) {
        EXPECT_NEAR(gradient_error(
                        [&](const at::Tensor& d) {
                          return box_loss(d, anchors, boxes, coder, loss_of(kind, beta));
                        },
                        deltas),
                    0, 2e-7);
      }
      EXPECT_NEAR(gradient_error(
                      [&](const at::Tensor& d) { return decode_boxes(d, anchors, coder); }, deltas),
                  0, 2e-7);
    }
  });

  check::run("CIoU: its gradient holds the weight of the aspect term fixed", [] {
    const at::Tensor target = rows_double({2, 3, 20, 31});
    const at::Tensor at = rows_double({1, 4, 25, 22});
    // With a fixed, the loss is DIoU + a v(p): compare with that function's differences.
    const auto v = [&](const at::Tensor& p) {
      const auto angle = [](const at::Tensor& b) {
        return at::atan((b.select(1, 2) - b.select(1, 0)) / (b.select(1, 3) - b.select(1, 1)));
      };
      return 4 / (M_PI * M_PI) * (angle(target) - angle(p)).square();
    };
    const at::Tensor diou = iou_family_loss(at, target, BoxLossKind::kDiou);
    const double a =
        ((iou_family_loss(at, target, BoxLossKind::kCiou) - diou) / v(at)).item<double>();
    const at::Tensor x = at.clone().requires_grad_(true), y = at.clone().requires_grad_(true);
    torch::autograd::backward({iou_family_loss(x, target, BoxLossKind::kCiou).sum()}, {});
    torch::autograd::backward({(iou_family_loss(y, target, BoxLossKind::kDiou) + a * v(y)).sum()},
                              {});
    EXPECT(x.grad().allclose(y.grad(), 1e-9, 1e-12));
  });

  check::run("no positives: empty losses and gradients", [] {
    const at::Tensor none = at::empty({0, 4});
    for (BoxLossKind kind : {BoxLossKind::kL1, BoxLossKind::kSmoothL1, BoxLossKind::kGiou,
                             BoxLossKind::kDiou, BoxLossKind::kCiou}) {
      const at::Tensor x = none.clone().requires_grad_(true);
      const at::Tensor loss = box_loss(x, none, none, centre(), loss_of(kind, 0.1)).sum();
      torch::autograd::backward({loss}, {});
      EXPECT_EQUAL(loss.item<double>(), 0.0);
    }
  });
  return check::failures;
}
