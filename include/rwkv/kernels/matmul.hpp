// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for packed weights of any storage type and any number of rows of X. Weights are widened
// in registers. Every output is one chain y = fma(w[i], x[i], y), i = 0, 1, ..., in the kernel for
// one row and in those for many alike: the bits of a row depend neither on its neighbours nor on
// how work is divided.
#pragma once

#include <rwkv/kernels/panels.hpp>

#if defined(__GNUC__) && !defined(__clang__)
#define RWKV_UNROLL _Pragma("GCC unroll 32")
#elif defined(__clang__)
#define RWKV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define RWKV_UNROLL
#endif

namespace rwkv::inline RWKV_ABI::kernels {

namespace detail {

/// How much of the result is held in registers at once.
template <class L>
struct Blocking {
  // Many rows: rows x panels accumulators, plus weights and one broadcast, must fit the register
  // file.
  static constexpr std::size_t rows = L::width == 16  ? 8
                                      : L::width == 8 ? 4
                                      : L::width == 4 ? 2
                                                      : 1;
  static constexpr std::size_t panels = L::width == 16 ? 3 : 1;
  // One row: enough independent chains to hide the latency of the fma, each panel a stream of its
  // own.
  static constexpr std::size_t streams = L::width == 16  ? 8
                                         : L::width == 8 ? 4
                                         : L::width == 4 ? 2
                                                         : 1;
  // Inputs per pass over the rows, so that a group of panels stays in the second-level cache.
  static constexpr std::size_t inputs = 2048;
  // How far ahead (bytes) a lone row asks for its weights: the hardware stops at page ends, this
  // does not.
  static constexpr std::size_t prefetch = 4096;
};

inline void prefetch(const void* p) noexcept { __builtin_prefetch(p, 0, 2); }

/// y[m][o] (+)= sum over i in inputs of W[o][i] x[m][i], for Rows rows and Panels panels of
/// outputs. `stored` outputs of the last panel exist. Continues from y unless inputs.begin is 0.
template <class L, class T, std::size_t Rows, std::size_t Panels>
RWKV_INLINE void tile(const T* w, std::size_t cols, Range inputs, const float* x, std::size_t ldx,
                      float* y, std::size_t ldy, std::size_t stored) noexcept {
  constexpr std::size_t per_panel = panel_rows / L::width;
  constexpr std::size_t vectors = Panels * per_panel;
  const bool partial = stored < panel_rows;
  L sum[Rows][vectors];
  if (inputs.begin == 0) {
    RWKV_UNROLL
    for (std::size_t m = 0; m < Rows; ++m) {
      RWKV_UNROLL
      for (std::size_t q = 0; q < vectors; ++q) sum[m][q] = L::broadcast(0.0f);
    }
  } else {
    RWKV_UNROLL
    for (std::size_t m = 0; m < Rows; ++m) {
      alignas(alignment) float last[panel_rows] = {};
      if (partial)
        std::memcpy(last, y + m * ldy + (Panels - 1) * panel_rows, stored * sizeof(float));
      RWKV_UNROLL
      for (std::size_t q = 0; q < vectors; ++q)
        sum[m][q] = partial && q >= vectors - per_panel
                        ? L::load(last + (q - (vectors - per_panel)) * L::width)
                        : L::load(y + m * ldy + q * L::width);
    }
  }

  const std::size_t panel_stride = panel_rows * cols;
  for (std::size_t i = inputs.begin; i < inputs.end; ++i) {
    L weight[vectors];
    RWKV_UNROLL
    for (std::size_t q = 0; q < vectors; ++q) {
      const T* column = w + (q / per_panel) * panel_stride + i * panel_rows;
      if constexpr (Rows == 1) {
        if (q % per_panel == 0)
          prefetch(reinterpret_cast<const char*>(column) + Blocking<L>::prefetch);
      }
      weight[q] = L::load(column + (q % per_panel) * L::width);
    }
    RWKV_UNROLL
    for (std::size_t m = 0; m < Rows; ++m) {
      const L input = L::broadcast(x[m * ldx + i]);
      RWKV_UNROLL
      for (std::size_t q = 0; q < vectors; ++q) sum[m][q] = fma(weight[q], input, sum[m][q]);
    }
  }

  RWKV_UNROLL
  for (std::size_t m = 0; m < Rows; ++m) {
    alignas(alignment) float last[panel_rows];
    RWKV_UNROLL
    for (std::size_t q = 0; q < vectors; ++q)
      sum[m][q].store(partial && q >= vectors - per_panel
                          ? last + (q - (vectors - per_panel)) * L::width
                          : y + m * ldy + q * L::width);
    if (partial) std::memcpy(y + m * ldy + (Panels - 1) * panel_rows, last, stored * sizeof(float));
  }
}

/// Rows [m, rows) for one group of panels: blocks of Rows, then of Rows / 2, ...
template <class L, class T, std::size_t Rows, std::size_t Panels>
void rows_of_group(const T* w, std::size_t cols, Range inputs, const float* x, std::size_t ldx,
                   std::size_t m, std::size_t rows, float* y, std::size_t ldy,
                   std::size_t stored) noexcept {
  for (; m + Rows <= rows; m += Rows)
    tile<L, T, Rows, Panels>(w, cols, inputs, x + m * ldx, ldx, y + m * ldy, ldy, stored);
  if constexpr (Rows > 1) {
    if (m < rows)
      rows_of_group<L, T, Rows / 2, Panels>(w, cols, inputs, x, ldx, m, rows, y, ldy, stored);
  }
}

/// Groups of Panels panels from panel `p` on; returns the first panel not done.
template <class L, class T, std::size_t Rows, std::size_t Panels>
std::size_t groups(const PanelMatrix<T>& w, std::size_t p, std::size_t end, const float* x,
                   std::size_t ldx, std::size_t rows, float* y, std::size_t ldy) noexcept {
  for (; p + Panels <= end; p += Panels) {
    const std::size_t first = p * panel_rows;
    const std::size_t left = w.rows - first - (Panels - 1) * panel_rows;
    const std::size_t stored = left < panel_rows ? left : panel_rows;
    for (std::size_t i = 0; i < w.cols; i += Blocking<L>::inputs) {
      const std::size_t end_i = i + Blocking<L>::inputs < w.cols ? i + Blocking<L>::inputs : w.cols;
      rows_of_group<L, T, Rows, Panels>(w.data + first * w.cols, w.cols, {i, end_i}, x, ldx, 0,
                                        rows, y + first, ldy, stored);
    }
  }
  return p;
}

/// One row: as many panels at a time as there are, in powers of two.
template <class L, class T, std::size_t Panels>
void single_row(const PanelMatrix<T>& w, std::size_t p, std::size_t end, const float* x,
                float* y) noexcept {
  p = groups<L, T, 1, Panels>(w, p, end, x, 0, 1, y, 0);
  if constexpr (Panels > 1) single_row<L, T, Panels / 2>(w, p, end, x, y);
}

}  // namespace detail

/// y[m][o] = sum_i W[o][i] x[m][i] for the outputs of panels [panels.begin, panels.end) and rows m
/// < rows. x is [rows][ldx], y is [rows][ldy]; y outside the asked outputs is not touched. x and y
/// do not overlap. Cost: 2 rows W.cols multiply-adds per output; the weights are read once per
/// `inputs` block of the cache.
template <class L, class T>
void matmul(const PanelMatrix<T>& w, Range panels, const float* x, std::size_t ldx,
            std::size_t rows, float* y, std::size_t ldy) noexcept {
  using B = detail::Blocking<L>;
  std::size_t p = panels.begin;
  if (rows == 1) {
    detail::single_row<L, T, B::streams>(w, p, panels.end, x, y);
  } else {
    p = detail::groups<L, T, B::rows, B::panels>(w, p, panels.end, x, ldx, rows, y, ldy);
    if constexpr (B::panels > 1)
      detail::groups<L, T, B::rows, 1>(w, p, panels.end, x, ldx, rows, y, ldy);
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels
