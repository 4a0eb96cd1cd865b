// The whole test framework: EXPECT prints what failed and where, `run` reports, main returns the
// number of failures.
#pragma once

#include <cmath>
#include <functional>
#include <iostream>
#include <string>

#include "core/error.h"

namespace check {

inline int failures = 0;

inline void that(bool holds, const char* text, const char* file, int line) {
  if (holds) return;
  ++failures;
  std::cerr << file << ":" << line << ": " << text << "\n";
}

template <class A, class B>
void equal(const A& a, const B& b, const char* text, const char* file, int line) {
  if (a == b) return;
  ++failures;
  std::cerr << file << ":" << line << ": " << text << ": " << a << " is not " << b << "\n";
}

inline void near(double a, double b, double tolerance, const char* text, const char* file,
                 int line) {
  if (std::abs(a - b) <= tolerance) return;  // false for NaN
  ++failures;
  std::cerr << file << ":" << line << ": " << text << ": " << a << " and " << b
            << " differ by more than " << tolerance << "\n";
}

/// The call must throw mammo::Error with this code, and the message must contain `part`.
inline void throws(const std::function<void()>& call, const std::string& code,
                   const std::string& part, const char* file, int line) {
  try {
    call();
  } catch (const mammo::Error& error) {
    if (error.code() == code && std::string(error.what()).find(part) != std::string::npos) return;
    ++failures;
    std::cerr << file << ":" << line << ": expected " << code << " with \"" << part << "\", got "
              << error.code() << ": " << error.what() << "\n";
    return;
  }
  ++failures;
  std::cerr << file << ":" << line << ": expected an error " << code << ", none came\n";
}

inline void run(const std::string& name, const std::function<void()>& test) {
  const int before = failures;
  try {
    test();
  } catch (const std::exception& error) {
    ++failures;
    std::cerr << name << ": " << error.what() << "\n";
  }
  std::cout << (failures == before ? "ok   " : "FAIL ") << name << std::endl;
}

}  // namespace check

#define EXPECT(condition) check::that((condition), #condition, __FILE__, __LINE__)
#define EXPECT_EQUAL(a, b) check::equal((a), (b), #a " == " #b, __FILE__, __LINE__)
#define EXPECT_NEAR(a, b, tolerance) \
  check::near((a), (b), (tolerance), #a " ~ " #b, __FILE__, __LINE__)
#define EXPECT_THROWS(code, part, ...) \
  check::throws([&] { __VA_ARGS__; }, code, part, __FILE__, __LINE__)
