// SPDX-License-Identifier: Apache-2.0
// Eight 6-bit scales and eight 6-bit mins in 12 bytes, as Q4_K and Q5_K store them:
//   bytes 0-3   scales 0-3 in the low 6 bits; above them the high 2 bits of scales 4-7
//   bytes 4-7   mins 0-3 in the low 6 bits; above them the high 2 bits of mins 4-7
//   bytes 8-11  low 4 bits of scales 4-7 in the low half, of mins 4-7 in the high half
// Freestanding.
#pragma once

#include <rwkv/quant/storage.hpp>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

struct ScaleAndMin {
  unsigned scale;
  unsigned min;
};

constexpr ScaleAndMin load_scale_and_min(const std::byte* p, std::size_t part) noexcept {
  const auto byte = [p](std::size_t i) { return std::to_integer<unsigned>(p[i]); };
  if (part < 4) return {byte(part) & 63, byte(part + 4) & 63};
  return {(byte(part + 4) & 15) | byte(part - 4) >> 6 << 4,
          byte(part + 4) >> 4 | byte(part) >> 6 << 4};
}

/// The scales of a block that begins with d, dmin and these 12 bytes. Reads 20 bytes.
RWKV_INLINE Scales load_scales_and_mins(const std::byte* block) noexcept {
  using simd::Sixteen;
  // Words of four bytes, as above: low parts, low parts, mixed, something else.
  const Sixteen stored = Sixteen::load(block + 4);
  const Sixteen four(15);
  const Sixteen first = stored & Sixteen(63);
  const Sixteen high = stored >> 2 & Sixteen(48);
  const Sixteen low = Sixteen::second_in_turns<std::uint32_t>(stored & four, stored >> 4 & four);
  const Sixteen both = Sixteen::first_in_turns<std::uint32_t>(first, high | low);
  return {.d = load_half(block),
          .dmin = load_half(block + 2),
          .scale = both,
          .min = Sixteen::second_in_turns<std::uint64_t>(both, both)};
}

/// The bits must be zero before.
constexpr void store_scale_and_min(ScaleAndMin s, std::byte* p, std::size_t part) noexcept {
  if (part < 4) {
    p[part] |= static_cast<std::byte>(s.scale);
    p[part + 4] |= static_cast<std::byte>(s.min);
  } else {
    p[part + 4] = static_cast<std::byte>((s.scale & 15) | (s.min & 15) << 4);
    p[part - 4] |= static_cast<std::byte>(s.scale >> 4 << 6);
    p[part] |= static_cast<std::byte>(s.min >> 4 << 6);
  }
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
