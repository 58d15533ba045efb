// SPDX-License-Identifier: Apache-2.0
// Activations as small integers, made on the fly for products with quantised matrices: 32 inputs at
// a time are rounded to 255 steps of a common size. Freestanding.
#pragma once

#include <rwkv/kernels/coded_panels.hpp>

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
  /// Minus the sums of each 16 of the inputs that are multiplied: as quantised, or exact.
  [[nodiscard]] float* negative_sums(std::size_t m) const noexcept {
    return reinterpret_cast<float*>(data + m * stride + cols + cols / 8);
  }
};

/// What quantised weights are multiplied with.
enum class Inputs : std::uint8_t {
  quantised,  ///< 8-bit codes: fast
  exact,      ///< floats: as if the weights were floats
};

/// Rows of inputs in both forms; `x` is needed by Inputs::exact only.
struct CodedInputs {
  const float* x;
  std::size_t ldx;
  QuantisedRows quantised;
};

}  // namespace rwkv::inline RWKV_ABI::kernels
