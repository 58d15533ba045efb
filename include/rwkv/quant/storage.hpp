// SPDX-License-Identifier: Apache-2.0
// How numbers lie in the bytes of a block: little-endian halves, and codes of a few bits packed in
// runs. Independent of the processor's byte order and of alignment. Freestanding.
#pragma once

#include <rwkv/core/half.hpp>

#include <bit>
#include <cstddef>
#include <cstring>
#include <type_traits>

namespace rwkv::inline RWKV_ABI::quant {

constexpr half load_half(const std::byte* p) noexcept {
  return {static_cast<std::uint16_t>(std::to_integer<unsigned>(p[0]) |
                                     std::to_integer<unsigned>(p[1]) << 8)};
}

/// Eight bytes as a number whose lowest byte is the first.
constexpr std::uint64_t load_eight(const std::byte* p) noexcept {
  std::uint64_t word = 0;
  if (std::endian::native == std::endian::little && !std::is_constant_evaluated())
    std::memcpy(&word, p, sizeof word);
  else
    for (std::size_t i = 0; i < 8; ++i) word |= std::to_integer<std::uint64_t>(p[i]) << 8 * i;
  return word;
}

/// A byte, eight times.
constexpr std::uint64_t eight_times(unsigned byte) noexcept { return 0x0101010101010101u * byte; }

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
  /// The codes from one on to the end of its run: all in the same bits of neighbouring bytes.
  struct Codes {
    const std::byte* first;
    unsigned shift;
    static constexpr unsigned mask = (1u << Bits) - 1;

    constexpr unsigned operator[](std::size_t k) const noexcept {
      return std::to_integer<unsigned>(first[k]) >> shift & mask;
    }
    /// Codes k ... k + 7 of the run, one to a byte, the first in the lowest.
    constexpr std::uint64_t eight(std::size_t k) const noexcept {
      return load_eight(first + k) >> shift & eight_times(mask);
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

/// The bits of a byte, one to a byte, the lowest in the lowest.
constexpr std::uint64_t spread_bits(std::byte bits) noexcept {
  const auto b = std::to_integer<std::uint64_t>(bits);
  // Bit k goes to bit 8 k; copies of seven bits do not overlap.
  return (((b & 0x7fu) * 0x0002040810204081u) & eight_times(1)) | (b >> 7) << 56;
}

/// 32 consecutive elements of a block as integers:
///
///   x[i] = d * scale[i / 16] * (code of i - zero) - dmin * min[i / 16]
///
/// where the format says what `zero` is. Formats without integer scales leave them 1.
struct Tile {
  static constexpr std::size_t elements = 32;
  half d{};
  half dmin{};
  std::int8_t scale[2] = {1, 1};
  std::int8_t min[2] = {1, 1};
  std::uint64_t codes[elements / 8] = {};  ///< eight to a word, the first in the lowest byte
};

constexpr half negated(half h) noexcept { return {static_cast<std::uint16_t>(h.bits ^ 0x8000u)}; }

}  // namespace rwkv::inline RWKV_ABI::quant
