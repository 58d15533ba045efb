// SPDX-License-Identifier: Apache-2.0
// Y = X W^T for quantised matrices. Either the inputs are quantised as well and integers are
// multiplied, or codes are widened in registers and multiplied with the inputs as they are.
//
// Every output is one chain over the tiles, y = fma(product of integers, scales, y), in the kernel
// for one row and in that for many alike; the integers are exact. So the bits of a row depend
// neither on its neighbours nor on how work is divided. Freestanding.
//
// Read once per instruction set (kernels/level.hpp).
#if !defined(RWKV_KERNELS_CODED_MATMUL) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_CODED_MATMUL

#ifndef RWKV_AGAIN
#include <rwkv/kernels/coded_formats.hpp>
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/prepared_rows.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::RWKV_LEVEL {

namespace detail {

/// Whether B multiplies eight inputs of two outputs with those of two rows at once.
template <class B>
concept MatrixBytes = requires {
  typename B::Pair;
};

template <class L, unsigned Bits, std::size_t Parts>
struct CodedBlocking {
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

/// The codes of group G (0 ... 7) of four inputs of a tile. `v` is where the lanes' codes begin.
template <class B, unsigned Bits, std::size_t G>
RWKV_INLINE typename B::Register unpack(const std::byte* v) noexcept {
  constexpr std::size_t vector = 4 * panel_rows;
  if constexpr (Bits == 8) {
    return B::load(v + G * vector);
  } else {
    constexpr unsigned high = Bits - 4;
    const auto two = B::load(v + (high + G % 4) * vector);
    const auto codes = G < 4 ? B::low(two) : B::high(two);
    if constexpr (Bits == 4) {
      return codes;
    } else {
      constexpr std::size_t groups = 8 / high;
      return B::template with_bits<G % groups * high, high>(codes,
                                                            B::load(v + G / groups * vector));
    }
  }
}

/// Calls f(std::integral_constant<std::size_t, G>) for the groups of a tile; those whose codes are
/// stored together follow each other, unless the halves of a tile are summed separately.
template <std::size_t Parts, std::size_t I = 0, class F>
RWKV_INLINE void for_each_group(F&& f) noexcept {
  constexpr std::size_t group = Parts == 1 ? I / 2 + I % 2 * 4 : I;
  f(std::integral_constant<std::size_t, group>{});
  if constexpr (I < 7) for_each_group<Parts, I + 1>(f);
}

template <class B, unsigned Bits>
RWKV_INLINE typename B::Sum dot(typename B::Sum sum, typename B::Register codes,
                                typename B::Register x) noexcept {
  if constexpr (Bits == 8)
    return B::dot_signed(sum, codes, x);
  else
    return B::dot(sum, codes, x);
}

/// What turns sums of products of codes of one vector of outputs (the first of which is `lanes`, 0
/// ... 15) into the numbers they stand for, in the parts of a tile:
/// W[o][i] = scale[o] code[o][i] - offset[o]. Codes of 8 bits have no offset.
template <class L, unsigned Bits, std::size_t Parts>
struct TileScales {
  static constexpr bool has_offset = Bits != 8;
  L scale[Parts];
  L offset[Parts];

  RWKV_INLINE TileScales(const CodedLayout& layout, const std::byte* group, const std::byte* tile,
                         std::size_t lanes) noexcept {
    using B = typename L::Bytes;
    if (Parts == 1 && layout.form == ScaleForm::halves) {
      const auto* halves = reinterpret_cast<const half*>(tile) + lanes;
      scale[0] = L::load(halves);
      if (has_offset && layout.min) offset[0] = L::load(halves + panel_rows);
    } else {
      const auto* halves = reinterpret_cast<const half*>(group) + lanes;
      const auto* bytes = reinterpret_cast<const std::int8_t*>(tile) + lanes;
      const L d = L::load(halves);
      for (std::size_t p = 0; p < Parts; ++p)
        scale[p] = d * B::template load_floats<L>(bytes + p * panel_rows);
      if (has_offset && layout.min) {
        const L dmin = L::load(halves + panel_rows);
        for (std::size_t p = 0; p < Parts; ++p)
          offset[p] = dmin * B::template load_floats<L>(bytes + (Parts + p) * panel_rows);
      }
    }
    if (has_offset && !layout.min)
      for (std::size_t p = 0; p < Parts; ++p)
        offset[p] = scale[p] * L::broadcast(static_cast<float>(layout.zero));
  }

  /// sum - offset times the sums of the inputs of the parts, or of all.
  RWKV_INLINE L subtract_offset(L sum, const float* negative_sums) const noexcept {
    if constexpr (has_offset && Parts == 1)
      sum = fma(offset[0], L::broadcast(negative_sums[0] + negative_sums[1]), sum);
    if constexpr (has_offset && Parts == 2) {
      sum = fma(offset[0], L::broadcast(negative_sums[0]), sum);
      sum = fma(offset[1], L::broadcast(negative_sums[1]), sum);
    }
    return sum;
  }
};

/// Where the numbers of a quantised row are.
struct CodedRow {
  const std::int8_t* codes;
  const float* steps;
  const float* negative_sums;
  const std::int32_t* offsets;

  CodedRow() = default;
  CodedRow(const PreparedRows& x, std::size_t m) noexcept
      : codes(x.codes(m)),
        steps(x.steps(m)),
        negative_sums(x.negative_sums(m)),
        offsets(x.offsets(m)) {}
};

/// What the sum of the products of tile t of a row begins with.
template <class B, unsigned Bits>
RWKV_INLINE typename B::Sum begin_sum([[maybe_unused]] const CodedRow& x,
                                      [[maybe_unused]] std::size_t t) noexcept {
  if constexpr (Bits == 8 && requires { B::begin_signed(x.offsets); }) {
    static_assert(B::template lazy<Bits> == 8, "a tile is one sum");
    return B::begin_signed(x.offsets + t);
  } else {
    return B::zero();
  }
}

/// B::hold, where there is one.
template <class B, class Sum>
RWKV_INLINE void hold(Sum& sum) noexcept {
  if constexpr (requires { B::hold(sum); }) B::hold(sum);
}

/// The sums of products of the codes of V vectors of outputs in the parts of tile t, for Rows rows
/// of quantised inputs.
template <class B, unsigned Bits, std::size_t Parts, std::size_t Rows, std::size_t V>
RWKV_INLINE void sum_tile(const std::byte* const (&at)[V], const CodedRow (&x)[Rows], std::size_t t,
                          typename B::Wide (&wide)[V][Rows][Parts]) noexcept {
  constexpr unsigned lazy = B::template lazy<Bits>;
  typename B::Sum few[V][Rows];
  std::size_t done = 0;
  for_each_group<Parts>(
      [&]<std::size_t G>(std::integral_constant<std::size_t, G>) RWKV_INLINE_LAMBDA {
        constexpr std::size_t per_part = 8 / Parts;
        constexpr std::size_t step = lazy < per_part ? lazy : per_part;
        typename B::Register codes[V];
        RWKV_UNROLL
        for (std::size_t v = 0; v < V; ++v) codes[v] = unpack<B, Bits, G>(at[v]);
        RWKV_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
          const auto inputs = B::broadcast(x[r].codes + t * tile_cols + 4 * G);
          const auto begin = begin_sum<B, Bits>(x[r], t);
          RWKV_UNROLL
          for (std::size_t v = 0; v < V; ++v) {
            few[v][r] = dot<B, Bits>(done % step == 0 ? begin : few[v][r], codes[v], inputs);
            hold<B>(few[v][r]);
          }
        }
        ++done;
        if (done % step != 0) return;
        const std::size_t part = (done - 1) / per_part;
        const bool first = (done - step) % per_part == 0;
        RWKV_UNROLL
        for (std::size_t v = 0; v < V; ++v) {
          RWKV_UNROLL
          for (std::size_t r = 0; r < Rows; ++r) {
            auto& sum = wide[v][r][part];
            sum = first ? B::widen(few[v][r]) : B::add_wide(sum, B::widen(few[v][r]));
            if constexpr (lazy == 1) hold<B>(sum);
          }
        }
      });
}

/// The same, two groups and two rows at a time.
template <MatrixBytes B, unsigned Bits, std::size_t Parts, std::size_t Rows, std::size_t G = 0>
RWKV_INLINE void sum_pairs(const std::byte* v, const CodedRow (&x)[Rows], std::size_t t,
                           typename B::Pair (&sum)[Rows / 2][Parts]) noexcept {
  const auto codes = B::pair(unpack<B, Bits, G>(v), unpack<B, Bits, G + 1>(v));
  const std::size_t at = t * tile_cols + 4 * G;
  constexpr std::size_t part = G / (8 / Parts);
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows / 2; ++r)
    B::dot(sum[r][part], codes, B::load_pair(x[2 * r].codes + at, x[2 * r + 1].codes + at));
  if constexpr (G + 2 < 8) sum_pairs<B, Bits, Parts, Rows, G + 2>(v, x, t, sum);
}

/// sum + what the integer sums of a tile's parts stand for, for a row of inputs with this step and
/// these sums.
template <class L, unsigned Bits, std::size_t Parts>
RWKV_INLINE L add_parts(L sum, const TileScales<L, Bits, Parts>& scales,
                        const typename L::Bytes::Wide (&wide)[Parts], L step,
                        const float* negative_sums) noexcept {
  RWKV_UNROLL
  for (std::size_t p = 0; p < Parts; ++p)
    sum = fma(L::Bytes::template to_float<L>(wide[p]), scales.scale[p] * step, sum);
  return scales.subtract_offset(sum, negative_sums);
}

/// Adds one tile to the sums of V vectors of outputs, `apart` bytes from each other, for Rows rows
/// of quantised inputs.
template <class L, unsigned Bits, std::size_t Parts, std::size_t Rows, std::size_t V>
RWKV_INLINE void add_tile(const CodedLayout& layout, const std::byte* group, const std::byte* tile,
                          std::size_t apart, std::size_t lanes, const CodedRow (&x)[Rows],
                          std::size_t t, L (&sum)[V][Rows]) noexcept {
  using B = typename L::Bytes;
  const std::byte* at[V];
  RWKV_UNROLL
  for (std::size_t v = 0; v < V; ++v) at[v] = tile + v * apart + layout.code_offset() + 4 * lanes;
  typename B::Wide wide[V][Rows][Parts];
  if constexpr (MatrixBytes<B> && Rows % 2 == 0) {
    static_assert(V == 1);
    typename B::Pair pairs[Rows / 2][Parts] = {};
    sum_pairs<B, Bits, Parts, Rows>(at[0], x, t, pairs);
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows / 2; ++r)
      for (std::size_t p = 0; p < Parts; ++p)
        B::split(pairs[r][p], wide[0][2 * r][p], wide[0][2 * r + 1][p]);
  } else {
    sum_tile<B, Bits, Parts, Rows, V>(at, x, t, wide);
  }

  RWKV_UNROLL
  for (std::size_t v = 0; v < V; ++v) {
    const TileScales<L, Bits, Parts> scales(layout, group + v * apart, tile + v * apart, lanes);
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r)
      sum[v][r] = add_parts(sum[v][r], scales, wide[v][r], L::broadcast(x[r].steps[t]),
                            x[r].negative_sums + 2 * t);
  }
}

/// The same for rows of inputs as they are.
template <class L, unsigned Bits, std::size_t Parts, std::size_t Rows>
RWKV_INLINE void add_tile_exactly(const CodedLayout& layout, const std::byte* group,
                                  const std::byte* tile, std::size_t lanes,
                                  const float* const (&x)[Rows],
                                  const float* const (&negative_sums)[Rows], std::size_t t,
                                  L (&sum)[Rows]) noexcept {
  using B = typename L::Bytes;
  const std::byte* v = tile + layout.code_offset() + 4 * lanes;
  L product[2][Rows];
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) product[0][r] = product[1][r] = L::broadcast(0.0f);
  for_each_group<2>([&]<std::size_t G>(std::integral_constant<std::size_t, G>) RWKV_INLINE_LAMBDA {
    const auto codes = unpack<B, Bits, G>(v);
    const auto add = [&]<unsigned Byte>(std::integral_constant<unsigned, Byte>) RWKV_INLINE_LAMBDA {
      const L code = B::template byte_to_float<L, Byte, Bits == 8>(codes);
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) {
        product[G / 4][r] =
            fma(code, L::broadcast(x[r][t * tile_cols + 4 * G + Byte]), product[G / 4][r]);
        hold(product[G / 4][r]);
      }
    };
    add(std::integral_constant<unsigned, 0>{});
    add(std::integral_constant<unsigned, 1>{});
    add(std::integral_constant<unsigned, 2>{});
    add(std::integral_constant<unsigned, 3>{});
  });

  const TileScales<L, Bits, Parts> scales(layout, group, tile, lanes);
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) {
    if constexpr (Parts == 1) {
      sum[r] = fma(scales.scale[0], product[0][r] + product[1][r], sum[r]);
    } else {
      sum[r] = fma(scales.scale[0], product[0][r], sum[r]);
      sum[r] = fma(scales.scale[1], product[1][r], sum[r]);
    }
    sum[r] = scales.subtract_offset(sum[r], negative_sums[r] + 2 * t);
  }
}

/// Calls f(group, tile, t) for the tiles of a panel in order.
template <class F>
RWKV_INLINE void for_each_tile(const CodedLayout& layout, const std::byte* panel, std::size_t cols,
                               F&& f) noexcept {
  const std::byte* group = panel;
  for (std::size_t t = 0; t < cols / tile_cols; group += layout.group_bytes())
    for (std::size_t k = 0; k < layout.tiles_per_group(); ++k, ++t)
      f(group, group + layout.header_bytes() + k * layout.tile_bytes(), t);
}

/// Stores one vector of outputs of panel p.
template <class L>
RWKV_INLINE void store_outputs(L sum, std::size_t rows, std::size_t p, std::size_t lanes,
                               float* y) noexcept {
  const std::size_t first = p * panel_rows + lanes;
  if (first + L::width <= rows) {
    sum.store(y + first);
  } else if (first < rows) {
    alignas(alignment) float last[L::width];
    sum.store(last);
    std::memcpy(y + first, last, (rows - first) * sizeof(float));
  }
}

/// A lone row. Its panels are read one after the other, a single stream of memory. The layout is a
/// constant here, because a lone row spends as much on addresses as on the rest.
template <class L, CodedLayout Layout>
void coded_single(const CodedMatrix& w, Range panels, const PreparedRows& x, float* y) noexcept {
  constexpr std::size_t vectors = panel_rows / L::width;
  const CodedRow row[1] = {{x, 0}};
  const std::size_t panel_bytes = Layout.bytes_per_panel(w.cols);
  for (std::size_t p = panels.begin; p < panels.end; ++p) {
    L sum[vectors][1][1];
    RWKV_UNROLL
    for (std::size_t v = 0; v < vectors; ++v) sum[v][0][0] = L::broadcast(0.0f);
    for_each_tile(Layout, w.data + p * panel_bytes, w.cols,
                  [&](const std::byte* group, const std::byte* tile, std::size_t t)
                      RWKV_INLINE_LAMBDA {
                        RWKV_UNROLL
                        for (std::size_t v = 0; v < vectors; ++v)
                          add_tile<L, Layout.bits, Layout.parts(), 1, 1>(
                              Layout, group, tile, 0, v * L::width, row, t, sum[v]);
                      });
    RWKV_UNROLL
    for (std::size_t v = 0; v < vectors; ++v)
      store_outputs(sum[v][0][0], w.rows, p, v * L::width, y);
  }
}

/// The same for a layout known at run time, one of those of the block types.
template <class L>
void coded_single(const CodedMatrix& w, Range panels, const PreparedRows& x, float* y) noexcept {
  const auto try_type = [&]<DType Type>(std::integral_constant<DType, Type>) {
    constexpr CodedLayout layout = layout_of(Type);
    if (w.layout != layout) return false;
    coded_single<L, layout>(w, panels, x, y);
    return true;
  };
  const auto try_types = [&]<DType... Types>() {
    return (try_type(std::integral_constant<DType, Types>{}) || ...);
  };
  [[maybe_unused]] const bool found =
      try_types
          .template operator()<DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::q8_0,
                               DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k>();
  RWKV_ASSERT(found);
}

/// Panels [panels.begin, panels.end), at most V, for rows [first, first + Rows); beyond `end`, the
/// last one again.
template <class L, unsigned Bits, std::size_t Parts, std::size_t Rows>
void coded_block(const CodedMatrix& w, Range panels, const PreparedRows& x, std::size_t first,
                 std::size_t end, float* y, std::size_t ldy) noexcept {
  constexpr std::size_t V = CodedBlocking<L, Bits, Parts>::panels;
  const CodedLayout layout = w.layout;
  const std::size_t panel_bytes = layout.bytes_per_panel(w.cols);
  const std::size_t found = panels.end - panels.begin;
  const std::size_t apart = found == V ? panel_bytes : 0;  // a panel without partner is its own
  CodedRow row[Rows];
  for (std::size_t r = 0; r < Rows; ++r)
    row[r] = CodedRow(x, first + r < end ? first + r : end - 1);
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    L sum[V][Rows];
    RWKV_UNROLL
    for (std::size_t v = 0; v < V; ++v) {
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) sum[v][r] = L::broadcast(0.0f);
    }
    for_each_tile(
        layout, w.data + panels.begin * panel_bytes, w.cols,
        [&](const std::byte* group, const std::byte* tile, std::size_t t) RWKV_INLINE_LAMBDA {
          add_tile<L, Bits, Parts, Rows, V>(layout, group, tile, apart, lanes, row, t, sum);
        });
    RWKV_UNROLL
    for (std::size_t v = 0; v < V; ++v) {
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r)
        if (v < found && first + r < end)
          store_outputs(sum[v][r], w.rows, panels.begin + v, lanes, y + (first + r) * ldy);
    }
  }
}

/// Some panels for all rows.
template <class L, unsigned Bits, std::size_t Parts>
void coded_panels(const CodedMatrix& w, Range panels, const PreparedRows& x, std::size_t rows,
                  float* y, std::size_t ldy) noexcept {
  using Blocking = CodedBlocking<L, Bits, Parts>;
  constexpr std::size_t most = Blocking::rows, last = Blocking::last_rows;
  for (std::size_t p = panels.begin; p < panels.end; p += Blocking::panels) {
    const std::size_t left = panels.end - p;
    const Range some{p, p + (left < Blocking::panels ? left : Blocking::panels)};
    for (std::size_t first = 0; first < rows;) {
      const std::size_t rest = rows - first;
      if (most == last || rest > 2 * last || (rest > last && rest <= most)) {
        coded_block<L, Bits, Parts, most>(w, some, x, first, rows, y, ldy);
        first += most;
      } else {
        coded_block<L, Bits, Parts, last>(w, some, x, first, rows, y, ldy);
        first += last;
      }
    }
  }
}

/// One panel for rows [first, first + Rows) of inputs as they are; beyond `end`, the last one
/// again.
template <class L, unsigned Bits, std::size_t Parts, std::size_t Rows>
void coded_exact(const CodedMatrix& w, std::size_t p, const ProductInputs& x, std::size_t first,
                 std::size_t end, float* y, std::size_t ldy) noexcept {
  const CodedLayout layout = w.layout;
  const std::byte* panel = w.data + p * layout.bytes_per_panel(w.cols);
  const float* inputs[Rows];
  const float* negative_sums[Rows];
  for (std::size_t r = 0; r < Rows; ++r) {
    const std::size_t row = first + r < end ? first + r : end - 1;
    inputs[r] = x.x + row * x.ldx;
    negative_sums[r] = x.prepared.negative_sums(row);
  }
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    L sum[Rows];
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) sum[r] = L::broadcast(0.0f);
    for_each_tile(layout, panel, w.cols,
                  [&](const std::byte* group, const std::byte* tile, std::size_t t)
                      RWKV_INLINE_LAMBDA {
                        add_tile_exactly<L, Bits, Parts, Rows>(layout, group, tile, lanes, inputs,
                                                               negative_sums, t, sum);
                      });
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r)
      if (first + r < end) store_outputs(sum[r], w.rows, p, lanes, y + (first + r) * ldy);
  }
}

template <class L, unsigned Bits, std::size_t Parts>
void coded_matmul(const CodedMatrix& w, Inputs inputs, Range panels, const ProductInputs& x,
                  std::size_t rows, float* y, std::size_t ldy) noexcept {
  if (inputs == Inputs::exact) {
    constexpr std::size_t block = 4;
    for (std::size_t p = panels.begin; p < panels.end; ++p)
      if (rows == 1)
        coded_exact<L, Bits, Parts, 1>(w, p, x, 0, 1, y, ldy);
      else
        for (std::size_t m = 0; m < rows; m += block)
          coded_exact<L, Bits, Parts, block>(w, p, x, m, rows, y, ldy);
  } else if (rows == 1) {
    coded_single<L>(w, panels, x.prepared, y);
  } else {
    coded_panels<L, Bits, Parts>(w, panels, x.prepared, rows, y, ldy);
  }
}

}  // namespace detail

/// y[m][o] = sum_i W[o][i] x[m][i] for the outputs of panels [panels.begin, panels.end) and rows m
/// < rows. y is [rows][ldy]; y outside the asked outputs is not touched. Cost: 2 rows W.cols
/// multiply-adds per output; the weights are read once per CodedBlocking::rows rows, from the
/// cache after the first time.
template <class L>
void coded_matmul(const CodedMatrix& w, Inputs inputs, Range panels, const ProductInputs& x,
                  std::size_t rows, float* y, std::size_t ldy) noexcept {
  const auto with = [&]<unsigned Bits, std::size_t Parts>() {
    detail::coded_matmul<L, Bits, Parts>(w, inputs, panels, x, rows, y, ldy);
  };
  switch (w.layout.bits) {
    case 4:
      return w.layout.parts() == 1 ? with.template operator()<4, 1>()
                                   : with.template operator()<4, 2>();
    case 5:
      return with.template operator()<5, 1>();
    case 6:
      return with.template operator()<6, 2>();
    default:
      RWKV_ASSERT(w.layout.bits == 8);
      return with.template operator()<8, 1>();
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::RWKV_LEVEL

#endif
