// SPDX-License-Identifier: Apache-2.0
// Which layout the matrices of each block format are packed in, and the packing. What a panel
// occupies is within 3 % of what its blocks do, but for q2_k and q3_k, whose codes get 4 bits, and
// iq4_nl, whose levels get 8. Freestanding.
#pragma once

#include <rwkv/kernels/coded_panels.hpp>
#include <rwkv/quant/format.hpp>

namespace rwkv::inline RWKV_ABI::kernels {

[[nodiscard]] constexpr CodedLayout layout_of(DType type) noexcept {
  const auto zero = [type] {
    return quant::visit_format(type, [](auto format) { return decltype(format)::zero; });
  };
  switch (type) {
    case DType::q4_1:
      return {4, zero(), true, ScaleForm::halves};
    case DType::q5_0:
      return {5, zero(), false, ScaleForm::halves};
    case DType::q5_1:
      return {5, zero(), true, ScaleForm::halves};
    case DType::q8_0:
    case DType::iq4_nl:
      return {8, zero(), false, ScaleForm::halves};
    case DType::q2_k:
      return {4, zero(), true, ScaleForm::bytes_of_half};
    case DType::q3_k:
      return {4, zero(), false, ScaleForm::bytes_of_half};
    case DType::q4_k:
      return {4, zero(), true, ScaleForm::bytes_of_tile};
    case DType::q5_k:
      return {5, zero(), true, ScaleForm::bytes_of_tile};
    case DType::q6_k:
      return {6, zero(), false, ScaleForm::bytes_of_half};
    default:
      RWKV_ASSERT(type == DType::q4_0);
      return {4, zero(), false, ScaleForm::halves};
  }
}

/// Bytes of a packed rows x cols matrix of a block type.
[[nodiscard]] constexpr std::size_t coded_bytes(DType type, std::size_t rows,
                                                std::size_t cols) noexcept {
  return panels_for(rows) * layout_of(type).bytes_per_panel(cols);
}

/// Packs panels [which.begin, which.end) of a matrix of blocks, rows of `row_bytes` one after the
/// other. `out` is where panel 0 begins. Outputs that fill up the last panel become zeros.
inline void pack_coded(DType type, const std::byte* blocks, std::size_t row_bytes, std::size_t rows,
                       std::size_t cols, Range which, std::byte* out) noexcept {
  quant::visit_format(type, [&]<class Format>(Format) {
    constexpr CodedLayout layout = layout_of(Format::type);
    const std::size_t panel_bytes = layout.bytes_per_panel(cols);
    constexpr std::size_t tiles = Format::elements / tile_cols;  // in a block
    for (std::size_t p = which.begin; p < which.end; ++p) {
      std::byte* panel = out + p * panel_bytes;
      const std::size_t first = p * panel_rows;
      const std::size_t filled = rows - first < panel_rows ? rows - first : panel_rows;
      if (filled < panel_rows) std::memset(panel, 0, panel_bytes);
      quant::Tile tile;
      for (std::size_t b = 0; b < cols / Format::elements; ++b)
        for (std::size_t t = 0; t < tiles; ++t)
          for (std::size_t o = 0; o < filled; ++o) {
            Format::load_tile(blocks + (first + o) * row_bytes + b * Format::bytes, t, tile);
            store_tile<layout>(panel, b * tiles + t, o, tile);
          }
    }
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels
