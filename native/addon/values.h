// JavaScript values to plain structs of native/core and back. Reading checks kinds and lengths, so
// that nothing that comes from JavaScript can make the native side read past an array;
// lib/binding/validate.ts checks the meaning. A fault is Error("ARGUMENT") with the field's name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/session.h"
#include "napi_setup.h"
#include "op_calls.h"

namespace mammo::addon {

// Arguments by position; `name` is what an error calls it.
int64_t read_integer(const Napi::Value& value, const std::string& name);
std::string read_text(const Napi::Value& value, const std::string& name);
std::vector<float> read_floats(const Napi::Value& value, const std::string& name);

ImageBatch read_batch(const Napi::Value& value);
TargetBatch read_targets(const Napi::Value& value);
StepOptions read_options(const Napi::Value& value);
OpValues read_op_arguments(const Napi::Value& value);

Napi::Value to_js(Napi::Env env, const std::vector<float>& values);
Napi::Value to_js(Napi::Env env, const TensorValue& tensor);
Napi::Value to_js(Napi::Env env, const std::vector<ParameterInfo>& parameters);
Napi::Value to_js(Napi::Env env, const StepResult& result);
Napi::Value to_js(Napi::Env env, const Detections& detections);
Napi::Value to_js(Napi::Env env, const RawOutputs& outputs);
Napi::Value to_js(Napi::Env env, const LoadedCheckpoint& loaded);
Napi::Value to_js(Napi::Env env, const MemoryUse& memory);
Napi::Value to_js(Napi::Env env, const EngineInfo& info);
Napi::Value to_js(Napi::Env env, const OpValues& values);

}  // namespace mammo::addon
