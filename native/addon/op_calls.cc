// One function per op: reads its arguments into tensors, runs it, returns typed arrays. No maths of
// its own.
//
// Every op takes `repeat` (number of runs, 1 when absent) and returns `seconds` (Float64Array, one
// per run, copies excluded). `config` is JSON text with those parts of a DetectorConfig that the op
// needs, such as {"anchors":{...},"coder":{...}}. "float" below is Float32Array or, where the op
// works in double too, Float64Array. Where `upstream` (gradient of the result) may be given, its
// presence adds `gradient` to the result and its cost to `seconds`.
//
// clang-format off
//   anchors      config{anchors}, grids int32[levels,2], canvas int32[2] -> anchors float32[total,4]
//   match        config{anchors,matcher}, grids, canvas, size int32[2], boxes float32[m,4], ignore float32[k,4] -> match int32[total]
//   encode       config{coder}, boxes float[n,4], anchors float[n,4] -> deltas float[n,4]
//   decode       config{coder}, deltas float[n,4], anchors float[n,4], upstream? -> boxes float[n,4], gradient?
//   focal        logits float[n,N,K], shape int32[3], match int32[n,N], labels int32[m], boxOffsets int32[n+1], alpha, gamma,
//                upstream? float64[n] -> loss float64[n], gradient?
//   boxLoss      config{coder,loss}, deltas, anchors, boxes float[p,4], upstream? -> loss float[p], gradient?
//   iouLoss      kind 'giou'|'diou'|'ciou', predicted, target float[p,4], upstream? -> loss float[p], gradient?
//   nms          boxes float32[n,4], scores float32[n], iou -> kept int32[k]
//   batchedNms   the same with labels int32[n] -> kept int32[k]
//   postprocess  config{anchors,coder,post}, logits float32[n,N,K], deltas float32[n,N,4], shape int32[3], grids, canvas,
//                sizes int32[n,2] -> boxes, scores, labels, offsets as Detections
//   convolution  channels, height, width -> gflop (of one run): a 3x3 convolution, the machine's ceiling for a detector
//   warp         canvas, channels, sizes and the fields of WindowBatch -> input float32[n,C,h,w]
// clang-format on
#include "op_calls.h"

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/rand.h>

#include <chrono>
#include <optional>
#include <set>
#include <utility>

#include "core/config.h"
#include "core/error.h"
#include "core/ops/anchors.h"
#include "core/ops/box_loss.h"
#include "core/ops/coder.h"
#include "core/ops/focal_loss.h"
#include "core/ops/matcher.h"
#include "core/ops/nms.h"
#include "core/ops/postprocess.h"
#include "core/ops/warp.h"

namespace mammo::addon {
namespace {

using Shape = std::vector<int64_t>;

[[noreturn]] void refuse(const std::string& name, const std::string& expected) {
  throw Error("ARGUMENT", "args." + name + ": expected " + expected);
}

template <class T>
at::Tensor copy_to_tensor(const std::vector<T>& values, at::ScalarType type, const Shape& shape,
                          const std::string& name) {
  int64_t count = 1;
  for (int64_t side : shape) count *= side;
  if (count != static_cast<int64_t>(values.size())) {
    refuse(name, std::to_string(count) + " elements, got " + std::to_string(values.size()));
  }
  return at::from_blob(const_cast<T*>(values.data()), shape, at::TensorOptions(type)).clone();
}

/// The arguments of one call; remembers what was read, so that a misspelt name is an error.
class Arguments {
 public:
  explicit Arguments(const OpValues& values) : values_(values) {}

  template <class T>
  const T& get(const std::string& name, const char* expected) {
    const T* found = std::get_if<T>(&at(name));
    if (found == nullptr) refuse(name, expected);
    return *found;
  }
  double number(const std::string& name) { return get<double>(name, "a number"); }
  const std::string& text(const std::string& name) { return get<std::string>(name, "a text"); }
  const std::vector<int32_t>& ints(const std::string& name) {
    return get<std::vector<int32_t>>(name, "an Int32Array");
  }
  bool has(const std::string& name) const { return values_.contains(name); }

  /// Rows of four numbers: boxes, deltas or anchors.
  Shape rows(const std::string& name) {
    const int64_t count = elements(name);
    if (count % 4 != 0) refuse(name, "a length divisible by 4, got " + std::to_string(count));
    return {count / 4, 4};
  }
  /// float32 or float64, as given.
  at::Tensor floats(const std::string& name, const Shape& shape) {
    if (const auto* single = std::get_if<std::vector<float>>(&at(name))) {
      return copy_to_tensor(*single, at::kFloat, shape, name);
    }
    return copy_to_tensor(get<std::vector<double>>(name, "a Float32Array or Float64Array"),
                          at::kDouble, shape, name);
  }
  at::Tensor float32(const std::string& name, const Shape& shape) {
    return copy_to_tensor(get<std::vector<float>>(name, "a Float32Array"), at::kFloat, shape, name);
  }
  at::Tensor int32(const std::string& name, const Shape& shape) {
    return copy_to_tensor(ints(name), at::kInt, shape, name);
  }
  int64_t elements(const std::string& name) {
    return std::visit(
        [&](const auto& item) -> int64_t {
          if constexpr (requires { item.size(); }) {
            return static_cast<int64_t>(item.size());
          } else {
            refuse(name, "a typed array");
          }
        },
        at(name));
  }
  std::array<int64_t, 2> pair(const std::string& name) {
    const auto& values = ints(name);
    if (values.size() != 2) refuse(name, "two integers: height, width");
    return {values[0], values[1]};
  }
  std::vector<std::array<int64_t, 2>> pairs(const std::string& name) {
    const auto& values = ints(name);
    if (values.size() % 2 != 0) refuse(name, "pairs of integers");
    std::vector<std::array<int64_t, 2>> result;
    for (size_t i = 0; i < values.size(); i += 2) result.push_back({values[i], values[i + 1]});
    return result;
  }
  DetectorConfig config() { return parse_detector_parts(text("config")); }

  void finish() const {
    for (const auto& [name, value] : values_) {
      if (!seen_.contains(name))
        throw Error("ARGUMENT", "args." + name + ": this op has no such argument");
    }
  }

 private:
  const OpValue& at(const std::string& name) {
    seen_.insert(name);
    const auto found = values_.find(name);
    if (found == values_.end()) throw Error("ARGUMENT", "args." + name + ": missing");
    return found->second;
  }

  const OpValues& values_;
  std::set<std::string> seen_;
};

/// Runs an op `repeat` times and keeps the last result with the time of each run.
class Stopwatch {
 public:
  explicit Stopwatch(Arguments& arguments) {
    const double repeat = arguments.has("repeat") ? arguments.number("repeat") : 1;
    if (!(repeat >= 1 && repeat <= 1e6)) refuse("repeat", "1 to 1000000");
    repeat_ = static_cast<int>(repeat);
  }
  template <class Run>
  auto operator()(Run run) {
    std::optional<decltype(run())> result;
    for (int i = 0; i < repeat_; ++i) {
      result.reset();
      const auto start = std::chrono::steady_clock::now();
      result.emplace(run());
      seconds_.push_back(
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return *std::move(result);
  }
  std::vector<double> seconds() { return std::move(seconds_); }

 private:
  int repeat_;
  std::vector<double> seconds_;
};

template <class T>
std::vector<T> copy_values(const at::Tensor& tensor) {
  const T* data = tensor.const_data_ptr<T>();
  return std::vector<T>(data, data + tensor.numel());
}

OpValue from_tensor(const at::Tensor& tensor) {
  const at::Tensor dense = tensor.detach().cpu().contiguous();
  switch (dense.scalar_type()) {
    case at::kFloat:
      return copy_values<float>(dense);
    case at::kDouble:
      return copy_values<double>(dense);
    case at::kInt:
      return copy_values<int32_t>(dense);
    case at::kLong:
      return copy_values<int32_t>(dense.to(at::kInt));
    default:
      throw Error("INTERNAL", "an op returned a dtype that runOp does not carry");
  }
}

/// A differentiable op of one input: the value, and with `upstream` among the arguments the
/// gradient of the input.
template <class Op>
OpValues differentiate(Arguments& arguments, Stopwatch& timed, const std::string& result,
                       const at::Tensor& input, Op op,
                       std::optional<at::ScalarType> upstream_type = std::nullopt) {
  if (!arguments.has("upstream")) {
    const at::NoGradGuard no_grad;
    return {{result, from_tensor(timed([&] { return op(input); }))}};
  }
  const at::Tensor flat = arguments.floats("upstream", {arguments.elements("upstream")});
  const auto [value, gradient] = timed([&] {
    const at::Tensor leaf = input.detach().requires_grad_(true);
    const at::Tensor out = op(leaf);
    if (out.numel() != flat.numel()) refuse("upstream", std::to_string(out.numel()) + " elements");
    out.backward(flat.to(upstream_type.value_or(out.scalar_type())).view(out.sizes()));
    return std::pair(out.detach(), leaf.grad());
  });
  return {{result, from_tensor(value)}, {"gradient", from_tensor(gradient)}};
}

OpValues run_anchors(Arguments& arguments, Stopwatch& timed) {
  const DetectorConfig config = arguments.config();
  const auto grids = arguments.pairs("grids");
  const auto canvas = arguments.pair("canvas");
  return {{"anchors", from_tensor(timed(
                          [&] { return anchor_table(config.anchors, grids, canvas, at::kCPU); }))}};
}

OpValues run_match(Arguments& arguments, Stopwatch& timed) {
  const DetectorConfig config = arguments.config();
  const AnchorGrid grid =
      make_anchor_grid(config.anchors, arguments.pairs("grids"), arguments.pair("canvas"));
  const auto size = arguments.pair("size");
  const at::Tensor boxes = arguments.float32("boxes", arguments.rows("boxes"));
  const at::Tensor ignore = arguments.float32("ignore", arguments.rows("ignore"));
  return {{"match", from_tensor(timed([&] {
             return match_anchors(grid, boxes, ignore, size, config.matcher);
           }))}};
}

OpValues run_encode(Arguments& arguments, Stopwatch& timed) {
  const DetectorConfig config = arguments.config();
  const Shape shape = arguments.rows("boxes");
  const at::Tensor boxes = arguments.floats("boxes", shape);
  const at::Tensor anchors = arguments.floats("anchors", shape);
  return {
      {"deltas", from_tensor(timed([&] { return encode_boxes(boxes, anchors, config.coder); }))}};
}

OpValues run_decode(Arguments& arguments, Stopwatch& timed) {
  const DetectorConfig config = arguments.config();
  const Shape shape = arguments.rows("deltas");
  const at::Tensor anchors = arguments.floats("anchors", shape);
  return differentiate(
      arguments, timed, "boxes", arguments.floats("deltas", shape),
      [&](const at::Tensor& deltas) { return decode_boxes(deltas, anchors, config.coder); });
}

OpValues run_focal(Arguments& arguments, Stopwatch& timed) {
  const auto& dimensions = arguments.ints("shape");
  if (dimensions.size() != 3) refuse("shape", "three integers: images, anchors, classes");
  const Shape shape(dimensions.begin(), dimensions.end());
  const at::Tensor match = arguments.int32("match", {shape[0], shape[1]});
  const at::Tensor labels = arguments.int32("labels", {arguments.elements("labels")});
  const at::Tensor offsets = arguments.int32("boxOffsets", {shape[0] + 1}).to(at::kLong);
  const double alpha = arguments.number("alpha");
  const double gamma = arguments.number("gamma");
  return differentiate(arguments, timed, "loss", arguments.floats("logits", shape),
                       [&](const at::Tensor& logits) {
                         return focal_loss(logits, match, labels, offsets, alpha, gamma);
                       });
}

OpValues run_box_loss(Arguments& arguments, Stopwatch& timed) {
  const DetectorConfig config = arguments.config();
  const Shape shape = arguments.rows("deltas");
  const at::Tensor anchors = arguments.floats("anchors", shape);
  const at::Tensor boxes = arguments.floats("boxes", shape);
  return differentiate(arguments, timed, "loss", arguments.floats("deltas", shape),
                       [&](const at::Tensor& deltas) {
                         return box_loss(deltas, anchors, boxes, config.coder, config.loss);
                       });
}

BoxLossKind iou_kind(const std::string& name) {
  if (name == "giou") return BoxLossKind::kGiou;
  if (name == "diou") return BoxLossKind::kDiou;
  if (name == "ciou") return BoxLossKind::kCiou;
  refuse("kind", "giou, diou or ciou, got " + name);
}

OpValues run_iou_loss(Arguments& arguments, Stopwatch& timed) {
  const BoxLossKind kind = iou_kind(arguments.text("kind"));
  const Shape shape = arguments.rows("predicted");
  const at::Tensor target = arguments.floats("target", shape);
  return differentiate(
      arguments, timed, "loss", arguments.floats("predicted", shape),
      [&](const at::Tensor& predicted) { return iou_family_loss(predicted, target, kind); });
}

OpValues run_nms(Arguments& arguments, Stopwatch& timed) {
  const Shape shape = arguments.rows("boxes");
  const at::Tensor boxes = arguments.float32("boxes", shape);
  const at::Tensor scores = arguments.float32("scores", {shape[0]});
  const double iou = arguments.number("iou");
  return {{"kept", from_tensor(timed([&] { return nms(boxes, scores, iou); }))}};
}

OpValues run_batched_nms(Arguments& arguments, Stopwatch& timed) {
  const Shape shape = arguments.rows("boxes");
  const at::Tensor boxes = arguments.float32("boxes", shape);
  const at::Tensor scores = arguments.float32("scores", {shape[0]});
  const at::Tensor labels = arguments.int32("labels", {shape[0]});
  const double iou = arguments.number("iou");
  return {{"kept", from_tensor(timed([&] { return batched_nms(boxes, scores, labels, iou); }))}};
}

template <class T>
void append(std::vector<T>& all, const at::Tensor& tensor) {
  const at::Tensor dense = tensor.contiguous();
  const T* data = dense.const_data_ptr<T>();
  all.insert(all.end(), data, data + dense.numel());
}

OpValues run_postprocess(Arguments& arguments, Stopwatch& timed) {
  const DetectorConfig config = arguments.config();
  const auto& dimensions = arguments.ints("shape");
  if (dimensions.size() != 3) refuse("shape", "three integers: images, anchors, classes");
  const Shape shape(dimensions.begin(), dimensions.end());
  const at::Tensor logits = arguments.float32("logits", shape);
  const at::Tensor deltas = arguments.float32("deltas", {shape[0], shape[1], 4});
  const auto canvas = arguments.pair("canvas");
  const auto sizes = arguments.pairs("sizes");
  if (static_cast<int64_t>(sizes.size()) != shape[0])
    refuse("sizes", "one height, width per image");
  const AnchorGrid grid = make_anchor_grid(config.anchors, arguments.pairs("grids"), canvas);
  if (grid.total != shape[1])
    refuse("shape", std::to_string(grid.total) + " anchors, as the grids have");
  const at::NoGradGuard no_grad;
  const auto images = timed(
      [&] { return postprocess(logits, deltas, grid, sizes, canvas, config.coder, config.post); });
  std::vector<float> boxes;
  std::vector<float> scores;
  std::vector<int32_t> labels;
  std::vector<int32_t> offsets{0};
  for (const ImageDetections& image : images) {
    append(boxes, image.boxes);
    append(scores, image.scores);
    append(labels, image.labels);
    offsets.push_back(static_cast<int32_t>(scores.size()));
  }
  return {{"boxes", std::move(boxes)},
          {"scores", std::move(scores)},
          {"labels", std::move(labels)},
          {"offsets", std::move(offsets)}};
}

/// A 3x3 convolution of the towers' kind on noise: what the machine can do at best, to set measured
/// steps against.
OpValues run_convolution(Arguments& arguments, Stopwatch& timed) {
  const auto channels = static_cast<int64_t>(arguments.number("channels"));
  const auto height = static_cast<int64_t>(arguments.number("height"));
  const auto width = static_cast<int64_t>(arguments.number("width"));
  if (channels < 1 || height < 1 || width < 1) refuse("channels", "sizes of at least 1");
  const at::NoGradGuard no_grad;
  const at::Tensor input = at::rand({1, channels, height, width});
  const at::Tensor weight = at::rand({channels, channels, 3, 3});
  timed([&] { return at::conv2d(input, weight, {}, 1, 1); });
  return {{"gflop", 2e-9 * static_cast<double>(channels * channels * 9 * height * width)}};
}

OpValues run_warp(Arguments& arguments, Stopwatch& timed) {
  const auto canvas = arguments.pair("canvas");
  const int channels = static_cast<int>(arguments.number("channels"));
  const auto sizes = arguments.pairs("sizes");
  const auto shapes = arguments.pairs("shapes");
  const size_t n = sizes.size();
  const auto expect = [&](const std::string& name, size_t each) {
    if (arguments.elements(name) != static_cast<int64_t>(n * each)) {
      refuse(name, std::to_string(n * each) + " elements");
    }
  };
  expect("shapes", 2);
  expect("affines", 6);
  expect("reduce", 1);
  expect("normalise", 2);
  expect("intensity", 4);
  expect("noiseSeed", 1);
  const auto& affines = arguments.get<std::vector<double>>("affines", "a Float64Array");
  const auto& reduce = arguments.ints("reduce");
  const auto& normalise = arguments.get<std::vector<float>>("normalise", "a Float32Array");
  const auto& intensity = arguments.get<std::vector<float>>("intensity", "a Float32Array");
  std::vector<double> elastic;
  if (arguments.has("elastic")) {
    expect("elastic", 3);
    elastic = arguments.get<std::vector<double>>("elastic", "a Float64Array");
  }
  const auto& seeds = arguments.get<std::vector<uint32_t>>("noiseSeed", "a Uint32Array");
  std::vector<Window> windows(n);
  int64_t offset = 0;
  for (size_t i = 0; i < n; ++i) {
    Window& window = windows[i];
    window.offset = offset;
    window.rows = shapes[i][0];
    window.cols = shapes[i][1];
    for (size_t k = 0; k < 6; ++k) window.affine[k] = affines[6 * i + k];
    window.reduce = reduce[i];
    window.mean = normalise[2 * i];
    window.std = normalise[2 * i + 1];
    for (size_t k = 0; k < 4; ++k) window.intensity[k] = intensity[4 * i + k];
    window.noise_seed = seeds[i];
    window.size = sizes[i];
    if (!elastic.empty()) window.elastic = read_elastic(&elastic[3 * i]);
    offset += window.rows * window.cols;
  }
  const auto& pixels = arguments.get<std::vector<uint16_t>>("pixels", "a Uint16Array");
  const at::Tensor device_pixels = copy_to_tensor(pixels, at::kUInt16, {offset}, "pixels");
  return {{"input", from_tensor(timed(
                        [&] { return warp_windows(device_pixels, windows, channels, canvas); }))}};
}

using Run = OpValues (*)(Arguments&, Stopwatch&);

const std::map<std::string, Run>& table() {
  static const std::map<std::string, Run> ops{
      {"anchors", run_anchors},         {"match", run_match}, {"encode", run_encode},
      {"decode", run_decode},           {"focal", run_focal}, {"boxLoss", run_box_loss},
      {"iouLoss", run_iou_loss},        {"nms", run_nms},     {"batchedNms", run_batched_nms},
      {"postprocess", run_postprocess}, {"warp", run_warp},   {"convolution", run_convolution},
  };
  return ops;
}

}  // namespace

OpValues run_op(const std::string& name, const OpValues& values) {
  const auto found = table().find(name);
  if (found == table().end()) {
    std::string names;
    for (const auto& [known, run] : table()) names += (names.empty() ? "" : ", ") + known;
    throw Error("ARGUMENT", "runOp: expected one of " + names + ", got " + name);
  }
  Arguments arguments(values);
  Stopwatch timed(arguments);
  OpValues results = found->second(arguments, timed);
  arguments.finish();
  results.emplace("seconds", timed.seconds());
  return results;
}

}  // namespace mammo::addon
