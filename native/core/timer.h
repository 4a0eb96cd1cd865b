// Wall-clock seconds by part of a call. On a CUDA device they are the times of queueing, not of the
// kernels.
#pragma once

#include <chrono>
#include <string>

#include "core/session.h"

namespace mammo {

class Timer {
 public:
  /// Books the time since the last mark under `part`.
  void mark(const std::string& part) {
    const auto now = Clock::now();
    seconds_[part] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  const Seconds& seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point last_ = Clock::now();
  Seconds seconds_;
};

}  // namespace mammo
