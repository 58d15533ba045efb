// SPDX-License-Identifier: Apache-2.0
// Vector registers of small integers, for products of quantised numbers. Every 32-bit lane holds
// four bytes, which belong to one output and four consecutive inputs; a dot product multiplies them
// by four other bytes and adds the products to the lane's sum. All of it is exact, so every
// implementation gives the same integers. Freestanding.
//
// A type of bytes offers: width (lanes), Register, Sum (of a few products), Wide (of many), and the
// functions of PlainBytes. `lazy<Bits>` dot products of codes of so many bits fit a Sum. It may
// also offer products of matrices, as NeonMatrixBytes does, and want sums of signed products to
// begin with a correction, as VnniBytes does.
#pragma once

#include <rwkv/core/half.hpp>

#include <cstring>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

/// Bytes in plain arrays: for processors without a vector unit, and to test the others against.
template <std::size_t Width>
struct PlainBytes {
  static constexpr std::size_t width = Width;
  struct Register {
    std::uint32_t lane[Width];
  };
  struct Sum {
    std::int32_t lane[Width];
  };
  using Wide = Sum;
  template <unsigned Bits>
  static constexpr unsigned lazy = 8;

  static Register load(const void* p) noexcept {
    Register r;
    std::memcpy(r.lane, p, sizeof r.lane);
    return r;
  }
  /// The same four bytes in every lane.
  static Register broadcast(const std::int8_t* p) noexcept {
    std::uint32_t four;
    std::memcpy(&four, p, sizeof four);
    Register r;
    for (std::uint32_t& lane : r.lane) lane = four;
    return r;
  }
  /// The lower half of each byte; the upper half.
  static Register low(Register r) noexcept {
    for (std::uint32_t& lane : r.lane) lane &= 0x0f0f0f0fu;
    return r;
  }
  static Register high(Register r) noexcept {
    for (std::uint32_t& lane : r.lane) lane = lane >> 4 & 0x0f0f0f0fu;
    return r;
  }
  /// r with bits Shift ... Shift + Bits - 1 of each byte of `plane` as bits 4 and up.
  template <unsigned Shift, unsigned Bits>
  static Register with_bits(Register r, Register plane) noexcept {
    constexpr std::uint32_t mask = 0x01010101u * (((1u << Bits) - 1) << Shift);
    for (std::size_t k = 0; k < Width; ++k) {
      const std::uint32_t bits = plane.lane[k] & mask;
      if constexpr (Shift > 4)
        r.lane[k] |= bits >> (Shift - 4);
      else
        r.lane[k] |= bits << (4 - Shift);
    }
    return r;
  }
  /// Each byte without its lowest bits: the others move down, and anything comes in at the top.
  template <unsigned Bits>
  static Register drop(Register r) noexcept {
    for (std::uint32_t& lane : r.lane) lane >>= Bits;
    return r;
  }

  /// Of each sixteen bytes, at the same place in four registers: bytes 4 r ... 4 r + 3 of all four
  /// become register r, those of the same number next to each other.
  static void transpose(Register (&r)[4]) noexcept requires(Width % 4 == 0) {
    std::uint8_t in[4][4 * Width], out[4][4 * Width];
    for (std::size_t k = 0; k < 4; ++k) std::memcpy(in[k], r[k].lane, sizeof in[k]);
    for (std::size_t at = 0; at < 4 * Width; at += 16)
      for (std::size_t k = 0; k < 4; ++k)
        for (std::size_t i = 0; i < 16; ++i) out[i / 4][at + i % 4 * 4 + k] = in[k][at + i];
    for (std::size_t k = 0; k < 4; ++k) std::memcpy(r[k].lane, out[k], sizeof out[k]);
  }

  static Sum zero() noexcept { return {}; }
  /// sum + the products of unsigned codes below 64 and signed bytes.
  static Sum dot(Sum sum, Register codes, Register x) noexcept {
    for (std::size_t k = 0; k < Width; ++k)
      for (unsigned shift = 0; shift < 32; shift += 8)
        sum.lane[k] += static_cast<std::int32_t>(codes.lane[k] >> shift & 0xff) *
                       static_cast<std::int8_t>(x.lane[k] >> shift & 0xff);
    return sum;
  }
  /// sum + the products of signed bytes, none of them -128.
  static Sum dot_signed(Sum sum, Register w, Register x) noexcept {
    for (std::size_t k = 0; k < Width; ++k)
      for (unsigned shift = 0; shift < 32; shift += 8)
        sum.lane[k] += static_cast<std::int8_t>(w.lane[k] >> shift & 0xff) *
                       static_cast<std::int8_t>(x.lane[k] >> shift & 0xff);
    return sum;
  }
  static Wide widen(Sum sum) noexcept { return sum; }
  static Wide add_wide(Wide a, Wide b) noexcept {
    for (std::size_t k = 0; k < Width; ++k) a.lane[k] += b.lane[k];
    return a;
  }

  /// The sums as floats.
  template <class L>
  static L to_float(Wide sum) noexcept {
    float f[Width];
    for (std::size_t k = 0; k < Width; ++k) f[k] = static_cast<float>(sum.lane[k]);
    return L::load(f);
  }
  /// Byte `Byte` of every lane, which is signed, as a number.
  template <class L, unsigned Byte>
  static L byte_to_float(Register r) noexcept {
    float f[Width];
    for (std::size_t k = 0; k < Width; ++k)
      f[k] = static_cast<float>(static_cast<std::int8_t>(r.lane[k] >> (8 * Byte) & 0xff));
    return L::load(f);
  }
  /// `width` consecutive signed bytes as numbers.
  template <class L>
  static L load_floats(const std::int8_t* p) noexcept {
    float f[Width];
    for (std::size_t k = 0; k < Width; ++k) f[k] = static_cast<float>(p[k]);
    return L::load(f);
  }
};

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
