// The arena behind LibTorch's CPU tensors.
#include "core/arena.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>

#include "core/error.h"
#include "core/switches.h"

namespace mammo {
namespace {

constexpr size_t kLarge = size_t{1} << 20;
constexpr size_t kPage = size_t{1} << 21;       // a huge page
constexpr size_t kSmallPage = size_t{1} << 16;  // a multiple of every system's page

// Weights are a few MiB each: whole huge pages would waste a quarter of them.
size_t round_up(size_t size) {
  const size_t page = size < 8 * kPage ? kSmallPage : kPage;
  return (size + page - 1) / page * page;
}

class Arena final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    void* data = size < kLarge ? c10::alloc_cpu(size) : take(round_up(size));
    return {data, data, &Arena::release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &Arena::release; }
  void copy_data(void* target, const void* source, size_t size) const override {
    std::memcpy(target, source, size);
  }

  void trim() {
    const std::lock_guard lock(mutex_);
    shrink_to(0);
  }
  ArenaUse use() {
    const std::lock_guard lock(mutex_);
    return {static_cast<int64_t>(used_), static_cast<int64_t>(kept_), static_cast<int64_t>(peak_)};
  }

  // Never destroyed: tensors may outlive every static object.
  static Arena& get() {
    static Arena* arena = new Arena;
    return *arena;
  }

 private:
  void* take(size_t size) {
    const std::lock_guard lock(mutex_);
    // A kept block may be larger by an eighth; what it wastes stays mapped anyway.
    const auto found = free_.lower_bound(size);
    if (found != free_.end() && found->first - size <= size / 8) {
      void* block = found->second;
      kept_ -= found->first;
      use_block(block, found->first);
      free_.erase(found);
      return block;
    }
    // The watermark is what will be in use now at the latest; kept blocks beyond it go.
    const size_t limit = std::max(peak_, used_ + size);
    shrink_to(limit - used_ - size);
    // Over-map by a huge page, to cut an aligned piece out of it.
    void* raw =
        ::mmap(nullptr, size + kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (raw == MAP_FAILED) {
      throw Error("OUT_OF_MEMORY",
                  "the system has no " + std::to_string(size >> 20) + " MiB more of memory");
    }
    const auto address = reinterpret_cast<uintptr_t>(raw);
    const uintptr_t start = (address + kPage - 1) / kPage * kPage;
    if (start > address) ::munmap(raw, start - address);
    ::munmap(reinterpret_cast<void*>(start + size), address + kPage - start);
    void* block = reinterpret_cast<void*>(start);
    ::madvise(block, size, MADV_HUGEPAGE);
    use_block(block, size);
    return block;
  }

  void use_block(void* block, size_t size) {
    sizes_[block] = size;
    used_ += size;
    peak_ = std::max(peak_, used_);
  }

  // Unmaps the largest kept blocks until at most `bytes` are kept.
  void shrink_to(size_t bytes) {
    while (kept_ > bytes) {
      const auto largest = std::prev(free_.end());
      ::munmap(largest->second, largest->first);
      kept_ -= largest->first;
      free_.erase(largest);
    }
  }

  // Also gets blocks that LibTorch's own allocator made before the arena was installed (oneDNN
  // frees through the current one).
  static void release(void* data) {
    if (reinterpret_cast<uintptr_t>(data) % kPage == 0 && data != nullptr) {
      Arena& arena = get();
      const std::lock_guard lock(arena.mutex_);
      const auto found = arena.sizes_.find(data);
      if (found != arena.sizes_.end()) {
        arena.used_ -= found->second;
        arena.kept_ += found->second;
        arena.free_.emplace(found->second, data);
        arena.sizes_.erase(found);
        return;
      }
    }
    c10::free_cpu(data);
  }

  std::mutex mutex_;
  std::unordered_map<void*, size_t> sizes_;  // blocks in use
  std::multimap<size_t, void*> free_;        // kept blocks by size
  size_t used_ = 0, kept_ = 0, peak_ = 0;
};

}  // namespace

void install_arena() {
  if (!switches().arena) return;
  static std::once_flag once;
  std::call_once(once, [] { c10::SetCPUAllocator(&Arena::get(), /*priority=*/255); });
}

void trim_arena() { Arena::get().trim(); }

ArenaUse arena_use() { return Arena::get().use(); }

}  // namespace mammo
