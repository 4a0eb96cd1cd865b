// One loop compiled for the baseline, for AVX2 and for AVX-512, chosen when it is called, so that
// one build runs fast everywhere. The choice follows LibTorch's own, its variable
// ATEN_CPU_CAPABILITY (default, avx2, avx512) included, so that one variable rules both.
#pragma once

namespace mammo::cpu {

#define MAMMO_INLINE inline __attribute__((always_inline))

/// Instruction sets that loops are compiled for, each with all before it.
enum class Vectors { kBaseline, kAvx2, kAvx512 };

/// The set in use: what LibTorch chose, where this processor has it.
Vectors vectors();

/// For tests: loops use `wanted`, or the best this processor has below it, from now on; returns
/// what that is.
Vectors use_vectors(Vectors wanted);

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MAMMO_AVX2 __attribute__((target("arch=x86-64-v3")))
#define MAMMO_AVX512 __attribute__((target("arch=x86-64-v4")))
#else
#define MAMMO_AVX2
#define MAMMO_AVX512
#endif

/// `constexpr Clones<loop_body> loop;` is called like loop_body, which must be MAMMO_INLINE, and so
/// must be all that it calls. For leaf loops over many elements: the choice costs a few
/// instructions a call.
template <auto kBody>
struct Clones;

template <class R, class... A, R (*kBody)(A...)>
struct Clones<kBody> {
  R operator()(A... a) const { return run(a...); }
  static R run(A... a) {
    const Vectors set = vectors();
    if (set == Vectors::kAvx512) return avx512(a...);
    return set == Vectors::kAvx2 ? avx2(a...) : baseline(a...);
  }

 private:
  static R baseline(A... a) { return kBody(a...); }
  MAMMO_AVX2 static R avx2(A... a) { return kBody(a...); }
  MAMMO_AVX512 static R avx512(A... a) { return kBody(a...); }
};

}  // namespace mammo::cpu
