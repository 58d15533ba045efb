// SPDX-License-Identifier: Apache-2.0
// The few operations on rows that have a backward pass.
#pragma once

#include <rwkv/kernels/lanes.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/train/product.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

using Lanes = simd::Native;

/// y[c] += sum over rows of x[row][c]
inline void add_rows(const float* x, float* RWKV_RESTRICT y, std::size_t rows, std::size_t n) {
  for (std::size_t row = 0; row < rows; ++row) kernels::add<Lanes>(x + row * n, y, n);
}

/// y *= x
inline void multiply_by(const float* x, float* RWKV_RESTRICT y, std::size_t n) noexcept {
  kernels::map<Lanes>(
      {0, n}, [=]<class V>(std::size_t i) { (V::load(y + i) * V::load(x + i)).store(y + i); });
}

/// x_hat = (x - mean) * scale with scale = 1 / sqrt(variance + epsilon), which is returned.
inline float standardise(const float* x, float* x_hat, std::size_t n, float epsilon) noexcept {
  const auto count = static_cast<float>(n);
  const float mean = kernels::reduce<Lanes>(
                         n, [x]<class V>(std::size_t i, V sum) { return sum + V::load(x + i); }) /
                     count;
  const float variance = kernels::reduce<Lanes>(n,
                                                [x, mean]<class V>(std::size_t i, V sum) {
                                                  const V d = V::load(x + i) - V::broadcast(mean);
                                                  return fma(d, d, sum);
                                                }) /
                         count;
  const float scale = 1.0f / simd::square_root(variance + epsilon);
  kernels::map<Lanes>({0, n}, [=]<class V>(std::size_t i) {
    ((V::load(x + i) - V::broadcast(mean)) * V::broadcast(scale)).store(x_hat + i);
  });
  return scale;
}

/// Backward of `standardise`, given d = gradient of x_hat: dx = (d - mean(d) - x_hat mean(d x_hat))
/// scale. dx may be d.
inline void standardise_backward(const float* d, const float* x_hat, float scale, float* dx,
                                 std::size_t n, Store store = Store::replace) noexcept {
  const auto count = static_cast<float>(n);
  const float mean = kernels::reduce<Lanes>(
                         n, [d]<class V>(std::size_t i, V sum) { return sum + V::load(d + i); }) /
                     count;
  const float along = kernels::reduce<Lanes>(n,
                                             [d, x_hat]<class V>(std::size_t i, V sum) {
                                               return fma(V::load(d + i), V::load(x_hat + i), sum);
                                             }) /
                      count;
  const bool add = store == Store::add;
  kernels::map<Lanes>({0, n}, [=]<class V>(std::size_t i) {
    const V centred = V::load(d + i) - V::broadcast(mean);
    const V g = fma(V::broadcast(-along), V::load(x_hat + i), centred) * V::broadcast(scale);
    (add ? V::load(dx + i) + g : g).store(dx + i);
  });
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
