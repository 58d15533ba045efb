// SPDX-License-Identifier: Apache-2.0
// Several matrix products in one parallel region, divided into parts that stream contiguous
// weights. Freestanding.
#pragma once

#include <rwkv/kernels/dispatched.hpp>

#include <bit>
#include <cstring>
#include <type_traits>

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

/// How many parts `work` multiply-adds are cut into: no more than are worth waking a worker for,
/// and, where there is work enough, several for each, so that who is faster does more. A part is
/// long enough to stream: each begins with waiting for memory.
constexpr std::size_t parts_for(std::uint64_t work, std::size_t concurrency) noexcept {
  constexpr std::uint64_t worth_a_worker = std::uint64_t{1} << 16;
  constexpr std::uint64_t worth_a_part = std::uint64_t{1} << 20;
  if (concurrency <= 1) return 1;
  const std::uint64_t workers = 1 + work / worth_a_worker;
  if (workers < concurrency) return static_cast<std::size_t>(workers);
  const std::uint64_t parts = work / worth_a_part;
  const std::uint64_t most = std::uint64_t{4} * concurrency;
  return static_cast<std::size_t>(parts < concurrency ? concurrency : parts < most ? parts : most);
}

/// Where part `index` begins, which is where the one before it ends.
constexpr std::uint64_t share_begin(std::uint64_t work, std::uint64_t parts,
                                    std::uint64_t index) noexcept {
  return work / parts * index + work % parts * index / parts;  // work * index may overflow
}

/// Calls f(i) for i in [0, n), each costing about `cost` multiply-adds.
template <class Exec, class F>
void for_each(std::size_t n, std::size_t cost, Exec& exec, F&& f) {
  if constexpr (InSequence<Exec>) {
    for (std::size_t i = 0; i < n; ++i) f(i);
    return;
  }
  const std::size_t wanted = parts_for(std::uint64_t{n} * cost, exec.concurrency());
  const std::size_t parts = wanted < n ? wanted : n;
  exec.parallel(parts, [&, n, parts](std::size_t part) {
    const Range mine = share(n, parts, part);
    for (std::size_t i = mine.begin; i < mine.end; ++i) f(i);
  });
}

// A matrix type offers rows, cols and these functions (see dispatched.hpp).
template <class T>
[[nodiscard]] constexpr std::size_t weight_cost(const PanelMatrix<T>&) noexcept {
  return 256 * sizeof(T);
}
template <class L, class T>
[[nodiscard]] constexpr ActivationFormat activation_format(const PanelMatrix<T>&) noexcept {
  return ActivationFormat::none;
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

/// What a matrix has beside it.
template <class T>
[[nodiscard]] constexpr const LowRank* low_rank(const PanelMatrix<T>&) noexcept {
  return nullptr;
}
[[nodiscard]] constexpr const LowRank* low_rank(const AnyMatrix& w) noexcept { return w.low_rank; }
/// Panels that must not be parted when a product is divided.
template <class Matrix>
[[nodiscard]] constexpr std::size_t panels_together(const Matrix&) noexcept {
  return 2;
}
/// As for AnyMatrix.
template <class Matrix>
[[nodiscard]] constexpr bool leaves_out(const Matrix&, ActivationFormat) noexcept {
  return false;
}
/// A small matrix as the type of those that it is multiplied together with.
[[nodiscard]] constexpr AnyMatrix alongside(const AnyMatrix&, const AnyMatrix& inner) noexcept {
  return inner;
}

/// y += B x for some panels, two at a time.
template <class L>
void add_product(const AnyMatrix& b, Range panels, const float* x, std::size_t ldx,
                 std::size_t rows, float* y, std::size_t ldy) noexcept {
  constexpr std::size_t width = 2 * panel_rows;
  constexpr std::size_t height = 16;
  alignas(alignment) float part[height * width];
  for (std::size_t p = panels.begin; p < panels.end; p += 2) {
    const std::size_t first = p * panel_rows;
    AnyMatrix pair = b;
    pair.data = static_cast<const float*>(b.data) + first * b.cols;
    pair.rows = b.rows - first < width ? b.rows - first : width;
    for (std::size_t m = 0; m < rows; m += height) {
      const std::size_t n = rows - m < height ? rows - m : height;
      multiply<L>(pair, {0, panels_for(pair.rows)}, ProductInputs{x + m * ldx, ldx}, n, part,
                  width);
      for (std::size_t i = 0; i < n; ++i)
        add<L>(part + i * width, y + (m + i) * ldy + first, pair.rows);
    }
  }
}

/// Whether it is worth it to list the inputs that are not zero, if they are this fraction. Reading a
/// line of weights here and there takes twice as long as one after the other, and the more of them
/// are neighbours, the more lines in between does the processor read ahead in vain. Several rows
/// gain computing as well.
[[nodiscard]] constexpr bool worth_listing(double fraction, std::size_t rows) noexcept {
  return fraction <= (rows == 1 ? 0.27 : 0.31);
}

/// Lists the inputs of a product that are not zero in all rows, if it is worth it. `room` is for as
/// many as there are inputs.
template <class Matrix>
[[nodiscard]] ListedInputs list_inputs(const Product<Matrix>& p, std::size_t rows,
                                       std::uint16_t* room) noexcept {
  std::size_t count = 0;
  for (std::size_t i = 0; i < p.w.cols; ++i) {
    bool zero = p.x[i] == 0.0f;
    for (std::size_t m = 1; m < rows; ++m) zero = zero & (p.x[m * p.ldx + i] == 0.0f);
    room[count] = static_cast<std::uint16_t>(i);
    count += zero ? 0 : 1;
  }
  const bool worth =
      worth_listing(static_cast<double>(count) / static_cast<double>(p.w.cols), rows);
  return worth ? ListedInputs{room, count} : ListedInputs{};
}

/// Marks the inputs whose codes are not zero in all rows, in `x.nonzero`, if it is worth it.
inline void mark_inputs(QuantisedActivations& x, std::size_t rows) noexcept {
  std::uint32_t* const bits = x.room_for_bits();
  std::size_t count = 0;
  for (std::size_t t = 0; t < x.cols / tile_cols; ++t) {
    std::uint32_t of_tile = 0;
    for (std::size_t i = 0; i < tile_cols; i += 8) {
      std::uint64_t any = 0;
      for (std::size_t m = 0; m < rows; ++m) {
        std::uint64_t eight;
        std::memcpy(&eight, x.codes(m) + t * tile_cols + i, sizeof eight);
        any |= eight;
      }
      constexpr std::uint64_t low = 0x7f7f7f7f7f7f7f7fu;
      any = (((any & low) + low) | any) >> 7 & 0x0101010101010101u;  // 1 where a byte is not zero
      of_tile |= static_cast<std::uint32_t>(any * 0x0102040810204080u >> 56) << i;
    }
    bits[t] = of_tile;
    count += static_cast<std::size_t>(std::popcount(of_tile));
  }
  if (worth_listing(static_cast<double>(count) / static_cast<double>(x.cols), rows))
    x.nonzero = bits;
}

/// Memory for what products need while they run.
struct Scratch {
  /// For the quantised rows of every product that wants them, or its list of inputs:
  /// QuantisedActivations::bytes_for(cols) each.
  std::byte* quantised = nullptr;
  /// [rows][ld], for the ranks of all low-rank products beside the matrices.
  float* low = nullptr;
  std::size_t ld = 0;
};

namespace detail {

/// Calls f(i, panels, the matrix of these panels alone, wherever they have been brought).
template <class Matrix, std::size_t N, class Exec, class F>
void fetch_products(const Product<Matrix> (&products)[N], Exec& exec, F&& f) {
  struct Piece {
    std::size_t product = 0;
    Range panels;
  };
  const auto from = [&](std::size_t i, std::size_t panel) {
    for (; i < N; ++i, panel = 0) {
      const std::size_t all = panels_for(products[i].w.rows);
      if (panel >= all) continue;
      const std::size_t bytes = panel_bytes(products[i].w);
      const std::size_t fit = Exec::piece / (2 * bytes) * 2;
      const std::size_t end = panel + (fit > 2 ? fit : 2);
      return Piece{i, {panel, end < all ? end : all}};
    }
    return Piece{N, {}};
  };
  const auto weights = [&](const Piece& piece) {
    const Matrix& w = products[piece.product].w;
    const std::size_t bytes = panel_bytes(w);
    return std::span(static_cast<const std::byte*>(static_cast<const void*>(w.data)) +
                         piece.panels.begin * bytes,
                     (piece.panels.end - piece.panels.begin) * bytes);
  };
  Piece piece = from(0, 0);
  if (piece.product < N) exec.ahead(weights(piece));
  while (piece.product < N) {
    const std::byte* const at = exec.here(weights(piece));
    const Piece next = from(piece.product, piece.panels.end);
    if (next.product < N) exec.ahead(weights(next));
    f(piece.product, piece.panels, panels_at(products[piece.product].w, piece.panels, at));
    piece = next;
  }
}

}  // namespace detail

/// Runs the products, which must be independent of each other, over `rows` rows. Products with the
/// same x that want the same format share it.
template <class L, class Matrix, std::size_t N, class Exec>
void run(const Product<Matrix> (&products)[N], std::size_t rows, const Scratch& scratch,
         Exec& exec) {
  float* low[N] = {};  // y = W x + b (a x): a x first, of all products that have it
  if constexpr (requires(const Matrix& w, const AnyMatrix& a) { alongside(w, a); }) {
    Product<Matrix> inner[N] = {};
    float* next = scratch.low;
    for (std::size_t i = 0; i < N; ++i) {
      const LowRank* const beside = low_rank(products[i].w);
      if (beside == nullptr) continue;
      low[i] = next;
      inner[i] = {alongside(products[i].w, beside->a), products[i].x, products[i].ldx, next,
                  scratch.ld};
      next += beside->a.rows;
    }
    if (next != scratch.low) run<L, Matrix>(inner, rows, scratch, exec);
  }

  // Inputs first: each x once, however many matrices read it.
  QuantisedActivations quantised[N];
  constexpr bool may_list = std::is_same_v<Matrix, AnyMatrix>;  // others skip nothing
  ListedInputs listed[may_list ? N : 1];
  std::byte* free = scratch.quantised;
  for (std::size_t i = 0; i < N; ++i) {
    const Product<Matrix>& p = products[i];
    const ActivationFormat how = activation_format<L>(p.w);
    if (how == ActivationFormat::none) {
      if (!may_list || rows > few_rows || !leaves_out(p.w, how)) continue;
      listed[may_list ? i : 0] = list_inputs(p, rows, reinterpret_cast<std::uint16_t*>(free));
      if (listed[may_list ? i : 0].index != nullptr)
        free += QuantisedActivations::bytes_for(p.w.cols);
      continue;
    }
    const auto same = [&](std::size_t j) {
      return products[j].x == p.x && activation_format<L>(products[j].w) == how;
    };
    std::size_t j = 0;
    while (j < i && !same(j)) ++j;
    if (j < i) {
      quantised[i] = quantised[j];
      continue;
    }
    quantised[i] = {free, QuantisedActivations::bytes_for(p.w.cols), p.w.cols};
    free += rows * quantised[i].stride;
    for_each(rows, 2 * p.w.cols, exec,
             [&](std::size_t m) { quantise_row<L>(how, p.x + m * p.ldx, quantised[i], m); });
    if (rows <= few_rows && leaves_out(p.w, how)) mark_inputs(quantised[i], rows);
  }

  const auto activated = [&](const Product<Matrix>& p, Range panels) {
    if (p.activation == Activation::none) return;
    const std::size_t end = panels.end * panel_rows < p.w.rows ? panels.end * panel_rows : p.w.rows;
    for (std::size_t m = 0; m < rows; ++m)
      activate<L>(p.activation, p.y + m * p.ldy, {panels.begin * panel_rows, end});
  };
  const auto panels_of = [&](std::size_t i, Range panels) {
    const Product<Matrix>& p = products[i];
    multiply<L>(p.w, panels, ProductInputs{p.x, p.ldx, quantised[i], listed[may_list ? i : 0]},
                rows, p.y, p.ldy);
    if (const LowRank* const beside = low_rank(p.w))
      add_product<L>(beside->b, panels, low[i], scratch.ld, rows, p.y, p.ldy);
    activated(p, panels);
  };
  if constexpr (Fetching<Exec> && requires(const Matrix& w) { panels_at(w, Range{}, nullptr); }) {
    detail::fetch_products(products, exec, [&](std::size_t i, Range panels, const Matrix& w) {
      const Product<Matrix>& p = products[i];
      multiply<L>(w, {0, panels.end - panels.begin},
                  ProductInputs{p.x, p.ldx, quantised[i], listed[may_list ? i : 0]}, rows,
                  p.y + panels.begin * panel_rows, p.ldy);
      activated(p, panels);
    });
    return;
  }
  if constexpr (InSequence<Exec>) {
    for (std::size_t i = 0; i < N; ++i)
      if (products[i].w.rows > 0) panels_of(i, {0, panels_for(products[i].w.rows)});
    return;
  }

  // Work is counted in inputs x panels x bytes, which 32 bits would not hold for large matrices.
  // It is cut into equal parts; a cut inside a matrix is rounded down to a pair of panels, which
  // those of floats are read in.
  std::uint64_t total = 0;
  std::uint64_t weights = 0;
  for (const Product<Matrix>& p : products) {
    const std::uint64_t inputs = std::uint64_t{panels_for(p.w.rows)} * p.w.cols;
    total += inputs * weight_cost(p.w);
    weights += inputs * panel_rows;
  }
  const std::size_t parts = parts_for(weights * rows, exec.concurrency());
  exec.parallel(parts, [&, total, parts](std::size_t part) {
    const std::uint64_t from = share_begin(total, parts, part);
    const std::uint64_t to = share_begin(total, parts, part + 1);
    std::uint64_t before = 0;
    for (std::size_t i = 0; i < N; ++i) {
      const Product<Matrix>& p = products[i];
      const std::size_t panels = panels_for(p.w.rows);
      const std::uint64_t panel_cost = std::uint64_t{p.w.cols} * weight_cost(p.w);
      const std::size_t grain = panels_together(p.w);
      const auto cut = [&](std::uint64_t at) {
        if (at <= before || panel_cost == 0) return std::size_t{0};
        const std::uint64_t panel = (at - before) / panel_cost;
        return panel < panels ? static_cast<std::size_t>(panel - panel % grain) : panels;
      };
      const Range range{cut(from), cut(to)};
      before += panels * panel_cost;
      if (range.begin >= range.end) continue;
      panels_of(i, range);
    }
  });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
