// SPDX-License-Identifier: Apache-2.0
// Another order of quantised matrices, for those most of whose inputs are zero: what a group of
// outputs has for one input is one line of memory, so that it can be left out. The scales are those
// of the panels (kernels/quantised_layout.hpp) of the group, side by side, and a matrix occupies as
// much as in panels.
//
//   for each group of 64 outputs (codes of 8 bits) or 128 (of 4), which are 4 or 8 panels:
//     for each group of tiles: the panels' halves; for each tile: the panels' scales, then 32 lines
//
// Byte 16 L + 4 r + j of a line belongs to output 4 L + j of panel r, or, with 4 bits, its lower half
// does and its upper half to the same of panel r + 4. When four lines are transposed, sixteen bytes
// at a time, they are what vectors of every width multiply: registers of one panel each, whose lanes
// hold four inputs of an output. Freestanding.
#pragma once

#include <rwkv/kernels/quantised_panels.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Whether there are kernels for it.
#if defined(RWKV_FEWER_KERNELS)
inline constexpr bool orders_by_input = false;
#else
inline constexpr bool orders_by_input = true;
#endif

/// Where things are in a matrix of this order.
struct ByInput {
  QuantisedLayout layout;

  static constexpr std::size_t line = 64;

  /// Whether there is such an order for matrices of this layout and size.
  static constexpr bool exists(const QuantisedLayout& layout, std::size_t rows) noexcept {
    return orders_by_input && (layout.bits == 4 || layout.bits == 8) && layout.parts() == 1 &&
           rows % (ByInput{layout}.panels() * panel_rows) == 0;
  }
  [[nodiscard]] constexpr std::size_t panels() const noexcept { return layout.bits == 8 ? 4 : 8; }
  [[nodiscard]] constexpr std::size_t outputs() const noexcept { return panels() * panel_rows; }
  [[nodiscard]] constexpr std::size_t tile_bytes() const noexcept {
    return panels() * layout.tile_bytes();
  }
  [[nodiscard]] constexpr std::size_t bytes_per_group(std::size_t cols) const noexcept {
    return panels() * layout.bytes_per_panel(cols);
  }
  /// From where a group of outputs begins: the halves of tile t's group of tiles, and the tile.
  [[nodiscard]] constexpr std::size_t halves(std::size_t t) const noexcept {
    return t / layout.tiles_per_group() * panels() * layout.group_bytes();
  }
  [[nodiscard]] constexpr std::size_t tile(std::size_t t) const noexcept {
    return halves(t) + panels() * layout.header_bytes() +
           t % layout.tiles_per_group() * tile_bytes();
  }
  /// From where a tile begins.
  [[nodiscard]] constexpr std::size_t lines() const noexcept {
    return panels() * layout.code_offset();
  }
};

namespace detail {

/// Four lines' sixteen bytes as registers of four panels, and back.
RWKV_INLINE void lines_to_panels(simd::Sixteen (&x)[4]) noexcept {
  simd::transpose<std::uint8_t>(x);
}
RWKV_INLINE void panels_to_lines(simd::Sixteen (&x)[4]) noexcept {
  simd::transpose<std::uint8_t>(x);  // three times is not at all
  simd::transpose<std::uint8_t>(x);
}

/// Moves the codes of one tile between this order and panels that are `apart` bytes from each other.
template <unsigned Bits, bool ToPanels, class Lines, class Codes>
RWKV_INLINE void move_codes(Lines* lines, Codes* codes, std::size_t apart) noexcept {
  using simd::Sixteen;
  constexpr std::size_t line = ByInput::line, n = 4;
  const Sixteen lower(0x0f), upper(0xf0);
  for (std::size_t q = 0; q < (Bits == 8 ? 8 : 4); ++q)
    for (std::size_t at = 0; at < line; at += 16) {
      Sixteen x[2][n], p[8];
      constexpr std::size_t groups = Bits == 8 ? 1 : 2, panels = Bits == 8 ? 4 : 8;
      const auto line_at = [&](std::size_t g, std::size_t i) {
        return lines + (4 * (q + 4 * g) + i) * line + at;
      };
      const auto codes_at = [&](std::size_t r) { return codes + r * apart + q * line + at; };
      if constexpr (ToPanels) {
        for (std::size_t g = 0; g < groups; ++g) {
          for (std::size_t i = 0; i < n; ++i) x[g][i] = Sixteen::load(line_at(g, i));
          lines_to_panels(x[g]);
        }
        for (std::size_t r = 0; r < n; ++r) {
          if constexpr (Bits == 8) {
            p[r] = x[0][r];
          } else {
            p[r] = (x[0][r] & lower) | ((x[1][r] & lower) << 4);
            p[r + 4] = (x[0][r] >> 4 & lower) | (x[1][r] & upper);
          }
        }
        for (std::size_t r = 0; r < panels; ++r) p[r].store(codes_at(r));
      } else {
        for (std::size_t r = 0; r < panels; ++r) p[r] = Sixteen::load(codes_at(r));
        for (std::size_t r = 0; r < n; ++r) {
          if constexpr (Bits == 8) {
            x[0][r] = p[r];
          } else {
            x[0][r] = (p[r] & lower) | ((p[r + 4] & lower) << 4);
            x[1][r] = (p[r] >> 4 & lower) | (p[r + 4] & upper);
          }
        }
        for (std::size_t g = 0; g < groups; ++g) {
          panels_to_lines(x[g]);
          for (std::size_t i = 0; i < n; ++i) x[g][i].store(line_at(g, i));
        }
      }
    }
}

/// Moves tiles [t, t + tiles), whole groups of tiles, of a group of outputs.
template <bool ToPanels, class Group, class Panels>
void move_tiles(const QuantisedLayout& layout, Group* group, std::size_t t, std::size_t tiles,
                Panels* panels) noexcept {
  const ByInput order{layout};
  const std::size_t apart = layout.bytes_per_panel(tiles * tile_cols);
  const auto copy = [](auto* ordered, auto* in_panel, std::size_t bytes) {
    if constexpr (ToPanels)
      std::memcpy(in_panel, ordered, bytes);
    else
      std::memcpy(ordered, in_panel, bytes);
  };
  for (std::size_t k = 0; k < tiles; ++k) {
    Group* const tile = group + order.tile(t + k);
    const std::size_t of_group = k / layout.tiles_per_group() * layout.group_bytes();
    const std::size_t at =
        of_group + layout.header_bytes() + k % layout.tiles_per_group() * layout.tile_bytes();
    for (std::size_t p = 0; p < order.panels(); ++p) {
      if (k % layout.tiles_per_group() == 0 && layout.header_bytes() > 0)
        copy(group + order.halves(t + k) + p * layout.header_bytes(), panels + p * apart + of_group,
             layout.header_bytes());
      copy(tile + p * layout.code_offset(), panels + p * apart + at, layout.code_offset());
    }
    if (layout.bits == 8)
      move_codes<8, ToPanels>(tile + order.lines(), panels + at + layout.code_offset(), apart);
    else
      move_codes<4, ToPanels>(tile + order.lines(), panels + at + layout.code_offset(), apart);
  }
}

}  // namespace detail

/// Tiles [t, t + tiles), whole groups of tiles, of a group of outputs as panels of so many tiles.
inline void to_panels(const QuantisedLayout& layout, const std::byte* group, std::size_t t,
                      std::size_t tiles, std::byte* panels) noexcept {
  detail::move_tiles<true>(layout, group, t, tiles, panels);
}
/// The other way round.
inline void from_panels(const QuantisedLayout& layout, const std::byte* panels, std::size_t t,
                        std::size_t tiles, std::byte* group) noexcept {
  detail::move_tiles<false>(layout, group, t, tiles, panels);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
