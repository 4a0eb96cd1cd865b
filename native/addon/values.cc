#include "values.h"

#include <cmath>
#include <cstring>
#include <string_view>

namespace mammo::addon {
namespace {

[[noreturn]] void refuse(const std::string& name, const std::string& expected) {
  throw Error("ARGUMENT", name + ": expected " + expected);
}

template <class T>
struct Kind;
template <>
struct Kind<uint16_t> {
  static constexpr napi_typedarray_type kType = napi_uint16_array;
  static constexpr const char* kName = "Uint16Array";
};
template <>
struct Kind<int32_t> {
  static constexpr napi_typedarray_type kType = napi_int32_array;
  static constexpr const char* kName = "Int32Array";
};
template <>
struct Kind<uint32_t> {
  static constexpr napi_typedarray_type kType = napi_uint32_array;
  static constexpr const char* kName = "Uint32Array";
};
template <>
struct Kind<float> {
  static constexpr napi_typedarray_type kType = napi_float32_array;
  static constexpr const char* kName = "Float32Array";
};
template <>
struct Kind<double> {
  static constexpr napi_typedarray_type kType = napi_float64_array;
  static constexpr const char* kName = "Float64Array";
};

bool is_typed(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

template <class T>
std::vector<T> read_array(const Napi::Value& value, const std::string& name) {
  if (!is_typed(value, Kind<T>::kType)) refuse(name, std::string("a ") + Kind<T>::kName);
  const auto array = value.As<Napi::TypedArrayOf<T>>();
  return std::vector<T>(array.Data(), array.Data() + array.ElementLength());
}

template <class T>
std::vector<T> read_array(const Napi::Value& value, const std::string& name, size_t length) {
  auto array = read_array<T>(value, name);
  if (array.size() != length) {
    refuse(name, "length " + std::to_string(length) + ", got " + std::to_string(array.size()));
  }
  return array;
}

Napi::Object read_object(const Napi::Value& value, const std::string& name) {
  if (!value.IsObject()) refuse(name, "an object");
  return value.As<Napi::Object>();
}

double read_number(const Napi::Value& value, const std::string& name) {
  if (!value.IsNumber()) refuse(name, "a number");
  return value.As<Napi::Number>().DoubleValue();
}

std::optional<double> read_optional_number(const Napi::Value& value, const std::string& name) {
  if (value.IsNull()) return std::nullopt;
  return read_number(value, name);
}

bool read_boolean(const Napi::Value& value, const std::string& name) {
  if (!value.IsBoolean()) refuse(name, "true or false");
  return value.As<Napi::Boolean>().Value();
}

/// Pixels of all windows together; also keeps products of two int32 from overflowing.
size_t count_pixels(const std::vector<int32_t>& shapes, const std::string& name) {
  size_t total = 0;
  for (size_t i = 0; i < shapes.size(); i += 2) {
    if (shapes[i] < 1 || shapes[i + 1] < 1) refuse(name, "heights and widths >= 1");
    total += static_cast<size_t>(shapes[i]) * static_cast<size_t>(shapes[i + 1]);
  }
  return total;
}

WindowBatch read_windows(const Napi::Value& value, size_t n) {
  const auto object = read_object(value, "batch.windows");
  WindowBatch windows;
  windows.shapes = read_array<int32_t>(object.Get("shapes"), "batch.windows.shapes", 2 * n);
  windows.pixels = read_array<uint16_t>(object.Get("pixels"), "batch.windows.pixels",
                                        count_pixels(windows.shapes, "batch.windows.shapes"));
  windows.affines = read_array<double>(object.Get("affines"), "batch.windows.affines", 6 * n);
  windows.reduce = read_array<int32_t>(object.Get("reduce"), "batch.windows.reduce", n);
  windows.normalise = read_array<float>(object.Get("normalise"), "batch.windows.normalise", 2 * n);
  windows.intensity = read_array<float>(object.Get("intensity"), "batch.windows.intensity", 4 * n);
  windows.noise_seed = read_array<uint32_t>(object.Get("noiseSeed"), "batch.windows.noiseSeed", n);
  if (!object.Get("elastic").IsUndefined()) {
    windows.elastic = read_array<double>(object.Get("elastic"), "batch.windows.elastic", 3 * n);
  }
  return windows;
}

std::vector<int32_t> read_offsets(const Napi::Value& value, const std::string& name, size_t rows) {
  auto offsets = read_array<int32_t>(value, name);
  bool valid =
      !offsets.empty() && offsets.front() == 0 && offsets.back() == static_cast<int64_t>(rows);
  for (size_t i = 1; i < offsets.size(); ++i) valid = valid && offsets[i] >= offsets[i - 1];
  if (!valid) refuse(name, "offsets from 0 to " + std::to_string(rows));
  return offsets;
}

std::vector<float> read_boxes(const Napi::Value& value, const std::string& name) {
  auto boxes = read_array<float>(value, name);
  if (boxes.size() % 4 != 0) refuse(name, "a length divisible by 4");
  return boxes;
}

template <class T>
Napi::Value typed_array(Napi::Env env, const std::vector<T>& values) {
  auto array = Napi::TypedArrayOf<T>::New(env, values.size(), Kind<T>::kType);
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(T));
  return array;
}

Napi::Value shape_array(Napi::Env env, const std::vector<int64_t>& shape) {
  auto array = Napi::Array::New(env, shape.size());
  for (size_t i = 0; i < shape.size(); ++i) {
    array.Set(static_cast<uint32_t>(i), Napi::Number::New(env, static_cast<double>(shape[i])));
  }
  return array;
}

Napi::Value seconds_object(Napi::Env env, const Seconds& seconds) {
  auto object = Napi::Object::New(env);
  for (const auto& [part, value] : seconds) object.Set(part, Napi::Number::New(env, value));
  return object;
}

OpValue read_op_argument(const Napi::Value& value, const std::string& name) {
  if (value.IsNumber()) return read_number(value, name);
  if (value.IsBoolean()) return read_boolean(value, name) ? 1.0 : 0.0;
  if (value.IsString()) return value.As<Napi::String>().Utf8Value();
  if (is_typed(value, napi_float32_array)) return read_array<float>(value, name);
  if (is_typed(value, napi_float64_array)) return read_array<double>(value, name);
  if (is_typed(value, napi_int32_array)) return read_array<int32_t>(value, name);
  if (is_typed(value, napi_uint16_array)) return read_array<uint16_t>(value, name);
  if (is_typed(value, napi_uint32_array)) return read_array<uint32_t>(value, name);
  refuse(name, "a number, a text, or a Float32, Float64, Int32, Uint16 or Uint32 array");
}

}  // namespace

int64_t read_integer(const Napi::Value& value, const std::string& name) {
  const double number = read_number(value, name);
  if (number != std::floor(number) || std::abs(number) > 9007199254740991.0)
    refuse(name, "an integer");
  return static_cast<int64_t>(number);
}

std::string read_text(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) refuse(name, "a text");
  return value.As<Napi::String>().Utf8Value();
}

std::vector<float> read_floats(const Napi::Value& value, const std::string& name) {
  return read_array<float>(value, name);
}

ImageBatch read_batch(const Napi::Value& value) {
  const auto object = read_object(value, "batch");
  ImageBatch batch;
  const auto canvas = read_object(object.Get("canvas"), "batch.canvas");
  for (uint32_t i = 0; i < 2; ++i) {
    batch.canvas[i] = read_integer(canvas.Get(i), "batch.canvas");
    if (batch.canvas[i] < 1 || batch.canvas[i] > 1 << 20)
      refuse("batch.canvas", "height and width in 1..1048576");
  }
  batch.sizes = read_array<int32_t>(object.Get("sizes"), "batch.sizes");
  if (batch.sizes.empty() || batch.sizes.size() % 2 != 0)
    refuse("batch.sizes", "length 2n, n >= 1");
  const size_t n = batch.sizes.size() / 2;
  const Napi::Value windows = object.Get("windows");
  const Napi::Value input = object.Get("input");
  if (windows.IsUndefined() == input.IsUndefined())
    refuse("batch", "exactly one of windows and input");
  if (!windows.IsUndefined()) batch.windows = read_windows(windows, n);
  if (!input.IsUndefined()) batch.input = read_array<float>(input, "batch.input");
  return batch;
}

TargetBatch read_targets(const Napi::Value& value) {
  const auto object = read_object(value, "targets");
  TargetBatch targets;
  targets.boxes = read_boxes(object.Get("boxes"), "targets.boxes");
  targets.labels =
      read_array<int32_t>(object.Get("labels"), "targets.labels", targets.boxes.size() / 4);
  targets.box_offsets =
      read_offsets(object.Get("boxOffsets"), "targets.boxOffsets", targets.boxes.size() / 4);
  targets.ignore = read_boxes(object.Get("ignore"), "targets.ignore");
  targets.ignore_offsets =
      read_offsets(object.Get("ignoreOffsets"), "targets.ignoreOffsets", targets.ignore.size() / 4);
  return targets;
}

StepOptions read_options(const Napi::Value& value) {
  const auto object = read_object(value, "options");
  StepOptions options;
  options.lr = read_number(object.Get("lr"), "options.lr");
  options.weight_decay = read_number(object.Get("weightDecay"), "options.weightDecay");
  options.clip_norm = read_optional_number(object.Get("clipNorm"), "options.clipNorm");
  options.clip_norm_per_tensor =
      read_optional_number(object.Get("clipNormPerTensor"), "options.clipNormPerTensor");
  options.clip_value = read_optional_number(object.Get("clipValue"), "options.clipValue");
  options.loss_scale = read_number(object.Get("lossScale"), "options.lossScale");
  options.update = read_boolean(object.Get("update"), "options.update");
  options.skip_non_finite = read_boolean(object.Get("skipNonFinite"), "options.skipNonFinite");
  if (!object.Get("emaDecay").IsUndefined())
    options.ema_decay = read_number(object.Get("emaDecay"), "options.emaDecay");
  return options;
}

OpValues read_op_arguments(const Napi::Value& value) {
  const auto object = read_object(value, "args");
  OpValues values;
  const Napi::Array names = object.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = Napi::Value(names.Get(i)).As<Napi::String>().Utf8Value();
    values.emplace(name, read_op_argument(object.Get(name), "args." + name));
  }
  return values;
}

Napi::Value to_js(Napi::Env env, const std::vector<float>& values) {
  return typed_array(env, values);
}

Napi::Value to_js(Napi::Env env, const TensorValue& tensor) {
  auto object = Napi::Object::New(env);
  object.Set("shape", shape_array(env, tensor.shape));
  object.Set("data", typed_array(env, tensor.data));
  return object;
}

Napi::Value to_js(Napi::Env env, const std::vector<ParameterInfo>& parameters) {
  auto array = Napi::Array::New(env, parameters.size());
  for (size_t i = 0; i < parameters.size(); ++i) {
    auto object = Napi::Object::New(env);
    object.Set("name", parameters[i].name);
    object.Set("shape", shape_array(env, parameters[i].shape));
    object.Set("role", parameters[i].role);
    object.Set("trainable", Napi::Boolean::New(env, parameters[i].trainable));
    array.Set(static_cast<uint32_t>(i), object);
  }
  return array;
}

Napi::Value to_js(Napi::Env env, const StepResult& result) {
  auto object = Napi::Object::New(env);
  object.Set("loss", result.loss);
  object.Set("classification", result.classification);
  object.Set("box", result.box);
  object.Set("gradNorm", result.grad_norm);
  object.Set("positives", static_cast<double>(result.positives));
  object.Set("perImage", typed_array(env, result.per_image));
  object.Set("finite", Napi::Boolean::New(env, result.finite));
  object.Set("updated", Napi::Boolean::New(env, result.updated));
  object.Set("scale", result.scale);
  object.Set("overflowed", Napi::Boolean::New(env, result.overflowed));
  object.Set("seconds", seconds_object(env, result.seconds));
  return object;
}

Napi::Value to_js(Napi::Env env, const Detections& detections) {
  auto object = Napi::Object::New(env);
  object.Set("boxes", typed_array(env, detections.boxes));
  object.Set("scores", typed_array(env, detections.scores));
  object.Set("labels", typed_array(env, detections.labels));
  object.Set("offsets", typed_array(env, detections.offsets));
  object.Set("seconds", seconds_object(env, detections.seconds));
  return object;
}

Napi::Value to_js(Napi::Env env, const RawOutputs& outputs) {
  auto object = Napi::Object::New(env);
  object.Set("grids", typed_array(env, outputs.grids));
  object.Set("logits", typed_array(env, outputs.logits));
  object.Set("deltas", typed_array(env, outputs.deltas));
  object.Set("anchors", typed_array(env, outputs.anchors));
  return object;
}

Napi::Value to_js(Napi::Env env, const LoadedCheckpoint& loaded) {
  auto names = Napi::Array::New(env, loaded.report.loaded.size());
  for (size_t i = 0; i < loaded.report.loaded.size(); ++i) {
    names.Set(static_cast<uint32_t>(i), loaded.report.loaded[i]);
  }
  auto skipped = Napi::Object::New(env);
  for (const auto& [name, reason] : loaded.report.skipped) skipped.Set(name, reason);
  auto report = Napi::Object::New(env);
  report.Set("loaded", names);
  report.Set("skipped", skipped);
  auto object = Napi::Object::New(env);
  object.Set("metadata", loaded.metadata);
  object.Set("report", report);
  return object;
}

Napi::Value to_js(Napi::Env env, const MemoryUse& memory) {
  auto object = Napi::Object::New(env);
  object.Set("deviceBytes", static_cast<double>(memory.device_bytes));
  object.Set("devicePeakBytes", static_cast<double>(memory.device_peak_bytes));
  object.Set("residentBytes", static_cast<double>(memory.resident_bytes));
  object.Set("residentPeakBytes", static_cast<double>(memory.resident_peak_bytes));
  return object;
}

Napi::Value to_js(Napi::Env env, const EngineInfo& info) {
  auto object = Napi::Object::New(env);
  object.Set("threads", info.threads);
  object.Set("capability", info.capability);
  object.Set("cudaDevices", info.cuda_devices);
  object.Set("bf16", Napi::Boolean::New(env, info.bf16));
  return object;
}

Napi::Value to_js(Napi::Env env, const OpValues& values) {
  auto object = Napi::Object::New(env);
  for (const auto& [name, value] : values) {
    std::visit(
        [&, &key = name](const auto& item) {
          using T = std::decay_t<decltype(item)>;
          if constexpr (std::is_same_v<T, double>) {
            object.Set(key, Napi::Number::New(env, item));
          } else if constexpr (std::is_same_v<T, std::string>) {
            object.Set(key, Napi::String::New(env, item));
          } else {
            object.Set(key, typed_array(env, item));
          }
        },
        value);
  }
  return object;
}

}  // namespace mammo::addon
