// SPDX-License-Identifier: Apache-2.0
// Activations as small integers, made on the fly for products with quantised matrices: 32 inputs at
// a time are rounded to 255 steps of a common size. Freestanding.
#pragma once

#include <rwkv/kernels/coded_panels.hpp>

#include <bit>

namespace rwkv::inline RWKV_ABI::kernels {

/// Rows of inputs, each with codes [cols], steps [cols / 32] and sums [cols / 16]. A view.
struct QuantisedRows {
  std::byte* data = nullptr;
  std::size_t stride = 0;  ///< bytes from row to row
  std::size_t cols = 0;    ///< a multiple of 32

  /// Bytes of one row, a multiple of the alignment.
  static constexpr std::size_t bytes_for(std::size_t cols) noexcept {
    const std::size_t tiles = (cols + tile_cols - 1) / tile_cols;
    const std::size_t bytes = tiles * (tile_cols + 3 * sizeof(float));
    return (bytes + alignment - 1) / alignment * alignment;
  }

  /// x[i] is about codes[i] * steps[i / 32].
  [[nodiscard]] std::int8_t* codes(std::size_t m) const noexcept {
    return reinterpret_cast<std::int8_t*>(data + m * stride);
  }
  [[nodiscard]] float* steps(std::size_t m) const noexcept {
    return reinterpret_cast<float*>(data + m * stride + cols);
  }
  /// Of each 16 codes.
  [[nodiscard]] std::int32_t* sums(std::size_t m) const noexcept {
    return reinterpret_cast<std::int32_t*>(data + m * stride + cols + cols / 8);
  }
  /// Of each 16 inputs, instead of `sums`, if the inputs themselves are multiplied.
  [[nodiscard]] float* exact_sums(std::size_t m) const noexcept {
    return reinterpret_cast<float*>(data + m * stride + cols + cols / 8);
  }
};

/// Quantises row m: the largest of 32 inputs becomes 127 or -127. NaNs and infinities make every
/// product with their 32 inputs a NaN.
inline void quantise_row(const float* x, const QuantisedRows& to, std::size_t m) noexcept {
  std::int8_t* codes = to.codes(m);
  float* steps = to.steps(m);
  std::int32_t* sums = to.sums(m);
  for (std::size_t tile = 0; tile < to.cols / tile_cols; ++tile, x += tile_cols) {
    std::uint32_t largest = 0;  // floats without sign are ordered as integers
    for (std::size_t i = 0; i < tile_cols; ++i) {
      const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu;
      largest = magnitude > largest ? magnitude : largest;
    }
    const float step = std::bit_cast<float>(largest) * (1.0f / 127.0f);
    // Below the smallest normal step nothing is left of the inputs, and 1 / step might overflow.
    const float by = step > 0x1p-120f ? 1.0f / step : 0.0f;
    constexpr float shift = 0x1.8p23f;  // leaves the nearest integer in the low bits
    std::int32_t integers[tile_cols];
    for (std::size_t i = 0; i < tile_cols; ++i)
      integers[i] = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(x[i] * by + shift) -
                                              std::bit_cast<std::uint32_t>(shift));
    std::int32_t sum[2] = {0, 0};
    for (std::size_t i = 0; i < 16; ++i) {
      sum[0] += static_cast<std::int8_t>(integers[i]);
      sum[1] += static_cast<std::int8_t>(integers[16 + i]);
    }
    for (std::size_t i = 0; i < tile_cols; ++i)
      codes[tile * tile_cols + i] = static_cast<std::int8_t>(integers[i]);
    steps[tile] = step;
    sums[2 * tile] = sum[0];
    sums[2 * tile + 1] = sum[1];
  }
}

/// Only the sums of row m's inputs.
inline void sum_row(const float* x, const QuantisedRows& to, std::size_t m) noexcept {
  float* sums = to.exact_sums(m);
  for (std::size_t part = 0; part < to.cols / 16; ++part, x += 16) {
    float sum = 0;
    for (std::size_t i = 0; i < 16; ++i) sum += x[i];
    sums[part] = sum;
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels
