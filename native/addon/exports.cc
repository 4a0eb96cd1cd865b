// The functions that JavaScript sees: exactly the names of NativeBinding in lib/binding/types.ts.
// Each reads its arguments in the call, queues one lambda for the engine thread, and says how the
// result becomes a value.
#include <string>
#include <utility>
#include <vector>

#include "core/model/backbone.h"
#include "environment.h"
#include "napi_setup.h"
#include "op_calls.h"
#include "values.h"

namespace mammo::addon {
namespace {

/// ABI_VERSION of lib/binding/types.ts.
constexpr int kAbiVersion = 3;

using Info = Napi::CallbackInfo;

std::vector<std::string> function_names();

/// Result of a call that resolves to what the work returns.
constexpr auto kToJs = [](Napi::Env env, const auto& result) { return to_js(env, result); };
constexpr auto kToUndefined = [](Napi::Env env) { return env.Undefined(); };

template <class Work, class Convert>
Napi::Value queue(const Info& info, Work work, Convert convert) {
  return Environment::of(info.Env()).enqueue(info.Env(), std::move(work), convert);
}

/// Queues `work(Session&)` for the session numbered by the first argument.
template <class Work, class Convert>
Napi::Value on_session(const Info& info, Work work, Convert convert) {
  const int64_t number = read_integer(info[0], "session");
  return queue(
      info,
      [number, work = std::move(work)](Engine& engine, Owner owner) mutable {
        return work(engine.session(owner, number));
      },
      convert);
}

Napi::Value build_info(const Info& info) {
  const Napi::Env env = info.Env();
  const LibraryInfo library = library_info();
  auto object = Napi::Object::New(env);
  object.Set("abiVersion", kAbiVersion);
  object.Set("libtorch", library.libtorch);
  object.Set("cuda",
             library.cuda ? Napi::Value(Napi::String::New(env, *library.cuda)) : env.Null());
  object.Set("compiler", library.compiler);
  const auto names = function_names();
  auto functions = Napi::Array::New(env, names.size());
  for (size_t i = 0; i < names.size(); ++i) functions.Set(static_cast<uint32_t>(i), names[i]);
  object.Set("functions", functions);
  return object;
}

Napi::Value configure(const Info& info) {
  const int64_t threads = read_integer(info[0], "threads");
  if (threads < 1 || threads > 4096)
    throw Error("ARGUMENT", "threads: expected 1 to 4096, got " + std::to_string(threads));
  return queue(
      info, [threads](Engine&, Owner) { return configure_engine(static_cast<int>(threads)); },
      kToJs);
}

Napi::Value describe_backbone_call(const Info& info) {
  return queue(
      info,
      [text = read_text(info[0], "model")](Engine&, Owner) {
        return describe_backbone(parse_model_config(text));
      },
      [](Napi::Env env, const std::string& text) { return Napi::String::New(env, text); });
}

Napi::Value create_session(const Info& info) {
  return queue(
      info,
      [text = read_text(info[0], "config")](Engine& engine, Owner owner) {
        return engine.open_session(owner, parse_session_config(text));
      },
      [](Napi::Env env, int64_t number) {
        return Napi::Number::New(env, static_cast<double>(number));
      });
}

Napi::Value dispose_session(const Info& info) {
  const int64_t number = read_integer(info[0], "session");
  return queue(
      info, [number](Engine& engine, Owner owner) { engine.dispose_session(owner, number); },
      kToUndefined);
}

Napi::Value parameters(const Info& info) {
  return on_session(info, [](Session& session) { return session.parameters(); }, kToJs);
}

Napi::Value get_tensor(const Info& info) {
  return on_session(
      info,
      [name = read_text(info[1], "name")](Session& session) { return session.get_tensor(name); },
      kToJs);
}

Napi::Value set_tensor(const Info& info) {
  return on_session(
      info,
      [name = read_text(info[1], "name"), data = read_floats(info[2], "data")](Session& session) {
        session.set_tensor(name, data);
      },
      kToUndefined);
}

Napi::Value get_gradient(const Info& info) {
  return on_session(
      info,
      [name = read_text(info[1], "name")](Session& session) { return session.get_gradient(name); },
      kToJs);
}

Napi::Value zero_gradients(const Info& info) {
  return on_session(info, [](Session& session) { session.zero_gradients(); }, kToUndefined);
}

Napi::Value train_step(const Info& info) {
  return on_session(
      info,
      [batch = read_batch(info[1]), targets = read_targets(info[2]),
       options = read_options(info[3])](Session& session) {
        return session.train_step(batch, targets, options);
      },
      kToJs);
}

Napi::Value evaluate_loss(const Info& info) {
  return on_session(
      info,
      [batch = read_batch(info[1]), targets = read_targets(info[2])](Session& session) {
        return session.evaluate_loss(batch, targets);
      },
      kToJs);
}

Napi::Value detect(const Info& info) {
  return on_session(
      info, [batch = read_batch(info[1])](Session& session) { return session.detect(batch); },
      kToJs);
}

Napi::Value forward(const Info& info) {
  return on_session(
      info, [batch = read_batch(info[1])](Session& session) { return session.forward(batch); },
      kToJs);
}

Napi::Value preprocess(const Info& info) {
  return on_session(
      info, [batch = read_batch(info[1])](Session& session) { return session.preprocess(batch); },
      kToJs);
}

Napi::Value update_session(const Info& info) {
  return on_session(
      info, [text = read_text(info[1], "update")](Session& session) { session.update(text); },
      kToUndefined);
}

Napi::Value save_checkpoint(const Info& info) {
  return on_session(
      info,
      [path = read_text(info[1], "path"), metadata = read_text(info[2], "metadata")](
          Session& session) { session.save_checkpoint(path, metadata); },
      kToUndefined);
}

Napi::Value load_checkpoint(const Info& info) {
  const std::string what = read_text(info[2], "what");
  if (what != "all" && what != "weights")
    throw Error("ARGUMENT", "what: expected all or weights, got " + what);
  return on_session(
      info,
      [path = read_text(info[1], "path"),
       part = what == "all" ? LoadWhat::kAll : LoadWhat::kWeights](Session& session) {
        return session.load_checkpoint(path, part);
      },
      kToJs);
}

Napi::Value run_op_call(const Info& info) {
  return queue(
      info,
      [name = read_text(info[0], "name"), arguments = read_op_arguments(info[1])](Engine&, Owner) {
        return run_op(name, arguments);
      },
      kToJs);
}

Napi::Value memory(const Info& info) {
  return queue(info, [](Engine&, Owner) { return memory_use(); }, kToJs);
}

/// A fault found while reading arguments rejects the promise, so that every call fails in one way.
template <Napi::Value (*Call)(const Info&)>
Napi::Value guarded(const Info& info) {
  try {
    return Call(info);
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    return rejected(info.Env(), describe_failure(std::current_exception()));
  }
}

struct Function {
  const char* name;
  Napi::Value (*call)(const Info&);
};

constexpr Function kFunctions[] = {
    {"buildInfo", build_info},
    {"configure", guarded<configure>},
    {"describeBackbone", guarded<describe_backbone_call>},
    {"createSession", guarded<create_session>},
    {"disposeSession", guarded<dispose_session>},
    {"parameters", guarded<parameters>},
    {"getTensor", guarded<get_tensor>},
    {"setTensor", guarded<set_tensor>},
    {"getGradient", guarded<get_gradient>},
    {"zeroGradients", guarded<zero_gradients>},
    {"trainStep", guarded<train_step>},
    {"evaluateLoss", guarded<evaluate_loss>},
    {"detect", guarded<detect>},
    {"forward", guarded<forward>},
    {"preprocess", guarded<preprocess>},
    {"updateSession", guarded<update_session>},
    {"saveCheckpoint", guarded<save_checkpoint>},
    {"loadCheckpoint", guarded<load_checkpoint>},
    {"runOp", guarded<run_op_call>},
    {"memory", guarded<memory>},
};

std::vector<std::string> function_names() {
  std::vector<std::string> names;
  for (const Function& function : kFunctions) names.emplace_back(function.name);
  return names;
}

/// process.exit() emits `exit` and then ends the process without running cleanup hooks; this is the
/// last moment to wait in.
void close_on_exit(Napi::Env env) {
  const auto process = env.Global().Get("process").As<Napi::Object>();
  const auto listener = Napi::Function::New(
      env, [](const Info& info) { Environment::of(info.Env()).close(); }, "mammoExit");
  process.Get("once").As<Napi::Function>().Call(process,
                                                {Napi::String::New(env, "exit"), listener});
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment(env));
  close_on_exit(env);
  for (const Function& function : kFunctions) {
    exports.Set(function.name, Napi::Function::New(env, function.call, function.name));
  }
  return exports;
}

}  // namespace

NODE_API_MODULE(mammo, init)

}  // namespace mammo::addon
