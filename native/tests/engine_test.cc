// The process: two threads really work, one OpenMP runtime is mapped, and it is LibTorch's.
#include <ATen/Parallel.h>

#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "check.h"
#include "core/session.h"

using namespace mammo;

namespace {

void two_threads_at_work() {
  EXPECT_EQUAL(configure_engine(2).threads, 2);
  std::mutex mutex;
  std::set<std::thread::id> ids;
  at::parallel_for(0, 2, 1, [&](int64_t, int64_t) {
    const std::lock_guard lock(mutex);
    ids.insert(std::this_thread::get_id());
  });
  EXPECT_EQUAL(ids.size(), 2u);
}

void one_openmp_runtime() {
  std::set<std::string> files;
  std::ifstream maps("/proc/self/maps");
  std::string line;
  std::string torch;
  while (std::getline(maps, line)) {
    const size_t path = line.find('/');
    if (path == std::string::npos) continue;
    const std::string file = line.substr(path);
    if (file.find("gomp") != std::string::npos || file.find("libiomp") != std::string::npos ||
        file.find("libomp") != std::string::npos) {
      files.insert(file);
    }
    if (file.find("libtorch_cpu.so") != std::string::npos) torch = file.substr(0, file.rfind('/'));
  }
  EXPECT_EQUAL(files.size(), 1u);
  EXPECT(!torch.empty() && !files.empty() && files.begin()->starts_with(torch + "/"));
}

void facts() {
  EXPECT_THROWS("ARGUMENT", "threads", configure_engine(0));
  const MemoryUse use = memory_use();
  EXPECT(use.resident_bytes > 1 << 20 && use.resident_peak_bytes >= use.resident_bytes);
  EXPECT(library_info().libtorch.starts_with("2."));
  EXPECT(!configure_engine(1).capability.empty());
}

}  // namespace

int main() {
  check::run("two threads at work", two_threads_at_work);
  check::run("one OpenMP runtime", one_openmp_runtime);
  check::run("facts", facts);
  return check::failures;
}
