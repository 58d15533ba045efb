// SPDX-License-Identifier: Apache-2.0
// Another order of matrices of 8-bit codes, for those most of whose inputs are zero: the codes that
// 64 outputs have for one input are a line of memory, so that it can be left out.
//
//   for each group of 64 outputs, which are 4 panels:
//     for each tile: 64 halves, the outputs' scales
//     for each tile: a line of 64 codes for each of 32 inputs
//
// Scales, all of which are read, are apart from codes, few of which are: between these they would
// make the processor read ahead of what nobody wants.
//
// Byte 16 L + 4 r + j of a line belongs to output 4 L + j of panel r. When four lines are transposed,
// sixteen bytes at a time, they are what vectors of every width multiply: registers of one panel
// each, whose lanes hold four inputs of an output. A matrix occupies as much as in panels, and the
// two orders are made of each other (kernels/quantised_layout.hpp). Freestanding.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/quantised_layout.hpp>
#include <rwkv/simd/sixteen.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Whether there are kernels for it.
#if defined(RWKV_FEWER_KERNELS)
inline constexpr bool orders_by_input = false;
#else
inline constexpr bool orders_by_input = true;
#endif

/// Where things are in a matrix of this order.
struct ByInput {
  static constexpr QuantisedLayout layout = layout_of(DType::q8_0);
  static constexpr std::size_t panels = 4;
  static constexpr std::size_t outputs = panels * panel_rows;
  static constexpr std::size_t line = outputs;
  static constexpr std::size_t scale_bytes = panels * layout.code_offset();
  static constexpr std::size_t code_bytes = tile_cols * line;
  static_assert(scale_bytes + code_bytes == panels * layout.tile_bytes());

  /// Whether there is such an order for matrices of this type with so many outputs.
  static constexpr bool exists(DType type, std::size_t rows) noexcept {
    return orders_by_input && is_block(type) && layout_of(type) == layout && rows % outputs == 0;
  }
  static constexpr std::size_t group_bytes(std::size_t cols) noexcept {
    return cols / tile_cols * (scale_bytes + code_bytes);
  }
  /// Where in a group the scales and the codes of tile t are.
  static constexpr std::size_t scales(std::size_t t) noexcept { return t * scale_bytes; }
  static constexpr std::size_t codes(std::size_t cols, std::size_t t) noexcept {
    return cols / tile_cols * scale_bytes + t * code_bytes;
  }
};

namespace detail {

/// Moves tiles [tiles.begin, tiles.end) of a group of outputs between this order and panels of so many
/// tiles.
template <bool ToPanels, class Group, class Panels>
RWKV_INLINE void move_tiles(Group* group, std::size_t cols, Range tiles, Panels* panels) noexcept {
  using simd::Sixteen;
  constexpr std::size_t n = ByInput::panels, scales = ByInput::layout.code_offset();
  const std::size_t apart = (tiles.end - tiles.begin) * ByInput::layout.tile_bytes();
  const auto move = [](auto* ordered, auto* in_panel) RWKV_INLINE_LAMBDA {
    if constexpr (ToPanels)
      Sixteen::load(ordered).store(in_panel);
    else
      Sixteen::load(in_panel).store(ordered);
  };
  for (std::size_t t = tiles.begin; t < tiles.end; ++t, panels += ByInput::layout.tile_bytes()) {
    for (std::size_t p = 0; p < n; ++p)
      for (std::size_t i = 0; i < scales; i += 16)
        move(group + ByInput::scales(t) + p * scales + i, panels + p * apart + i);
    for (std::size_t q = 0; q < tile_cols / 4; ++q)
      for (std::size_t at = 0; at < ByInput::line; at += 16) {
        Group* const lines = group + ByInput::codes(cols, t) + 4 * q * ByInput::line + at;
        Panels* const codes = panels + scales + q * ByInput::line + at;
        Sixteen x[n];
        RWKV_UNROLL
        for (std::size_t k = 0; k < n; ++k)
          x[k] = Sixteen::load(ToPanels ? lines + k * ByInput::line : codes + k * apart);
        simd::transpose<std::uint8_t>(x);
        if constexpr (!ToPanels) simd::transpose<std::uint8_t>(x);  // three times is not at all
        RWKV_UNROLL
        for (std::size_t k = 0; k < n; ++k)
          if constexpr (ToPanels)
            x[k].store(codes + k * apart);
          else
            x[k].store(lines + k * ByInput::line);
      }
  }
}

}  // namespace detail

/// Some consecutive tiles of a group of outputs of a matrix with `cols` inputs as panels of so many
/// tiles.
inline void to_panels(const std::byte* group, std::size_t cols, Range tiles,
                      std::byte* panels) noexcept {
  detail::move_tiles<true>(group, cols, tiles, panels);
}
/// The other way round.
inline void from_panels(const std::byte* panels, std::size_t cols, Range tiles,
                        std::byte* group) noexcept {
  detail::move_tiles<false>(group, cols, tiles, panels);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
