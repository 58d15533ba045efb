// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for packed floats and a few rows, most of whose inputs are zero: only the columns of the
// inputs in a list are read. A sum has the same chain of fmas as in kernels/matmul.hpp without those
// that add zero times a weight. As long as weights are finite these change nothing but the sign of a
// sum that is zero.
//
// The columns are asked for long before they are needed, into the second-level cache: fewer lines
// can be on their way to the first one than it takes to keep the memory busy.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_MATMUL_OF_LISTED) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_MATMUL_OF_LISTED

#ifndef RWKV_AGAIN
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/simd/sixteen.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

/// Rows that are multiplied with a column when it has been read.
template <class L>
inline constexpr std::size_t rows_of_listed = L::width == 16  ? 4
                                              : L::width == 8 ? 2
                                                              : 1;

/// Lines of memory that are on their way: with half as many, Zen 4 takes a quarter longer.
template <std::size_t column_bytes>
inline constexpr std::size_t columns_ahead = 96 * 64 / column_bytes;

/// Asks for the first columns.
template <std::size_t Panels, class T>
void ask_for_listed(const PanelMatrix<T>& w, std::size_t p, const ListedInputs& inputs) noexcept {
  constexpr std::size_t bytes = Panels * panel_rows * sizeof(T);
  const PanelPlace place = panel_place(p, panels_for(w.rows), w.cols);
  for (std::size_t k = 0; k < inputs.count && k < columns_ahead<bytes>; ++k)
    simd::prefetch_far<bytes>(w.data + place.first + inputs.index[k] * place.stride);
}

/// Panels [panels.begin, panels.begin + Panels) for rows [first, first + Rows); beyond `end`, the last
/// one again. The panels up to panels.end will be next.
template <class L, std::size_t Rows, std::size_t Panels, class T>
void listed_tile(const PanelMatrix<T>& w, Range panels, const ListedInputs& inputs, const float* x,
                 std::size_t ldx, std::size_t first, std::size_t end, float* y,
                 std::size_t ldy) noexcept {
  constexpr std::size_t per_panel = panel_rows / L::width, vectors = Panels * per_panel;
  constexpr std::size_t bytes = Panels * panel_rows * sizeof(T), ahead = columns_ahead<bytes>;
  const std::size_t p = panels.begin;
  const PanelPlace place = panel_place(p, panels_for(w.rows), w.cols);
  const std::size_t n = inputs.count;
  const T* const panel = w.data + place.first;
  const T* const next = panel + place.stride * w.cols;
  const bool last = p + place.stride / panel_rows >= panels.end;
  const float* row[Rows];
  RWKV_UNROLL
  for (std::size_t m = 0; m < Rows; ++m) row[m] = x + (first + m < end ? first + m : end - 1) * ldx;

  L sum[Rows][vectors];
  RWKV_UNROLL
  for (std::size_t m = 0; m < Rows; ++m) {
    RWKV_UNROLL
    for (std::size_t q = 0; q < vectors; ++q) sum[m][q] = L::broadcast(0.0f);
  }
  const auto add = [&](std::size_t k) RWKV_INLINE_LAMBDA {
    const std::size_t i = inputs.index[k];
    const T* const column = panel + i * place.stride;
    L weight[vectors];
    RWKV_UNROLL
    for (std::size_t q = 0; q < vectors; ++q) weight[q] = L::load(column + q * L::width);
    RWKV_UNROLL
    for (std::size_t m = 0; m < Rows; ++m) {
      const L input = L::broadcast(row[m][i]);
      RWKV_UNROLL
      for (std::size_t q = 0; q < vectors; ++q) sum[m][q] = fma(weight[q], input, sum[m][q]);
    }
  };
  const auto ask_for = [&](const T* columns, std::size_t k) RWKV_INLINE_LAMBDA {
    simd::prefetch_far<bytes>(columns + inputs.index[k] * place.stride);
  };
  std::size_t k = 0;
  for (; k + ahead < n; ++k) {
    ask_for(panel, k + ahead);
    add(k);
  }
  for (std::size_t of_next = 0; k < n; ++k, ++of_next) {
    if (!last) ask_for(next, of_next);
    add(k);
  }

  alignas(alignment) float sums[vectors * L::width];
  const std::size_t begin = p * panel_rows;
  const std::size_t exist =
      w.rows - begin < vectors * L::width ? w.rows - begin : vectors * L::width;
  RWKV_UNROLL
  for (std::size_t m = 0; m < Rows; ++m) {
    if (first + m >= end) break;
    RWKV_UNROLL
    for (std::size_t q = 0; q < vectors; ++q) sum[m][q].store(sums + q * L::width);
    std::memcpy(y + (first + m) * ldy + begin, sums, exist * sizeof(float));
  }
}

template <class L, std::size_t Panels, class T>
void listed_rows(const PanelMatrix<T>& w, Range panels, const ListedInputs& inputs, const float* x,
                 std::size_t ldx, std::size_t rows, float* y, std::size_t ldy) noexcept {
  if (rows == 1) return listed_tile<L, 1, Panels>(w, panels, inputs, x, ldx, 0, 1, y, ldy);
  constexpr std::size_t n = rows_of_listed<L>;
  for (std::size_t m = 0; m < rows; m += n)
    listed_tile<L, n, Panels>(w, panels, inputs, x, ldx, m, rows, y, ldy);
}

}  // namespace detail

/// What `matmul` computes, for rows whose inputs are zero but for those in the list. Zeros may have
/// the other sign.
template <class L, class T>
void matmul_of_listed(const PanelMatrix<T>& w, Range panels, const ListedInputs& inputs,
                      const float* x, std::size_t ldx, std::size_t rows, float* y,
                      std::size_t ldy) noexcept {
  constexpr std::size_t together = detail::Blocking<L>::panels_of_row;
  std::size_t p = panels.begin;
  const auto whole = [&](std::size_t count) {  // a panel without its partner: not worth more code
    matmul<L>(w, {p, p + count}, x, ldx, rows, y, ldy);
    p += count;
  };
  if (p % together == 1 && p < panels.end) whole(1);
  if (p + together <= panels.end) detail::ask_for_listed<together>(w, p, inputs);
  for (; p + together <= panels.end; p += together)
    detail::listed_rows<L, together>(w, {p, panels.end}, inputs, x, ldx, rows, y, ldy);
  if (p < panels.end) whole(panels.end - p);
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
