// SPDX-License-Identifier: Apache-2.0
// y = W x in integers alone (kernels/fixed_point.hpp), for matrices of 8-bit codes (q8_0, in panels or
// in quads) and of floats. Inputs have 15 bits and a sign, of the largest of them; weights of floats
// are rounded to 11 (half), 8 (bfloat16) or 14 bits (float). Freestanding.
#pragma once

#include <rwkv/kernels/fixed_point.hpp>
#include <rwkv/kernels/one_of.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::fixed {

/// The inputs of a tile in a list (Inputs::list), and what its sums begin with.
struct TileInputs {
  const Int* middle;
  const Int* end;
  Int start;
};

/// The inputs of a product: x = from 2^-exponent. `Cols` at the most.
template <std::size_t Cols>
class Inputs {
 public:
  constexpr Inputs() = default;

  [[nodiscard]] int exponent() const noexcept { return exponent_; }
  /// One by one.
  [[nodiscard]] const Int* values() const noexcept { return values_; }
  /// As `list` left them.
  [[nodiscard]] const Int* listed() const noexcept { return list_; }
  [[nodiscard]] const TileInputs* tiles() const noexcept { return tiles_; }

  /// Activations.
  void take(const Int* from, std::size_t n) noexcept {
    const int by = 15 - bits_of(from, n);
    for (std::size_t i = 0; i < n; ++i) values_[i] = moved(from[i], by);
    exponent_ = fraction + by;
    sparse_ = false;
  }
  /// max(0, x)^2 of activations.
  void take_relu_squared(const Int* from, std::size_t n) noexcept {
    Word all = 0;
    for (std::size_t i = 0; i < n; ++i)
      if (from[i] > 0) all |= static_cast<Word>(from[i]);
    const int by = 15 - bits_of(all);
    std::size_t others = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const Int x = from[i] > 0 ? moved(from[i], by) : 0;
      values_[i] = (x * x + (1 << 14)) >> 15;
      others += values_[i] != 0;
    }
    exponent_ = 2 * (fraction + by) - 15;
    sparse_ = 2 * others <= n;
  }

  /// Lists the first n inputs that are not zero, for matrices of codes, of which groups of four lie
  /// `stride` bytes apart and the even ones are `offset` too large. If most squares are zero: first,
  /// for each one at an even place, where its code is in a tile, and the input; then the odd ones.
  /// Otherwise, for each four with one that is not zero, where its codes are, and the inputs. Returns
  /// whether it lists single inputs.
  bool list(std::size_t n, Int stride, Int offset) noexcept {
    Int* to = list_;
    for (std::size_t t = 0; t < n / tile_cols; ++t) {
      const Int* const x = values_ + t * tile_cols;
      Int even = 0;
      const auto each = [&](Int first) {
        for (Int i = first; i < static_cast<Int>(tile_cols); i += 2)
          if (x[i] != 0) {
            *to++ = i / 4 * stride + i % 4;
            *to++ = x[i];
            if (first == 0) even += x[i];
          }
      };
      if (sparse_) {
        each(0);
        tiles_[t] = {to, nullptr, 0};
        each(1);
      } else {
        for (Int q = 0; q < static_cast<Int>(tile_cols / 4); ++q) {
          const Int* const four = x + 4 * q;
          if ((four[0] | four[1] | four[2] | four[3]) == 0) continue;
          even += four[0] + four[2];
          *to++ = q * stride;
          for (int i = 0; i < 4; ++i) *to++ = four[i];
        }
        tiles_[t] = {to, nullptr, 0};
      }
      tiles_[t].end = to;
      tiles_[t].start = 128 - offset * even;  // the sums lose 8 bits
    }
    return sparse_;
  }

 private:
  Int values_[Cols]{};
  Int list_[(Cols + 3) / 4 * 5]{};
  TileInputs tiles_[Cols / tile_cols + 1]{};
  int exponent_ = 0;
  bool sparse_ = false;  ///< most of the inputs are zero
};

namespace detail {

/// The scale of output k of a tile.
RWKV_INLINE Int scale_of(const std::byte* tile, std::size_t k) noexcept {
#if defined(__GNUC__)
  using Bits [[gnu::may_alias]] = std::int16_t;
  return reinterpret_cast<const Bits*>(tile)[k];
#else
  return static_cast<std::int16_t>(kernels::detail::half_at(tile, k).bits);
#endif
}

/// A float f as bits_of(f), negative if it is: its size is size(bits) 2^(exponent(bits) - bias).
/// Infinities and NaNs are large numbers. Of exponent 0 are halves from 2^-24 on, with exponent 1, and
/// nothing of the other types.
template <class T>
struct PartsOf;
/// (One load with its sign, which compilers do not see otherwise.)
RWKV_INLINE Int signed_bits(const std::uint16_t& bits) noexcept {
  return reinterpret_cast<const std::int16_t&>(bits);
}
template <>
struct PartsOf<half> {
  static constexpr int width = 11, bias = 25;
  static RWKV_INLINE Int bits_of(const half& h) noexcept { return signed_bits(h.bits); }
  static RWKV_INLINE int exponent(Int bits) noexcept { return bits >> 10 & 31; }
  static RWKV_INLINE Int size(Int bits) noexcept { return (bits & 0x3ff) | 0x400; }
  static RWKV_INLINE Int size_below(Int bits) noexcept { return bits & 0x3ff; }
};
template <>
struct PartsOf<bfloat16> {
  static constexpr int width = 8, bias = 134;
  static RWKV_INLINE Int bits_of(const bfloat16& b) noexcept { return signed_bits(b.bits); }
  static RWKV_INLINE int exponent(Int bits) noexcept { return bits >> 7 & 255; }
  static RWKV_INLINE Int size(Int bits) noexcept { return (bits & 0x7f) | 0x80; }
  static RWKV_INLINE Int size_below(Int) noexcept { return 0; }
};
template <>
struct PartsOf<float> {
  static constexpr int width = 14, bias = 140;
  static RWKV_INLINE Int bits_of(float f) noexcept { return std::bit_cast<Int>(f); }
  static RWKV_INLINE int exponent(Int bits) noexcept { return bits >> 23 & 255; }
  static RWKV_INLINE Int size(Int bits) noexcept {  // 2^14 at the most
    return ((bits & 0x7fffff) + 0x800200) >> 10;
  }
  static RWKV_INLINE Int size_below(Int) noexcept { return 0; }
};

/// A float times a small integer, as an activation.
template <class T>
[[nodiscard]] Int widened(T f, Int times = 1) noexcept {
  using P = PartsOf<T>;
  const Int bits = P::bits_of(f);
  const int exponent = P::exponent(bits);
  const Int size = exponent == 0 ? P::size_below(bits) : P::size(bits);
  return scaled((bits < 0 ? -size : size) * times,
                (exponent == 0 ? 1 : exponent) - P::bias + fraction);
}

/// A sum of products with floats: value 2^(unit - spare - bias). The unit is that of the largest, and
/// of a product `spare` bits fewer are kept.
struct Sum {
  Int value = 0;
  int unit = 0;

  [[nodiscard]] Int activation(int exponent) const noexcept {
    return clamped(scaled(value, unit + exponent + fraction));
  }
};

/// What the sums of some products have in common.
struct Summation {
  int spare;
  /// Exponents up to here are rare ones: 0, or so small that a shift would have more than 31 bits.
  int least = 0;

  /// Adds x times a float.
  template <class P>
  RWKV_INLINE void add(Sum& sum, Int bits, Int x) noexcept {
    const int exponent = P::exponent(bits);
    if (exponent <= least) [[unlikely]]
      return add_small<P>(sum, bits, x);
    int down = sum.unit - exponent;
    if (down < spare) [[unlikely]]
      down = raise(sum, exponent);
    const Int term = P::size(bits) * x >> down;
    if (bits < 0)
      sum.value -= term;
    else
      sum.value += term;
  }

 private:
  RWKV_INLINE int raise(Sum& sum, int exponent) noexcept {
    const int by = exponent + spare - sum.unit;
    sum.value >>= by < 31 ? by : 31;
    sum.unit = exponent + spare;
    if (sum.unit - 31 > least) least = sum.unit - 31;
    return spare;
  }
  template <class P>
  RWKV_INLINE void add_small(Sum& sum, Int bits, Int x) noexcept {
    int exponent = P::exponent(bits);
    const Int size = exponent == 0 ? P::size_below(bits) : P::size(bits);
    exponent = exponent == 0 ? 1 : exponent;
    int down = sum.unit - exponent;
    if (down < spare) down = raise(sum, exponent);
    const Int term = size * x >> (down < 31 ? down : 31);
    sum.value += bits < 0 ? -term : term;
  }
};

/// The code of an even or an odd input.
template <bool Quads>
struct EvenCode {
  RWKV_INLINE Int operator()(std::uint8_t code) const noexcept {
    return Quads ? Int{code} : Int{static_cast<std::int8_t>(code)};
  }
};
using OddCode = EvenCode<false>;

/// Adds the products of listed fours for four outputs, whose words of codes follow each other.
template <bool Quads>
RWKV_INLINE void add_fours(const std::uint8_t* codes, const Int* four, const Int* end, Int start,
                           Int* sums) noexcept {
  constexpr EvenCode<Quads> even;
  constexpr OddCode odd;
  Int s0 = start, s1 = start, s2 = start, s3 = start;
  for (; four != end; four += 5) {
    const std::uint8_t* const w = codes + four[0];
    Int x = four[1];
    s0 += even(w[0]) * x, s1 += even(w[4]) * x, s2 += even(w[8]) * x, s3 += even(w[12]) * x;
    x = four[2];
    s0 += odd(w[1]) * x, s1 += odd(w[5]) * x, s2 += odd(w[9]) * x, s3 += odd(w[13]) * x;
    x = four[3];
    s0 += even(w[2]) * x, s1 += even(w[6]) * x, s2 += even(w[10]) * x, s3 += even(w[14]) * x;
    x = four[4];
    s0 += odd(w[3]) * x, s1 += odd(w[7]) * x, s2 += odd(w[11]) * x, s3 += odd(w[15]) * x;
  }
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}
/// The same for eight outputs, of which the second four lie `apart` bytes from the first.
template <bool Quads>
RWKV_INLINE void add_fours(const std::uint8_t* codes, std::size_t apart, const Int* four,
                           const Int* end, Int start, Int* sums) noexcept {
  constexpr EvenCode<Quads> even;
  constexpr OddCode odd;
  Int s0 = start, s1 = start, s2 = start, s3 = start;
  Int s4 = start, s5 = start, s6 = start, s7 = start;
  for (; four != end; four += 5) {
    const std::uint8_t* const w = codes + four[0];
    const std::uint8_t* const u = w + apart;
    Int x = four[1];
    s0 += even(w[0]) * x, s1 += even(w[4]) * x, s2 += even(w[8]) * x, s3 += even(w[12]) * x;
    s4 += even(u[0]) * x, s5 += even(u[4]) * x, s6 += even(u[8]) * x, s7 += even(u[12]) * x;
    x = four[2];
    s0 += odd(w[1]) * x, s1 += odd(w[5]) * x, s2 += odd(w[9]) * x, s3 += odd(w[13]) * x;
    s4 += odd(u[1]) * x, s5 += odd(u[5]) * x, s6 += odd(u[9]) * x, s7 += odd(u[13]) * x;
    x = four[3];
    s0 += even(w[2]) * x, s1 += even(w[6]) * x, s2 += even(w[10]) * x, s3 += even(w[14]) * x;
    s4 += even(u[2]) * x, s5 += even(u[6]) * x, s6 += even(u[10]) * x, s7 += even(u[14]) * x;
    x = four[4];
    s0 += odd(w[3]) * x, s1 += odd(w[7]) * x, s2 += odd(w[11]) * x, s3 += odd(w[15]) * x;
    s4 += odd(u[3]) * x, s5 += odd(u[7]) * x, s6 += odd(u[11]) * x, s7 += odd(u[15]) * x;
  }
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
  sums[4] = s4, sums[5] = s5, sums[6] = s6, sums[7] = s7;
}

/// The products of listed inputs for four outputs: those at even places up to `middle`, then the odd
/// ones.
template <bool Quads>
RWKV_INLINE void add_single(const std::uint8_t* codes, const Int* one, const Int* middle,
                            const Int* end, Int start, Int* sums) noexcept {
  Int s0 = start, s1 = start, s2 = start, s3 = start;
  const auto add = [&](auto code) {
    const std::uint8_t* const w = codes + one[0];
    const Int x = one[1];
    s0 += code(w[0]) * x, s1 += code(w[4]) * x, s2 += code(w[8]) * x, s3 += code(w[12]) * x;
  };
  for (; one != middle; one += 2) add(EvenCode<Quads>{});
  for (; one != end; one += 2) add(OddCode{});
  sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

/// How many outputs have a place in the registers: of codes in quads, and of floats.
#if defined(__thumb__) && !defined(__thumb2__)
inline constexpr std::size_t quad_codes = 4, float_outputs = 1;
#else
inline constexpr std::size_t quad_codes = 8, float_outputs = 8;
#endif

/// Of codes. In a tile 32 codes of 8 bits make sums of 28; 20 of them are multiplied with the 11 of
/// a scale, and as many bits fewer kept as the sum over the tiles may need.
template <bool Quads, std::size_t Cols>
RWKV_INNER_LOOP void multiply_codes(const std::byte* data, std::size_t rows, std::size_t cols,
                                    Inputs<Cols>& inputs, Int* y) noexcept {
  using P = PartsOf<half>;
  constexpr std::size_t together = Quads ? kernels::detail::quad_outputs : panel_rows;
  constexpr std::size_t tile_bytes = together * (2 + tile_cols), n = Quads ? quad_codes : 4;
  const bool single = inputs.list(cols, 4 * together, Quads ? 128 : 0);
  const std::size_t tiles = cols / tile_cols;
  const std::size_t apart = Quads ? tiles * tile_bytes : 16;
  Summation all{bits_of(static_cast<Word>(tiles))};
  for (std::size_t o = 0; o < rows; o += n) {
    const std::byte* tile = data + o / together * tiles * tile_bytes;
    const std::size_t first = o % together;
    Sum sums[n];
    const Int* x = inputs.listed();
    const TileInputs* const end = inputs.tiles() + tiles;
    for (const TileInputs* of = inputs.tiles(); of != end; ++of, tile += tile_bytes) {
      if (x == of->end) continue;
      Int dots[n];
      const auto* const codes =
          reinterpret_cast<const std::uint8_t*>(tile + 2 * together + 4 * first);
      if (single) {
        for (std::size_t four = 0; four < n / 4; ++four)
          add_single<Quads>(codes + four * apart, x, of->middle, of->end, of->start,
                            dots + 4 * four);
      } else if constexpr (n == 8) {
        add_fours<Quads>(codes, apart, x, of->end, of->start, dots);
      } else {
        add_fours<Quads>(codes, x, of->end, of->start, dots);
      }
      x = of->end;
      RWKV_UNROLL
      for (std::size_t k = 0; k < n; ++k) {
        const std::byte* const scales = tile + (Quads ? k / 4 * apart : 0);
        all.add<P>(sums[k], scale_of(scales, Quads ? k % 4 : first + k), dots[k] >> 8);
      }
    }
    for (std::size_t k = 0; k < n && o + k < rows; ++k)
      y[o + k] = sums[k].activation(8 - P::bias - inputs.exponent());
  }
}

/// Outputs [first, first + N) of floats, of which W[o][i] is at w[i stride + o].
template <std::size_t N, class T>
RWKV_INNER_LOOP void multiply_columns(const T* w, std::size_t stride, const Int* x,
                                      std::size_t cols, int exponent, Int (&y)[N]) noexcept {
  using P = PartsOf<T>;
  // A product has width + 15 bits; their sum must stay below 31.
  const int spare = P::width - 15 + bits_of(static_cast<Word>(cols));
  Summation all{spare > 0 ? spare : 0};
  Sum sums[N];
  for (const Int* in = x; in != x + cols; ++in, w += stride) {
    RWKV_UNROLL
    for (std::size_t k = 0; k < N; ++k) all.add<P>(sums[k], P::bits_of(w[k]), *in);
  }
  for (std::size_t k = 0; k < N; ++k) y[k] = sums[k].activation(-P::bias - exponent);
}

/// Of floats, in panels or in quads.
template <class T>
void multiply_floats(const PanelMatrix<T>& w, bool in_quads, const Int* x, int exponent,
                     Int* y) noexcept {
  const std::size_t there_are = in_quads ? quad_column(w.rows) : panel_rows * panels_for(w.rows);
  for (std::size_t o = 0; o < w.rows;) {
    const PanelPlace place = in_quads ? PanelPlace{0, there_are}
                                      : panel_place(o / panel_rows, panels_for(w.rows), w.cols);
    const T* const from = w.data + place.first + o % panel_rows;
    const auto some = [&]<std::size_t N>(std::integral_constant<std::size_t, N>) {
      Int outputs[N];
      multiply_columns(from, place.stride, x, w.cols, exponent, outputs);
      for (std::size_t k = 0; k < N && o + k < w.rows; ++k) y[o + k] = outputs[k];
      o += N;
    };
    if (float_outputs == 1 || o + float_outputs <= there_are)
      some(std::integral_constant<std::size_t, float_outputs>{});
    else
      some(std::integral_constant<std::size_t, 1>{});
  }
}

template <class T>
void widen_row(const T* from, std::size_t n, Int* to) noexcept {
  for (std::size_t i = 0; i < n; ++i) to[i] = widened(from[i]);
}

inline void widen_blocks(const std::byte* block, std::size_t n, Int* to) noexcept {
  for (std::size_t i = 0; i < n; i += quant::Q8_0::elements, block += quant::Q8_0::bytes)
    for (std::size_t k = 0; k < quant::Q8_0::elements; ++k)
      to[i + k] = widened(quant::load_half(block), quant::load_signed(block + 2 + k));
}

template <DType Type>
inline constexpr bool has_kernel = !is_block(Type) || Type == DType::q8_0;

}  // namespace detail

/// y = W x as activations.
template <class T, std::size_t Cols>
void multiply(const PanelMatrix<T>& w, Inputs<Cols>& x, Int* y) noexcept {
  detail::multiply_floats(w, false, x.values(), x.exponent(), y);
}
template <DType... Types, std::size_t Cols>
void multiply(const OneOfMatrix<Types...>& w, Inputs<Cols>& x, Int* y) noexcept {
  kernels::detail::with_type<Types...>(w.type, [&]<DType Type>(
                                                   std::integral_constant<DType, Type>) {
    static_assert(detail::has_kernel<Type>, "matrices in integers are of q8_0, f16, bf16 or f32");
    if constexpr (is_block(Type)) {
      const auto* const data = static_cast<const std::byte*>(w.data);
      if (only_quads(Type) || w.in_quads)
        detail::multiply_codes<true>(data, w.rows, w.cols, x, y);
      else
        detail::multiply_codes<false>(data, w.rows, w.cols, x, y);
    } else {
      using T = kernels::detail::ElementOf<Type>;
      detail::multiply_floats(PanelMatrix<T>{static_cast<const T*>(w.data), w.rows, w.cols},
                              w.in_quads, x.values(), x.exponent(), y);
    }
  });
}

/// Outputs [first, first + 32) of a matrix, as one of its own.
template <class T>
[[nodiscard]] PanelMatrix<T> pair_at(const PanelMatrix<T>& w, std::size_t first) noexcept {
  const std::size_t left = w.rows - first;
  return {w.data + first * w.cols, left < 2 * panel_rows ? left : 2 * panel_rows, w.cols};
}
template <DType... Types>
[[nodiscard]] OneOfMatrix<Types...> pair_at(const OneOfMatrix<Types...>& w,
                                            std::size_t first) noexcept {
  const std::size_t panel = first / panel_rows;
  return panels_at(w, {panel, panel + 2},
                   static_cast<const std::byte*>(w.data) + panel * panel_bytes(w));
}

/// y = W x as floats.
template <class Matrix, std::size_t Cols>
void multiply_to_floats(const Matrix& w, Inputs<Cols>& x, float* y) noexcept {
  constexpr std::size_t n = 2 * panel_rows;
  Int some[n];
  for (std::size_t first = 0; first < w.rows; first += n) {
    const Matrix pair = pair_at(w, first);
    multiply(pair, x, some);
    for (std::size_t i = 0; i < pair.rows; ++i) y[first + i] = to_float(some[i]);
  }
}

/// Row `token` of an embedding table as activations.
template <class T>
void row_of(const Table<T>& table, std::size_t token, std::size_t n, Int* to) noexcept {
  detail::widen_row(table.data + token * n, n, to);
}
template <DType... Types>
void row_of(const OneOfTable<Types...>& table, std::size_t token, std::size_t n, Int* to) noexcept {
  const std::byte* const row = table.bytes_of_row(token, n).data();
  kernels::detail::with_type<Types...>(
      table.type, [&]<DType Type>(std::integral_constant<DType, Type>) {
        static_assert(detail::has_kernel<Type>, "tables in integers are of q8_0, f16, bf16 or f32");
        if constexpr (is_block(Type))
          detail::widen_blocks(row, n, to);
        else
          detail::widen_row(reinterpret_cast<const kernels::detail::ElementOf<Type>*>(row), n, to);
      });
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::fixed
