// One JavaScript environment (the main thread or a worker) as the engine's customer: makes
// promises, queues their work, settles them on the environment's own thread. State of the
// environment, not of the process: that is engine.h.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include "engine.h"
#include "napi_setup.h"

namespace mammo::addon {

/// A job whose end settles a promise.
class Task : public Job {
 public:
  Task(Owner owner, Napi::Env env) : Job(owner), deferred(Napi::Promise::Deferred::New(env)) {}
  /// On the JavaScript thread: resolves or rejects.
  void settle(Napi::Env env);

  Napi::Promise::Deferred deferred;

 protected:
  virtual Napi::Value result(Napi::Env env) = 0;
  std::optional<Failure> failure_;
};

class Environment {
 public:
  explicit Environment(Napi::Env env);
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment();

  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  /// Queues `work(Engine&, Owner)` for the engine thread and returns a promise of `convert(env,
  /// result)`; with a work that returns nothing, `convert` is called with env alone.
  template <class Work, class Convert>
  Napi::Value enqueue(Napi::Env env, Work work, Convert convert);

  /// The environment ends: drops its queued work, waits for what runs, destroys its sessions. Work
  /// queued later is dropped and its promise never settles. Idempotent.
  void close();

  /// From the engine thread; the job is destroyed unsettled when the environment is closing.
  void deliver(std::unique_ptr<Job> job) noexcept;

 private:
  static void on_settle(napi_env env, napi_value callback, void* context, void* data);
  static void on_close(void* self);
  void submit(Napi::Env env, std::unique_ptr<Task> task);

  napi_threadsafe_function settler_ = nullptr;
  int pending_ = 0;  // JavaScript thread only
  std::mutex mutex_;
  bool closed_ = false;
};

/// A promise that is rejected already: for arguments that cannot be read.
Napi::Value rejected(Napi::Env env, const Failure& failure);

/// The JavaScript error of a failure: an Error with property `code`.
Napi::Error to_js_error(Napi::Env env, const Failure& failure);

namespace detail {

template <class Work, class Convert>
class WorkTask final : public Task {
 public:
  using Result = std::invoke_result_t<Work&, Engine&, Owner>;
  static constexpr bool kVoid = std::is_void_v<Result>;
  using Stored = std::conditional_t<kVoid, std::monostate, Result>;

  WorkTask(Environment& environment, Napi::Env env, Work work, Convert convert)
      : Task(&environment, env),
        environment_(environment),
        work_(std::move(work)),
        convert_(std::move(convert)) {}

  void run(Engine& engine) noexcept override {
    try {
      engine.require_sound();
      if constexpr (kVoid) {
        work_(engine, owner);
      } else {
        stored_.emplace(work_(engine, owner));
      }
    } catch (...) {
      failure_ = describe_failure(std::current_exception());
      if (failure_->poisons) engine.poison(*failure_);
    }
  }
  void deliver(std::unique_ptr<Job> self) noexcept override {
    environment_.deliver(std::move(self));
  }

 protected:
  Napi::Value result(Napi::Env env) override {
    if constexpr (kVoid) {
      return convert_(env);
    } else {
      return convert_(env, *stored_);
    }
  }

 private:
  Environment& environment_;
  Work work_;
  Convert convert_;
  std::optional<Stored> stored_;
};

}  // namespace detail

template <class Work, class Convert>
Napi::Value Environment::enqueue(Napi::Env env, Work work, Convert convert) {
  auto task = std::make_unique<detail::WorkTask<Work, Convert>>(*this, env, std::move(work),
                                                                std::move(convert));
  const Napi::Value promise = task->deferred.Promise();
  submit(env, std::move(task));
  return promise;
}

}  // namespace mammo::addon
