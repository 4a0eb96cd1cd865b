// Which instruction set the loops use.
#include "core/ops/cpu/clones.h"

#include <ATen/Version.h>

#include <algorithm>
#include <atomic>
#include <string>

namespace mammo::cpu {
namespace {

Vectors best() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") ||
      !__builtin_cpu_supports("bmi") || !__builtin_cpu_supports("bmi2"))
    return Vectors::kBaseline;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd");
  return wide ? Vectors::kAvx512 : Vectors::kAvx2;
#else
  return Vectors::kBaseline;
#endif
}

Vectors chosen() {
  const std::string name = at::get_cpu_capability();
  const bool wide = name.starts_with("AVX512");
  return std::min(best(), wide             ? Vectors::kAvx512
                          : name == "AVX2" ? Vectors::kAvx2
                                           : Vectors::kBaseline);
}

std::atomic<Vectors>& state() {
  static std::atomic<Vectors> set = chosen();
  return set;
}

}  // namespace

Vectors vectors() { return state().load(std::memory_order_relaxed); }

Vectors use_vectors(Vectors wanted) {
  const Vectors set = std::min(wanted, best());
  state() = set;
  return set;
}

}  // namespace mammo::cpu
