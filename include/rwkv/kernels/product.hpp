// SPDX-License-Identifier: Apache-2.0
// Several matrix products in one parallel region, divided so that every worker streams one
// contiguous share of the weights. Freestanding.
#pragma once

#include <rwkv/kernels/elementwise.hpp>
#include <rwkv/kernels/matmul.hpp>

namespace rwkv::inline RWKV_ABI::kernels {

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
constexpr std::size_t workers_for(std::size_t work, std::size_t concurrency) noexcept {
  constexpr std::size_t worth_a_worker = std::size_t{1} << 16;
  const std::size_t wanted = 1 + work / worth_a_worker;
  return wanted < concurrency ? wanted : concurrency;
}

/// Runs the products, which must be independent of each other, over `rows` rows.
template <class L, class Matrix, std::size_t N, class Exec>
void run(const Product<Matrix> (&products)[N], std::size_t rows, Exec& exec) {
  // Work is counted in inputs x panels. Workers cut it into equal shares; a cut inside a matrix is
  // rounded down to a panel.
  std::size_t total = 0;
  for (const Product<Matrix>& p : products) total += panels_for(p.w.rows) * p.w.cols;
  const std::size_t workers = workers_for(total * panel_rows * rows, exec.concurrency());
  exec.parallel(workers, [&, total, workers, rows](std::size_t worker) {
    const Range mine = share(total, workers, worker);
    std::size_t before = 0;
    for (const Product<Matrix>& p : products) {
      const std::size_t panels = panels_for(p.w.rows);
      const auto cut = [&](std::size_t at) {
        if (at <= before || p.w.cols == 0) return std::size_t{0};
        const std::size_t panel = (at - before) / p.w.cols;
        return panel < panels ? panel : panels;
      };
      const Range range{cut(mine.begin), cut(mine.end)};
      before += panels * p.w.cols;
      if (range.begin >= range.end) continue;
      visit(p.w, [&](const auto& w) { matmul<L>(w, range, p.x, p.ldx, rows, p.y, p.ldy); });
      if (p.activation == Activation::none) continue;
      const std::size_t end = range.end * panel_rows < p.w.rows ? range.end * panel_rows : p.w.rows;
      for (std::size_t m = 0; m < rows; ++m)
        activate<L>(p.activation, p.y + m * p.ldy, {range.begin * panel_rows, end});
    }
  });
}

/// Calls f(i) for i in [0, n), each costing about `cost` multiply-adds.
template <class Exec, class F>
void for_each(std::size_t n, std::size_t cost, Exec& exec, F&& f) {
  const std::size_t wanted = workers_for(n * cost, exec.concurrency());
  const std::size_t workers = wanted < n ? wanted : n;
  exec.parallel(workers, [&, n, workers](std::size_t worker) {
    const Range mine = share(n, workers, worker);
    for (std::size_t i = mine.begin; i < mine.end; ++i) f(i);
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels
