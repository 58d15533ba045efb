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
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/quantised_rows.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::RWKV_LEVEL {

namespace detail {

template <class L>
struct CodedBlocking {
  /// Rows that share the unpacking of the codes.
  static constexpr std::size_t rows = L::width == 16 ? 8 : 4;
  /// Panels that a lone row reads at the same time, each a stream of its own.
  static constexpr std::size_t streams = L::width >= 8 ? 4 : 1;
  /// How far ahead (bytes) they are asked for.
  static constexpr std::size_t prefetch = 8192;
};

/// The codes of input groups q and q + 4 (q < 4) of a tile. `v` is where the lanes' codes begin.
template <class B, unsigned Bits, std::size_t Q>
RWKV_INLINE void unpack(const std::byte* v, typename B::Register& lower,
                        typename B::Register& upper) noexcept {
  constexpr std::size_t vector = 4 * panel_rows;
  if constexpr (Bits == 8) {
    lower = B::load(v + Q * vector);
    upper = B::load(v + (Q + 4) * vector);
  } else {
    const auto both = B::load(v + Q * vector);
    lower = B::low(both);
    upper = B::high(both);
    if constexpr (Bits > 4) {
      constexpr unsigned high = Bits - 4;
      constexpr std::size_t groups = 8 / high;
      lower = B::template with_bits<Q % groups * high, high>(
          lower, B::load(v + (4 + Q / groups) * vector));
      upper = B::template with_bits<(Q + 4) % groups * high, high>(
          upper, B::load(v + (4 + (Q + 4) / groups) * vector));
    }
  }
}

template <class B, unsigned Bits>
RWKV_INLINE typename B::Sum dot(typename B::Sum sum, typename B::Register codes,
                                typename B::Register x) noexcept {
  if constexpr (Bits == 8)
    return B::dot_signed(sum, codes, x);
  else
    return B::dot(sum, codes, x);
}

/// The scales of one vector of outputs in the parts of a tile. `lanes` is the first of the outputs
/// (0 ... 15). Without mins they are left alone.
template <class L, std::size_t Parts>
struct TileScales {
  L scale[Parts];
  L min[Parts];

  RWKV_INLINE TileScales(const CodedLayout& layout, const std::byte* group, const std::byte* tile,
                         std::size_t lanes) noexcept {
    using B = typename L::Bytes;
    if (Parts == 1 && layout.form == ScaleForm::halves) {
      const auto* halves = reinterpret_cast<const half*>(tile) + lanes;
      scale[0] = L::load(halves);
      if (layout.min) min[0] = L::load(halves + panel_rows);
      return;
    }
    const auto* halves = reinterpret_cast<const half*>(group) + lanes;
    const auto* bytes = reinterpret_cast<const std::int8_t*>(tile) + lanes;
    const L d = L::load(halves);
    for (std::size_t p = 0; p < Parts; ++p)
      scale[p] = d * B::template load_floats<L>(bytes + p * panel_rows);
    if (!layout.min) return;
    const L dmin = L::load(halves + panel_rows);
    for (std::size_t p = 0; p < Parts; ++p)
      min[p] = dmin * B::template load_floats<L>(bytes + (Parts + p) * panel_rows);
  }
};

/// Adds one tile to the sums of one vector of outputs, for Rows rows of quantised inputs.
template <class L, unsigned Bits, std::size_t Parts, std::size_t Rows>
RWKV_INLINE void add_tile(const CodedLayout& layout, const std::byte* group, const std::byte* tile,
                          std::size_t lanes, const QuantisedRows& x, const std::size_t (&m)[Rows],
                          std::size_t t, L (&sum)[Rows]) noexcept {
  using B = typename L::Bytes;
  constexpr unsigned lazy = B::template lazy<Bits>;
  const std::byte* v = tile + layout.code_offset() + 4 * lanes;
  typename B::Sum lower[Rows];
  typename B::Sum upper[Rows];
  typename B::Wide wide[Rows][Parts];
  const auto start = [&] {
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) lower[r] = upper[r] = B::zero();
  };
  const auto step = [&]<std::size_t Q>(std::integral_constant<std::size_t, Q>) {
    if constexpr (Q % lazy == 0) start();
    typename B::Register low;
    typename B::Register high;
    unpack<B, Bits, Q>(v, low, high);
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) {
      const std::int8_t* codes = x.codes(m[r]) + t * tile_cols + 4 * Q;
      lower[r] = dot<B, Bits>(lower[r], low, B::broadcast(codes));
      upper[r] = dot<B, Bits>(upper[r], high, B::broadcast(codes + 16));
    }
    if constexpr ((Q + 1) % lazy == 0 || Q == 3) {
      RWKV_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) {
        typename B::Wide part[2];
        if constexpr (Parts == 2) {
          part[0] = B::widen(lower[r]);
          part[1] = B::widen(upper[r]);
        } else if constexpr (lazy >= 8) {
          part[0] = B::widen(B::add(lower[r], upper[r]));
        } else {
          part[0] = B::add_wide(B::widen(lower[r]), B::widen(upper[r]));
        }
        RWKV_UNROLL
        for (std::size_t p = 0; p < Parts; ++p)
          wide[r][p] = Q < lazy ? part[p] : B::add_wide(wide[r][p], part[p]);
      }
    }
  };
  step(std::integral_constant<std::size_t, 0>{});
  step(std::integral_constant<std::size_t, 1>{});
  step(std::integral_constant<std::size_t, 2>{});
  step(std::integral_constant<std::size_t, 3>{});

  const TileScales<L, Parts> scales(layout, group, tile, lanes);
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) {
    const float step_size = x.steps(m[r])[t];
    const std::int32_t* sums = x.sums(m[r]) + 2 * t;
    RWKV_UNROLL
    for (std::size_t p = 0; p < Parts; ++p) {
      const std::int32_t all = Parts == 2 ? sums[p] : sums[0] + sums[1];
      const L product = B::template to_float<L>(wide[r][p], -layout.zero * all);
      sum[r] = fma(product, scales.scale[p] * L::broadcast(step_size), sum[r]);
      if (layout.min)
        sum[r] = fma(scales.min[p], L::broadcast(-step_size * static_cast<float>(all)), sum[r]);
    }
  }
}

/// The same for one row of inputs as they are.
template <class L, unsigned Bits, std::size_t Parts>
RWKV_INLINE void add_tile_exactly(const CodedLayout& layout, const std::byte* group,
                                  const std::byte* tile, std::size_t lanes, const float* x,
                                  const float* sums, L& sum) noexcept {
  using B = typename L::Bytes;
  const std::byte* v = tile + layout.code_offset() + 4 * lanes;
  const auto four = [&](typename B::Register codes, std::size_t i, L product) {
    const L zero = L::broadcast(static_cast<float>(layout.zero));
    const auto add = [&]<unsigned Byte>(std::integral_constant<unsigned, Byte>) {
      const L w = B::template byte_to_float<L, Byte, Bits == 8>(codes) - zero;
      product = fma(w, L::broadcast(x[i + Byte]), product);
    };
    add(std::integral_constant<unsigned, 0>{});
    add(std::integral_constant<unsigned, 1>{});
    add(std::integral_constant<unsigned, 2>{});
    add(std::integral_constant<unsigned, 3>{});
    return product;
  };
  typename B::Register lower[4];
  typename B::Register upper[4];
  unpack<B, Bits, 0>(v, lower[0], upper[0]);
  unpack<B, Bits, 1>(v, lower[1], upper[1]);
  unpack<B, Bits, 2>(v, lower[2], upper[2]);
  unpack<B, Bits, 3>(v, lower[3], upper[3]);
  L product[2] = {L::broadcast(0.0f), L::broadcast(0.0f)};
  for (std::size_t q = 0; q < 4; ++q) {
    product[0] = four(lower[q], 4 * q, product[0]);
    product[1] = four(upper[q], 4 * q + 16, product[1]);
  }

  const TileScales<L, Parts> scales(layout, group, tile, lanes);
  if constexpr (Parts == 1) {
    sum = fma(scales.scale[0], product[0] + product[1], sum);
    if (layout.min) sum = fma(scales.min[0], L::broadcast(-(sums[0] + sums[1])), sum);
  } else {
    for (std::size_t p = 0; p < 2; ++p) {
      sum = fma(scales.scale[p], product[p], sum);
      if (layout.min) sum = fma(scales.min[p], L::broadcast(-sums[p]), sum);
    }
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

/// A lone row, for as many panels from p on as make a group of streams; those of the last group
/// that are beyond `end` are computed for nothing.
template <class L, unsigned Bits, std::size_t Parts>
void coded_single(const CodedMatrix& w, std::size_t p, std::size_t end, const QuantisedRows& x,
                  float* y) noexcept {
  constexpr std::size_t streams = CodedBlocking<L>::streams;
  const CodedLayout layout = w.layout;
  const std::size_t tile_bytes = layout.tile_bytes();
  const std::size_t panel_bytes = layout.bytes_per_panel(w.cols);
  constexpr std::size_t row[1] = {0};
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    L sum[streams][1];
    std::size_t away[streams];  // bytes from panel p
    for (std::size_t s = 0; s < streams; ++s) {
      sum[s][0] = L::broadcast(0.0f);
      away[s] = (p + s < end ? s : 0) * panel_bytes;
    }
    for_each_tile(layout, w.data + p * panel_bytes, w.cols,
                  [&](const std::byte* group, const std::byte* tile, std::size_t t) {
                    for (std::size_t s = 0; s < streams; ++s) {
                      if (lanes == 0)
                        for (std::size_t b = 0; b < tile_bytes; b += alignment)
                          prefetch(tile + away[s] + CodedBlocking<L>::prefetch + b);
                      add_tile<L, Bits, Parts, 1>(layout, group + away[s], tile + away[s], lanes, x,
                                                  row, t, sum[s]);
                    }
                  });
    for (std::size_t s = 0; s < streams && p + s < end; ++s)
      store_outputs(sum[s][0], w.rows, p + s, lanes, y);
  }
}

/// One panel for all rows. The last block of rows repeats its last row as often as it takes.
template <class L, unsigned Bits, std::size_t Parts>
void coded_panel(const CodedMatrix& w, std::size_t p, const QuantisedRows& x, std::size_t rows,
                 float* y, std::size_t ldy) noexcept {
  constexpr std::size_t block = CodedBlocking<L>::rows;
  const CodedLayout layout = w.layout;
  const std::byte* panel = w.data + p * layout.bytes_per_panel(w.cols);
  for (std::size_t first = 0; first < rows; first += block) {
    std::size_t row[block];
    for (std::size_t r = 0; r < block; ++r) row[r] = first + r < rows ? first + r : rows - 1;
    for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
      L sum[block];
      for (L& s : sum) s = L::broadcast(0.0f);
      for_each_tile(layout, panel, w.cols,
                    [&](const std::byte* group, const std::byte* tile, std::size_t t) {
                      add_tile<L, Bits, Parts, block>(layout, group, tile, lanes, x, row, t, sum);
                    });
      for (std::size_t r = 0; r < block && first + r < rows; ++r)
        store_outputs(sum[r], w.rows, p, lanes, y + row[r] * ldy);
    }
  }
}

/// One panel for one row of inputs as they are.
template <class L, unsigned Bits, std::size_t Parts>
void coded_exact(const CodedMatrix& w, std::size_t p, const float* x, const float* sums,
                 float* y) noexcept {
  const CodedLayout layout = w.layout;
  const std::byte* panel = w.data + p * layout.bytes_per_panel(w.cols);
  for (std::size_t lanes = 0; lanes < panel_rows; lanes += L::width) {
    L sum = L::broadcast(0.0f);
    for_each_tile(layout, panel, w.cols,
                  [&](const std::byte* group, const std::byte* tile, std::size_t t) {
                    add_tile_exactly<L, Bits, Parts>(layout, group, tile, lanes, x + t * tile_cols,
                                                     sums + 2 * t, sum);
                  });
    store_outputs(sum, w.rows, p, lanes, y);
  }
}

template <class L, unsigned Bits, std::size_t Parts>
void coded_matmul(const CodedMatrix& w, Inputs inputs, Range panels, const CodedInputs& x,
                  std::size_t rows, float* y, std::size_t ldy) noexcept {
  if (inputs == Inputs::exact) {
    for (std::size_t p = panels.begin; p < panels.end; ++p)
      for (std::size_t m = 0; m < rows; ++m)
        coded_exact<L, Bits, Parts>(w, p, x.x + m * x.ldx, x.quantised.exact_sums(m), y + m * ldy);
  } else if (rows == 1) {
    for (std::size_t p = panels.begin; p < panels.end; p += CodedBlocking<L>::streams)
      coded_single<L, Bits, Parts>(w, p, panels.end, x.quantised, y);
  } else {
    for (std::size_t p = panels.begin; p < panels.end; ++p)
      coded_panel<L, Bits, Parts>(w, p, x.quantised, rows, y, ldy);
  }
}

}  // namespace detail

/// y[m][o] = sum_i W[o][i] x[m][i] for the outputs of panels [panels.begin, panels.end) and rows m
/// < rows. y is [rows][ldy]; y outside the asked outputs is not touched. Cost: 2 rows W.cols
/// multiply-adds per output; the weights are read once per CodedBlocking::rows rows, from the
/// cache after the first time.
template <class L>
void coded_matmul(const CodedMatrix& w, Inputs inputs, Range panels, const CodedInputs& x,
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
