// SPDX-License-Identifier: Apache-2.0
// What products are multiplied with: rows of activations, and what has been made of them on the fly
// for the kind of matrix at hand. Quantised matrices want small integers, 32 inputs at a time
// rounded to 255 steps of a common size; matrices of bfloat16 may want bfloat16. Freestanding.
#pragma once

#include <rwkv/kernels/cortex_m.hpp>
#include <rwkv/kernels/quantised_layout.hpp>

namespace rwkv::inline RWKV_ABI::kernels {

/// What weights are multiplied with.
enum class Inputs : std::uint8_t {
  rounded,  ///< blocks with 8-bit codes, everything else with floats
  exact,    ///< everything with floats
  fastest,  ///< as `rounded`, and bf16 with bf16 where the processor multiplies them
};

}  // namespace rwkv::inline RWKV_ABI::kernels

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// What is made of a row before it is multiplied with a matrix.
enum class ActivationFormat : std::uint8_t {
  none,
  codes,      ///< of 8 bits, with steps and sums
  sums,       ///< only the sums
  bfloats16,  ///< the nearest bfloat16
  wide,       ///< codes as the DSP extension of Cortex-M multiplies them
};

/// Rows of quantised inputs: either codes [cols], steps [cols / 32], sums [cols / 16] and offsets
/// [cols / 32], or bfloat16 [cols], or wide tiles [cols / 32]. A view.
struct QuantisedActivations {
  std::byte* data = nullptr;
  std::size_t stride = 0;  ///< bytes from row to row
  std::size_t cols = 0;    ///< a multiple of 32, for bfloat16 of 2
  /// The first tile that is multiplied: everything below is from there on. Products that do not
  /// begin with tile 0 go on with the sums that are there.
  std::size_t first_tile = 0;
  /// For each tile, which of its inputs have a code that is not zero in all rows; null: any.
  const std::uint32_t* nonzero = nullptr;

  /// Bytes of one row, a multiple of the alignment. There is room for the bits of `nonzero` behind
  /// the numbers of a row (`room_for_bits`).
  static constexpr std::size_t bytes_for(std::size_t cols) noexcept {
    const std::size_t tiles = (cols + tile_cols - 1) / tile_cols;
    const std::size_t coded = tiles * (tile_cols + 4 * sizeof(float));
    const std::size_t wide = RWKV_CORTEX_M * tiles * 72;
    std::size_t bytes = coded < 2 * cols ? 2 * cols : coded;
    if (bytes < wide) bytes = wide;
    return (bytes + alignment - 1) / alignment * alignment;
  }

  /// x[i] is about codes[i] * steps[i / 32].
  [[nodiscard]] std::int8_t* codes(std::size_t m) const noexcept {
    return reinterpret_cast<std::int8_t*>(data + m * stride) + first_tile * tile_cols;
  }
  [[nodiscard]] float* steps(std::size_t m) const noexcept {
    return reinterpret_cast<float*>(data + m * stride + cols) + first_tile;
  }
  /// Minus the sums of each 16 of the inputs that are multiplied: as quantised, or exact.
  [[nodiscard]] float* negative_sums(std::size_t m) const noexcept {
    return reinterpret_cast<float*>(data + m * stride + cols + cols / 8) + 2 * first_tile;
  }
  /// Minus 128 times the sums of each 32 codes: what products with weights that are 128 too large
  /// have to be corrected by.
  [[nodiscard]] std::int32_t* offsets(std::size_t m) const noexcept {
    return reinterpret_cast<std::int32_t*>(data + m * stride + cols + 3 * (cols / 8)) + first_tile;
  }
  /// [cols / 32]
  [[nodiscard]] std::uint32_t* room_for_bits() const noexcept {
    static_assert(tile_cols + 5 * sizeof(float) <= 2 * tile_cols);
    return reinterpret_cast<std::uint32_t*>(data + cols + 4 * (cols / 8));
  }
  /// x[i] is about bfloats16[i].
  [[nodiscard]] bfloat16* bfloats16(std::size_t m) const noexcept {
    return reinterpret_cast<bfloat16*>(data + m * stride);
  }
#if RWKV_CORTEX_M
  [[nodiscard]] cortex_m::WideTile* wide(std::size_t m) const noexcept {
    static_assert(sizeof(cortex_m::WideTile) == 72);
    return reinterpret_cast<cortex_m::WideTile*>(data + m * stride);
  }
#endif
};

/// Rows that inputs are skipped for: in more of them hardly any is zero in all.
inline constexpr std::size_t few_rows = 4;

/// Inputs that are not zero in all rows, in ascending order.
struct ListedInputs {
  const std::uint16_t* index = nullptr;  ///< null: there is no list
  std::size_t count = 0;
};

/// Rows of inputs as they are, and as a product wants them.
struct ProductInputs {
  const float* x;
  std::size_t ldx;
  QuantisedActivations quantised = {};
  /// What is not in the list, if there is one, is zero and need not be read of the weights.
  ListedInputs listed = {};
  /// Where the weights of a lone row are asked for: so many bytes ahead, or nowhere.
  std::size_t ahead = 0;
};

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
