#include "environment.h"

namespace mammo::addon {

Environment::Environment(Napi::Env env) {
  const Napi::String name = Napi::String::New(env, "mammo-engine");
  if (napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
                                      on_settle, &settler_) != napi_ok) {
    throw Napi::Error::New(env);
  }
  // Only pending promises keep the process alive, not the addon's presence.
  napi_unref_threadsafe_function(env, settler_);
  // Registered after the thread-safe function, whose own hook frees it: hooks run in reverse, so
  // ours is first and the engine can no longer touch it by the time it goes.
  napi_add_env_cleanup_hook(env, on_close, this);
}

Environment::~Environment() = default;

/// The wait is what makes an exit during a step clean: OpenMP and LibTorch must not compute while
/// the process runs its destructors.
void Environment::close() {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
    closed_ = true;
  }
  Engine::get().close(this);
}

/// Runs when a worker is terminated and at the natural end of any thread, but not after
/// process.exit() on the main thread: Node goes straight to exit() there. exports.cc therefore
/// closes on the process's event `exit` too.
void Environment::on_close(void* self) {
  auto& environment = *static_cast<Environment*>(self);
  environment.close();
  napi_release_threadsafe_function(environment.settler_, napi_tsfn_abort);
}

void Environment::submit(Napi::Env env, std::unique_ptr<Task> task) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return;
  }
  if (pending_++ == 0) napi_ref_threadsafe_function(env, settler_);
  Engine::get().post(std::move(task));
}

void Environment::deliver(std::unique_ptr<Job> job) noexcept {
  const std::lock_guard lock(mutex_);
  if (closed_) return;
  Job* raw = job.release();
  if (napi_call_threadsafe_function(settler_, raw, napi_tsfn_nonblocking) != napi_ok) delete raw;
}

void Environment::on_settle(napi_env raw_env, napi_value, void* context, void* data) {
  const std::unique_ptr<Task> task(static_cast<Task*>(static_cast<Job*>(data)));
  if (raw_env == nullptr) return;  // the environment is gone; nobody waits
  auto& environment = *static_cast<Environment*>(context);
  const Napi::Env env(raw_env);
  const Napi::HandleScope scope(env);
  if (--environment.pending_ == 0) napi_unref_threadsafe_function(raw_env, environment.settler_);
  task->settle(env);
}

void Task::settle(Napi::Env env) {
  if (!failure_) {
    try {
      deferred.Resolve(result(env));
      return;
    } catch (const Napi::Error& error) {
      deferred.Reject(error.Value());
      return;
    } catch (...) {
      failure_ = describe_failure(std::current_exception());
    }
  }
  deferred.Reject(to_js_error(env, *failure_).Value());
}

Napi::Error to_js_error(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", Napi::String::New(env, failure.code));
  return error;
}

Napi::Value rejected(Napi::Env env, const Failure& failure) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  deferred.Reject(to_js_error(env, failure).Value());
  return deferred.Promise();
}

}  // namespace mammo::addon
