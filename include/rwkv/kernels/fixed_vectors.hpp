// SPDX-License-Identifier: Apache-2.0
// Norms and the recurrence in integers alone (kernels/fixed_point.hpp). Freestanding.
#pragma once

#include <rwkv/kernels/fixed_point.hpp>

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::fixed {

/// y = (x - mean) / sqrt(variance + epsilon) * weight + bias over n numbers x 2^-exponent, as
/// activations. `root` is root_of(n), n below 2^16. y may be x.
RWKV_INNER_LOOP inline void normalise(const Int* x, int exponent, std::size_t n, Word root,
                                      const float* weight, const float* bias, float epsilon,
                                      Int* y) noexcept {
  // Differences from the mean, of so many bits that the sum of all has 31.
  const int up = 31 - bits_of(static_cast<Word>(n)) - bits_of(x, n);
  Int all = 0;
  for (std::size_t i = 0; i < n; ++i) all += y[i] = moved(x[i], up);
  const Int mean = all / static_cast<Int>(n);
  for (std::size_t i = 0; i < n; ++i) y[i] -= mean;
  // Their squares, of 15 bits each.
  const int down = bits_of(y, n) - 15;
  if (down < 0)
    for (std::size_t i = 0; i < n; ++i) y[i] = moved(y[i], -down);
  const int less = down > 0 ? down : 0;
  std::uint64_t squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const Int d = moved(y[i], -less);
    squares += static_cast<Word>(d * d);
  }
  if (squares == 0) {
    for (std::size_t i = 0; i < n; ++i) y[i] = from_float(bias[i]);
    return;
  }
  // n epsilon in the same unit, 2^(2 (down - up - exponent)).
  const Word bits = std::bit_cast<Word>(epsilon);
  const std::uint64_t size = std::uint64_t{(bits & 0x7fffff) | 0x800000} * n;
  const int by = static_cast<int>(bits >> 23 & 255) - 150 + 2 * (up - down + exponent);
  squares += by >= 22 ? size << 22 : by >= 0 ? size << by : by > -64 ? size >> -by : 0;
  const InverseRoot inverse = inverse_root_of(squares);
  // sqrt(n) / sqrt(squares) as 31 bits; then what is below sqrt(n), in Q22, times the weight.
  const std::uint64_t factor = std::uint64_t{inverse.inverse} * root;
  const int factor_bits = 64 - std::countl_zero(factor);
  const auto scale = static_cast<Int>(factor >> (factor_bits - 31));
  const int shift = 87 - factor_bits - inverse.half + less;
  const std::int64_t half = std::int64_t{1} << (shift - 1);
  for (std::size_t i = 0; i < n; ++i) {
    const Int d = static_cast<Int>((std::int64_t{y[i]} * scale + half) >> shift);
    y[i] = product<22>(d, from_float(weight[i]), from_float(bias[i]));
  }
}

/// y = x / |x| in Q30; zeros stay zeros. y may be x.
RWKV_INNER_LOOP inline void unit_length(const Int* x, Int* y, std::size_t n) noexcept {
  const int by = 15 - bits_of(x, n);
  std::uint64_t squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    y[i] = moved(x[i], by);
    squares += static_cast<Word>(y[i] * y[i]);
  }
  if (squares == 0) return;
  const InverseRoot inverse = inverse_root_of(squares);
  for (std::size_t i = 0; i < n; ++i)
    y[i] = static_cast<Int>(std::int64_t{y[i]} * inverse.inverse >> (32 - inverse.half));
}

/// Of one value of a head.
struct HeadValue {
  Int sum;  ///< over the keys: S a, and then S r
  Int v;
};

/// One head's matrix S, [key][value]: row j is values[j n ...] 2^-exponents[j]. `magnitudes`: the
/// bits of all magnitudes of a row; where they are 0, the row is.
struct HeadState {
  std::int16_t* values;
  std::int16_t* exponents;
  std::int16_t* magnitudes;
};

/// What one token does to a head (kernels/wkv.hpp): S <- S diag(w) + (S a) b^T + v k^T, y = S r with
/// a = -kk. w and kk in Q30, b in Q`b_fraction`, the others are activations.
struct HeadToken {
  const Int* r;
  const Int* w;
  const Int* k;
  const Int* v;
  const Int* kk;
  const Int* b;
  int b_fraction;
};

namespace detail {

/// x[j] 2^-exponents[j] for rows that are not zero, as numbers whose sizes sum up to less than 2^16:
/// to[j] 2^-(the result).
inline int weigh_rows(const Int* x, const HeadState& s, std::size_t n, Int* to) noexcept {
  int least = INT16_MAX;
  for (std::size_t j = 0; j < n; ++j)
    if (s.magnitudes[j] > 0 && s.exponents[j] < least) least = s.exponents[j];
  std::uint64_t sum = 0;
  for (std::size_t j = 0; j < n; ++j) {
    to[j] = s.magnitudes[j] > 0 ? scaled(x[j], least - s.exponents[j]) : 0;
    sum += magnitude(to[j]) + 1;
  }
  const int by = 15 - (64 - std::countl_zero(sum));
  for (std::size_t j = 0; j < n; ++j) to[j] = moved(to[j], by);
  return least + by;
}

[[nodiscard]] constexpr Int wrapping(Word x) noexcept { return static_cast<Int>(x); }
[[nodiscard]] constexpr Word absolute(Int x) noexcept {
  return x < 0 ? Word{0} - static_cast<Word>(x) : static_cast<Word>(x);
}

/// The factors of a row's update, for which what it adds up to is below 2^31 and is divided by 2^16.
struct RowFactors {
  Int w, b, k;
  int exponent;  ///< of the row afterwards
};

/// `largest` is that of the row, and `sa` and `v`, of 15 bits, say what b and k are multiplied with
/// and have a unit of 2^-b_unit and 2^-k_unit with these.
[[nodiscard]] inline RowFactors row_factors(Int w, Int b, Int k, Int largest, int exponent,
                                            int b_unit, int k_unit) noexcept {
  constexpr Word most = 1 << 15;  // of S a and of v
  const auto bits = [](Int x) { return bits_of(absolute(x)); };
  constexpr int none = -1000;
  const auto larger = [](int x, int y) { return x > y ? x : y; };
  // Each of the three terms is below 2^its bits, so the sum is below 2^(2 + the most of them).
  int top = none;
  if (largest != 0) top = bits(largest) - exponent;
  if (b != 0) top = larger(top, 15 + bits(b) - b_unit);
  if (k != 0) top = larger(top, 15 + bits(k) - k_unit);
  if (top == none) return {0, 0, 0, 0};
  RowFactors f{};
  const auto set = [&](int next) {
    constexpr int range = 60;  // what is smaller than 2^-60 ends there
    f.exponent = next > range ? range : next < -range ? -range : next;
    f.w = largest == 0 ? 0 : scaled(w, f.exponent - exponent + 16 - unit_fraction);
    f.b = scaled(b, f.exponent - b_unit + 16);
    f.k = scaled(k, f.exponent - k_unit + 16);
  };
  set(12 - top);
  const Word bound =
      static_cast<Word>(largest) * absolute(f.w) + most * (absolute(f.b) + absolute(f.k)) + 0x20000;
  const int room = 31 - bits_of(bound);
  if (room > 0) set(f.exponent + room);
  return f;
}

/// The sums of the rows times x.
RWKV_INNER_LOOP inline void sum_rows(const std::int16_t* s, const Int* x, std::size_t n,
                                     HeadValue* to) noexcept {
  const Int* const end = x + n;
  const auto times = [](std::int16_t value, Int by) {
    return static_cast<Word>(Int{value}) * static_cast<Word>(by);
  };
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    Word s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    const std::int16_t* at = s + i;
    for (const Int* by = x; by != end; ++by, at += n)
      s0 += times(at[0], *by), s1 += times(at[1], *by), s2 += times(at[2], *by),
          s3 += times(at[3], *by);
    to[i].sum = wrapping(s0), to[i + 1].sum = wrapping(s1);
    to[i + 2].sum = wrapping(s2), to[i + 3].sum = wrapping(s3);
  }
  for (; i < n; ++i) {
    Word sum = 0;
    const std::int16_t* at = s + i;
    for (const Int* by = x; by != end; ++by, at += n) sum += times(*at, *by);
    to[i].sum = wrapping(sum);
  }
}

/// Updates a row and returns the bits of its magnitudes.
RWKV_INNER_LOOP inline Word advance_row(std::int16_t* s, const RowFactors& f, std::size_t n,
                                        const HeadValue* of) noexcept {
  const auto w = static_cast<Word>(f.w), b = static_cast<Word>(f.b), k = static_cast<Word>(f.k);
  Word all = 0;
  const auto advance = [&](std::size_t i) {
    const Word sum = static_cast<Word>(Int{s[i]}) * w + static_cast<Word>(of[i].sum) * b +
                     static_cast<Word>(of[i].v) * k + 0x8000;
    const Int x = wrapping(sum) >> 16;
    s[i] = static_cast<std::int16_t>(x);
    all |= magnitude(x);
  };
  for (; n >= 2; n -= 2, s += 2, of += 2) advance(0), advance(1);
  if (n > 0) advance(0);
  return all;
}

}  // namespace detail

/// Advances a head's matrix by a token: y = values[i].sum 2^-(the result). `rows` is scratch for n
/// numbers.
inline int advance_head(const HeadToken& t, std::size_t n, const HeadState& s, HeadValue* values,
                        Int* rows) noexcept {
  int sa_exponent = unit_fraction + detail::weigh_rows(t.kk, s, n, rows);
  for (std::size_t j = 0; j < n; ++j) rows[j] = -rows[j];
  detail::sum_rows(s.values, rows, n, values);
  // S a and v with 15 bits.
  Word sa_bits = 0, v_bits = 0;
  for (std::size_t i = 0; i < n; ++i) {
    sa_bits |= magnitude(values[i].sum);
    v_bits |= magnitude(t.v[i]);
  }
  const int sa_by = 15 - bits_of(sa_bits);
  const int v_by = 15 - bits_of(v_bits);
  for (std::size_t i = 0; i < n; ++i)
    values[i] = {moved(values[i].sum, sa_by), moved(t.v[i], v_by)};
  sa_exponent += sa_by;
  for (std::size_t j = 0; j < n; ++j) {
    const Int largest = s.magnitudes[j] > 0 ? s.magnitudes[j] + 1 : 0;
    const detail::RowFactors f =
        detail::row_factors(t.w[j], sa_bits == 0 ? 0 : t.b[j], v_bits == 0 ? 0 : t.k[j], largest,
                            s.exponents[j], sa_exponent + t.b_fraction, fraction + v_by + fraction);
    const Word bits = detail::advance_row(s.values + j * n, f, n, values);
    s.exponents[j] = static_cast<std::int16_t>(f.exponent);
    s.magnitudes[j] = static_cast<std::int16_t>(bits);
  }
  const int exponent = fraction + detail::weigh_rows(t.r, s, n, rows);
  detail::sum_rows(s.values, rows, n, values);
  return exponent;
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA::fixed
