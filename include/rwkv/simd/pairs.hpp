// SPDX-License-Identifier: Apache-2.0
// Vector registers of pairs of bfloat16, for products of numbers that both have 16 bits: every
// 32-bit lane holds two weights, which belong to one output and two consecutive inputs; a dot
// product multiplies them by two inputs and adds both products to the lane's float. Products are
// exact, sums are rounded; subnormal numbers may count as zeros. Freestanding.
//
// A type of pairs offers: width (lanes), Register, and the functions of PlainPairs. Lanes that have
// such registers name them `Pairs`.
#pragma once

#include <rwkv/core/half.hpp>

#include <cstring>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

/// Whether there are registers of pairs besides those of lanes L.
template <class L>
concept HasPairs = requires {
  L::Pairs::width;
};

/// Pairs in plain arrays: to test the others against.
template <std::size_t Width>
struct PlainPairs {
  static constexpr std::size_t width = Width;
  struct Register {
    std::uint32_t lane[Width];
  };

  /// p[k] and next[k] in lane k.
  static Register load(const bfloat16* p, const bfloat16* next) noexcept {
    Register r;
    for (std::size_t k = 0; k < Width; ++k)
      r.lane[k] = p[k].bits | std::uint32_t{next[k].bits} << 16;
    return r;
  }
  /// The same two numbers in every lane.
  static Register broadcast(const bfloat16* p) noexcept {
    Register r;
    for (std::uint32_t& lane : r.lane) lane = p[0].bits | std::uint32_t{p[1].bits} << 16;
    return r;
  }
  /// sum + w[1] x[1] + w[0] x[0], in this order.
  template <class L>
  static L dot(L sum, Register w, Register x) noexcept {
    float a[2][Width];
    float b[2][Width];
    for (std::size_t k = 0; k < Width; ++k)
      for (unsigned i = 0; i < 2; ++i) {
        a[i][k] = number(w.lane[k], i);
        b[i][k] = number(x.lane[k], i);
      }
    sum = fma(L::load(a[1]), L::load(b[1]), sum);
    return fma(L::load(a[0]), L::load(b[0]), sum);
  }

 private:
  static float number(std::uint32_t pair, unsigned i) noexcept {
    return to_float(bfloat16{static_cast<std::uint16_t>(pair >> (16 * i))});
  }
};

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
