// SPDX-License-Identifier: Apache-2.0
// How numbers lie in the bytes of a block: little-endian halves, and codes of a few bits packed in
// runs. Independent of the processor's byte order and of alignment. Freestanding.
#pragma once

#include <rwkv/core/half.hpp>
#include <rwkv/simd/sixteen.hpp>

#include <cstddef>
#include <cstring>
#include <type_traits>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

constexpr half load_half(const std::byte* p) noexcept {
  return {static_cast<std::uint16_t>(std::to_integer<unsigned>(p[0]) |
                                     std::to_integer<unsigned>(p[1]) << 8)};
}

constexpr void store_half(half h, std::byte* p) noexcept {
  p[0] = static_cast<std::byte>(h.bits & 0xffu);
  p[1] = static_cast<std::byte>(h.bits >> 8);
}

/// A byte in two's complement.
constexpr int load_signed(const std::byte* p) noexcept {
  return static_cast<std::int8_t>(std::to_integer<std::uint8_t>(*p));
}

constexpr void store_signed(int value, std::byte* p) noexcept {
  *p = static_cast<std::byte>(static_cast<std::uint8_t>(value));
}

/// Codes of `Bits` bits. A run of `Run` codes takes the lowest bits of as many bytes, the next run
/// the bits above them, and so on until the bytes are full. Every packed field of every block
/// format has this form.
template <unsigned Bits, std::size_t Run>
struct Packed {
  static constexpr unsigned bits = Bits;
  static constexpr std::size_t run = Run;

  /// The codes from one on to the end of its run: all in the same bits of neighbouring bytes.
  struct Codes {
    const std::byte* first;
    unsigned shift;
    static constexpr unsigned mask = (1u << Bits) - 1;

    constexpr unsigned operator[](std::size_t k) const noexcept {
      return std::to_integer<unsigned>(first[k]) >> shift & mask;
    }
    /// Codes k ... k + 15 of the run, one to a byte.
    RWKV_INLINE simd::Sixteen sixteen(std::size_t k) const noexcept {
      return simd::Sixteen::load(first + k) >> shift & simd::Sixteen(mask);
    }
  };

  static constexpr Codes from(const std::byte* p, std::size_t i) noexcept {
    return {p + byte_of(i), shift_of(i)};
  }
  static constexpr unsigned get(const std::byte* p, std::size_t i) noexcept {
    return from(p, i)[0];
  }
  /// `code` has at most `Bits` bits, which must be zero before.
  static constexpr void put(unsigned code, std::byte* p, std::size_t i) noexcept {
    p[byte_of(i)] |= static_cast<std::byte>(code << shift_of(i));
  }

 private:
  static constexpr std::size_t runs_per_byte = 8 / Bits;
  static constexpr std::size_t byte_of(std::size_t i) noexcept {
    return i / (Run * runs_per_byte) * Run + i % Run;
  }
  static constexpr unsigned shift_of(std::size_t i) noexcept {
    return static_cast<unsigned>(i / Run % runs_per_byte) * Bits;
  }
};

/// The bits of two bytes, one to a byte, the lowest one first.
RWKV_INLINE simd::Sixteen spread_bits(const std::byte* two) noexcept {
  constexpr std::uint8_t bits[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const simd::Sixteen one_each =
      simd::Sixteen(std::to_integer<std::uint8_t>(two[0]), std::to_integer<std::uint8_t>(two[1])) &
      simd::Sixteen::load(bits);
  return (one_each + simd::Sixteen(127)) >> 7 & simd::Sixteen(1);
}

/// The scales of a block. Element i of it is
///
///   x[i] = d * scale[p] * (code of i - zero) - dmin * min[p]
///
/// where p = i / 32 or i / 16 for blocks of 256 elements, and the format says which, what `zero` is
/// and whether there are mins. In shorter blocks, scale[p] and min[p] are 1.
struct Scales {
  half d{};
  half dmin{};
  simd::Sixteen scale{0};  ///< signed bytes
  simd::Sixteen min{0};    ///< bytes
};

/// The codes of 32 consecutive elements, one to a byte. Those of five and six bits are
/// low + 16 * high, others are `low`.
struct Tile {
  static constexpr std::size_t elements = 32;
  simd::Sixteen low[2] = {simd::Sixteen(0), simd::Sixteen(0)};
  simd::Sixteen high[2] = {simd::Sixteen(0), simd::Sixteen(0)};
};

/// The codes of a block: their lower bits from byte LowAt on, and what is above these from byte
/// HighAt on.
template <class Low, std::size_t LowAt, class High = Low, std::size_t HighAt = LowAt>
struct BlockCodes {
  static constexpr bool two_pieces = HighAt != LowAt;
  static constexpr unsigned bits = Low::bits + (two_pieces ? High::bits : 0);

  /// Calls f(k, code i + k) for k < N, codes of one run.
  template <std::size_t N, class F>
  static constexpr void each(const std::byte* block, std::size_t i, F f) noexcept {
    const auto low = Low::from(block + LowAt, i);
    if constexpr (!two_pieces) {
      for (std::size_t k = 0; k < N; ++k) f(k, low[k]);
    } else if constexpr (High::run == 1) {
      for (std::size_t k = 0; k < N; ++k)
        f(k, low[k] | High::get(block + HighAt, i + k) << Low::bits);
    } else {
      const auto high = High::from(block + HighAt, i);
      for (std::size_t k = 0; k < N; ++k) f(k, low[k] | high[k] << Low::bits);
    }
  }

  static RWKV_INLINE Tile load_tile(const std::byte* block, std::size_t t) noexcept {
    Tile tile;
    RWKV_UNROLL
    for (std::size_t h = 0; h < 2; ++h) {
      tile.low[h] = sixteen<Low>(block + LowAt, t, h);
      if constexpr (two_pieces) {
        const simd::Sixteen high = sixteen<High>(block + HighAt, t, h);
        if constexpr (Low::bits == 4)
          tile.high[h] = high;
        else
          tile.low[h] = tile.low[h] | high << Low::bits;
      }
    }
    return tile;
  }

  /// The bits must be zero before.
  static constexpr void put(unsigned code, std::byte* block, std::size_t i) noexcept {
    Low::put(code & ((1u << Low::bits) - 1), block + LowAt, i);
    if constexpr (two_pieces) High::put(code >> Low::bits, block + HighAt, i);
  }

 private:
  /// Codes 16 h ... 16 h + 15 of tile t.
  template <class Piece>
  static RWKV_INLINE simd::Sixteen sixteen(const std::byte* p, std::size_t t,
                                           std::size_t h) noexcept {
    if constexpr (Piece::run == 1)
      return spread_bits(p + Tile::elements / 8 * t + 2 * h);
    else if constexpr (Piece::run < Tile::elements)
      return Piece::from(p, Tile::elements * t + 16 * h).sixteen(0);
    else
      return Piece::from(p, Tile::elements * t).sixteen(16 * h);
  }
};

constexpr half negated(half h) noexcept { return {static_cast<std::uint16_t>(h.bits ^ 0x8000u)}; }

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
