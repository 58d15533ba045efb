// SPDX-License-Identifier: Apache-2.0
// One tile of a quantised matrix: its codes are unpacked, multiplied with inputs, and the sums are
// scaled and added up. kernels/quantised_matmul.hpp goes through all tiles. Freestanding.
//
// Read once per instruction set (kernels/isa_namespace.hpp).
#if !defined(RWKV_KERNELS_QUANTISED_TILE) || defined(RWKV_AGAIN)
#define RWKV_KERNELS_QUANTISED_TILE

#ifndef RWKV_AGAIN
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/kernels/quantised_activations.hpp>
#include <rwkv/kernels/quantised_layout.hpp>
#include <rwkv/simd/bytes.hpp>
#endif

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL::detail {

/// Whether B multiplies eight inputs of two outputs with those of two rows at once.
template <class B>
concept MatrixBytes = requires {
  typename B::Pair;
};

/// The codes of groups Q and Q + 4 (Q = 0 ... 3) of four inputs of a tile, whose lower bits are
/// stored together. `v` is where the lanes' codes begin.
template <class B, unsigned Bits, std::size_t Q>
RWKV_INLINE void unpack(const std::byte* v, typename B::Register (&codes)[2]) noexcept {
  constexpr std::size_t vector = 4 * panel_rows;
  if constexpr (Bits == 8) {
    codes[0] = B::load(v + Q * vector);
    codes[1] = B::load(v + (Q + 4) * vector);
  } else {
    constexpr unsigned high = Bits - 4;
    const auto two = B::load(v + (high + Q) * vector);
    codes[0] = B::low(two);
    codes[1] = B::high(two);
    if constexpr (high == 1) {
      const auto plane = B::load(v);
      codes[0] = B::template with_bits<Q, 1>(codes[0], plane);
      codes[1] = B::template with_bits<Q + 4, 1>(codes[1], plane);
    }
    if constexpr (high == 2) {
      codes[0] = B::template with_bits<2 * Q, 2>(codes[0], B::load(v));
      codes[1] = B::template with_bits<2 * Q, 2>(codes[1], B::load(v + vector));
    }
  }
}

/// The same one after the other for Q = 0, 1, 2, 3, and for any number of bits.
template <class B>
class TileCodes {
 public:
  using Register = typename B::Register;

  RWKV_INLINE TileCodes(const std::byte* v, unsigned bits) noexcept
      : at_(v + (bits == 8 ? 0 : bits - 4) * vector), higher_{B::load(v), B::load(v + vector)} {}

  RWKV_INLINE void next(unsigned bits, Register (&codes)[2]) noexcept {
    const Register two = B::load(at_);
    if (bits == 8) {
      codes[0] = two;
      codes[1] = B::load(at_ + 4 * vector);
    } else {
      codes[0] = B::low(two);
      codes[1] = B::high(two);
    }
    if (bits == 5) {
      codes[0] = B::template with_bits<0, 1>(codes[0], higher_[0]);
      codes[1] = B::template with_bits<4, 1>(codes[1], higher_[0]);
      higher_[0] = B::template drop<1>(higher_[0]);
    }
    if (bits == 6) {
      RWKV_UNROLL
      for (std::size_t h = 0; h < 2; ++h) {
        codes[h] = B::template with_bits<0, 2>(codes[h], higher_[h]);
        higher_[h] = B::template drop<2>(higher_[h]);
      }
    }
    at_ += vector;
  }

 private:
  static constexpr std::size_t vector = 4 * panel_rows;
  const std::byte* at_;
  Register higher_[2];  // bits, those of the next groups lowest
};

template <class B, unsigned Bits>
RWKV_INLINE typename B::Sum dot(typename B::Sum sum, typename B::Register codes,
                                typename B::Register x) noexcept {
  if constexpr (Bits == 8)
    return B::dot_signed(sum, codes, x);
  else
    return B::dot(sum, codes, x);
}

/// What turns sums of products of codes of one vector of outputs (the first of which is `lanes`, 0
/// ... 15) into the numbers they stand for, in the parts of a tile, at most Most:
/// W[o][i] = scale[o] code[o][i] - offset[o]. Codes of 8 bits have no offset.
template <class L, std::size_t Most>
struct TileScales {
  L scale[Most];
  L offset[Most];

  RWKV_INLINE TileScales(const QuantisedLayout& layout, std::size_t parts, const std::byte* group,
                         const std::byte* tile, std::size_t lanes) noexcept {
    using B = typename L::Bytes;
    const bool has_offset = layout.bits != 8;
    if (parts == 1 && layout.form == ScaleForm::halves) {
      const auto* halves = reinterpret_cast<const half*>(tile) + lanes;
      scale[0] = L::load(halves);
      if (has_offset && layout.min) offset[0] = L::load(halves + panel_rows);
    } else {
      const auto* halves = reinterpret_cast<const half*>(group) + lanes;
      const auto* bytes = reinterpret_cast<const std::int8_t*>(tile) + lanes;
      const L d = L::load(halves);
      RWKV_UNROLL
      for (std::size_t p = 0; p < Most; ++p)
        if (p < parts) scale[p] = d * B::template load_floats<L>(bytes + p * panel_rows);
      if (has_offset && layout.min) {
        const L dmin = L::load(halves + panel_rows);
        RWKV_UNROLL
        for (std::size_t p = 0; p < Most; ++p)
          if (p < parts)
            offset[p] = dmin * B::template load_floats<L>(bytes + (parts + p) * panel_rows);
      }
    }
    if (has_offset && !layout.min) {
      RWKV_UNROLL
      for (std::size_t p = 0; p < Most; ++p)
        if (p < parts) offset[p] = scale[p] * L::broadcast(static_cast<float>(layout.zero));
    }
  }

  /// sum - offset times the sums of the inputs of the parts, or of all.
  RWKV_INLINE L subtract_offset(L sum, const QuantisedLayout& layout, std::size_t parts,
                                const float* negative_sums) const noexcept {
    if (layout.bits == 8) return sum;
    if (parts == 1) return fma(offset[0], L::broadcast(negative_sums[0] + negative_sums[1]), sum);
    RWKV_UNROLL
    for (std::size_t p = 0; p < Most; ++p)
      sum = fma(offset[p], L::broadcast(negative_sums[p]), sum);
    return sum;
  }
};

/// Some quantised rows. Their numbers are found from where each row begins: few pointers fit the
/// registers.
template <std::size_t Rows>
struct QuantisedRows {
  const std::byte* row[Rows];
  std::size_t to_steps, to_sums, to_offsets;  // bytes

  /// Rows first, first + 1, ...; beyond `end`, the last one again.
  RWKV_INLINE QuantisedRows(const QuantisedActivations& x, std::size_t first,
                            std::size_t end) noexcept
      : to_steps(from(x, x.steps(0))),
        to_sums(from(x, x.negative_sums(0))),
        to_offsets(from(x, x.offsets(0))) {
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r)
      row[r] = reinterpret_cast<const std::byte*>(x.codes(first + r < end ? first + r : end - 1));
  }

  RWKV_INLINE const std::int8_t* codes(std::size_t r, std::size_t i) const noexcept {
    return reinterpret_cast<const std::int8_t*>(row[r] + i);
  }
  // Of tile t:
  RWKV_INLINE float step(std::size_t r, std::size_t t) const noexcept {
    return *reinterpret_cast<const float*>(row[r] + to_steps + t * sizeof(float));
  }
  RWKV_INLINE const float* negative_sums(std::size_t r, std::size_t t) const noexcept {
    return reinterpret_cast<const float*>(row[r] + to_sums + t * 2 * sizeof(float));
  }
  RWKV_INLINE const std::int32_t* offset(std::size_t r, std::size_t t) const noexcept {
    return reinterpret_cast<const std::int32_t*>(row[r] + to_offsets + t * sizeof(float));
  }

 private:
  RWKV_INLINE static std::size_t from(const QuantisedActivations& x, const void* p) noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(p) -
                                    reinterpret_cast<const std::byte*>(x.codes(0)));
  }
};

/// What the sum of the products of a tile and a row begins with.
template <class B, unsigned Bits>
RWKV_INLINE typename B::Sum begin_sum([[maybe_unused]] const std::int32_t* offset) noexcept {
  if constexpr (Bits == 8 && requires { B::begin_signed(offset); }) {
    static_assert(B::template lazy<Bits> == 8, "a tile is one sum");
    return B::begin_signed(offset);
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
RWKV_INLINE void sum_tile(const std::byte* const (&at)[V], const QuantisedRows<Rows>& x,
                          std::size_t t, typename B::Wide (&wide)[V][Rows][Parts]) noexcept {
  constexpr std::size_t lazy = B::template lazy<Bits>, per_part = 8 / Parts;
  constexpr std::size_t step = lazy < per_part ? lazy : per_part;  // groups between widenings
  typename B::Sum few[V][Rows][Parts];
  const auto add_groups =
      [&]<std::size_t Q>(std::integral_constant<std::size_t, Q>) RWKV_INLINE_LAMBDA {
        typename B::Register codes[V][2];
        RWKV_UNROLL
        for (std::size_t v = 0; v < V; ++v) unpack<B, Bits, Q>(at[v], codes[v]);
        RWKV_UNROLL
        for (std::size_t h = 0; h < 2; ++h) {
          const std::size_t part = Parts == 1 ? 0 : h;
          const std::size_t done = Parts == 1 ? 2 * Q + h : Q;  // groups of this part
          RWKV_UNROLL
          for (std::size_t r = 0; r < Rows; ++r) {
            const auto inputs = B::broadcast(x.codes(r, t * tile_cols + h * tile_cols / 2 + 4 * Q));
            const auto begin = begin_sum<B, Bits>(x.offset(r, t));
            RWKV_UNROLL
            for (std::size_t v = 0; v < V; ++v) {
              auto& sum = few[v][r][part];
              sum = dot<B, Bits>(done % step == 0 ? begin : sum, codes[v][h], inputs);
              // The compiler orders the two chains of a lone row better.
              if constexpr (Rows > 1 || Parts == 1) hold<B>(sum);
            }
          }
          if ((done + 1) % step == 0) {
            RWKV_UNROLL
            for (std::size_t v = 0; v < V; ++v) {
              RWKV_UNROLL
              for (std::size_t r = 0; r < Rows; ++r) {
                auto& sum = wide[v][r][part];
                const auto more = B::widen(few[v][r][part]);
                sum = done < step ? more : B::add_wide(sum, more);
                if constexpr (lazy == 1) hold<B>(sum);
              }
            }
          }
        }
      };
  add_groups(std::integral_constant<std::size_t, 0>{});
  add_groups(std::integral_constant<std::size_t, 1>{});
  add_groups(std::integral_constant<std::size_t, 2>{});
  add_groups(std::integral_constant<std::size_t, 3>{});
}

/// The same, two groups and two rows at a time.
template <MatrixBytes B, unsigned Bits, std::size_t Parts, std::size_t Rows>
RWKV_INLINE void sum_pairs(const std::byte* v, const QuantisedRows<Rows>& x, std::size_t t,
                           typename B::Pair (&sum)[Rows / 2][Parts]) noexcept {
  const auto add_groups =
      [&]<std::size_t Q>(std::integral_constant<std::size_t, Q>) RWKV_INLINE_LAMBDA {
        typename B::Register first[2], second[2];
        unpack<B, Bits, Q>(v, first);
        unpack<B, Bits, Q + 1>(v, second);
        RWKV_UNROLL
        for (std::size_t h = 0; h < 2; ++h) {
          const auto codes = B::pair(first[h], second[h]);
          const std::size_t at = t * tile_cols + h * tile_cols / 2 + 4 * Q;
          RWKV_UNROLL
          for (std::size_t r = 0; r < Rows / 2; ++r)
            B::dot(sum[r][Parts == 1 ? 0 : h], codes,
                   B::load_pair(x.codes(2 * r, at), x.codes(2 * r + 1, at)));
        }
      };
  add_groups(std::integral_constant<std::size_t, 0>{});
  add_groups(std::integral_constant<std::size_t, 2>{});
}

/// sum + what the integer sums of a tile's parts stand for, for a row of inputs with this step and
/// these sums.
template <class L, std::size_t Parts>
RWKV_INLINE L add_parts(L sum, const QuantisedLayout& layout, const TileScales<L, Parts>& scales,
                        const typename L::Bytes::Wide (&wide)[Parts], L step,
                        const float* negative_sums) noexcept {
  RWKV_UNROLL
  for (std::size_t p = 0; p < Parts; ++p)
    sum = fma(L::Bytes::template to_float<L>(wide[p]), scales.scale[p] * step, sum);
  return scales.subtract_offset(sum, layout, Parts, negative_sums);
}

/// Adds one tile to the sums of V vectors of outputs, `apart` bytes from each other, for Rows rows
/// of quantised inputs.
template <class L, unsigned Bits, std::size_t Parts, std::size_t Rows, std::size_t V>
RWKV_INLINE void add_tile(const QuantisedLayout& layout, const std::byte* group,
                          const std::byte* tile, std::size_t apart, std::size_t lanes,
                          const QuantisedRows<Rows>& x, std::size_t t, L (&sum)[V][Rows]) noexcept {
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
    const TileScales<L, Parts> scales(layout, Parts, group + v * apart, tile + v * apart, lanes);
    RWKV_UNROLL
    for (std::size_t r = 0; r < Rows; ++r)
      sum[v][r] = add_parts(sum[v][r], layout, scales, wide[v][r], L::broadcast(x.step(r, t)),
                            x.negative_sums(r, t));
  }
}

/// The same for rows of inputs as they are. The layout is read at run time: products of floats take
/// so long that nobody notices, and one function does for all.
template <class L, std::size_t Rows>
RWKV_INLINE void add_tile_exactly(const QuantisedLayout& layout, const std::byte* group,
                                  const std::byte* tile, std::size_t lanes,
                                  const float* const (&x)[Rows],
                                  const float* const (&negative_sums)[Rows], std::size_t t,
                                  L (&sum)[Rows]) noexcept {
  using B = typename L::Bytes;
  TileCodes<B> codes(tile + layout.code_offset() + 4 * lanes, layout.bits);
  L product[2][Rows];
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) product[0][r] = product[1][r] = L::broadcast(0.0f);
  for (std::size_t i = t * tile_cols; i < t * tile_cols + tile_cols / 2; i += 4) {
    typename B::Register four[2];
    codes.next(layout.bits, four);
    const auto add = [&]<unsigned Byte>(std::integral_constant<unsigned, Byte>) RWKV_INLINE_LAMBDA {
      RWKV_UNROLL
      for (std::size_t h = 0; h < 2; ++h) {
        const L code = B::template byte_to_float<L, Byte>(four[h]);
        RWKV_UNROLL
        for (std::size_t r = 0; r < Rows; ++r) {
          const L input = L::broadcast(x[r][i + h * tile_cols / 2 + Byte]);
          product[h][r] = fma(code, input, product[h][r]);
          hold(product[h][r]);
        }
      }
    };
    add(std::integral_constant<unsigned, 0>{});
    add(std::integral_constant<unsigned, 1>{});
    add(std::integral_constant<unsigned, 2>{});
    add(std::integral_constant<unsigned, 3>{});
  }

  const std::size_t parts = layout.parts();
  const TileScales<L, 2> scales(layout, parts, group, tile, lanes);
  RWKV_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) {
    if (parts == 1) product[0][r] = product[0][r] + product[1][r];
    sum[r] = fma(scales.scale[0], product[0][r], sum[r]);
    if (parts == 2) sum[r] = fma(scales.scale[1], product[1][r], sum[r]);
    sum[r] = scales.subtract_offset(sum[r], layout, parts, negative_sums[r] + 2 * t);
  }
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::RWKV_LEVEL::detail

#endif
