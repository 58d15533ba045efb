// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for quantised matrices whose inputs lie one by one (kernels/by_input.hpp). Few rows
// multiply the lines of some inputs, or of all; many rows have tiles put into panels and go on with
// kernels/quantised_matmul.hpp. Sums of integers are exact, whatever zeros are left out, and a tile
// adds to a sum of floats as everywhere: the bits are the same but for the sign of zeros.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_QUANTISED_BY_INPUT) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_QUANTISED_BY_INPUT

#ifndef RWKV_AGAIN
#include <rwkv/kernels/by_input.hpp>
#include <rwkv/kernels/quantised_matmul.hpp>

#include <bit>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

/// How many rows share the transposing of lines: their sums are in registers.
template <class L>
struct BlockingByInput {
  using B = typename L::Bytes;
  static constexpr bool exists = L::width >= 4 && !plain<B>;
  static constexpr std::size_t rows = L::width == 16 ? 6 : L::width == 8 ? 2 : 4;
  /// Rows of the last blocks, and with which inputs are left out.
  static constexpr std::size_t last_rows = L::width == 8 ? 2 : 4;
  /// More rows are better off with panels.
  static constexpr std::size_t most = MatrixBytes<B>  ? 16
                                      : L::width == 8 ? 32
                                                      : static_cast<std::size_t>(-1);
};

/// The inputs of a tile that are multiplied, in fours: the last ones are filled up with zeros.
template <std::size_t Rows>
struct SomeInputs {
  std::uint8_t count = 0;
  std::uint8_t fours = 0;
  bool nothing = false;  ///< whether the tile adds nothing
  std::uint8_t input[tile_cols];
  alignas(4) std::int8_t of_input[Rows][tile_cols];

  /// Those whose bit is set.
  void choose(std::uint32_t bits, const QuantisedRows<Rows>& x, std::size_t t) noexcept {
    nothing = bits == 0;  // but inputs that are not finite have no codes
    for (std::size_t r = 0; r < Rows; ++r) nothing = nothing && x.step(r, t) == 0.0f;
    std::size_t n = 0;
    for (; bits != 0; bits &= bits - 1, ++n) {
      const auto i = static_cast<std::size_t>(std::countr_zero(bits));
      input[n] = static_cast<std::uint8_t>(i);
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) of_input[r][n] = *x.codes(r, t * tile_cols + i);
    }
    count = static_cast<std::uint8_t>(n);
    fours = static_cast<std::uint8_t>((n + 3) / 4);
    for (; n < std::size_t{4} * fours; ++n) {
      input[n] = input[n - 1];
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) of_input[r][n] = 0;
    }
  }
  RWKV_INLINE std::size_t line(std::size_t n) const noexcept { return input[n]; }
  RWKV_INLINE const std::int8_t* codes(std::size_t r, std::size_t n) const noexcept {
    return of_input[r] + n;
  }
};

/// The same for all inputs of tile t.
template <std::size_t Rows>
struct AllInputs {
  static constexpr std::size_t fours = tile_cols / 4;
  static constexpr bool nothing = false;
  const QuantisedRows<Rows>& x;
  std::size_t t;

  RWKV_INLINE static std::size_t line(std::size_t n) noexcept { return n; }
  RWKV_INLINE const std::int8_t* codes(std::size_t r, std::size_t n) const noexcept {
    return x.codes(r, t * tile_cols + n);
  }
};

/// Adds the products of some tiles to the sums of a group of outputs. `inputs(t, lanes)` are those of
/// tile t that are multiplied. Sums of several rows are in memory: those of a tile need the
/// registers. So narrow registers, which go through a tile several times, get one tile at a time:
/// memory has to be busy all the time.
template <class L, std::size_t Rows, class Inputs>
RWKV_INLINE void add_lines(const std::byte* group, std::size_t cols, Range tiles, Inputs inputs,
                           const QuantisedRows<Rows>& x,
                           float (&sums)[Rows][ByInput::outputs]) noexcept {
  using B = typename L::Bytes;
  constexpr std::size_t n = ByInput::panels;
  constexpr unsigned bits = 8;
  constexpr bool at_once = B::template lazy<bits> == 8;  // a tile's products fit one sum
  constexpr bool in_registers = Rows == 1;
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    L sum[n];
    RWKV_UNROLL
    for (std::size_t p = 0; in_registers && p < n; ++p)
      sum[p] = L::load(sums[0] + p * panel_rows + lanes);
    for (std::size_t t = tiles.begin; t < tiles.end; ++t) {
      const auto& of_tile = inputs(t, lanes);
      if (of_tile.nothing) continue;
      const std::byte* const codes = group + ByInput::codes(cols, t) + 4 * lanes;
      const std::byte* const scales = group + ByInput::scales(t);
      typename B::Sum few[n][Rows];
      typename B::Wide wide[n][Rows];
      RWKV_UNROLL
      for (std::size_t p = 0; p < n; ++p) {
        RWKV_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
          few[p][r] = begin_sum<B, bits>(x.offset(r, t));
          if constexpr (!at_once) wide[p][r] = B::widen(B::zero());
        }
      }
      const std::size_t fours = of_tile.fours;
      for (std::size_t q = 0; q < fours; ++q) {
        typename B::Register w[n];
        RWKV_UNROLL
        for (std::size_t k = 0; k < n; ++k)
          w[k] = B::load(codes + of_tile.line(4 * q + k) * ByInput::line);
        B::transpose(w);
        RWKV_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
          const auto four = B::broadcast(of_tile.codes(r, 4 * q));
          RWKV_UNROLL
          for (std::size_t p = 0; p < n; ++p)
            if constexpr (at_once) {
              few[p][r] = dot<B, bits>(few[p][r], w[p], four);
              hold<B>(few[p][r]);
            } else {
              wide[p][r] = B::add_wide(wide[p][r], B::widen(dot<B, bits>(B::zero(), w[p], four)));
            }
        }
      }
      RWKV_UNROLL
      for (std::size_t p = 0; p < n; ++p) {
        const std::byte* const of_panel = scales + p * ByInput::layout.code_offset();
        const TileScales<L, 1> scale(ByInput::layout, 1, of_panel, of_panel, lanes);
        RWKV_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
          if constexpr (at_once) wide[p][r] = B::widen(few[p][r]);
          const typename B::Wide products[1] = {wide[p][r]};
          float* const at = sums[r] + p * panel_rows + lanes;
          if constexpr (!in_registers) sum[p] = L::load(at);
          sum[p] = add_parts(sum[p], ByInput::layout, scale, products, L::broadcast(x.step(r, t)),
                             x.negative_sums(r, t));
          if constexpr (!in_registers) sum[p].store(at);
        }
      }
    }
    RWKV_UNROLL
    for (std::size_t p = 0; in_registers && p < n; ++p)
      sum[p].store(sums[0] + p * panel_rows + lanes);
  }
}

/// How many of some tiles are gone through at a time.
template <class L>
constexpr std::size_t tiles_together(std::size_t tiles) noexcept {
  return L::width == panel_rows ? tiles : 1;
}

/// Calls add(sums) for a group's sums of rows [first, first + some), which begin with zeros or go on.
template <std::size_t Rows, class Add>
RWKV_INLINE void with_sums(bool more, std::size_t some, float* y, std::size_t ldy,
                           Add add) noexcept {
  alignas(alignment) float sums[Rows][ByInput::outputs] = {};
  for (std::size_t r = 0; more && r < some; ++r) std::memcpy(sums[r], y + r * ldy, sizeof sums[r]);
  add(sums);
  for (std::size_t r = 0; r < some; ++r) std::memcpy(y + r * ldy, sums[r], sizeof sums[r]);
}

/// A group of outputs for rows [first, first + Rows), as far as there are `rows`, and all inputs of
/// some tiles.
template <class L, std::size_t Rows>
void multiply_all_lines(const std::byte* group, std::size_t cols, Range tiles,
                        const QuantisedActivations& x, std::size_t first, std::size_t rows,
                        float* y, std::size_t ldy, AskedFor next = {}) noexcept {
  const QuantisedRows<Rows> row(x, first, rows);
  with_sums<Rows>(tiles.begin > 0, rows - first < Rows ? rows - first : Rows, y + first * ldy, ldy,
                  [&](auto& sums) RWKV_INLINE_LAMBDA {
                    const std::size_t together = tiles_together<L>(tiles.end - tiles.begin);
                    for (std::size_t t = tiles.begin; t < tiles.end; t += together)
                      add_lines<L, Rows>(
                          group, cols, {t, t + together},
                          [&](std::size_t k, std::size_t) RWKV_INLINE_LAMBDA {
                            next.ask();
                            return AllInputs<Rows>{row, k};
                          },
                          row, sums);
                  });
}

/// Groups of outputs for some rows and all inputs.
template <class L>
void multiply_all_lines(const std::byte* data, std::size_t cols, Range groups,
                        const QuantisedActivations& x, std::size_t rows, float* y,
                        std::size_t ldy) noexcept {
  using Blocking = BlockingByInput<L>;
  constexpr std::size_t many = Blocking::rows, last = Blocking::last_rows;
  constexpr std::size_t most = 128;  // tiles that stay in the cache: 272 KiB
  const std::size_t all = cols / tile_cols;
  for (std::size_t g = groups.begin; g < groups.end; ++g)
    for (std::size_t t = 0; t < all; t += most) {
      const Range tiles{t, t + most < all ? t + most : all};
      const std::byte* const group = data + g * ByInput::group_bytes(cols);
      float* const to = y + g * ByInput::outputs;
      // What comes next: codes, and with the first ones all scales of the group. Few rows are
      // multiplied at the speed of memory, which is better left alone.
      const bool last_tiles = tiles.end == all;
      const std::size_t begin = last_tiles ? 0 : tiles.end;
      const std::byte* const of = last_tiles ? group + ByInput::group_bytes(cols) : group;
      const std::byte* const after = begin > 0 ? of + ByInput::codes(cols, begin) : of;
      const std::size_t bytes =
          rows <= few_rows || (last_tiles && g + 1 == groups.end)
              ? 0
              : static_cast<std::size_t>(
                    of + ByInput::codes(cols, begin + most < all ? begin + most : all) - after);
      const std::size_t steps = (tiles.end - tiles.begin) * (panel_rows / L::width);
      if (rows == 1) {
        multiply_all_lines<L, 1>(group, cols, tiles, x, 0, 1, to, ldy);
        continue;
      }
      for_blocks_of_rows<many, last>(
          rows, [&](bool more, std::size_t first, std::size_t done) RWKV_INLINE_LAMBDA {
            const AskedFor next = AskedFor::share(after, bytes, first, done, rows, steps);
            if (more)
              multiply_all_lines<L, many>(group, cols, tiles, x, first, rows, to, ldy, next);
            else
              multiply_all_lines<L, last>(group, cols, tiles, x, first, rows, to, ldy, next);
          });
    }
}

/// Groups of outputs for rows [first, first + Rows), as far as there are `rows`, and the inputs that
/// are not zero.
template <class L, std::size_t Rows>
void multiply_some_lines(const std::byte* data, std::size_t cols, Range groups,
                         const QuantisedActivations& x, std::size_t first, std::size_t rows,
                         float* y, std::size_t ldy) noexcept {
  constexpr std::size_t most = 64;   // tiles that inputs are chosen of at a time
  constexpr std::size_t ahead = 16;  // tiles: some seventy lines, where a few of each are read
  const std::size_t tiles = cols / tile_cols, group_bytes = ByInput::group_bytes(cols);
  const QuantisedRows<Rows> row(x, first, rows);
  const std::size_t some = rows - first < Rows ? rows - first : Rows;
  SomeInputs<Rows> chosen[most];
  for (std::size_t begin = 0; begin < tiles; begin += most) {
    const std::size_t end = begin + most < tiles ? begin + most : tiles;
    for (std::size_t t = begin; t < end; ++t) chosen[t - begin].choose(x.nonzero[t], row, t);
    for (std::size_t g = groups.begin; g < groups.end; ++g) {
      const std::byte* const group = data + g * group_bytes;
      const auto ask_for = [&](std::size_t t) RWKV_INLINE_LAMBDA {
        const std::byte* of = group;
        if (t >= end) {  // of the next group
          t = begin + (t - end);
          of += group_bytes;
          if (g + 1 == groups.end || t >= end) return;
        }
        const SomeInputs<Rows>& inputs = chosen[t - begin];
        if (inputs.nothing) return;
        simd::prefetch_far<ByInput::scale_bytes>(of + ByInput::scales(t));
        const std::byte* const lines = of + ByInput::codes(cols, t);
        for (std::size_t k = 0; k < inputs.count; ++k)
          simd::prefetch_far<1>(lines + inputs.line(k) * ByInput::line);
      };
      for (std::size_t t = begin; g == groups.begin && t < end && t < begin + ahead; ++t)
        ask_for(t);
      with_sums<Rows>(begin > 0, some, y + first * ldy + g * ByInput::outputs, ldy,
                      [&](auto& sums) RWKV_INLINE_LAMBDA {
                        const std::size_t together = tiles_together<L>(end - begin);
                        for (std::size_t t = begin; t < end; t += together)
                          add_lines<L, Rows>(
                              group, cols, {t, t + together},
                              [&](std::size_t k, std::size_t lanes)
                                  RWKV_INLINE_LAMBDA -> const auto& {
                                    if (lanes == 0) ask_for(k + ahead);
                                    return chosen[k - begin];
                                  },
                              row, sums);
                      });
    }
  }
}

}  // namespace detail

/// What `quantised_matmul` computes, but for the signs of zeros. `panels` are whole groups of
/// outputs. What there are no kernels for here has 1024 inputs at a time copied into panels, on the
/// stack (68 KiB).
template <class L>
void quantised_by_input(const QuantisedMatrix& w, Inputs inputs, Range panels,
                        const ProductInputs& x, std::size_t rows, float* y,
                        std::size_t ldy) noexcept {
  RWKV_ASSERT(panels.begin % ByInput::panels == 0 && panels.end % ByInput::panels == 0);
  const Range groups{panels.begin / ByInput::panels, panels.end / ByInput::panels};
  using Blocking = detail::BlockingByInput<L>;
  if constexpr (Blocking::exists)
    if (inputs != Inputs::exact && rows <= Blocking::most) {
      const QuantisedActivations& q = x.quantised;
      if (q.nonzero == nullptr || rows > few_rows)
        return detail::multiply_all_lines<L>(w.data, w.cols, groups, q, rows, y, ldy);
      if (rows == 1)
        return detail::multiply_some_lines<L, 1>(w.data, w.cols, groups, q, 0, 1, y, ldy);
      constexpr std::size_t some = Blocking::last_rows;
      for (std::size_t m = 0; m < rows; m += some)
        detail::multiply_some_lines<L, some>(w.data, w.cols, groups, q, m, rows, y, ldy);
      return;
    }
  constexpr std::size_t most = 32;  // tiles
  alignas(alignment) std::byte copy[ByInput::panels * most * ByInput::layout.tile_bytes()];
  for (std::size_t g = groups.begin; g < groups.end; ++g)
    for (std::size_t t = 0; t < w.cols / tile_cols; t += most) {
      const std::size_t left = w.cols / tile_cols - t, tiles = left < most ? left : most;
      to_panels(w.data + g * ByInput::group_bytes(w.cols), w.cols, {t, t + tiles}, copy);
      ProductInputs part = x;
      part.x += t * tile_cols;
      part.quantised.first_tile = t;
      quantised_matmul<L>({w.layout, copy, ByInput::outputs, tiles * tile_cols}, inputs,
                          {0, ByInput::panels}, part, rows, y + g * ByInput::outputs, ldy);
    }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
