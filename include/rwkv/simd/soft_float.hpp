// SPDX-License-Identifier: Apache-2.0
// Floats in integers, for processors without an FPU: sums, products and the fused multiply-add, each
// rounded once to nearest, ties to even, as processors with the instructions round them. So such a
// core computes the bits of the others; and these are several times as fast as libgcc's. What NaNs
// look like is not promised. Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

#include <bit>

/// Whether the processor lacks float arithmetic, and programs for it bring no libm.
#if defined(__STDC_HOSTED__) && __STDC_HOSTED__ == 0 && \
    (defined(__SOFTFP__) || (defined(__riscv) && !defined(__riscv_flen)))
#define RWKV_SOFT_FLOAT 1
#else
#define RWKV_SOFT_FLOAT 0
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS::soft {

// With -Os, too.
#if RWKV_SOFT_FLOAT && !defined(__clang__)
#define RWKV_SOFT [[gnu::optimize("O2"), gnu::noinline]] inline
#else
#define RWKV_SOFT inline
#endif

inline constexpr std::uint32_t infinity_bits = 0x7f800000u;

/// hi 2^32 + lo, whose bits below the lowest are known to be zeros or not: then the lowest is set.
struct Wide {
  std::uint32_t hi, lo;
};

RWKV_INLINE constexpr Wide shifted_right(Wide x, std::uint32_t by) noexcept {
  if (by == 0) return x;
  if (by < 32) {
    const std::uint32_t lost = x.lo << (32 - by);
    return {x.hi >> by, (x.hi << (32 - by) | x.lo >> by) | (lost != 0)};
  }
  if (by == 32) return {0, x.hi | (x.lo != 0)};
  if (by < 64) {
    const std::uint32_t lost = (x.hi << (64 - by)) | x.lo;
    return {0, (x.hi >> (by - 32)) | (lost != 0)};
  }
  return {0, (x.hi | x.lo) != 0};
}

RWKV_INLINE constexpr std::uint32_t leading_zeros(std::uint32_t x) noexcept {
#if defined(__ARM_FEATURE_CLZ) || defined(__riscv_zbb) || !RWKV_SOFT_FLOAT
  return static_cast<std::uint32_t>(std::countl_zero(x));
#else
  std::uint32_t n = 0;  // few, nearly always
  if (x < 1u << 24) {
    if (x < 1u << 16) n += 16, x <<= 16;
    if (x < 1u << 24) n += 8, x <<= 8;
  }
  for (; static_cast<std::int32_t>(x) >= 0; x <<= 1) ++n;
  return n;
#endif
}

/// The float nearest to m 2^(exponent - 158), with this sign bit; the top bit of m is set, and its
/// lowest says whether there was more.
RWKV_INLINE constexpr float rounded(std::uint32_t sign, std::int32_t exponent,
                                    std::uint32_t m) noexcept {
  if (exponent <= 0) [[unlikely]] {  // subnormal
    const auto by = static_cast<std::uint32_t>(1 - exponent);
    m = by < 32 ? m >> by | ((m << (32 - by)) != 0) : 1;
    exponent = 1;
  }
  m = m + 0x7fu + (m >> 8 & 1u) < m ? (++exponent, 0x80000000u) : m + 0x7fu + (m >> 8 & 1u);
  const std::uint32_t bits = (static_cast<std::uint32_t>(exponent - 1) << 23) + (m >> 8);
  return std::bit_cast<float>(sign |
                              (exponent > 254 || bits >= infinity_bits ? infinity_bits : bits));
}

/// A finite number other than zero: fraction 2^(exponent - 150), 2^23 <= fraction < 2^24.
struct Parts {
  std::int32_t exponent;
  std::uint32_t fraction;
};
RWKV_INLINE constexpr Parts parts_of(std::uint32_t bits) noexcept {
  Parts p{static_cast<std::int32_t>(bits >> 23 & 0xffu), (bits & 0x7fffffu) | 0x800000u};
  if (p.exponent == 0) [[unlikely]] {
    p.fraction &= 0x7fffffu;
    const std::uint32_t by = leading_zeros(p.fraction) - 8;
    p.fraction <<= by;
    p.exponent = 1 - static_cast<std::int32_t>(by);
  }
  return p;
}
RWKV_INLINE constexpr bool is_zero(std::uint32_t bits) noexcept { return bits << 1 == 0; }
RWKV_INLINE constexpr bool is_finite(std::uint32_t bits) noexcept {
  return (bits & infinity_bits) != infinity_bits;
}

// Of any numbers.

RWKV_SOFT float add_any(float x, float y) noexcept {
  auto a = std::bit_cast<std::uint32_t>(x), b = std::bit_cast<std::uint32_t>(y);
  if (a << 1 < b << 1) {
    const std::uint32_t c = a;
    a = b;
    b = c;
  }
  if (is_zero(b) || !is_finite(a)) [[unlikely]] {
    if (is_zero(a)) return std::bit_cast<float>(a & b);  // -0 only if both are
    if (is_finite(a)) return std::bit_cast<float>(a);
    // Infinity minus infinity is a NaN, as is what has one.
    return !is_finite(b) && a != b ? std::bit_cast<float>(0x7fc00000u) : std::bit_cast<float>(a);
  }
  const Parts p = parts_of(a), q = parts_of(b);
  const auto apart = static_cast<std::uint32_t>(p.exponent - q.exponent);
  const std::uint32_t greater = p.fraction << 7;
  std::uint32_t lesser = q.fraction << 7;
  if (apart > 0) lesser = apart < 32 ? lesser >> apart | ((lesser << (32 - apart)) != 0) : 1;
  std::uint32_t m = (a ^ b) >> 31 == 0 ? greater + lesser : greater - lesser;
  if (m == 0) return 0.0f;
  const std::uint32_t by = leading_zeros(m);
  return rounded(a & 0x80000000u, p.exponent + 1 - static_cast<std::int32_t>(by), m << by);
}

RWKV_SOFT float multiply_any(float x, float y) noexcept {
  const auto a = std::bit_cast<std::uint32_t>(x), b = std::bit_cast<std::uint32_t>(y);
  const std::uint32_t sign = (a ^ b) & 0x80000000u;
  if (is_zero(a) || is_zero(b) || !is_finite(a) || !is_finite(b)) [[unlikely]] {
    if (a << 1 > infinity_bits << 1) return x;
    if (b << 1 > infinity_bits << 1) return y;
    if (is_finite(a) && is_finite(b)) return std::bit_cast<float>(sign);
    return std::bit_cast<float>(is_zero(a) || is_zero(b) ? 0x7fc00000u : sign | infinity_bits);
  }
  const Parts p = parts_of(a), q = parts_of(b);
  const std::uint64_t product = std::uint64_t{p.fraction << 8} * (q.fraction << 8);
  const auto hi = static_cast<std::uint32_t>(product >> 32);
  const std::uint32_t m = hi | (static_cast<std::uint32_t>(product) != 0);
  const std::int32_t exponent = p.exponent + q.exponent - 127;
  return hi >> 31 != 0 ? rounded(sign, exponent + 1, m) : rounded(sign, exponent, m << 1);
}

/// a b + c
RWKV_SOFT float fused_multiply_add_any(float x, float y, float z) noexcept {
  const auto a = std::bit_cast<std::uint32_t>(x), b = std::bit_cast<std::uint32_t>(y),
             c = std::bit_cast<std::uint32_t>(z);
  if (is_zero(a) || is_zero(b) || is_zero(c) || !is_finite(a) || !is_finite(b) || !is_finite(c))
      [[unlikely]] {
    if (is_finite(a) && is_finite(b) && !is_finite(c)) return z;
    const float product = multiply_any(x, y);
    return is_zero(c) && !is_zero(a) && !is_zero(b) ? product : add_any(product, z);
  }
  const Parts p = parts_of(a), q = parts_of(b), r = parts_of(c);
  std::uint32_t sign = (a ^ b) & 0x80000000u;
  // Both with their top bits at 61 or, of the product, 60; in units of 2^(unit - 354).
  const std::uint64_t exact = std::uint64_t{p.fraction << 8} * (q.fraction << 6);
  Wide product{static_cast<std::uint32_t>(exact >> 32), static_cast<std::uint32_t>(exact)};
  Wide other{r.fraction << 6, 0};
  std::int32_t unit = p.exponent + q.exponent - 126;
  const std::int32_t apart = unit - r.exponent;
  if (apart > 0) {
    other = shifted_right(other, static_cast<std::uint32_t>(apart));
  } else if (apart < 0) {
    product = shifted_right(product, static_cast<std::uint32_t>(-apart));
    unit = r.exponent;
  }
  Wide sum;
  if (((sign ^ c) & 0x80000000u) == 0) {
    sum.lo = product.lo + other.lo;
    sum.hi = product.hi + other.hi + (sum.lo < product.lo);
  } else {
    if (product.hi < other.hi || (product.hi == other.hi && product.lo < other.lo)) {
      const Wide w = product;
      product = other;
      other = w;
      sign ^= 0x80000000u;
    }
    sum.lo = product.lo - other.lo;
    sum.hi = product.hi - other.hi - (product.lo < other.lo);
  }
  if (sum.hi == 0) [[unlikely]] {
    if (sum.lo == 0) return 0.0f;
    sum.hi = sum.lo;
    sum.lo = 0;
    unit -= 32;
  }
  const std::uint32_t by = leading_zeros(sum.hi);
  if (by > 0) {
    sum.hi = sum.hi << by | sum.lo >> (32 - by);
    sum.lo <<= by;
  }
  return rounded(sign, unit + 2 - static_cast<std::int32_t>(by), sum.hi | (sum.lo != 0));
}

// The same where operands are normal, and results nearly always.

RWKV_INLINE constexpr std::uint32_t exponent_of(std::uint32_t bits) noexcept {
  return bits >> 23 & 0xffu;
}
/// Neither zero, subnormal, infinite nor NaN.
RWKV_INLINE constexpr bool is_normal(std::uint32_t exponent) noexcept {
  return exponent - 1u < 254u;
}
/// The fraction with its top bit at 31.
RWKV_INLINE constexpr std::uint32_t fraction_of(std::uint32_t bits) noexcept {
  return bits << 8 | 0x80000000u;
}
/// `rounded` for results that nearly always are normal.
RWKV_INLINE constexpr float rounded_normal(std::uint32_t sign, std::uint32_t exponent,
                                           std::uint32_t m) noexcept {
  if (exponent - 1u >= 253u) [[unlikely]]
    return rounded(sign, static_cast<std::int32_t>(exponent), m);
  std::uint32_t fraction = m >> 8;
  fraction += (m & 0xffu) + (fraction & 1u) > 0x80u;
  return std::bit_cast<float>(sign | (((exponent - 1) << 23) + fraction));
}

RWKV_SOFT float add(float x, float y) noexcept {
  auto a = std::bit_cast<std::uint32_t>(x), b = std::bit_cast<std::uint32_t>(y);
  if (a << 1 < b << 1) {
    const std::uint32_t c = a;
    a = b;
    b = c;
  }
  const std::uint32_t exponent = exponent_of(a), apart = exponent - exponent_of(b);
  if (!is_normal(exponent) || !is_normal(exponent_of(b))) [[unlikely]]
    return add_any(x, y);
  const std::uint32_t greater = fraction_of(a) >> 1;
  std::uint32_t lesser = fraction_of(b) >> 1;
  if (apart > 0) lesser = apart < 32 ? lesser >> apart | (lesser << (32 - apart) != 0) : 1;
  const std::uint32_t m =
      static_cast<std::int32_t>(a ^ b) >= 0 ? greater + lesser : greater - lesser;
  if (m == 0) return 0.0f;
  const std::uint32_t by = leading_zeros(m);
  return rounded_normal(a & 0x80000000u, exponent + 1 - by, m << by);
}

RWKV_SOFT float multiply(float x, float y) noexcept {
  const auto a = std::bit_cast<std::uint32_t>(x), b = std::bit_cast<std::uint32_t>(y);
  const std::uint32_t p = exponent_of(a), q = exponent_of(b);
  if (!is_normal(p) || !is_normal(q)) [[unlikely]]
    return multiply_any(x, y);
  const std::uint64_t product = std::uint64_t{fraction_of(a)} * fraction_of(b);
  std::uint32_t m =
      static_cast<std::uint32_t>(product >> 32) | (static_cast<std::uint32_t>(product) != 0);
  std::uint32_t exponent = p + q - 126;
  if (static_cast<std::int32_t>(m) >= 0) {
    m <<= 1;
    --exponent;
  }
  return rounded_normal((a ^ b) & 0x80000000u, exponent, m);
}

/// a b + c
RWKV_SOFT float fused_multiply_add(float x, float y, float z) noexcept {
  const auto a = std::bit_cast<std::uint32_t>(x), b = std::bit_cast<std::uint32_t>(y),
             c = std::bit_cast<std::uint32_t>(z);
  const std::uint32_t p = exponent_of(a), q = exponent_of(b), r = exponent_of(c);
  if (!is_normal(p) || !is_normal(q) || !is_normal(r)) [[unlikely]]
    return fused_multiply_add_any(x, y, z);
  // As above: top bits at 61, or 60.
  const std::uint64_t exact = std::uint64_t{fraction_of(a)} * (fraction_of(b) >> 2);
  auto hi = static_cast<std::uint32_t>(exact >> 32), lo = static_cast<std::uint32_t>(exact);
  std::uint32_t other_hi = fraction_of(c) >> 2, other_lo = 0;
  std::uint32_t unit = p + q - 126;
  const auto apart = static_cast<std::int32_t>(unit - r);
  if (apart > 0) {
    const auto by = static_cast<std::uint32_t>(apart);
    if (by < 32) {
      other_lo = other_hi << (32 - by);
      other_hi >>= by;
    } else {
      const bool lost = by > 32 && (by >= 62 || other_hi << (64 - by) != 0);
      other_lo = (by < 62 ? other_hi >> (by - 32) : 0) | lost;
      other_hi = 0;
    }
  } else if (apart < 0) {
    const auto by = static_cast<std::uint32_t>(-apart);
    unit = r;
    if (by < 32) {
      const std::uint32_t lost = lo << (32 - by);
      lo = lo >> by | hi << (32 - by) | (lost != 0);
      hi >>= by;
    } else {
      lo = by < 62 ? hi >> (by - 32) | 1 : 1;
      hi = 0;
    }
  }
  std::uint32_t sign = (a ^ b) & 0x80000000u;
  if (static_cast<std::int32_t>(sign ^ c) >= 0) {
    lo += other_lo;
    hi += other_hi + (lo < other_lo);
  } else {
    const bool less = lo < other_lo;
    lo -= other_lo;
    hi -= other_hi + less;
    if (static_cast<std::int32_t>(hi) < 0) {  // c was the larger one
      lo = 0 - lo;
      hi = ~hi + (lo == 0);
      sign ^= 0x80000000u;
    }
    if (hi == 0) [[unlikely]] {
      if (lo == 0) return 0.0f;
      hi = lo;
      lo = 0;
      unit -= 32;
    }
  }
  const std::uint32_t by = leading_zeros(hi);
  if (by > 0) {
    hi = hi << by | lo >> (32 - by);
    lo <<= by;
  }
  return rounded_normal(sign, unit + 2 - by, hi | (lo != 0));
}

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS::soft
