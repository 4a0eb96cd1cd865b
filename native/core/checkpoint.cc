// Checkpoints.
#include "core/checkpoint.h"

#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/safetensors.h"

namespace mammo {
namespace {

using Json = nlohmann::json;

constexpr const char* kFormat = "mammo-retinanet-checkpoint";
constexpr const char* kVersion = "1";
constexpr const char* kFirst = "optimizer.first.";
constexpr const char* kSecond = "optimizer.second.";
constexpr const char* kStep = "optimizer.step.";
constexpr const char* kTrained = "optimizer.trained.";  // beside averages
constexpr const char* kNormaliser = "normaliser.mean";
constexpr const char* kLossScale = "lossScale.factor";
constexpr const char* kCleanUpdates = "lossScale.clean";
constexpr const char* kRandom = "random.state";

std::string shape_text(at::IntArrayRef shape) {
  std::ostringstream out;
  out << shape;
  return out.str();
}

[[noreturn]] void fail(const std::string& path, const std::string& reason) {
  throw Error("CHECKPOINT", path + ": " + reason);
}

const std::string& metadata_of(const SafetensorsFile& file, const std::string& key,
                               const std::string& path) {
  const auto found = file.metadata.find(key);
  if (found == file.metadata.end())
    fail(path, "is no checkpoint of this program: its header has no " + key);
  return found->second;
}

void require_ours(const SafetensorsFile& file, const std::string& path) {
  if (metadata_of(file, "format", path) != kFormat)
    fail(path, "is no checkpoint of this program: its format is " + file.metadata.at("format"));
  const std::string& version = metadata_of(file, "version", path);
  if (version != kVersion)
    fail(path, "has format version " + version + ", this program reads version " + kVersion);
}

// Dotted keys whose values differ.
void differences(const Json& a, const Json& b, const std::string& prefix,
                 std::vector<std::string>& keys) {
  if (a.is_object() && b.is_object()) {
    for (const auto& [key, value] : a.items()) {
      const std::string name = prefix.empty() ? key : prefix + "." + key;
      if (!b.contains(key))
        keys.push_back(name);
      else
        differences(value, b.at(key), name, keys);
    }
    for (const auto& [key, value] : b.items()) {
      if (!a.contains(key)) keys.push_back(prefix.empty() ? key : prefix + "." + key);
    }
  } else if (a != b) {
    keys.push_back(prefix + " (file " + a.dump() + ", session " + b.dump() + ")");
  }
}

at::Tensor take(const SafetensorsFile& file, const std::string& name, at::IntArrayRef shape,
                at::ScalarType type, const std::string& path) {
  const auto found = file.tensors.find(name);
  if (found == file.tensors.end()) fail(path, "tensor " + name + " is missing");
  if (found->second.sizes() != shape || found->second.scalar_type() != type) {
    fail(path, "tensor " + name + ": expected shape " + shape_text(shape) + ", got " +
                   shape_text(found->second.sizes()) + " or another type");
  }
  return found->second;
}

}  // namespace

void save_checkpoint(const std::string& path, const TrainingState& state,
                     const std::string& metadata) {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  const bool averaged = state.averages && !state.averages->empty();
  for (const Parameter& p : state.parameters) {
    tensors.emplace_back(p.name, averaged ? state.averages->at(p.name) : p.value);
    if (averaged) tensors.emplace_back(kTrained + p.name, p.value);
  }
  for (const auto& [name, m] : state.moments) {
    tensors.emplace_back(kFirst + name, m.first);
    if (m.second.defined()) tensors.emplace_back(kSecond + name, m.second);
    tensors.emplace_back(kStep + name, at::full({1}, m.step, at::kLong));
  }
  tensors.emplace_back(kNormaliser, at::full({1}, state.normaliser.mean, at::kDouble));
  if (state.loss_scale) {
    tensors.emplace_back(kLossScale, at::full({1}, state.loss_scale->factor, at::kDouble));
    tensors.emplace_back(kCleanUpdates, at::full({1}, state.loss_scale->clean, at::kLong));
  }
  tensors.emplace_back(kRandom, state.random);
  write_safetensors(path,
                    {{"format", kFormat},
                     {"version", kVersion},
                     {"detector", detector_json(state.detector)},
                     {"optimizer", optimizer_json(state.optimizer_config)},
                     {"metadata", metadata}},
                    tensors);
}

RestoredState read_full_checkpoint(const std::string& path, const TrainingState& current) {
  const SafetensorsFile file = read_safetensors(path);
  require_ours(file, path);
  RestoredState restored{};
  restored.metadata = metadata_of(file, "metadata", path);

  Json detector = Json::parse(metadata_of(file, "detector", path), nullptr, false);
  Json ours = Json::parse(detector_json(current.detector));
  try {
    Json& model = detector.at("model");
    Json movable;
    for (const char* key : {"frozenStages", "checkpointActivations"}) {
      movable[key] = model.at(key);
      model.erase(key);
      ours["model"].erase(key);
    }
    const SessionUpdate update = parse_session_update(movable.dump());
    restored.frozen_stages = *update.frozen_stages;
    restored.checkpoint_activations = *update.checkpoint_activations;
  } catch (const Json::exception&) {
    fail(path, "its configuration is malformed");
  } catch (const Error&) {
    fail(path, "its configuration is malformed");
  }
  std::vector<std::string> keys;
  differences(detector, ours, "", keys);
  differences(Json::parse(metadata_of(file, "optimizer", path), nullptr, false),
              Json::parse(optimizer_json(current.optimizer_config)), "optimizer", keys);
  if (!keys.empty()) {
    std::string list;
    for (const std::string& key : keys) list += (list.empty() ? "" : ", ") + key;
    fail(path, "was written with another configuration: " + list);
  }

  const auto after = file.tensors.lower_bound(kTrained);
  const bool averaged = after != file.tensors.end() && after->first.starts_with(kTrained);
  for (const Parameter& p : current.parameters) {
    const at::Tensor named = take(file, p.name, p.value.sizes(), at::kFloat, path);
    if (averaged) {
      restored.averages[p.name] = named;
      restored.values[p.name] = take(file, kTrained + p.name, p.value.sizes(), at::kFloat, path);
    } else {
      restored.values[p.name] = named;
    }
    if (!file.tensors.contains(kStep + p.name)) continue;  // never updated
    Moments m;
    m.step = *take(file, kStep + p.name, {1}, at::kLong, path).data_ptr<int64_t>();
    m.first = take(file, kFirst + p.name, p.value.sizes(), at::kFloat, path);
    if (current.optimizer_config.kind != OptimizerKind::kSgd)
      m.second = take(file, kSecond + p.name, p.value.sizes(), at::kFloat, path);
    restored.moments[p.name] = std::move(m);
  }
  restored.normaliser.mean = *take(file, kNormaliser, {1}, at::kDouble, path).data_ptr<double>();
  if (current.loss_scale) {
    restored.loss_scale = LossScale{
        *take(file, kLossScale, {1}, at::kDouble, path).data_ptr<double>(),
        *take(file, kCleanUpdates, {1}, at::kLong, path).data_ptr<int64_t>(),
    };
  } else if (file.tensors.contains(kLossScale)) {
    fail(path, "was written with another configuration: precision (file fp16)");
  }
  restored.random = take(file, kRandom, current.random.sizes(), at::kByte, path);
  return restored;
}

RestoredWeights read_weights(const std::string& path, const ParameterList& parameters) {
  const SafetensorsFile file = read_safetensors(path);
  RestoredWeights restored;
  const auto format = file.metadata.find("format");
  if (format != file.metadata.end() && format->second == kFormat) {
    require_ours(file, path);
    restored.metadata = metadata_of(file, "metadata", path);
  }
  for (const Parameter& p : parameters) {
    const auto found = file.tensors.find(p.name);
    if (found == file.tensors.end()) {
      restored.report.skipped[p.name] = "not in the file";
    } else if (found->second.sizes() != p.value.sizes()) {
      restored.report.skipped[p.name] = "shape " + shape_text(found->second.sizes()) +
                                        " in the file, " + shape_text(p.value.sizes()) + " here";
    } else if (found->second.scalar_type() != at::kFloat) {
      restored.report.skipped[p.name] = "not float32 in the file";
    } else {
      restored.values[p.name] = found->second;
      restored.report.loaded.push_back(p.name);
    }
  }
  for (const auto& [name, tensor] : file.tensors) {
    const bool other_part = name.starts_with("optimizer.") || name == kNormaliser ||
                            name == kRandom || name == kLossScale || name == kCleanUpdates;
    if (!other_part && !parameters.find(name))
      restored.report.skipped[name] = "this network has no parameter of that name";
  }
  if (restored.values.empty())
    fail(path, "holds no parameter of this network (name and shape must agree)");
  return restored;
}

}  // namespace mammo
