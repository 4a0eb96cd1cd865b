#include "engine.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>

namespace mammo::addon {
namespace {

/// Destroys all sessions of an owner; close() waits for it.
class CloseJob : public Job {
 public:
  CloseJob(Owner owner, std::function<void(Owner)> destroy, std::function<void()> signal)
      : Job(owner), destroy_(std::move(destroy)), signal_(std::move(signal)) {}
  void run(Engine&) noexcept override { destroy_(owner); }
  void deliver(std::unique_ptr<Job>) noexcept override { signal_(); }

 private:
  std::function<void(Owner)> destroy_;
  std::function<void()> signal_;
};

}  // namespace

Engine& Engine::get() {
  static Engine* engine = new Engine;
  return *engine;
}

void Engine::post(std::unique_ptr<Job> job) { push(std::move(job), false); }

void Engine::push(std::unique_ptr<Job> job, bool first) {
  const std::lock_guard lock(mutex_);
  if (first) {
    queue_.push_front(std::move(job));
  } else {
    queue_.push_back(std::move(job));
  }
  if (!started_) {
    started_ = true;
    // Signals belong to Node's main thread: the new thread inherits a mask that blocks them all.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    std::thread([this] { loop(); }).detach();
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  arrived_.notify_one();
}

void Engine::loop() {
  pthread_setname_np(pthread_self(), "mammo-engine");
  for (;;) {
    std::unique_ptr<Job> job;
    {
      std::unique_lock lock(mutex_);
      arrived_.wait(lock, [this] { return !queue_.empty(); });
      job = std::move(queue_.front());
      queue_.pop_front();
      running_ = job->owner;
    }
    Job& current = *job;
    current.run(*this);
    current.deliver(std::move(job));
    {
      const std::lock_guard lock(mutex_);
      running_ = nullptr;
    }
    finished_.notify_all();
  }
}

void Engine::close(Owner owner) {
  {
    std::unique_lock lock(mutex_);
    std::erase_if(queue_, [owner](const auto& job) { return job->owner == owner; });
    finished_.wait(lock, [this, owner] { return running_ != owner; });
    if (!started_) return;
  }
  bool done = false;
  const auto destroy = [this](Owner which) {
    std::erase_if(sessions_, [which](const auto& item) { return item.second.owner == which; });
  };
  const auto signal = [this, &done] {
    const std::lock_guard lock(mutex_);
    done = true;
  };
  push(std::make_unique<CloseJob>(owner, destroy, signal), true);
  std::unique_lock lock(mutex_);
  finished_.wait(lock, [this, owner, &done] { return done && running_ != owner; });
}

int64_t Engine::open_session(Owner owner, const SessionConfig& config) {
  auto session = std::make_unique<Session>(config);
  const int64_t number = next_number_++;
  sessions_.emplace(number, Entry{owner, std::move(session)});
  return number;
}

Session& Engine::session(Owner owner, int64_t number) {
  const auto found = sessions_.find(number);
  if (found == sessions_.end() || found->second.owner != owner) {
    throw Error("DISPOSED",
                "session " + std::to_string(number) + ": expected an open session of this thread");
  }
  return *found->second.session;
}

void Engine::dispose_session(Owner owner, int64_t number) {
  const auto found = sessions_.find(number);
  if (found != sessions_.end() && found->second.owner == owner) sessions_.erase(found);
}

void Engine::require_sound() const {
  if (poison_)
    throw Error(poison_->code, "the device failed earlier in this process: " + poison_->message);
}

void Engine::poison(const Failure& failure) {
  if (!poison_) poison_ = failure;
}

}  // namespace mammo::addon
