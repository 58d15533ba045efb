// SPDX-License-Identifier: Apache-2.0
// Several matrix products in one parallel region, divided so that every worker streams one
// contiguous share of the weights. Freestanding.
#pragma once

#include <rwkv/kernels/levels.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// y[m] = activation(W x[m]) for some number of rows m.
template <class Matrix>
struct Product {
  Matrix w;
  const float* x;  ///< [rows][ldx]
  std::size_t ldx;
  float* y;  ///< [rows][ldy]
  std::size_t ldy;
  Activation activation = Activation::none;
};

/// How many workers `work` multiply-adds are worth: below this share, a fork-join costs more than
/// it saves.
constexpr std::size_t workers_for(std::uint64_t work, std::size_t concurrency) noexcept {
  constexpr std::uint64_t worth_a_worker = std::uint64_t{1} << 16;
  const std::uint64_t wanted = 1 + work / worth_a_worker;
  return wanted < concurrency ? static_cast<std::size_t>(wanted) : concurrency;
}

/// Where the share of worker `index` begins, which is where the one before it ends.
constexpr std::uint64_t share_begin(std::uint64_t work, std::uint64_t workers,
                                    std::uint64_t index) noexcept {
  return work / workers * index + work % workers * index / workers;  // work * index may overflow
}

/// Calls f(i) for i in [0, n), each costing about `cost` multiply-adds.
template <class Exec, class F>
void for_each(std::size_t n, std::size_t cost, Exec& exec, F&& f) {
  const std::size_t wanted = workers_for(std::uint64_t{n} * cost, exec.concurrency());
  const std::size_t workers = wanted < n ? wanted : n;
  exec.parallel(workers, [&, n, workers](std::size_t worker) {
    const Range mine = share(n, workers, worker);
    for (std::size_t i = mine.begin; i < mine.end; ++i) f(i);
  });
}

// A matrix type offers rows, cols and these functions (see levels.hpp).
template <class T>
[[nodiscard]] constexpr std::size_t weight_cost(const PanelMatrix<T>&) noexcept {
  return 256 * sizeof(T);
}
template <class L, class T>
[[nodiscard]] constexpr Preparation preparation(const PanelMatrix<T>&) noexcept {
  return Preparation::none;
}
template <class L, class T>
void multiply(const PanelMatrix<T>& w, Range panels, const ProductInputs& x, std::size_t rows,
              float* y, std::size_t ldy) noexcept;  // kernels/lanes.hpp
template <class L, class T>
requires std::is_same_v<L, simd::Chosen>
void multiply(const PanelMatrix<T>& w, Range panels, const ProductInputs& x, std::size_t rows,
              float* y, std::size_t ldy) noexcept {
  multiply<L>(AnyMatrix{dtype_of<T>, w.data, w.rows, w.cols}, panels, x, rows, y, ldy);
}

/// Runs the products, which must be independent of each other, over `rows` rows. `scratch` has room
/// for the prepared rows of every product that wants them (PreparedRows::bytes_for(cols) bytes
/// each); products with the same x that want the same share theirs.
template <class L, class Matrix, std::size_t N, class Exec>
void run(const Product<Matrix> (&products)[N], std::size_t rows, std::byte* scratch, Exec& exec) {
  // Inputs first: each x once, however many matrices read it.
  PreparedRows prepared[N];
  for (std::size_t i = 0; i < N; ++i) {
    const Product<Matrix>& p = products[i];
    const Preparation how = preparation<L>(p.w);
    if (how == Preparation::none) continue;
    const auto same = [&](std::size_t j) {
      return products[j].x == p.x && preparation<L>(products[j].w) == how;
    };
    std::size_t j = 0;
    while (j < i && !same(j)) ++j;
    if (j < i) {
      prepared[i] = prepared[j];
      continue;
    }
    prepared[i] = {scratch, PreparedRows::bytes_for(p.w.cols), p.w.cols};
    scratch += rows * prepared[i].stride;
    for_each(rows, 2 * p.w.cols, exec,
             [&](std::size_t m) { prepare<L>(how, p.x + m * p.ldx, prepared[i], m); });
  }

  // Work is counted in inputs x panels x bytes, which 32 bits would not hold for large matrices.
  // Workers cut it into equal shares; a cut inside a matrix is rounded down to a pair of panels,
  // which those of floats are read in.
  std::uint64_t total = 0;
  std::uint64_t weights = 0;
  for (const Product<Matrix>& p : products) {
    const std::uint64_t inputs = std::uint64_t{panels_for(p.w.rows)} * p.w.cols;
    total += inputs * weight_cost(p.w);
    weights += inputs * panel_rows;
  }
  const std::size_t workers = workers_for(weights * rows, exec.concurrency());
  exec.parallel(workers, [&, total, workers, rows](std::size_t worker) {
    const std::uint64_t from = share_begin(total, workers, worker);
    const std::uint64_t to = share_begin(total, workers, worker + 1);
    std::uint64_t before = 0;
    for (std::size_t i = 0; i < N; ++i) {
      const Product<Matrix>& p = products[i];
      const std::size_t panels = panels_for(p.w.rows);
      const std::uint64_t panel_cost = std::uint64_t{p.w.cols} * weight_cost(p.w);
      const auto cut = [&](std::uint64_t at) {
        if (at <= before || panel_cost == 0) return std::size_t{0};
        const std::uint64_t panel = (at - before) / panel_cost;
        return panel < panels ? static_cast<std::size_t>(panel - panel % 2) : panels;
      };
      const Range range{cut(from), cut(to)};
      before += panels * panel_cost;
      if (range.begin >= range.end) continue;
      multiply<L>(p.w, range, ProductInputs{p.x, p.ldx, prepared[i]}, rows, p.y, p.ldy);
      if (p.activation == Activation::none) continue;
      const std::size_t end = range.end * panel_rows < p.w.rows ? range.end * panel_rows : p.w.rows;
      for (std::size_t m = 0; m < rows; ++m)
        activate<L>(p.activation, p.y + m * p.ldy, {range.begin * panel_rows, end});
    }
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
