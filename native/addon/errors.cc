// Native exceptions to codes: mammo::Error keeps its own; LibTorch's are told apart by class first
// and by text only where LibTorch has no class (the CPU allocator's failure is a plain c10::Error).
#include "errors.h"

#include <c10/util/Exception.h>

#include <new>
#include <string_view>

#include "core/error.h"

namespace mammo::addon {
namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string first_line(std::string_view text) {
  return std::string(text.substr(0, text.find('\n')));
}

Failure from_torch(const c10::Error& error) {
  const std::string message = first_line(error.what_without_backtrace());
  if (dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
      contains(message, "can't allocate memory") || contains(message, "not enough memory")) {
    return {"OUT_OF_MEMORY", message};
  }
  if (dynamic_cast<const c10::AcceleratorError*>(&error) != nullptr ||
      contains(message, "CUDA error") || contains(message, "cuDNN error") ||
      contains(message, "CUDNN_STATUS") || contains(message, "CUBLAS_STATUS")) {
    return {"CUDA", message, true};
  }
  return {"INTERNAL", message};
}

}  // namespace

Failure describe_failure(std::exception_ptr exception) noexcept {
  try {
    std::rethrow_exception(exception);
  } catch (const mammo::Error& error) {
    return {error.code(), error.what(), error.code() == "CUDA"};
  } catch (const c10::Error& error) {
    return from_torch(error);
  } catch (const std::bad_alloc&) {
    return {"OUT_OF_MEMORY", "the process could not allocate more memory"};
  } catch (const std::exception& error) {
    return {"INTERNAL", error.what()};
  } catch (...) {
    return {"INTERNAL", "an exception of unknown type"};
  }
}

}  // namespace mammo::addon
