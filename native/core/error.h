// The one exception type of native/core. `code` is the part of ERR_MAMMO_<code>; the addon turns it
// into the JavaScript class.
#pragma once

#include <stdexcept>
#include <string>

namespace mammo {

class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message)
      : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

}  // namespace mammo
