// Facts and settings of the process: threads, versions, memory. Declared in session.h.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <torch/version.h>

#include <fstream>
#include <string>

#include "core/arena.h"
#include "core/session.h"
#ifdef MAMMO_WITH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <cuda.h>
#endif

namespace mammo {
namespace {

// A line "VmRSS:   1234 kB" of /proc/self/status, in bytes; 0 where the system has none.
int64_t status_bytes(const std::string& key) {
  std::ifstream file("/proc/self/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(key + ":")) return std::stoll(line.substr(key.size() + 1)) * 1024;
  }
  return 0;
}

}  // namespace

EngineInfo configure_engine(int threads) {
  if (threads < 1)
    throw Error("ARGUMENT", "threads: expected at least 1, got " + std::to_string(threads));
  at::set_num_threads(threads);
  install_arena();
  bool bf16 = false;
#if defined(__x86_64__)
  bf16 = __builtin_cpu_supports("avx512bf16");
#endif
  const int devices = at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
  return {at::get_num_threads(), at::get_cpu_capability(), devices, bf16};
}

LibraryInfo library_info() {
  LibraryInfo info{TORCH_VERSION, std::nullopt, std::string("gcc ") + __VERSION__};
#ifdef __clang__
  info.compiler = std::string("clang ") + __clang_version__;
#endif
#ifdef MAMMO_WITH_CUDA
  info.cuda = std::to_string(CUDA_VERSION / 1000) + "." + std::to_string(CUDA_VERSION % 1000 / 10);
#endif
  return info;
}

MemoryUse memory_use() {
  MemoryUse use{0, 0, status_bytes("VmRSS"), status_bytes("VmHWM")};
#ifdef MAMMO_WITH_CUDA
  if (c10::cuda::device_count() > 0) {
    const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(c10::cuda::current_device());
    const auto& bytes = stats.reserved_bytes[0];  // the aggregate over pools
    use.device_bytes = bytes.current;
    use.device_peak_bytes = bytes.peak;
  }
#endif
  return use;
}

}  // namespace mammo
