// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for quantised matrices. Either the inputs are quantised as well and integers are
// multiplied, or codes are widened in registers and multiplied with the inputs as they are.
//
// Every output is one chain over the tiles, y = fma(product of integers, scales, y), in the kernel
// for one row and in that for many alike; the integers are exact. So the bits of a row depend
// neither on its neighbours nor on how work is divided. Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_QUANTISED_MATMUL) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_QUANTISED_MATMUL

#ifndef RWKV_AGAIN
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/quantised_tile.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL {

namespace detail {

template <class B>
inline constexpr bool plain = false;
template <std::size_t Width>
inline constexpr bool plain<simd::PlainBytes<Width>> = true;

template <class L, unsigned Bits, std::size_t Parts>
struct QuantisedBlocking {
  static constexpr bool matrices = MatrixBytes<typename L::Bytes>;
  static constexpr bool one_sum = Parts == 1 && L::Bytes::template lazy<Bits> == 8;  // of a tile
  /// Panels that share the loading of the inputs: Zen 4 loads about as many wide registers in a
  /// cycle as it multiplies.
  static constexpr std::size_t panels = L::width == 16 && !matrices ? 2 : 1;
  /// Rows that share the unpacking of the codes; all sums are in registers.
  static constexpr std::size_t rows = matrices ? 8 : panels == 2 && one_sum ? 6 : 4;
  /// Rows of the last blocks.
  static constexpr std::size_t last_rows = matrices ? 8 : 4;
};

/// Calls f(group, tile, t) for the tiles of a panel in order.
template <class F>
RWKV_INLINE void for_each_tile(const QuantisedLayout& layout, const std::byte* panel,
                               std::size_t cols, F&& f) noexcept {
  const std::size_t per_group = layout.tiles_per_group(), tile_bytes = layout.tile_bytes();
  const std::byte* group = panel;
  for (std::size_t t = 0; t < cols / tile_cols;) {
    const std::byte* tile = group + layout.header_bytes();
    for (std::size_t k = 0; k < per_group; ++k, ++t, tile += tile_bytes) f(group, tile, t);
    group = tile;
  }
}

/// Stores one vector of outputs of panel p for the first `some` of the rows: by way of memory,
/// since every row that is stored from its register is more code.
template <class L, std::size_t Rows>
RWKV_INLINE void store_outputs(const L (&sum)[Rows], std::size_t some, std::size_t rows,
                               std::size_t p, std::size_t lanes, float* y,
                               std::size_t ldy) noexcept {
  alignas(alignment) float sums[Rows][L::width];
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) sum[r].store(sums[r]);
  const std::size_t first = p * panel_rows + lanes;
  for (std::size_t r = 0; r < some; ++r)
    if (first + L::width <= rows)
      L::load(sums[r]).store(y + r * ldy + first);
    else if (first < rows)
      std::memcpy(y + r * ldy + first, sums[r], (rows - first) * sizeof(float));
}

/// What the sums of one vector of outputs of panel p begin with for rows first, first + 1, ...;
/// beyond `end`, for the last one again. Only whole panels are continued.
template <class L, std::size_t Rows>
RWKV_INLINE void begin_sums(std::size_t first_tile, std::size_t p, std::size_t lanes,
                            std::size_t first, std::size_t end, const float* y, std::size_t ldy,
                            L (&sum)[Rows]) noexcept {
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) sum[r] = L::broadcast(0.0f);
  if (first_tile > 0) {
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r)
      sum[r] = L::load(y + (first + r < end ? first + r : end - 1) * ldy + p * panel_rows + lanes);
  }
}

/// A lone row. Its panels are read one after the other, a single stream of memory. The layout is a
/// constant here, because a lone row spends as much on addresses as on the rest.
template <class L, QuantisedLayout Layout>
void quantised_single(const QuantisedMatrix& w, Range panels, const QuantisedActivations& x,
                      float* y, std::size_t ahead) noexcept {
  constexpr std::size_t vectors = panel_rows / L::width;
  const QuantisedRows<1> row(x, 0, 1);
  const std::size_t panel_bytes = Layout.bytes_per_panel(w.cols);
  for (std::size_t p = panels.begin; p < panels.end; ++p) {
    L sum[vectors][1][1];
    RWKV_UNROLL
    for (std::size_t v = 0; v < vectors; ++v) sum[v][0][0] = L::broadcast(0.0f);
    for_each_tile(Layout, w.data + p * panel_bytes, w.cols,
                  [&](const std::byte* group, const std::byte* tile, std::size_t t)
                      RWKV_INLINE_LAMBDA {
                        if (ahead != 0) simd::prefetch<Layout.tile_bytes()>(tile + ahead);
                        RWKV_UNROLL
                        for (std::size_t v = 0; v < vectors; ++v)
                          add_tile<L, Layout.bits, Layout.parts(), 1, 1>(
                              Layout, group, tile, 0, v * L::width, row, t, sum[v]);
                      });
    RWKV_UNROLL
    for (std::size_t v = 0; v < vectors; ++v)
      store_outputs(sum[v][0], 1, w.rows, p, v * L::width, y, 0);
  }
}

/// Whether a lone row has a kernel for this type alone. With RWKV_FEWER_KERNELS, where a program's
/// size matters more, most types share those for their width of codes.
constexpr bool has_kernel_of_a_row([[maybe_unused]] DType type) noexcept {
#if defined(RWKV_FEWER_KERNELS)
  return type == DType::q8_0 || type == DType::q4_0;
#else
  return true;
#endif
}

/// The same for a layout known at run time. False, and nothing is written, for one that is not
/// among those of the block types below, or has no such kernel.
template <class L>
[[nodiscard]] bool quantised_single(const QuantisedMatrix& w, Range panels,
                                    const QuantisedActivations& x, float* y,
                                    std::size_t ahead) noexcept {
  const auto try_type = [&]<std::size_t I>(std::integral_constant<std::size_t, I>) {
    constexpr QuantisedLayout layout = layout_of(block_types[I]);
    if constexpr (!has_kernel_of_a_row(block_types[I])) {
      return false;
    } else {
      if (w.layout != layout) return false;
      quantised_single<L, layout>(w, panels, x, y, ahead);
      return true;
    }
  };
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    return (try_type(std::integral_constant<std::size_t, I>{}) || ...);
  }
  (std::make_index_sequence<block_types.size()>{});
}

/// A layout with so many bits and parts, with what all of them have in common as constants.
template <unsigned Bits, std::size_t Parts>
RWKV_INLINE constexpr QuantisedLayout with_constants(QuantisedLayout layout) noexcept {
  layout.bits = Bits;
  if (Bits == 8) layout.form = ScaleForm::halves;
  if (Parts == 2) layout.form = ScaleForm::bytes_of_half;
  if (Bits == 8 || Bits == 6) layout.min = false;
  return layout;
}

/// Returns f.operator()<Bits, Parts>() for a layout; there is one for every block type.
template <class F>
RWKV_INLINE constexpr auto with_bits_and_parts(const QuantisedLayout& layout, F f) noexcept {
  switch (layout.bits) {
    case 4:
      return layout.parts() == 1 ? f.template operator()<4, 1>() : f.template operator()<4, 2>();
    case 5:
      return f.template operator()<5, 1>();
    case 6:
      return f.template operator()<6, 2>();
    default:
      return f.template operator()<8, 1>();
  }
}
static_assert(
    [] {
      for (const DType type : block_types) {
        const QuantisedLayout layout = layout_of(type);
        if (!with_bits_and_parts(layout, [&]<unsigned Bits, std::size_t Parts>() {
              return with_constants<Bits, Parts>(layout) == layout && layout.parts() == Parts;
            }))
          return false;
      }
      return true;
    }(),
    "a block type's layout has no kernel");

/// Memory that is asked for while something else is computed with, a piece at a time.
struct AskedFor {
  const std::byte* at = nullptr;
  const std::byte* end = nullptr;
  std::size_t piece = 0;

  RWKV_INLINE void ask() noexcept {
    const std::size_t left = static_cast<std::size_t>(end - at), n = piece < left ? piece : left;
    for (std::size_t i = 0; i < n; i += alignment) simd::prefetch_far<1>(at + i);
    at += n;
  }

  /// What rows [first, last) of `rows` ask for in so many steps, of some bytes.
  static AskedFor share(const std::byte* from, std::size_t bytes, std::size_t first,
                        std::size_t last, std::size_t rows, std::size_t steps) noexcept {
    const std::size_t per_row = bytes / rows;
    const std::byte* const to = from + (last < rows ? per_row * last : bytes);
    from += per_row * first;
    return {from, to, steps > 0 ? static_cast<std::size_t>(to - from) / steps + 1 : 0};
  }
};

/// Calls f(whether the block is one of Most rows, its first row, the one behind it) for blocks of Most
/// rows and of Last ones, of which the last may have fewer.
template <std::size_t Most, std::size_t Last, class F>
RWKV_INLINE void for_blocks_of_rows(std::size_t rows, F&& f) noexcept {
  for (std::size_t first = 0; first < rows;) {
    const std::size_t rest = rows - first;
    const bool most = Most == Last || rest > 2 * Last || (rest > Last && rest <= Most);
    const std::size_t some = most ? Most : Last, end = rest > some ? first + some : rows;
    f(most, first, end);
    first = end;
  }
}

/// Panels [panels.begin, panels.end), at most V, for rows [first, first + Rows); beyond `end`, the
/// last one again.
template <class L, unsigned Bits, std::size_t Parts, std::size_t Rows, std::size_t V>
void quantised_block(const QuantisedMatrix& w, Range panels, const QuantisedActivations& x,
                     std::size_t first, std::size_t end, float* y, std::size_t ldy,
                     AskedFor next = {}) noexcept {
  const QuantisedLayout layout = with_constants<Bits, Parts>(w.layout);
  RWKV_ASSERT(layout == w.layout);
  const std::size_t panel_bytes = layout.bytes_per_panel(w.cols);
  const std::size_t found = panels.end - panels.begin;
  const std::size_t apart = found == V ? panel_bytes : 0;  // a panel without partner is its own
  const QuantisedRows<Rows> row(x, first, end);
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    L sum[V][Rows];
    RWKV_UNROLL
    for (std::size_t v = 0; v < V; ++v)
      begin_sums(x.first_tile, panels.begin + (v < found ? v : 0), lanes, first, end, y, ldy,
                 sum[v]);
    for_each_tile(
        layout, w.data + panels.begin * panel_bytes, w.cols,
        [&](const std::byte* group, const std::byte* tile, std::size_t t) RWKV_INLINE_LAMBDA {
          next.ask();
          add_tile<L, Bits, Parts, Rows, V>(layout, group, tile, apart, lanes, row, t, sum);
        });
    RWKV_UNROLL
    for (std::size_t v = 0; v < V; ++v)
      if (v < found)
        store_outputs(sum[v], end - first < Rows ? end - first : Rows, w.rows, panels.begin + v,
                      lanes, y + first * ldy, ldy);
  }
}

/// Some panels for all rows.
template <class L, unsigned Bits, std::size_t Parts>
void quantised_panels(const QuantisedMatrix& w, Range panels, const QuantisedActivations& x,
                      std::size_t rows, float* y, std::size_t ldy) noexcept {
  using Blocking = QuantisedBlocking<L, Bits, Parts>;
  constexpr std::size_t most = Blocking::rows, last = Blocking::last_rows, V = Blocking::panels;
#if defined(RWKV_FEWER_KERNELS)
  if constexpr (Bits == 8 || (Bits == 4 && Parts == 1)) {
    if (Bits == 4 && rows == 1) {
      for (std::size_t p = panels.begin; p < panels.end; ++p)
        quantised_block<L, Bits, Parts, 1, 1>(w, {p, p + 1}, x, 0, 1, y, ldy);
      return;
    }
  } else {
    for (std::size_t p = panels.begin; p < panels.end; ++p)
      for (std::size_t m = 0; m < rows; ++m)
        quantised_block<L, Bits, Parts, 1, 1>(w, {p, p + 1}, x, m, m + 1, y, ldy);
    return;
  }
#endif
  if constexpr (V > 1) {
    // Few rows take little longer than a lone one, if their panels are a single stream, too.
    if (rows <= 4) {
      for (std::size_t p = panels.begin; p < panels.end; ++p)
        if (rows <= 2)
          quantised_block<L, Bits, Parts, 2, 1>(w, {p, p + 1}, x, 0, rows, y, ldy);
        else
          quantised_block<L, Bits, Parts, 4, 1>(w, {p, p + 1}, x, 0, rows, y, ldy);
      return;
    }
  }
  // A processor does not read ahead of what it computes much with: each block of rows asks for a part
  // of the panels that come next.
  const std::size_t panel_bytes = w.layout.bytes_per_panel(w.cols);
  const std::size_t steps = (w.cols / tile_cols) * (panel_rows / L::width);
  for (std::size_t p = panels.begin; p < panels.end; p += V) {
    const std::size_t left = panels.end - p;
    const Range some{p, p + (left < V ? left : V)};
    const std::byte* const after = w.data + some.end * panel_bytes;
    const std::size_t bytes = (left - (some.end - p) < V ? left - (some.end - p) : V) * panel_bytes;
    for_blocks_of_rows<most, last>(
        rows, [&](bool many, std::size_t first, std::size_t done) RWKV_INLINE_LAMBDA {
          const AskedFor next = AskedFor::share(after, bytes, first, done, rows, steps);
          if (many)
            quantised_block<L, Bits, Parts, most, V>(w, some, x, first, rows, y, ldy, next);
          else
            quantised_block<L, Bits, Parts, last, V>(w, some, x, first, rows, y, ldy, next);
        });
  }
}

/// One panel for rows [first, first + Rows) of inputs as they are; beyond `end`, the last one
/// again.
template <class L, std::size_t Rows>
void quantised_exact(const QuantisedMatrix& w, std::size_t p, const ProductInputs& x,
                     std::size_t first, std::size_t end, float* y, std::size_t ldy) noexcept {
  const QuantisedLayout layout = w.layout;
  const std::byte* panel = w.data + p * layout.bytes_per_panel(w.cols);
  const float* inputs[Rows];
  const float* negative_sums[Rows];
  for (std::size_t r = 0; r < Rows; ++r) {
    const std::size_t row = first + r < end ? first + r : end - 1;
    inputs[r] = x.x + row * x.ldx;
    negative_sums[r] = x.quantised.negative_sums(row);
  }
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    L sum[Rows];
    begin_sums(x.quantised.first_tile, p, lanes, first, end, y, ldy, sum);
    for_each_tile(
        layout, panel, w.cols,
        [&](const std::byte* group, const std::byte* tile, std::size_t t) RWKV_INLINE_LAMBDA {
          add_tile_exactly<L, Rows>(layout, group, tile, lanes, inputs, negative_sums, t, sum);
        });
    store_outputs(sum, end - first < Rows ? end - first : Rows, w.rows, p, lanes, y + first * ldy,
                  ldy);
  }
}

/// The codes of a tile of plain bytes, those of an output one after the other.
template <class B>
void unpack_plain(const std::byte* v, unsigned bits,
                  std::int16_t (&out)[panel_rows][tile_cols]) noexcept {
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += B::width) {
    TileCodes<B> codes(v + 4 * lanes, bits);
    for (std::size_t i = 0; i < tile_cols / 2; i += 4) {
      typename B::Register four[2];
      codes.next(bits, four);
      for (std::size_t h = 0; h < 2; ++h)
        for (std::size_t k = 0; k < B::width; ++k)
          for (unsigned byte = 0; byte < 4; ++byte)
            out[lanes + k][h * tile_cols / 2 + i + byte] =
                static_cast<std::int8_t>(four[h].lane[k] >> 8 * byte & 0xff);
    }
  }
}

/// Some panels for all rows of quantised inputs, where bytes are plain: one function for all
/// layouts, whose sums of products compilers make vectors of.
template <class L>
void quantised_plain(const QuantisedMatrix& w, Range panels, const QuantisedActivations& x,
                     std::size_t rows, float* y, std::size_t ldy) noexcept {
  constexpr std::size_t block = 4, half_tile = tile_cols / 2;
  const QuantisedLayout layout = w.layout;
  const std::size_t parts = layout.parts();
  for (std::size_t p = panels.begin; p < panels.end; ++p)
    for (std::size_t first = 0; first < rows; first += block) {
      const std::size_t some = rows - first < block ? rows - first : block;
      float sum[block][panel_rows] = {};
      if (x.first_tile > 0)
        for (std::size_t r = 0; r < some; ++r)
          std::memcpy(sum[r], y + (first + r) * ldy + p * panel_rows, sizeof sum[r]);
      const auto add = [&](const std::byte* group, const std::byte* tile, std::size_t t) {
        std::int16_t codes[panel_rows][tile_cols];
        unpack_plain<typename L::Bytes>(tile + layout.code_offset(), layout.bits, codes);
        float products[block][2][panel_rows];
        for (std::size_t r = 0; r < some; ++r) {
          std::int16_t inputs[tile_cols];
          const std::int8_t* const from = x.codes(first + r) + t * tile_cols;
          for (std::size_t i = 0; i < tile_cols; ++i) inputs[i] = from[i];
          for (std::size_t o = 0; o < panel_rows; ++o) {
            std::int32_t of_half[2] = {};
            for (std::size_t i = 0; i < half_tile; ++i) of_half[0] += codes[o][i] * inputs[i];
            for (std::size_t i = half_tile; i < tile_cols; ++i)
              of_half[1] += codes[o][i] * inputs[i];
            if (parts == 1) of_half[0] += of_half[1];
            products[r][0][o] = static_cast<float>(of_half[0]);
            products[r][1][o] = static_cast<float>(of_half[1]);
          }
        }
        for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
          const TileScales<L, 2> scales(layout, parts, group, tile, lanes);
          for (std::size_t r = 0; r < some; ++r) {
            const L step = L::broadcast(x.steps(first + r)[t]);
            L s = L::load(sum[r] + lanes);
            for (std::size_t part = 0; part < parts; ++part)
              s = fma(L::load(products[r][part] + lanes), scales.scale[part] * step, s);
            scales.subtract_offset(s, layout, parts, x.negative_sums(first + r) + 2 * t)
                .store(sum[r] + lanes);
          }
        }
      };
      for_each_tile(layout, w.data + p * layout.bytes_per_panel(w.cols), w.cols, add);
      for (std::size_t r = 0; r < some; ++r)
        for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width)
          store_outputs<L, 1>({L::load(sum[r] + lanes)}, 1, w.rows, p, lanes, y + (first + r) * ldy,
                              0);
    }
}

/// Some panels for all rows of inputs as they are.
template <class L>
void quantised_exact(const QuantisedMatrix& w, Range panels, const ProductInputs& x,
                     std::size_t rows, float* y, std::size_t ldy) noexcept {
  constexpr std::size_t block = 4;
  for (std::size_t p = panels.begin; p < panels.end; ++p)
    if (rows == 1)
      quantised_exact<L, 1>(w, p, x, 0, 1, y, ldy);
    else
      for (std::size_t m = 0; m < rows; m += block)
        quantised_exact<L, block>(w, p, x, m, rows, y, ldy);
}

}  // namespace detail

/// y[m][o] = sum_i W[o][i] x[m][i] for the outputs of panels [panels.begin, panels.end) and rows m
/// < rows. y is [rows][ldy]; y outside the asked outputs is not touched. Cost: 2 rows W.cols
/// multiply-adds per output; the weights are read once per QuantisedBlocking::rows rows, from the
/// cache after the first time. Unless the inputs begin with tile 0, the sums go on with what is in y,
/// which must be whole panels.
template <class L>
void quantised_matmul(const QuantisedMatrix& w, Inputs inputs, Range panels, const ProductInputs& x,
                      std::size_t rows, float* y, std::size_t ldy) noexcept {
  if (inputs == Inputs::exact) return detail::quantised_exact<L>(w, panels, x, rows, y, ldy);
  if constexpr (detail::plain<typename L::Bytes>) {
    detail::quantised_plain<L>(w, panels, x.quantised, rows, y, ldy);
  } else {
    if (rows == 1 && x.quantised.first_tile == 0 &&
        detail::quantised_single<L>(w, panels, x.quantised, y, x.ahead))
      return;
    detail::with_bits_and_parts(w.layout, [&]<unsigned Bits, std::size_t Parts>() {
      detail::quantised_panels<L, Bits, Parts>(w, panels, x.quantised, rows, y, ldy);
    });
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL

#endif
