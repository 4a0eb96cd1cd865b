// The one thread of the process on which all LibTorch work runs, its FIFO queue, and the sessions
// by number. Shared by every JavaScript environment (main thread and workers); knows nothing of
// JavaScript. Sessions belong to the environment that opened them: `owner` is that environment's
// address.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "core/session.h"
#include "errors.h"

namespace mammo::addon {

using Owner = const void*;
class Engine;

/// Work for the engine thread.
class Job {
 public:
  explicit Job(Owner owner) : owner(owner) {}
  virtual ~Job() = default;
  /// On the engine thread. Keeps its result or failure in itself.
  virtual void run(Engine& engine) noexcept = 0;
  /// On the engine thread, after run(): gives the job to whoever waits for it.
  virtual void deliver(std::unique_ptr<Job> self) noexcept = 0;

  const Owner owner;
};

class Engine {
 public:
  /// Created at the first call and never destroyed: at process exit the thread waits in the queue
  /// while static destructors run, which is safe, whereas joining or destroying it under LibTorch's
  /// own destructors is not.
  static Engine& get();

  void post(std::unique_ptr<Job> job);

  /// Drops the owner's queued jobs, waits for its running one, then destroys its sessions on the
  /// engine thread. After the return nothing refers to the owner. May wait as long as the running
  /// job takes.
  void close(Owner owner);

  // Below: engine thread only.

  int64_t open_session(Owner owner, const SessionConfig& config);
  /// Error DISPOSED when there is no such session of this owner.
  Session& session(Owner owner, int64_t number);
  /// Does nothing when it is gone already.
  void dispose_session(Owner owner, int64_t number);

  /// Throws the first cause when a CUDA error has made the process's device context useless.
  void require_sound() const;
  void poison(const Failure& failure);

 private:
  Engine() = default;
  void push(std::unique_ptr<Job> job, bool first);
  void loop();

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable finished_;
  std::deque<std::unique_ptr<Job>> queue_;
  Owner running_ = nullptr;
  bool started_ = false;

  struct Entry {
    Owner owner;
    std::unique_ptr<Session> session;
  };
  std::map<int64_t, Entry> sessions_;
  int64_t next_number_ = 1;
  std::optional<Failure> poison_;
};

}  // namespace mammo::addon
