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

/// The inputs of a tile that are multiplied, in fours: the last ones are filled up with zeros.
template <std::size_t Rows>
struct ChosenInputs {
  std::size_t fours = 0;
  std::uint8_t input[tile_cols];
  alignas(4) std::int8_t codes[Rows][tile_cols];

  /// Those whose bit is set.
  RWKV_INLINE ChosenInputs(std::uint32_t bits, const QuantisedRows<Rows>& x,
                           std::size_t t) noexcept {
    std::size_t n = 0;
    for (; bits != 0; bits &= bits - 1, ++n) {
      const auto i = static_cast<std::size_t>(std::countr_zero(bits));
      input[n] = static_cast<std::uint8_t>(i);
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) codes[r][n] = *x.codes(r, t * tile_cols + i);
    }
    fours = (n + 3) / 4;
    for (; n < 4 * fours; ++n) {
      input[n] = input[n - 1];
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) codes[r][n] = 0;
    }
  }
};

/// Adds the products of one tile to the sums of a group of outputs. `input(n)` is the n-th input,
/// `codes(r, n)` where row r's code of it and the next three are.
template <class L, QuantisedLayout Layout, std::size_t Rows, class Input, class Codes>
RWKV_INLINE void add_lines(const std::byte* halves, const std::byte* tile, std::size_t fours,
                           Input input, Codes codes, const QuantisedRows<Rows>& x, std::size_t t,
                           float (&sum)[Rows][ByInput{Layout}.outputs()]) noexcept {
  using B = typename L::Bytes;
  constexpr ByInput order{Layout};
  constexpr unsigned bits = Layout.bits;
  constexpr bool at_once = B::template lazy<bits> == 8;  // a tile's products fit one sum
  constexpr std::size_t n = 4;                           // panels that four lines are of
  const std::byte* const lines = tile + order.lines();
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    for (std::size_t first = 0; first < order.panels(); first += n) {
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
      for (std::size_t q = 0; q < fours; ++q) {
        typename B::Register w[n];
        RWKV_UNROLL
        for (std::size_t k = 0; k < n; ++k) {
          w[k] = B::load(lines + input(4 * q + k) * ByInput::line + 4 * lanes);
          if constexpr (bits == 4) w[k] = first == 0 ? B::low(w[k]) : B::high(w[k]);
        }
        B::transpose(w);
        RWKV_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
          const auto inputs = B::broadcast(codes(r, 4 * q));
          RWKV_UNROLL
          for (std::size_t p = 0; p < n; ++p)
            if constexpr (at_once)
              few[p][r] = dot<B, bits>(few[p][r], w[p], inputs);
            else
              wide[p][r] = B::add_wide(wide[p][r], B::widen(dot<B, bits>(B::zero(), w[p], inputs)));
        }
      }
      RWKV_UNROLL
      for (std::size_t p = 0; p < n; ++p) {
        const TileScales<L, 1> scales(Layout, 1, halves + (first + p) * Layout.header_bytes(),
                                      tile + (first + p) * Layout.code_offset(), lanes);
        RWKV_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
          if constexpr (at_once) wide[p][r] = B::widen(few[p][r]);
          float* const at = sum[r] + (first + p) * panel_rows + lanes;
          const typename B::Wide products[1] = {wide[p][r]};
          add_parts(L::load(at), Layout, scales, products, L::broadcast(x.step(r, t)),
                    x.negative_sums(r, t))
              .store(at);
        }
      }
    }
  }
}

/// Groups of outputs [groups.begin, groups.end) for rows [0, rows), at most Rows.
template <class L, QuantisedLayout Layout, std::size_t Rows>
void multiply_lines(const std::byte* data, std::size_t cols, Range groups,
                    const QuantisedActivations& x, std::size_t rows, float* y,
                    std::size_t ldy) noexcept {
  constexpr ByInput order{Layout};
  constexpr std::size_t outputs = order.outputs();
  constexpr std::size_t ahead = 12;  // tiles: some fifty lines, where a few of each are read
  const std::size_t tiles = cols / tile_cols;
  const std::uint32_t* const nonzero = x.nonzero;
  const QuantisedRows<Rows> row(x, 0, rows);
  for (std::size_t g = groups.begin; g < groups.end; ++g) {
    const std::byte* const group = data + g * order.bytes_per_group(cols);
    alignas(alignment) float sum[Rows][outputs] = {};
    for (std::size_t t = 0; t < tiles; ++t) {
      const std::byte* const tile = group + order.tile(t);
      const std::byte* const halves = group + order.halves(t);
      if (nonzero == nullptr) {
        add_lines<L, Layout, Rows>(
            halves, tile, tile_cols / 4, [](std::size_t i) RWKV_INLINE_LAMBDA { return i; },
            [&](std::size_t r, std::size_t i)
                RWKV_INLINE_LAMBDA { return row.codes(r, t * tile_cols + i); },
            row, t, sum);
        continue;
      }
      std::size_t later = t + ahead;
      const std::byte* of = group;
      if (later >= tiles) {
        later -= tiles;
        of = g + 1 < groups.end && later < tiles ? group + order.bytes_per_group(cols) : nullptr;
      }
      if (of != nullptr && nonzero[later] != 0) {
        const std::byte* const then = of + order.tile(later);
        if (Layout.header_bytes() > 0 && later % Layout.tiles_per_group() == 0)
          simd::prefetch_far<order.panels() * Layout.header_bytes()>(of + order.halves(later));
        simd::prefetch_far<order.lines()>(then);
        for (std::uint32_t bits = nonzero[later]; bits != 0; bits &= bits - 1)
          simd::prefetch_far<1>(then + order.lines() +
                                static_cast<std::size_t>(std::countr_zero(bits)) * ByInput::line);
      }
      bool nothing = nonzero[t] == 0;  // but inputs that are not finite have no codes
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) nothing = nothing && row.step(r, t) == 0.0f;
      if (nothing) continue;
      const ChosenInputs<Rows> chosen(nonzero[t], row, t);
      add_lines<L, Layout, Rows>(
          halves, tile, chosen.fours,
          [&](std::size_t i) RWKV_INLINE_LAMBDA { return std::size_t{chosen.input[i]}; },
          [&](std::size_t r, std::size_t i) RWKV_INLINE_LAMBDA { return chosen.codes[r] + i; }, row,
          t, sum);
    }
    for (std::size_t r = 0; r < rows; ++r)
      std::memcpy(y + r * ldy + g * outputs, sum[r], outputs * sizeof(float));
  }
}

}  // namespace detail

/// What `quantised_matmul` computes, but for the signs of zeros. `panels` are whole groups of
/// outputs. Many rows take a copy of the weights, of 512 inputs at a time, on the stack (42 KiB).
template <class L>
void quantised_by_input(const QuantisedMatrix& w, Inputs inputs, Range panels,
                        const ProductInputs& x, std::size_t rows, float* y,
                        std::size_t ldy) noexcept {
  const ByInput order{w.layout};
  RWKV_ASSERT(panels.begin % order.panels() == 0 && panels.end % order.panels() == 0);
  const Range groups{panels.begin / order.panels(), panels.end / order.panels()};
  constexpr std::size_t few = 4;
  if constexpr (L::width >= 4) {
    const auto try_layout = [&]<DType Type>() {
      constexpr QuantisedLayout layout = layout_of(Type);
      if (w.layout != layout) return false;
      if (rows == 1)
        detail::multiply_lines<L, layout, 1>(w.data, w.cols, groups, x.quantised, rows, y, ldy);
      else
        detail::multiply_lines<L, layout, few>(w.data, w.cols, groups, x.quantised, rows, y, ldy);
      return true;
    };
    if (inputs != Inputs::exact && rows <= few &&
        (x.quantised.nonzero != nullptr ||
         !detail::plain<typename L::Bytes>)&&(try_layout.template operator()<DType::q8_0>() ||
                                              try_layout.template operator()<DType::q4_0>() ||
                                              try_layout.template operator()<DType::q4_1>() ||
                                              try_layout.template operator()<DType::q4_k>()))
      return;
  }
  constexpr std::size_t most = 16;  // tiles
  constexpr std::size_t bytes = [] {
    std::size_t largest = 0;
    for (const DType type : block_types) {
      const QuantisedLayout layout = layout_of(type);
      if (!ByInput::exists(layout, 128)) continue;
      const std::size_t b = ByInput{layout}.bytes_per_group(most * tile_cols);
      largest = b > largest ? b : largest;
    }
    return largest;
  }();
  alignas(alignment) std::byte copy[bytes];
  for (std::size_t g = groups.begin; g < groups.end; ++g)
    for (std::size_t t = 0; t < w.cols / tile_cols; t += most) {
      const std::size_t left = w.cols / tile_cols - t, tiles = left < most ? left : most;
      to_panels(w.layout, w.data + g * order.bytes_per_group(w.cols), t, tiles, copy);
      ProductInputs part = x;
      part.x += t * tile_cols;
      part.quantised.first_tile = t;
      quantised_matmul<L>({w.layout, copy, order.outputs(), tiles * tile_cols}, inputs,
                          {0, order.panels()}, part, rows, y + g * order.outputs(), ldy);
    }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
