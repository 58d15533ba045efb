// SPDX-License-Identifier: Apache-2.0
// How quantised matrices lie in memory. As elsewhere (kernels/panels.hpp) 16 output rows make a
// panel, and a panel is read from its first input to its last. Its unit is a tile of 16 outputs and
// 32 inputs: scales, then codes, in the order in which vector registers want them. Freestanding.
//
//   W[o][i] = scale * (code - zero) - min
//
// Codes are in groups of four inputs: 32-bit lane o of a vector of 64 bytes holds those of output
// o. Codes below 256 are stored in two pieces: first their higher bits, as many groups to a vector
// as fit, then the lower four, two groups to a vector: group q in the lower halves of the bytes,
// group q + 4 in the upper. In this order a tile is read from its first line to its last.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/kernels/panels.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Inputs per tile.
inline constexpr std::size_t tile_cols = 32;

/// How the scales (and mins) of a tile are stored.
enum class ScaleForm : std::uint8_t {
  halves,         ///< a half per output
  bytes_of_tile,  ///< a small integer per output, times a half that eight tiles share
  bytes_of_half,  ///< the same for inputs 0-15 and 16-31 separately
};

/// The layout of one kind of quantised matrix. Codes of 8 bits are signed, others are unsigned.
struct QuantisedLayout {
  unsigned bits;
  int zero;
  bool min;
  ScaleForm form;
  friend constexpr bool operator==(const QuantisedLayout&, const QuantisedLayout&) = default;

  /// Parts of a tile with scales of their own.
  [[nodiscard]] constexpr std::size_t parts() const noexcept {
    return form == ScaleForm::bytes_of_half ? 2 : 1;
  }
  /// Tiles that share the halves in front of them.
  [[nodiscard]] constexpr std::size_t tiles_per_group() const noexcept {
    return form == ScaleForm::halves ? 1 : 8;
  }
  [[nodiscard]] constexpr std::size_t scale_bytes() const noexcept {
    return form == ScaleForm::halves ? 2 * panel_rows : parts() * panel_rows;
  }
  [[nodiscard]] constexpr std::size_t code_offset() const noexcept {
    return (min ? 2 : 1) * scale_bytes();
  }
  [[nodiscard]] constexpr std::size_t tile_bytes() const noexcept {
    return code_offset() + panel_rows * tile_cols * bits / 8;
  }
  [[nodiscard]] constexpr std::size_t header_bytes() const noexcept {
    return form == ScaleForm::halves ? 0 : (min ? 2 : 1) * 2 * panel_rows;
  }
  [[nodiscard]] constexpr std::size_t group_bytes() const noexcept {
    return header_bytes() + tiles_per_group() * tile_bytes();
  }
  /// `cols` is a multiple of the inputs of a group.
  [[nodiscard]] constexpr std::size_t bytes_per_panel(std::size_t cols) const noexcept {
    return cols / (tiles_per_group() * tile_cols) * group_bytes();
  }
};

/// A packed matrix of this layout.
struct QuantisedMatrix {
  QuantisedLayout layout;
  const std::byte* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
};

/// The layouts that the matrices of block formats are packed in. A panel occupies within 3 % of what
/// its blocks do, but for q2_k and q3_k, whose codes get 4 bits, and iq4_nl, whose levels get 8 bits.
struct LayoutOfType {
  DType type;
  QuantisedLayout layout;
};
inline constexpr LayoutOfType quantised_layouts[] = {
    {DType::q4_0, {4, 8, false, ScaleForm::halves}},
    {DType::q4_1, {4, 0, true, ScaleForm::halves}},
    {DType::q5_0, {5, 16, false, ScaleForm::halves}},
    {DType::q5_1, {5, 0, true, ScaleForm::halves}},
    {DType::q8_0, {8, 0, false, ScaleForm::halves}},
    {DType::q2_k, {4, 0, true, ScaleForm::bytes_of_half}},
    {DType::q3_k, {4, 4, false, ScaleForm::bytes_of_half}},
    {DType::q4_k, {4, 0, true, ScaleForm::bytes_of_tile}},
    {DType::q5_k, {5, 0, true, ScaleForm::bytes_of_tile}},
    {DType::q6_k, {6, 32, false, ScaleForm::bytes_of_half}},
    {DType::iq4_nl, {8, 0, false, ScaleForm::halves}},
};
static_assert(
    [] {
      bool listed = std::size(quantised_layouts) == block_types.size();
      for (std::size_t i = 0; listed && i < block_types.size(); ++i)
        listed = quantised_layouts[i].type == block_types[i];
      return listed;
    }(),
    "every block type has a layout, in the order of the types");

/// The layout of a block type.
[[nodiscard]] constexpr QuantisedLayout layout_of(DType type) noexcept {
  RWKV_ASSERT(is_block(type));
  return quantised_layouts[static_cast<std::size_t>(type) - internal::first_block_type].layout;
}

/// Bytes of a packed rows x cols matrix of a block type.
[[nodiscard]] constexpr std::size_t quantised_bytes(DType type, std::size_t rows,
                                                    std::size_t cols) noexcept {
  return panels_for(rows) * layout_of(type).bytes_per_panel(cols);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
