// What went wrong, as plain data that can cross from the engine thread to the JavaScript thread.
// errors.cc is the only translation of native exceptions in the project.
#pragma once

#include <exception>
#include <string>

namespace mammo::addon {

struct Failure {
  std::string code;  // the part of ERR_MAMMO_<code>
  std::string message;
  /// The device context is lost: every later call must fail with this cause.
  bool poisons = false;
};

/// Never throws.
Failure describe_failure(std::exception_ptr exception) noexcept;

}  // namespace mammo::addon
