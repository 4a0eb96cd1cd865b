// Standard normal noise as a pure function of seed and pixel, the same on CPU and CUDA up to the
// last bits of log and cos. Hash: the finaliser of MurmurHash3 (public domain) over a Weyl
// sequence; normal: Box and Muller 1958.
#pragma once

#include <cmath>
#include <cstdint>

#ifdef __CUDACC__
#define MAMMO_HOST_DEVICE __host__ __device__ inline
#else
#define MAMMO_HOST_DEVICE inline
#endif

namespace mammo {

MAMMO_HOST_DEVICE uint32_t mix_bits(uint32_t x) {
  x ^= x >> 16;
  x *= 0x85EBCA6Bu;
  x ^= x >> 13;
  x *= 0xC2B2AE35u;
  return x ^ (x >> 16);
}

MAMMO_HOST_DEVICE float pixel_normal(uint32_t seed, int64_t row, int64_t col) {
  const uint32_t place = static_cast<uint32_t>(row) << 16 ^ static_cast<uint32_t>(col);
  const uint32_t a = mix_bits(place * 0x9E3779B1u + seed);
  const uint32_t b = mix_bits(a ^ mix_bits(seed + 0x85EBCA6Bu));
  const float u = (static_cast<float>(a >> 8) + 1.0f) * (1.0f / 16777216.0f);  // (0, 1]
  const float v = static_cast<float>(b >> 8) * (1.0f / 16777216.0f);
  return sqrtf(-2.0f * logf(u)) * cosf(6.2831853f * v);
}

}  // namespace mammo
