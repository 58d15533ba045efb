// SPDX-License-Identifier: Apache-2.0
// Functions of one number, sums over a warp or a block, and stored numbers as floats. Every sum has
// one order, whatever else is computed beside it; that is what makes the bits of a row its own.
#pragma once

#include <rwkv/cuda/device.cuh>
#include <rwkv/cuda/engine.hpp>

namespace rwkv::inline RWKV_ABI::cuda::device {

inline constexpr int warp_size = 32;
/// Of the kernels that multiply with matrices.
inline constexpr int block_warps = 8;
inline constexpr int block_threads = block_warps * warp_size;

/// e^x within 2 ulp, as in kernels/math.hpp: 0 below -87.33, 2.4e38 from 88.37 on.
RWKV_DEVICE float exp(float x) {
  const float shift = 12582912.0f;  // 1.5 * 2^23: leaves the nearest integer in the low bits
  const float above = x < 88.37f || x != x ? x : 88.37f;
  const float clamped = above > -87.33f || above != above ? above : -87.33f;
  const float shifted = fma(clamped, 0x1.715476p0f, shift);
  const float n = add(shifted, -shift);
  float r = fma(n, -0x1.62e4p-1f, clamped);
  r = fma(n, -0x1.7f7d1cp-20f, r);
  float q = 0x1.6a23cep-10f;
  q = fma(q, r, 0x1.123a2p-7f);
  q = fma(q, r, 0x1.5558f2p-5f);
  q = fma(q, r, 0x1.555492p-3f);
  q = fma(q, r, 0x1.fffffcp-2f);
  const float p = add(fma(mul(r, r), q, r), 1.0f);
  const float power = float_of((bits_of(shifted) + 127u) << 23);
  return x < -87.33f ? 0.0f : mul(p, power);
}

RWKV_DEVICE float sigmoid(float x) { return divide(1.0f, add(1.0f, exp(-x))); }

/// Relative error below 3e-7 everywhere.
RWKV_DEVICE float tanh(float x) {
  const float z = mul(x, x);
  float p = -0.0057170447f;
  p = fma(p, z, 0.020650586f);
  p = fma(p, z, -0.053743497f);
  p = fma(p, z, 0.13331491f);
  p = fma(p, z, -0.33333284f);
  const float odd = fma(mul(x, z), p, x);
  const float large = add(1.0f, -divide(2.0f, add(exp(add(x, x)), 1.0f)));
  return z < 0.390625f ? odd : large;
}

RWKV_DEVICE float relu_squared(float x) {
  const float positive = x > 0 ? x : (x != x ? x : 0.0f);
  return mul(positive, positive);
}

RWKV_DEVICE float bfloat16_to_float(std::uint32_t bits) { return float_of(bits << 16); }

/// Every lane's sums over its warp: the lanes in pairs, then pairs of pairs ...
template <int n>
RWKV_DEVICE void warp_sums(float (&sums)[n]) {
  RWKV_CUDA_UNROLL
  for (unsigned mask = 16; mask > 0; mask /= 2) {
    float other[n];
    RWKV_CUDA_UNROLL
    for (int i = 0; i < n; ++i) other[i] = sums[i];
    exchange(other, mask);
    RWKV_CUDA_UNROLL
    for (int i = 0; i < n; ++i) sums[i] = add(sums[i], other[i]);
  }
}

/// Every thread's sums over its block of block_threads, with room for block_warps * n floats in
/// shared memory, which may be used again after the next barrier.
template <int n>
RWKV_DEVICE void block_sums(float (&sums)[n], float* room) {
  warp_sums(sums);
  if (lane() == 0)
    for (int i = 0; i < n; ++i) room[warp() * n + static_cast<unsigned>(i)] = sums[i];
  barrier();
  for (int i = 0; i < n; ++i) {
    float sum = 0;
    for (int w = 0; w < block_warps; ++w) sum = add(sum, room[w * n + i]);
    sums[i] = sum;
  }
}

/// (x - mean) * scale * weight + bias
RWKV_DEVICE float normalised(float x, float mean, float scale, float weight, float bias) {
  return fma(mul(add(x, -mean), scale), weight, bias);
}

}  // namespace rwkv::inline RWKV_ABI::cuda::device
