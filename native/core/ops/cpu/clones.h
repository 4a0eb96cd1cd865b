// MAMMO_CLONES before a function compiles it for the baseline, for AVX2 and for AVX-512 and picks
// one when the library is loaded, so that one build runs fast everywhere. Only for leaf loops: what
// is called inside must be inlined (MAMMO_INLINE).
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define MAMMO_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define MAMMO_CLONES
#endif

#define MAMMO_INLINE inline __attribute__((always_inline))
