// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for quantised matrices and many rows, where the processor multiplies small matrices of
// bytes (simd/amx_tiles.hpp): 16 outputs and 32 inputs of weights with 16 or 8 rows at once. These
// sums of integers are exact, and what is made of them is what kernels/quantised_tile.hpp makes of
// them: the bits are those of kernels/quantised_matmul.hpp. Freestanding.
//
// For 16 rows, 16 outputs and 32 inputs a Sapphire Rapids needs, by the count of what its two
// 512-bit ports execute, 24 cycles where vectors of VNNI need 98 (q8_0), 54 of 120 (q4_0), 85 of 192
// (q6_k); the product in tiles takes 16 or, where there are two scales, 32 of them, beside the rest.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_QUANTISED_IN_TILES) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_QUANTISED_IN_TILES

#ifndef RWKV_AGAIN
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/quantised_matmul.hpp>
#include <rwkv/simd/amx_tiles.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

/// Tiles of a panel that are gone through together, for all rows: their codes, and those of the
/// rows, stay in the first cache.
inline constexpr std::size_t tiles_at_once = 16;
inline constexpr std::size_t unpacked_bytes = tile_cols * panel_rows;  // of the codes of a tile

/// The codes of a tile, four inputs of all outputs after each other.
template <class B, unsigned Bits>
RWKV_INLINE void unpack_tile(const std::byte* codes, std::byte* out) noexcept {
  const auto put = [&]<std::size_t Q>(std::integral_constant<std::size_t, Q>) RWKV_INLINE_LAMBDA {
    typename B::Register four[2];
    unpack<B, Bits, Q>(codes, four);
    for (std::size_t h = 0; h < 2; ++h)
      std::memcpy(out + (Q + 4 * h) * 4 * panel_rows, &four[h], sizeof four[h]);
  };
  put(std::integral_constant<std::size_t, 0>{});
  put(std::integral_constant<std::size_t, 1>{});
  put(std::integral_constant<std::size_t, 2>{});
  put(std::integral_constant<std::size_t, 3>{});
}

/// The same for the codes of ByInput::panels panels, `apart` bytes from each other, that lie input by
/// input.
template <class B>
RWKV_INLINE void unpack_lines(const std::byte* codes, std::byte* out, std::size_t apart) noexcept {
  constexpr std::size_t n = ByInput::panels;
  for (std::size_t q = 0; q < tile_cols / 4; ++q) {
    typename B::Register four[n];
    RWKV_UNROLL
    for (std::size_t k = 0; k < n; ++k) four[k] = B::load(codes + (4 * q + k) * ByInput::line);
    B::transpose(four);
    RWKV_UNROLL
    for (std::size_t p = 0; p < n; ++p)
      std::memcpy(out + p * apart + q * 4 * panel_rows, &four[p], sizeof four[p]);
  }
}

/// Some consecutive tiles of a panel.
struct TilesOfPanel {
  const std::byte* codes;  ///< of tile 0 of them
  std::size_t apart;       ///< bytes from the codes of one to those of the next
  std::size_t count;
  const std::byte* heads[tiles_at_once][2];  ///< what TileScales reads: group and tile
};

/// Numbers of some rows, found from every fourth row: few pointers fit the registers.
template <std::size_t Rows>
struct FloatsOfRows {
  const float* fours[Rows / 4];

  RWKV_INLINE FloatsOfRows(const float* first, std::size_t stride) noexcept {
    RWKV_UNROLL
    for (std::size_t i = 0; i < Rows / 4; ++i) fours[i] = first + 4 * i * (stride / sizeof(float));
  }
  RWKV_INLINE const float* of(std::size_t row, std::size_t i, std::size_t apart) const noexcept {
    return fours[row / 4] + i + row % 4 * apart;
  }
};

/// Adds some tiles of a panel, the first of which is `first_tile`, to the sums of Rows rows, the
/// first of which is `first_row`. Products are made three tiles ahead of where they are scaled, so
/// that neither waits for the other.
template <class L, class Tiles, unsigned Bits, std::size_t Parts, std::size_t Rows>
RWKV_INLINE void add_in_tiles(const Tiles& registers, const QuantisedLayout& of_matrix,
                              const TilesOfPanel& tiles, const QuantisedActivations& x,
                              std::size_t first_tile, std::size_t first_row,
                              float (&sums)[Rows][panel_rows]) noexcept {
  static_assert(L::width == panel_rows);
  constexpr std::size_t ahead = 3, part_inputs = tile_cols / Parts;
  alignas(alignment) std::int32_t products[ahead + 1][Parts][Rows][panel_rows];
  const std::int8_t* const codes = x.codes(first_row) + first_tile * tile_cols;
  const FloatsOfRows<Rows> steps(x.steps(first_row) + first_tile, x.stride);
  const FloatsOfRows<Rows> negative_sums(x.negative_sums(first_row) + 2 * first_tile, x.stride);
  const auto multiply = [&](std::size_t t) RWKV_INLINE_LAMBDA {
    RWKV_UNROLL
    for (std::size_t p = 0; p < Parts; ++p)
      registers.multiply(codes + t * tile_cols + p * part_inputs, x.stride,
                         tiles.codes + t * tiles.apart + p * part_inputs * panel_rows,
                         products[t % (ahead + 1)][p][0]);
  };
  L sum[Rows];
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) sum[r] = L::load(sums[r]);
  for (std::size_t t = 0; t < ahead && t < tiles.count; ++t) multiply(t);
  for (std::size_t t = 0; t < tiles.count; ++t) {
    if (t + ahead < tiles.count) multiply(t + ahead);
    const QuantisedLayout layout = with_constants<Bits, Parts>(of_matrix);
    const TileScales<L, Parts> scales(layout, Parts, tiles.heads[t][0], tiles.heads[t][1], 0);
    std::size_t apart = x.stride / sizeof(float);
#if defined(__GNUC__)
    asm("" : "+r"(apart));  // else compilers keep a pointer for every row, in memory
#endif
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      typename L::Bytes::Wide wide[Parts];
      RWKV_UNROLL
      for (std::size_t p = 0; p < Parts; ++p)
        std::memcpy(&wide[p], products[t % (ahead + 1)][p][r], sizeof wide[p]);
      sum[r] = add_parts(sum[r], layout, scales, wide, L::broadcast(*steps.of(r, t, apart)),
                         negative_sums.of(r, 2 * t, apart));
    }
  }
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) sum[r].store(sums[r]);
}

/// The same for all rows, at least Rows. `y` is where the panel's `outputs` of row 0 are. The last
/// block of rows ends with the last row; what it shares with the one before is computed for nothing.
template <class L, class Tiles, unsigned Bits, std::size_t Parts, std::size_t Rows>
void add_in_tiles(const Tiles& registers, const QuantisedLayout& layout, const TilesOfPanel& tiles,
                  const QuantisedActivations& x, std::size_t first_tile, std::size_t rows,
                  std::size_t outputs, float* y, std::size_t ldy) noexcept {
  RWKV_ASSERT(rows >= Rows);
  const bool goes_on = x.first_tile + first_tile > 0;
  for (std::size_t first = 0; first < rows; first += Rows) {
    const std::size_t begin = first + Rows <= rows ? first : rows - Rows;
    alignas(alignment) float sums[Rows][panel_rows] = {};
    const std::size_t bytes = outputs == panel_rows ? sizeof sums[0] : outputs * sizeof(float);
    for (std::size_t r = 0; goes_on && r < Rows; ++r)
      std::memcpy(sums[r], y + (begin + r) * ldy, bytes);
    add_in_tiles<L, Tiles, Bits, Parts, Rows>(registers, layout, tiles, x, first_tile, begin, sums);
    for (std::size_t r = first - begin; r < Rows; ++r)
      std::memcpy(y + (begin + r) * ldy, sums[r], bytes);
  }
}

/// Some panels for all rows.
template <class L, class Tiles, unsigned Bits, std::size_t Parts, std::size_t Rows>
void quantised_in_tiles(const QuantisedMatrix& w, Range panels, const QuantisedActivations& x,
                        std::size_t rows, float* y, std::size_t ldy) noexcept {
  const QuantisedLayout layout = with_constants<Bits, Parts>(w.layout);
  RWKV_ASSERT(layout == w.layout);
  alignas(alignment) std::byte codes[Bits == 8 ? 1 : tiles_at_once * unpacked_bytes];
  const std::size_t per_group = layout.tiles_per_group(), all = w.cols / tile_cols;
  const Tiles registers(Rows, tile_cols / Parts);
  for (std::size_t p = panels.begin; p < panels.end; ++p) {
    const std::byte* const panel = w.data + p * layout.bytes_per_panel(w.cols);
    const std::size_t left = w.rows - p * panel_rows;
    TilesOfPanel tiles;
    for (std::size_t first = 0; first < all; first += tiles.count) {
      tiles.count = all - first < tiles_at_once ? all - first : tiles_at_once;
      for (std::size_t t = 0; t < tiles.count; ++t) {
        const std::byte* const group = panel + (first + t) / per_group * layout.group_bytes();
        const std::byte* const tile =
            group + layout.header_bytes() + (first + t) % per_group * layout.tile_bytes();
        tiles.heads[t][0] = group;
        tiles.heads[t][1] = tile;
        if constexpr (Bits != 8)
          unpack_tile<typename L::Bytes, Bits>(tile + layout.code_offset(),
                                               codes + t * unpacked_bytes);
      }
      tiles.codes = Bits == 8 ? tiles.heads[0][1] + layout.code_offset() : codes;
      tiles.apart = Bits == 8 ? layout.tile_bytes() : unpacked_bytes;
      add_in_tiles<L, Tiles, Bits, Parts, Rows>(registers, layout, tiles, x, first, rows,
                                                left < panel_rows ? left : panel_rows,
                                                y + p * panel_rows, ldy);
    }
  }
}

/// Some groups of outputs whose weights lie input by input, for all rows.
template <class L, class Tiles, std::size_t Rows>
void by_input_in_tiles(const QuantisedMatrix& w, Range groups, const QuantisedActivations& x,
                       std::size_t rows, float* y, std::size_t ldy) noexcept {
  constexpr QuantisedLayout layout = ByInput::layout;
  constexpr std::size_t of_panel = tiles_at_once * unpacked_bytes;
  alignas(alignment) std::byte codes[ByInput::panels * of_panel];
  const std::size_t all = w.cols / tile_cols;
  const Tiles registers(Rows, tile_cols);
  for (std::size_t g = groups.begin; g < groups.end; ++g) {
    const std::byte* const group = w.data + g * ByInput::group_bytes(w.cols);
    TilesOfPanel tiles;
    tiles.apart = unpacked_bytes;
    for (std::size_t first = 0; first < all; first += tiles.count) {
      tiles.count = all - first < tiles_at_once ? all - first : tiles_at_once;
      for (std::size_t t = 0; t < tiles.count; ++t)
        unpack_lines<typename L::Bytes>(group + ByInput::codes(w.cols, first + t),
                                        codes + t * unpacked_bytes, of_panel);
      for (std::size_t p = 0; p < ByInput::panels; ++p) {
        tiles.codes = codes + p * of_panel;
        for (std::size_t t = 0; t < tiles.count; ++t)
          tiles.heads[t][0] = tiles.heads[t][1] =
              group + ByInput::scales(first + t) + p * layout.code_offset();
        add_in_tiles<L, Tiles, layout.bits, layout.parts(), Rows>(
            registers, layout, tiles, x, first, rows, panel_rows,
            y + g * ByInput::outputs + p * panel_rows, ldy);
      }
    }
  }
}

}  // namespace detail

/// y = W x for some panels of any type of blocks; false, and nothing is done, where other kernels are
/// faster. Rows come in blocks of 16 or of 8; weights that lie input by input have to be put in order
/// first. Up to 40 KiB of the stack.
template <class L, class Tiles>
bool multiply_in_tiles(const AnyMatrix& m, Range panels, const ProductInputs& x, std::size_t rows,
                       float* y, std::size_t ldy) noexcept {
  constexpr std::size_t most = 16, least = 8;
  if (m.inputs == Inputs::exact || rows < (m.by_input ? most : least)) return false;
  const QuantisedMatrix w{layout_of(m.type), static_cast<const std::byte*>(m.data), m.rows, m.cols};
  if (m.by_input) {
    RWKV_ASSERT(panels.begin % ByInput::panels == 0 && panels.end % ByInput::panels == 0);
    detail::by_input_in_tiles<L, Tiles, most>(
        w, {panels.begin / ByInput::panels, panels.end / ByInput::panels}, x.quantised, rows, y,
        ldy);
    return true;
  }
  detail::with_bits_and_parts(w.layout, [&]<unsigned Bits, std::size_t Parts>() {
    if (rows >= most)
      detail::quantised_in_tiles<L, Tiles, Bits, Parts, most>(w, panels, x.quantised, rows, y, ldy);
    else
      detail::quantised_in_tiles<L, Tiles, Bits, Parts, least>(w, panels, x.quantised, rows, y,
                                                               ldy);
  });
  return true;
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
