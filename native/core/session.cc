// The session: puts model, targets, loss, optimiser and checkpoint together; reads from top to
// bottom like the step it runs.
#include "core/session.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "core/arena.h"
#include "core/averages.h"
#include "core/checkpoint.h"
#include "core/loss.h"
#include "core/loss_scale.h"
#include "core/model/retinanet.h"
#include "core/ops/anchors.h"
#include "core/ops/postprocess.h"
#include "core/ops/warp.h"
#include "core/optimizer.h"
#include "core/switches.h"
#include "core/targets.h"
#include "core/timer.h"
#include "core/upload.h"

namespace mammo {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw Error("ARGUMENT", message);
}

at::Device parse_device(const std::string& name) {
  const bool cuda = name == "cuda" || name.starts_with("cuda:");
  if (name != "cpu" && !cuda)
    throw Error("CONFIG", "device: expected cpu, cuda or cuda:<n>, got " + name);
  if (cuda && !at::hasCUDA())
    throw Error("NO_CUDA",
                "device: " + name + " was asked for, but this LibTorch or machine has no CUDA");
  try {
    return at::Device(name);
  } catch (const c10::Error&) {
    throw Error("CONFIG", "device: expected cpu, cuda or cuda:<n>, got " + name);
  }
}

int anchors_per_cell(const AnchorConfig& config) {
  return static_cast<int>(config.scales.size() * config.ratios.size());
}

template <class T>
at::Tensor host_tensor(const std::vector<T>& values, at::ScalarType type) {
  at::Tensor t = at::empty({static_cast<int64_t>(values.size())}, type);
  std::copy(values.begin(), values.end(), static_cast<T*>(t.data_ptr()));
  return t;
}

template <class T>
std::vector<T> to_vector(const at::Tensor& tensor) {
  const at::Tensor host = tensor.detach().cpu().contiguous();
  const T* data = host.data_ptr<T>();
  return {data, data + host.numel()};
}

void require_count(size_t got, size_t expected, const std::string& name) {
  require(got == expected,
          name + ": expected " + std::to_string(expected) + " numbers, got " + std::to_string(got));
}

std::vector<ImageSize> image_sizes(const ImageBatch& batch) {
  require(batch.sizes.size() >= 2 && batch.sizes.size() % 2 == 0,
          "sizes: expected height, width of at least one image");
  require(batch.canvas[0] > 0 && batch.canvas[1] > 0,
          "canvas: expected a height and width above 0");
  std::vector<ImageSize> sizes;
  for (size_t i = 0; i < batch.sizes.size(); i += 2) {
    const ImageSize size{batch.sizes[i], batch.sizes[i + 1]};
    require(size[0] > 0 && size[1] > 0 && size[0] <= batch.canvas[0] && size[1] <= batch.canvas[1],
            "sizes[" + std::to_string(i / 2) + "]: expected within the canvas " +
                std::to_string(batch.canvas[0]) + "x" + std::to_string(batch.canvas[1]) + ", got " +
                std::to_string(size[0]) + "x" + std::to_string(size[1]));
    sizes.push_back(size);
  }
  return sizes;
}

std::vector<Window> windows_of(const WindowBatch& batch, const std::vector<ImageSize>& sizes) {
  const size_t n = sizes.size();
  require_count(batch.shapes.size(), 2 * n, "windows.shapes");
  require_count(batch.affines.size(), 6 * n, "windows.affines");
  require_count(batch.reduce.size(), n, "windows.reduce");
  require_count(batch.normalise.size(), 2 * n, "windows.normalise");
  require_count(batch.intensity.size(), 4 * n, "windows.intensity");
  require_count(batch.noise_seed.size(), n, "windows.noiseSeed");
  if (!batch.elastic.empty()) require_count(batch.elastic.size(), 3 * n, "windows.elastic");
  std::vector<Window> windows;
  int64_t offset = 0;
  for (size_t i = 0; i < n; ++i) {
    Window w{};
    w.offset = offset;
    w.rows = batch.shapes[2 * i];
    w.cols = batch.shapes[2 * i + 1];
    require(w.rows > 0 && w.cols > 0,
            "windows.shapes[" + std::to_string(i) + "]: expected a height and width above 0");
    std::copy_n(&batch.affines[6 * i], 6, w.affine.begin());
    w.reduce = batch.reduce[i];
    require(w.reduce >= 0 && w.reduce < 16,
            "windows.reduce[" + std::to_string(i) + "]: expected 0 to 15");
    w.mean = batch.normalise[2 * i];
    w.std = batch.normalise[2 * i + 1];
    require(w.std > 0 && std::isfinite(w.mean),
            "windows.normalise[" + std::to_string(i) +
                "]: expected a finite mean and a deviation above 0");
    std::copy_n(&batch.intensity[4 * i], 4, w.intensity.begin());
    w.noise_seed = batch.noise_seed[i];
    w.size = sizes[i];
    if (!batch.elastic.empty()) w.elastic = read_elastic(&batch.elastic[3 * i]);
    offset += w.rows * w.cols;
    windows.push_back(w);
  }
  require_count(batch.pixels.size(), static_cast<size_t>(offset), "windows.pixels");
  return windows;
}

}  // namespace

struct Session::State {
  SessionConfig config;
  at::Device device;
  at::Generator generator;
  Retinanet net;
  Optimizer optimizer;
  NormaliserState normaliser;
  Averages averages;
  std::optional<LossScale> loss_scale;  // fp16 only

  explicit State(const SessionConfig& c)
      : config(c),
        device(parse_device(c.device)),
        generator(at::detail::createCPUGenerator(c.seed)),
        net(make_retinanet(c.detector.model, anchors_per_cell(c.detector.anchors), generator,
                           device)),
        optimizer(c.optimizer),
        normaliser{c.detector.loss.ema_start} {
    if (c.precision == Precision::kFp16) loss_scale = first_loss_scale();
  }

  const DetectorConfig& detector() const { return config.detector; }

  TrainingState training_state() {
    return {config.detector, config.optimizer,      net.parameters, optimizer.state(),
            normaliser,      generator.get_state(), &averages,      loss_scale};
  }

  /// The network's input, float32 [n, channels, H, W] on the device.
  at::Tensor load(const ImageBatch& batch, const std::vector<ImageSize>& sizes,
                  Timer& timer) const {
    const int channels = detector().model.channels;
    require(batch.windows.has_value() != batch.input.has_value(),
            "batch: expected exactly one of windows and input");
    if (batch.windows) {
      const std::vector<Window> windows = windows_of(*batch.windows, sizes);
      // LibTorch counts uint16 among the types without arithmetic; the bits travel as int16.
      const auto* pixels = reinterpret_cast<const int16_t*>(batch.windows->pixels.data());
      const at::Tensor view =
          at::from_blob(const_cast<int16_t*>(pixels),
                        {static_cast<int64_t>(batch.windows->pixels.size())}, at::kShort);
      const at::Tensor pixels_on_device = upload(view, device);
      timer.mark("copy");
      at::Tensor input = warp_windows(pixels_on_device, windows, channels, batch.canvas);
      timer.mark("warp");
      return input;
    }
    const std::array<int64_t, 4> shape{static_cast<int64_t>(sizes.size()), channels,
                                       batch.canvas[0], batch.canvas[1]};
    require_count(batch.input->size(),
                  static_cast<size_t>(shape[0] * shape[1] * shape[2] * shape[3]), "input");
    const at::Tensor view =
        at::from_blob(const_cast<float*>(batch.input->data()), shape, at::kFloat);
    at::Tensor input = device.is_cpu() ? view.clone() : upload(view, device);
    timer.mark("copy");
    return input;
  }

  at::Tensor cast(const at::Tensor& input) const {
    switch (config.precision) {
      case Precision::kBf16:
        return input.to(at::kBFloat16);
      case Precision::kFp16:
        return input.to(at::kHalf);
      case Precision::kFp32:
        break;
    }
    return input;
  }

  AnchorGrid grid(const std::array<int64_t, 2>& canvas) const {
    return make_anchor_grid(detector().anchors, grid_sizes(net, canvas), canvas);
  }

  const Parameter& parameter(const std::string& name) const {
    const Parameter* found = net.parameters.find(name);
    require(found != nullptr, "no parameter is called " + name);
    return *found;
  }

  // The losses in numbers: one copy from the device.
  StepResult result(const LossSums& sums, const MatchedTargets& matched,
                    const std::vector<double>& weights) const {
    const std::vector<double> host = to_vector<double>(at::stack({sums.classification, sums.box}));
    const size_t n = weights.size();
    StepResult r{};
    r.per_image.assign(host.begin(), host.begin() + static_cast<int64_t>(n));
    for (size_t i = 0; i < n; ++i) {
      r.classification += host[i] * weights[i];
      r.box += host[n + i] * weights[i];
    }
    r.loss = detector().loss.classification_weight * r.classification +
             detector().loss.box_weight * r.box;
    r.positives = matched.total();
    r.grad_norm = std::numeric_limits<double>::quiet_NaN();
    r.scale = 1;
    r.finite = std::isfinite(r.loss);
    return r;
  }

  void zero_gradients() {
    for (const Parameter& p : net.parameters) p.value.mutable_grad().reset();
  }

  void assign(const std::map<std::string, at::Tensor>& values) {
    at::NoGradGuard no_grad;
    for (const auto& [name, value] : values) at::Tensor(parameter(name).value).copy_(value);
  }
};

Session::Session(const SessionConfig& config) : state_(std::make_unique<State>(config)) {
  if (config.deterministic) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
    at::globalContext().setDeterministicCuDNN(true);
  }
}

Session::~Session() {
  state_.reset();
  trim_arena();
}

std::vector<ParameterInfo> Session::parameters() const {
  std::vector<ParameterInfo> list;
  for (const Parameter& p : state_->net.parameters)
    list.push_back({p.name, p.value.sizes().vec(), role_name(p.role), p.trainable});
  return list;
}

TensorValue Session::get_tensor(const std::string& name) const {
  const at::Tensor& value = state_->parameter(name).value;
  return {value.sizes().vec(), to_vector<float>(value)};
}

void Session::set_tensor(const std::string& name, std::span<const float> data) {
  const at::Tensor& value = state_->parameter(name).value;
  require_count(data.size(), static_cast<size_t>(value.numel()), name);
  state_->assign(
      {{name, at::from_blob(const_cast<float*>(data.data()), value.sizes(), at::kFloat)}});
}

TensorValue Session::get_gradient(const std::string& name) const {
  const Parameter& p = state_->parameter(name);
  require(p.trainable, name + " is not trained and has no gradient");
  const at::Tensor& gradient = p.value.grad();
  if (!gradient.defined()) return {p.value.sizes().vec(), std::vector<float>(p.value.numel(), 0.f)};
  const auto& scale = state_->loss_scale;
  return {p.value.sizes().vec(), to_vector<float>(scale ? gradient / scale->factor : gradient)};
}

void Session::zero_gradients() { state_->zero_gradients(); }

StepResult Session::train_step(const ImageBatch& batch, const TargetBatch& targets,
                               const StepOptions& options) {
  State& s = *state_;
  const DetectorConfig& config = s.detector();
  const ModelConfig& model = config.model;
  Timer timer;
  c10::AutoGradMode grad(true);

  const std::vector<ImageSize> sizes = image_sizes(batch);
  at::Tensor input = s.cast(s.load(batch, sizes, timer));
  timer.mark("warp");
  const AnchorGrid grid = s.grid(batch.canvas);
  const MatchedTargets matched = match_targets(grid, targets, sizes, config, s.device);
  const std::vector<double> weights =
      image_weights(matched.per_image, config.loss, s.normaliser, /*update=*/true);
  const double scale = s.loss_scale ? s.loss_scale->factor : 1;
  const at::Tensor device_weights =
      upload(host_tensor(weights, at::kDouble).mul_(options.loss_scale * scale), s.device);
  const LossContext context{s.net.heads, grid, matched, config, device_weights};
  LossSums sums = make_loss_sums(static_cast<int64_t>(sizes.size()), s.device);
  timer.mark("matching");

  BackbonePass backbone(s.net, input, model.frozen_stages, model.checkpoint_activations);
  input.reset();
  timer.mark("backbone");
  const bool by_level = switches().level_wise;
  FpnPass pyramid(s.net.fpn, backbone.taps(), by_level);
  Roots joint;
  for (size_t level = 0; level < s.net.fpn.levels.size(); ++level) {
    at::Tensor map = pyramid.map(level);
    timer.mark("neck");
    at::Tensor gradient = add_level_loss(context, level, map, /*train=*/true, sums, timer,
                                         by_level ? nullptr : &joint);
    if (by_level) pyramid.backward(std::move(map), std::move(gradient));
    timer.mark("neckBackward");
  }
  if (by_level)
    pyramid.finish();
  else
    joint.backward();
  timer.mark("neckBackward");
  backbone.backward();
  timer.mark("backboneBackward");

  // The norms first: reading them waits for the whole step, and the losses are ready then too.
  std::optional<GradientScale> gradients;
  if (options.update) {
    gradients = s.optimizer.measure(
        s.net.parameters, {options.clip_value, options.clip_norm_per_tensor, options.clip_norm},
        scale);
  }
  StepResult result = s.result(sums, matched, weights);
  result.scale = scale;
  if (gradients) {
    result.grad_norm = gradients->norm;
    const bool broken = !std::isfinite(gradients->norm);
    // A finite loss with broken gradients: its scale may be to blame, and gets smaller.
    result.overflowed =
        result.finite && broken && s.loss_scale && scale_after_overflow(*s.loss_scale);
    result.finite = result.finite && (!broken || result.overflowed);
    if (!result.overflowed && (result.finite || !options.skip_non_finite)) {
      s.optimizer.step(s.net.parameters, *gradients, options.lr, options.weight_decay);
      if (options.ema_decay) update_averages(s.averages, s.net.parameters, *options.ema_decay);
      if (s.loss_scale) scale_after_update(*s.loss_scale);
      result.updated = true;
    }
    s.zero_gradients();
  }
  timer.mark("optimizer");
  result.seconds = timer.seconds();
  return result;
}

StepResult Session::evaluate_loss(const ImageBatch& batch, const TargetBatch& targets) {
  State& s = *state_;
  const DetectorConfig& config = s.detector();
  Timer timer;
  const AveragesInUse averages(s.averages, s.net.parameters);
  at::NoGradGuard no_grad;
  const std::vector<ImageSize> sizes = image_sizes(batch);
  const at::Tensor input = s.cast(s.load(batch, sizes, timer));
  timer.mark("warp");
  const AnchorGrid grid = s.grid(batch.canvas);
  const MatchedTargets matched = match_targets(grid, targets, sizes, config, s.device);
  const std::vector<double> weights =
      image_weights(matched.per_image, config.loss, s.normaliser, /*update=*/false);
  const LossContext context{s.net.heads, grid, matched, config,
                            upload(host_tensor(weights, at::kDouble), s.device)};
  LossSums sums = make_loss_sums(static_cast<int64_t>(sizes.size()), s.device);
  timer.mark("matching");
  const Taps taps = backbone_forward(s.net, input);
  timer.mark("backbone");
  FpnPass pyramid(s.net.fpn, taps, /*by_level=*/false);
  for (size_t level = 0; level < s.net.fpn.levels.size(); ++level) {
    const at::Tensor map = pyramid.map(level);
    timer.mark("neck");
    add_level_loss(context, level, map, /*train=*/false, sums, timer);
  }
  StepResult result = s.result(sums, matched, weights);
  timer.mark("loss");
  result.seconds = timer.seconds();
  return result;
}

Detections Session::detect(const ImageBatch& batch) {
  State& s = *state_;
  Timer timer;
  const AveragesInUse averages(s.averages, s.net.parameters);
  c10::InferenceMode inference;
  const std::vector<ImageSize> sizes = image_sizes(batch);
  const at::Tensor input = s.cast(s.load(batch, sizes, timer));
  timer.mark("warp");
  const HeadOutputs outputs = mammo::forward(s.net, input);
  timer.mark("forward");
  Detections result;
  result.offsets.push_back(0);
  for (const ImageDetections& image :
       postprocess(outputs.logits, outputs.deltas, s.grid(batch.canvas), sizes, batch.canvas,
                   s.detector().coder, s.detector().post)) {
    const auto append = [](auto& list, const auto& values) {
      list.insert(list.end(), values.begin(), values.end());
    };
    append(result.boxes, to_vector<float>(image.boxes));
    append(result.scores, to_vector<float>(image.scores));
    append(result.labels, to_vector<int32_t>(image.labels));
    result.offsets.push_back(static_cast<int32_t>(result.scores.size()));
  }
  timer.mark("postprocess");
  result.seconds = timer.seconds();
  return result;
}

RawOutputs Session::forward(const ImageBatch& batch) {
  State& s = *state_;
  const AveragesInUse averages(s.averages, s.net.parameters);
  c10::InferenceMode inference;
  Timer timer;
  const at::Tensor input = s.cast(s.load(batch, image_sizes(batch), timer));
  const HeadOutputs outputs = mammo::forward(s.net, input);
  RawOutputs raw;
  const std::vector<GridSize> grids = grid_sizes(s.net, batch.canvas);
  for (const GridSize& grid : grids) raw.grids.insert(raw.grids.end(), grid.begin(), grid.end());
  raw.logits = to_vector<float>(outputs.logits);
  raw.deltas = to_vector<float>(outputs.deltas);
  raw.anchors = to_vector<float>(anchor_table(s.detector().anchors, grids, batch.canvas, s.device));
  return raw;
}

std::vector<float> Session::preprocess(const ImageBatch& batch) {
  at::NoGradGuard no_grad;
  Timer timer;
  return to_vector<float>(state_->load(batch, image_sizes(batch), timer));
}

void Session::update(const std::string& json) {
  const SessionUpdate update = parse_session_update(json);
  DetectorConfig& config = state_->config.detector;
  if (update.frozen_stages) {
    config.model.frozen_stages = *update.frozen_stages;
    state_->net.parameters.freeze_stages(*update.frozen_stages);
  }
  if (update.checkpoint_activations)
    config.model.checkpoint_activations = *update.checkpoint_activations;
  if (update.loss) config.loss = *update.loss;
  if (update.post) config.post = *update.post;
}

void Session::save_checkpoint(const std::string& path, const std::string& metadata) const {
  mammo::save_checkpoint(path, state_->training_state(), metadata);
}

LoadedCheckpoint Session::load_checkpoint(const std::string& path, LoadWhat what) {
  State& s = *state_;
  if (what == LoadWhat::kWeights) {
    RestoredWeights restored = read_weights(path, s.net.parameters);
    s.assign(restored.values);
    s.averages.clear();
    return {std::move(restored.metadata), std::move(restored.report)};
  }
  RestoredState restored = read_full_checkpoint(path, s.training_state());
  LoadReport report;
  for (const Parameter& p : s.net.parameters) report.loaded.push_back(p.name);
  s.assign(restored.values);
  for (auto& [name, m] : restored.moments) {
    m.first = m.first.to(s.device);
    if (m.second.defined()) m.second = m.second.to(s.device);
  }
  s.optimizer.set_state(std::move(restored.moments));
  for (auto& [name, average] : restored.averages) average = average.to(s.device);
  s.averages = std::move(restored.averages);
  s.normaliser = restored.normaliser;
  s.loss_scale = restored.loss_scale;
  s.generator.set_state(restored.random);
  s.config.detector.model.frozen_stages = restored.frozen_stages;
  s.config.detector.model.checkpoint_activations = restored.checkpoint_activations;
  s.net.parameters.freeze_stages(restored.frozen_stages);
  s.zero_gradients();
  return {std::move(restored.metadata), std::move(report)};
}

}  // namespace mammo
