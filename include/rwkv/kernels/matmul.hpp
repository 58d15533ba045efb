// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for packed weights of any storage type and any number of rows of X. Weights are widened
// in registers, or multiplied as they are with rows of bfloat16. Every output is one chain
// y = fma(w[i], x[i], y), i = 0, 1, ... (or over pairs of inputs), in the kernel for one row and in
// those for many alike: the bits of a row depend neither on its neighbours nor on how work is
// divided.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_MATMUL) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_MATMUL

#ifndef RWKV_AGAIN
#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/cortex_m.hpp>
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/kernels/panels.hpp>
#include <rwkv/kernels/quantised_activations.hpp>
#include <rwkv/simd/pairs.hpp>
#include <rwkv/simd/sixteen.hpp>

#include <cstring>
#include <type_traits>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

/// How much of the result is held in registers at once.
template <class L>
struct Blocking {
  // Many rows: rows x panels accumulators, plus weights and one broadcast, must fit the register
  // file.
  static constexpr std::size_t rows = L::width == 16  ? 8
                                      : L::width == 8 ? 5
                                      : L::width == 4 ? 2
                                                      : 1;
  static constexpr std::size_t panels = L::width == 16 ? 3 : 1;
  // Whether the rows are divided into blocks of all sizes, rather than powers of two: that is more
  // code.
  static constexpr bool even = L::width == 8;
  // One row, and few: both panels of a pair, which are one stream.
  static constexpr std::size_t panels_of_row = L::width == 1 ? 1 : 2;
  // One row of 16-bit numbers in the widest registers: two pairs, since the sums of one would wait
  // for each other. (A step takes four cycles and 32 bytes: with two sums a processor at 3 GHz takes
  // in 48 GB/s from its cache, however many it could multiply at once.)
  template <class T>
  static constexpr std::size_t panels_of_lone_row = sizeof(T) == 2 && L::width == 16
                                                        ? 4
                                                        : panels_of_row;
  // Inputs per pass over the rows, and bytes of weights that stay in the second-level cache
  // meanwhile: so the rows come from far away once for several panels.
  static constexpr std::size_t inputs = 2048;
  static constexpr std::size_t cached = 192 * 1024;
};

/// Keeps lanes in their register, where GCC would rather read memory again for every use.
template <class L>
RWKV_INLINE void hold(L& lanes) noexcept {
  if constexpr (requires { lanes.hold(); }) lanes.hold();
}

/// What tiles add up: products of one weight and one input.
template <class L, class T>
struct Singly {
  using Lanes = L;
  using Weight = T;
  using Weights = L;
  using Input = float;
  static constexpr std::size_t inputs = 1;

  RWKV_INLINE static Weights load(const T* w, std::size_t) noexcept { return L::load(w); }
  RWKV_INLINE static L broadcast(const float* x) noexcept { return L::broadcast(*x); }
  RWKV_INLINE static L add(L sum, Weights w, L x) noexcept { return fma(w, x, sum); }
};

/// What tiles add up: products of two weights and two inputs of 16 bits.
template <class L>
struct InPairs {
  using Lanes = L;
  using Weight = bfloat16;
  using Pairs = typename L::Pairs;
  using Weights = typename Pairs::Register;
  using Input = bfloat16;
  static constexpr std::size_t inputs = 2;

  RWKV_INLINE static Weights load(const bfloat16* w, std::size_t stride) noexcept {
    return Pairs::load(w, w + stride);
  }
  RWKV_INLINE static Weights broadcast(const bfloat16* x) noexcept { return Pairs::broadcast(x); }
  RWKV_INLINE static L add(L sum, Weights w, Weights x) noexcept { return Pairs::dot(sum, w, x); }
};

/// So many rows are multiplied at the speed of memory, nearly as a lone one.
inline constexpr std::size_t rows_as_one = 4;

/// What is asked for while panels are multiplied with more rows: `count` pairs of panels from `at`
/// on, for the same inputs.
template <class T>
struct PairsAhead {
  const T* at = nullptr;
  std::size_t count = 0;
};

/// y[m][o] (+)= sum over i in inputs of W[o][i] x[m][i], for Rows rows and Panels panels of
/// outputs, whose columns are `stride` apart. Continues from y unless inputs.begin is 0. `ahead` as
/// in ProductInputs.
template <class Op, std::size_t Rows, std::size_t Panels>
RWKV_INLINE void tile(const typename Op::Weight* const (&w)[Panels], std::size_t stride,
                      Range inputs, const typename Op::Input* x, std::size_t ldx, float* y,
                      std::size_t ldy, [[maybe_unused]] std::size_t ahead,
                      [[maybe_unused]] PairsAhead<typename Op::Weight> next,
                      [[maybe_unused]] std::size_t cols) noexcept {
  using L = typename Op::Lanes;
  constexpr std::size_t per_panel = panel_rows / L::width;
  constexpr std::size_t vectors = Panels * per_panel;
  L sum[Rows][vectors];
  RWKV_UNROLL
  for (std::size_t m = 0; m < Rows; ++m) {
    RWKV_UNROLL
    for (std::size_t q = 0; q < vectors; ++q)
      sum[m][q] = inputs.begin == 0 ? L::broadcast(0.0f) : L::load(y + m * ldy + q * L::width);
  }

  for (std::size_t i = inputs.begin; i < inputs.end; i += Op::inputs) {
    if constexpr (Rows == 1 && Panels > 1)
      if (ahead != 0) {
        constexpr std::size_t bytes = Op::inputs * 2 * panel_rows * sizeof(typename Op::Weight);
        RWKV_UNROLL
        for (std::size_t p = 0; p < Panels; p += 2)
          simd::prefetch<bytes>(reinterpret_cast<const std::byte*>(w[p] + i * stride) + ahead);
      }
    if constexpr (Rows > rows_as_one)
      for (std::size_t n = 0; n < next.count; ++n) {
        constexpr std::size_t pair = 2 * panel_rows;
        simd::prefetch_far<Op::inputs * pair * sizeof(typename Op::Weight)>(next.at +
                                                                            (n * cols + i) * pair);
      }
    typename Op::Weights weight[vectors];
    RWKV_UNROLL
    for (std::size_t p = 0; p < Panels; ++p) {
      const typename Op::Weight* const column = w[p] + i * stride;
      RWKV_UNROLL
      for (std::size_t q = 0; q < per_panel; ++q) {
        auto& some = weight[p * per_panel + q];
        some = Op::load(column + q * L::width, stride);
        if constexpr (Rows > 1) hold(some);
      }
    }
    RWKV_UNROLL
    for (std::size_t m = 0; m < Rows; ++m) {
      const auto input = Op::broadcast(x + m * ldx + i);
      RWKV_UNROLL
      for (std::size_t q = 0; q < vectors; ++q) sum[m][q] = Op::add(sum[m][q], weight[q], input);
    }
  }

  RWKV_UNROLL
  for (std::size_t m = 0; m < Rows; ++m) {
    RWKV_UNROLL
    for (std::size_t q = 0; q < vectors; ++q) sum[m][q].store(y + m * ldy + q * L::width);
  }
}

/// Copies some numbers of each of some rows.
inline void copy_rows(const float* from, std::size_t ld_from, float* to, std::size_t ld_to,
                      std::size_t rows, std::size_t count) noexcept {
  for (std::size_t m = 0; m < rows; ++m)
    std::memcpy(to + m * ld_to, from + m * ld_from, count * sizeof(float));
}

/// Rows [m, rows) for the panels, in blocks of at most Rows: of Rows, Rows / 2, ..., or `even`ly,
/// in `blocks` blocks whose sizes differ by one row at most.
template <class Op, std::size_t Rows, std::size_t Panels>
RWKV_INNER_LOOP void row_blocks(const PanelMatrix<typename Op::Weight>& w, Range panels,
                                Range inputs, const typename Op::Input* x, std::size_t ldx,
                                std::size_t m, std::size_t rows, std::size_t blocks, float* y,
                                std::size_t ldy, std::size_t ahead) noexcept {
  constexpr bool even = Blocking<typename Op::Lanes>::even;
  for (; even ? rows - m > blocks * (Rows - 1) : m + Rows <= rows; m += Rows, --blocks)
    for (std::size_t p = panels.begin; p < panels.end; p += Panels) {
      const std::size_t first = p * panel_rows;
      const auto place = [&](std::size_t q) {
        return panel_place(p + q, panels_for(w.rows), w.cols);
      };
      const typename Op::Weight* panel[Panels];
      for (std::size_t q = 0; q < Panels; ++q) panel[q] = w.data + place(q).first;
      // Unless all outputs exist, they are made elsewhere.
      constexpr std::size_t all = Panels * panel_rows;
      alignas(alignment) float elsewhere[Rows * all];
      const std::size_t exist = w.rows - first < all ? w.rows - first : all;
      float* const at = y + m * ldy + first;
      float* to = at;
      std::size_t ld = ldy;
      if (exist < all) {
        to = elsewhere;
        ld = all;
        std::memset(elsewhere, 0, sizeof elsewhere);
        if (inputs.begin > 0) copy_rows(at, ldy, to, ld, Rows, exist);
      }
      // A processor does not read ahead of what it computes much with; the rows behind the first ones
      // have their panels in the cache.
      PairsAhead<typename Op::Weight> next;
      if (Rows > rows_as_one && m == 0) {
        const std::size_t begin = p + Panels + (p + Panels) % 2;  // of pairs, all of them whole
        const std::size_t end = p + 2 * Panels + (p + 2 * Panels) % 2;
        if (begin < end && end <= panels_for(w.rows))
          next = {w.data + place(begin - p).first, (end - begin) / 2};
      }
      tile<Op, Rows, Panels>(panel, Panels > 1 ? 2 * panel_rows : place(0).stride, inputs,
                             x + m * ldx, ldx, to, ld, ahead, next, w.cols);
      if (exist < all) copy_rows(to, ld, at, ldy, Rows, exist);
    }
  if constexpr (Rows > 1) {
    constexpr std::size_t fewer = even ? Rows - 1 : Rows / 2;
    if (m < rows)
      row_blocks<Op, fewer, Panels>(w, panels, inputs, x, ldx, m, rows, blocks, y, ldy, ahead);
  }
}

/// The panels, Panels at a time, as many of them between two passes over the rows as stay in the
/// cache; returns the first panel not done. If Panels is not 1, all panels have partners.
template <class Op, std::size_t Rows, std::size_t Panels>
std::size_t groups(const PanelMatrix<typename Op::Weight>& w, std::size_t p, std::size_t end,
                   const typename Op::Input* x, std::size_t ldx, std::size_t rows, float* y,
                   std::size_t ldy, std::size_t ahead) noexcept {
  using B = Blocking<typename Op::Lanes>;
  const std::size_t inputs = w.cols < B::inputs ? w.cols : B::inputs;
  const std::size_t group = Panels * panel_rows * inputs * sizeof(typename Op::Weight);
  const std::size_t groups = group < B::cached ? B::cached / (group > 0 ? group : 1) : 1;
  for (std::size_t left = end > p ? (end - p) / Panels : 0; left > 0;) {
    const std::size_t next = p + (left < groups ? left : groups) * Panels;
    for (std::size_t i = 0; i < w.cols; i += inputs)
      row_blocks<Op, Rows, Panels>(w, {p, next}, {i, i + inputs < w.cols ? i + inputs : w.cols}, x,
                                   ldx, 0, rows, (rows + Rows - 1) / Rows, y, ldy, ahead);
    left -= (next - p) / Panels;
    p = next;
  }
  return p;
}

template <class Op>
void matmul(const PanelMatrix<typename Op::Weight>& w, Range panels, const typename Op::Input* x,
            std::size_t ldx, std::size_t rows, float* y, std::size_t ldy,
            std::size_t ahead) noexcept {
  using B = Blocking<typename Op::Lanes>;
  const auto blocks = [&]<std::size_t Rows, std::size_t Panels>() {
    std::size_t p = panels.begin;
    if constexpr (Panels > 1) {
      const std::size_t all = panels_for(w.rows);
      const std::size_t partners = all - all % 2;
      const std::size_t end = panels.end < partners ? panels.end : partners;
      p = groups<Op, Rows, Panels>(w, p, end, x, ldx, rows, y, ldy, ahead);
      if constexpr (Panels == 4) p = groups<Op, Rows, 2>(w, p, end, x, ldx, rows, y, ldy, ahead);
    }
    groups<Op, Rows, 1>(w, p, panels.end, x, ldx, rows, y, ldy, ahead);
  };
  if (rows == 1)
    return blocks.template operator()<1, B::template panels_of_lone_row<typename Op::Weight>>();
  if constexpr (B::panels > 1)  // few rows, one stream: little more than for a lone one
    if (rows <= rows_as_one) return blocks.template operator()<4, B::panels_of_row>();
  blocks.template operator()<B::rows, B::panels>();
}

#if RWKV_CORTEX_M
template <class T>
void matmul_in_assembly(const PanelMatrix<T>& w, Range panels, const float* x, std::size_t ldx,
                        std::size_t rows, float* y, std::size_t ldy) noexcept {
  RWKV_ASSERT(w.cols > 0 || w.rows == 0);
  const std::size_t all = panels_for(w.rows), whole = w.rows / panel_rows;
  if (w.cols == 0) return;  // the loops below run at least once
  for (std::size_t m = 0; m < rows; ++m, x += ldx, y += ldy) {
    std::size_t p = panels.begin;
#if RWKV_CORTEX_M_VECTOR
    if constexpr (!std::is_same_v<T, bfloat16>)
      if (const std::size_t end = panels.end < whole ? panels.end : whole;
          w.cols % 4 == 0 && p < end) {
        const T* const from = w.data + p * panel_rows * w.cols;
        const std::size_t pairs = p % 2 == 0 ? (end - p) / 2 : 0;
        if (pairs > 0)
          cortex_m::pairs_of_panels(from, x, w.cols, y + p * panel_rows, pairs);
        else if (p % 2 == 0 && p + 1 == all)
          cortex_m::lone_panel(from, x, w.cols, y + p * panel_rows, 1);
        p += pairs > 0 ? 2 * pairs : p % 2 == 0 && p + 1 == all;
      }
#endif
    for (; p < panels.end; ++p) {
      const PanelPlace place = panel_place(p, all, w.cols);
      const std::size_t skip = (place.stride - panel_rows) * sizeof(T);
      float* const to = y + p * panel_rows;
      if (p < whole) {
        cortex_m::panel(w.data + place.first, skip, x, w.cols, to);
        continue;
      }
      float last[panel_rows];
      cortex_m::panel(w.data + place.first, skip, x, w.cols, last);
      for (std::size_t o = 0; o < w.rows % panel_rows; ++o) to[o] = last[o];
    }
  }
}
#endif

}  // namespace detail

/// y[m][o] = sum_i W[o][i] x[m][i] for the outputs of panels [panels.begin, panels.end) and rows m
/// < rows. x is [rows][ldx], y is [rows][ldy]; y outside the asked outputs is not touched. x and y
/// do not overlap. Cost: 2 rows W.cols multiply-adds per output; the weights are read once per
/// `inputs` block of the cache.
template <class L, class T>
void matmul(const PanelMatrix<T>& w, Range panels, const float* x, std::size_t ldx,
            std::size_t rows, float* y, std::size_t ldy,
            [[maybe_unused]] std::size_t ahead = 0) noexcept {
#if RWKV_CORTEX_M
  if constexpr (L::width == 1)
    detail::matmul_in_assembly(w, panels, x, ldx, rows, y, ldy);
  else
#endif
    detail::matmul<detail::Singly<L, T>>(w, panels, x, ldx, rows, y, ldy, ahead);
}

/// The same for rows rounded to bfloat16 (ActivationFormat::bfloats16), which are multiplied in
/// pairs. W.cols is even.
template <class L>
void matmul_of_pairs(const PanelMatrix<bfloat16>& w, Range panels, const QuantisedActivations& x,
                     std::size_t rows, float* y, std::size_t ldy) noexcept {
  detail::matmul<detail::InPairs<L>>(w, panels, x.bfloats16(0), x.stride / sizeof(bfloat16), rows,
                                     y, ldy, 0);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
