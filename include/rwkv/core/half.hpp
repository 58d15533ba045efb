// SPDX-License-Identifier: Apache-2.0
// IEEE binary16, bfloat16 and the two types of 8 bits as storage types: 16 or 8 bits in memory,
// float in arithmetic.
// Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

#include <bit>
#include <type_traits>

namespace rwkv::inline RWKV_ABI {

/// IEEE 754 binary16: 1 sign, 5 exponent, 10 fraction bits.
struct half {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(half, half) = default;
};

/// The upper 16 bits of a binary32.
struct bfloat16 {
  std::uint16_t bits = 0;
  friend constexpr bool operator==(bfloat16, bfloat16) = default;
};

/// Exact. Signalling NaNs stay NaNs.
RWKV_INLINE constexpr float to_float(half h) noexcept {
#if defined(__ARM_FP) && defined(__ARM_FEATURE_FMA) && !defined(__aarch64__)  // VFPv4 has it
  if (!std::is_constant_evaluated()) {
    float f;
    asm("vcvtb.f32.f16 %0, %1" : "=t"(f) : "t"(std::bit_cast<float>(std::uint32_t{h.bits})));
    return f;
  }
#endif
  const std::uint32_t sign = (h.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = h.bits & 0x7fffu;
  if (magnitude >= 0x7c00u)  // infinity, NaN
    return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
#if defined(__riscv_flen)  // normal and subnormal alike
  return std::bit_cast<float>(sign | magnitude << 13) * 0x1p112f;
#endif
  if (magnitude >= 0x0400u)  // normal
    return std::bit_cast<float>(sign | ((magnitude << 13) + 0x38000000u));
  // Subnormal: the magnitude counts units of 2^-24, which a float holds exactly.
  const float value = static_cast<float>(magnitude) * 0x1p-24f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

/// Exact.
RWKV_INLINE constexpr float to_float(bfloat16 b) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(b.bits) << 16);
}

constexpr float to_float(float f) noexcept { return f; }

/// The float of 8 bits with 4 exponent and 3 fraction bits and without infinities ("e4m3fn").
constexpr float float_from_e4m3(std::uint8_t bits) noexcept {
  const std::uint32_t sign = (bits & 0x80u) << 24;
  const std::uint32_t magnitude = bits & 0x7fu;
  if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude >= 8)  // normal
    return std::bit_cast<float>(sign | ((magnitude << 20) + 0x3c000000u));
  const float value = static_cast<float>(magnitude) * 0x1p-9f;
  return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(value));
}

/// The float of 8 bits with 5 exponent bits: the upper half of a binary16.
constexpr float float_from_e5m2(std::uint8_t bits) noexcept {
  return to_float(half{static_cast<std::uint16_t>(bits << 8)});
}

/// Rounds to nearest, ties to even; overflow gives infinity, NaN stays NaN.
constexpr half to_half(float f) noexcept {
#if defined(__ARM_FP) && defined(__ARM_FEATURE_FMA) && !defined(__aarch64__)  // VFPv4 has it
  if (!std::is_constant_evaluated()) {
    float bits;
    asm("vcvtb.f16.f32 %0, %1" : "=t"(bits) : "t"(f), "0"(0.0f));
    return {static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(bits))};
  }
#endif
  const auto u = std::bit_cast<std::uint32_t>(f);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {  // result is subnormal: let the float adder round at 2^-24
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<std::uint16_t>(
        sign | (std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f)))};
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  return {static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13))};
}

/// Rounds to nearest, ties to even; NaN stays NaN.
constexpr bfloat16 to_bfloat16(float f) noexcept {
  const auto u = std::bit_cast<std::uint32_t>(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

}  // namespace rwkv::inline RWKV_ABI
