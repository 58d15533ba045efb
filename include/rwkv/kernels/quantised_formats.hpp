// SPDX-License-Identifier: Apache-2.0
// Packs the matrices of each block format. Freestanding.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/by_input.hpp>
#include <rwkv/kernels/quantised_panels.hpp>
#include <rwkv/quant/format.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

namespace detail {

/// Packs a panel of a matrix whose outputs begin at `rows`. What is needed next lies `ahead` bytes
/// behind these rows.
template <quant::BlockFormat Format>
void pack_quantised_panel(const std::byte* rows, std::size_t row_bytes, std::size_t ahead,
                          std::size_t cols, std::byte* panel) noexcept {
  constexpr QuantisedLayout layout = layout_of(Format::type);
  static_assert(layout.zero == Format::zero);
  constexpr std::size_t tiles = layout.tiles_per_group();
  static_assert(Format::elements == tiles * tile_cols, "a block's scales are those of a group");
  constexpr std::size_t n = outputs_at_once;
  for (std::size_t b = 0; b < cols / Format::elements; ++b) {
    std::byte heads[tiles][layout.code_offset()];
    for (std::size_t o = 0; o < panel_rows; o += n) {
      quant::Scales scales[n];
      RWKV_UNROLL
      for (std::size_t k = 0; k < n; ++k) {
        const std::byte* const block = rows + (o + k) * row_bytes;
        scales[k] = Format::load_scales(block);
        simd::prefetch<Format::bytes>(block + ahead);
      }
      store_scales<layout>(panel, heads, o, scales);
    }
    // Tile by tile: lines of memory are filled one after the other.
    for (std::size_t t = 0; t < tiles; ++t) {
      std::byte* const tile = panel + layout.header_bytes() + t * layout.tile_bytes();
      if constexpr (layout.form != ScaleForm::halves)
        std::memcpy(tile, heads[t], layout.code_offset());
      for (std::size_t o = 0; o < panel_rows; o += n) {
        quant::Tile codes[n];
        RWKV_UNROLL
        for (std::size_t k = 0; k < n; ++k)
          codes[k] = Format::load_tile(rows + (o + k) * row_bytes, t);
        store_codes<layout>(tile, o, codes);
      }
    }
    rows += Format::bytes;
    panel += layout.group_bytes();
  }
}

/// The same for a last panel with `filled` outputs; the others become zeros.
template <quant::BlockFormat Format>
void pack_last_panel(const std::byte* rows, std::size_t row_bytes, std::size_t filled,
                     std::size_t cols, std::byte* panel) noexcept {
  std::byte blocks[panel_rows][Format::bytes]{};
  for (std::size_t b = 0; b < cols / Format::elements; ++b) {
    for (std::size_t o = 0; o < filled; ++o)
      std::memcpy(blocks[o], rows + o * row_bytes + b * Format::bytes, Format::bytes);
    pack_quantised_panel<Format>(blocks[0], Format::bytes, 0, Format::elements, panel);
    panel += layout_of(Format::type).group_bytes();
  }
}

}  // namespace detail

namespace detail {

/// Whether none of some halves is infinite or NaN.
inline bool halves_are_finite(const std::byte* halves, std::size_t count) noexcept {
  unsigned carries = 0;
  for (std::size_t i = 0; i < count; ++i)
    carries |= (quant::load_half(halves + 2 * i).bits & 0x7c00u) + 0x0400u;
  return (carries & 0x8000u) == 0;
}

}  // namespace detail

/// Packs groups [which.begin, which.end) of outputs of a matrix of blocks, rows of `row_bytes` one
/// after the other, input by input (kernels/by_input.hpp). `out` is where group 0 begins. Returns
/// whether all weights are finite.
inline bool pack_by_input(DType type, const std::byte* blocks, std::size_t row_bytes,
                          std::size_t cols, Range which, std::byte* out) noexcept {
  bool finite = true;
  quant::visit_format(type, [&]<class Format>(Format) {
    if constexpr (ByInput::exists(Format::type, ByInput::outputs)) {
      constexpr std::size_t panel_bytes = ByInput::layout.tile_bytes(), blocks_ahead = 16;
      for (std::size_t g = which.begin; g < which.end; ++g)
        for (std::size_t t = 0; t < cols / tile_cols; ++t) {
          alignas(alignment) std::byte panels[ByInput::panels * panel_bytes];
          for (std::size_t p = 0; p < ByInput::panels; ++p) {
            const std::byte* const rows =
                blocks + (g * ByInput::outputs + p * panel_rows) * row_bytes + t * Format::bytes;
            const bool more = (t + blocks_ahead + 1) * Format::bytes <= row_bytes;
            detail::pack_quantised_panel<Format>(rows, row_bytes,
                                                 more ? blocks_ahead * Format::bytes : 0, tile_cols,
                                                 panels + p * panel_bytes);
            finite = detail::halves_are_finite(panels + p * panel_bytes, panel_rows) && finite;
          }
          from_panels(panels, cols, {t, t + 1}, out + g * ByInput::group_bytes(cols));
        }
    }
  });
  return finite;
}

/// Packs panels [which.begin, which.end) of a matrix of blocks, rows of `row_bytes` one after the
/// other. `out` is where panel 0 begins. Outputs that fill up the last panel become zeros.
inline void pack_quantised(DType type, const std::byte* blocks, std::size_t row_bytes,
                           std::size_t rows, std::size_t cols, Range which,
                           std::byte* out) noexcept {
  quant::visit_format(type, [&]<class Format>(Format) {
    const std::size_t panel_bytes = layout_of(Format::type).bytes_per_panel(cols);
    const std::size_t source_bytes = panel_rows * row_bytes;
    for (std::size_t p = which.begin; p < which.end; ++p) {
      const std::byte* const from = blocks + p * source_bytes;
      std::byte* const to = out + p * panel_bytes;
      const std::size_t left = rows - p * panel_rows;
      // The processor does not read ahead of sixteen rows at the same time.
      const std::size_t ahead = left >= 2 * panel_rows ? source_bytes : 0;
      if (left >= panel_rows)
        detail::pack_quantised_panel<Format>(from, row_bytes, ahead, cols, to);
      else
        detail::pack_last_panel<Format>(from, row_bytes, left, cols, to);
    }
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
