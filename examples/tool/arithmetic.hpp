// SPDX-License-Identifier: Apache-2.0
// Multiply-adds when nothing has to be loaded: what the arithmetic of a kernel can reach at most.
//
// Reads itself once more per instruction set (rwkv/kernels/isa_namespace.hpp).
#if !defined(TOOL_ARITHMETIC) || defined(RWKV_AGAIN)
#define TOOL_ARITHMETIC

#ifndef RWKV_AGAIN
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/simd/target.hpp>
#if RWKV_DISPATCH
#include <rwkv/simd/amx_tiles.hpp>
#include <rwkv/simd/neon_lanes.hpp>
#include <rwkv/simd/x86_lanes.hpp>
#endif
#endif

namespace tool::RWKV_LEVEL {

constexpr std::size_t chains = 12;  // hide the latency

template <class L>
float first_lane(const L& lanes) {
  alignas(rwkv::alignment) float stored[16];
  lanes.store(stored);
  return stored[0];
}

/// Lets every chain of zeros take a step in turn. (Known numbers would be folded, equal chains
/// become one; hence volatile.)
template <class L, class Step>
float advance(std::size_t rounds, Step&& step) {
  volatile float zero = 0.0f;
  L sum[chains];
  for (L& s : sum) s = L::broadcast(zero);
  for (std::size_t i = 0; i < rounds; ++i) {
    RWKV_UNROLL
    for (L& s : sum) s = step(s);
  }
  L all = L::broadcast(zero);
  for (const L& s : sum) all = all + s;
  return first_lane(all);
}

template <class L>
float multiply_floats(std::size_t rounds) {
  volatile float zero = 0.0f;
  volatile float one = 1.0f;
  const L a = L::broadcast(zero);
  const L b = L::broadcast(one);
  return advance<L>(rounds, [&](L sum) { return fma(sum, b, a); });
}

template <class L>
float multiply_pairs(std::size_t rounds) {
  volatile std::uint16_t zero = 0;
  const rwkv::bfloat16 two[2] = {{zero}, {zero}};
  const auto x = L::Pairs::broadcast(two);
  return advance<L>(rounds, [&](L sum) { return L::Pairs::dot(sum, x, x); });
}

/// Zeros that the compiler takes for something else each time, or products would be computed once.
struct Zeros {
  alignas(rwkv::alignment) std::int8_t bytes[rwkv::alignment * chains] = {};
  void change() { asm volatile("" : : "r"(bytes) : "memory"); }
};

/// Of bytes, as in products with quantised matrices.
template <class L>
float multiply_bytes(std::size_t rounds) {
  using B = typename L::Bytes;
  Zeros zeros;
  typename B::Sum sum[chains];
  RWKV_UNROLL
  for (auto& s : sum) s = B::zero();
  for (std::size_t i = 0; i < rounds; ++i) {
    zeros.change();
    const auto x = B::load(zeros.bytes);
    auto y = x;
    RWKV_UNROLL
    for (std::size_t c = 0; c < chains; ++c) {
      if constexpr (requires { B::hold(y); })
        B::hold(y);  // another one, and not from memory: loads would take part of the time
      else
        y = B::load(zeros.bytes + c * 4 * B::width);
      sum[c] = B::dot(sum[c], y, x);
      if constexpr (requires { B::hold(sum[c]); }) B::hold(sum[c]);
    }
  }
  L all = L::broadcast(0.0f);
  RWKV_UNROLL
  for (const auto& s : sum) all = all + B::template to_float<L>(B::widen(s));
  return first_lane(all);
}

/// The same with products of matrices, two registers of sums at a time.
template <class L>
float multiply_matrices(std::size_t rounds) {
  using B = typename L::Bytes;
  Zeros zeros;
  typename B::Pair sum[chains] = {};
  for (std::size_t i = 0; i < rounds; ++i) {
    zeros.change();
    RWKV_UNROLL
    for (std::size_t c = 0; c < chains; ++c) {
      const auto x = B::load_pair(zeros.bytes + 16 * c, zeros.bytes + 16 * c + 8);
      B::dot(sum[c], {{x, x}}, x);
    }
  }
  L all = L::broadcast(0.0f);
  RWKV_UNROLL
  for (const auto& s : sum) {
    typename B::Wide first, second;
    B::split(s, first, second);
    all = all + B::template to_float<L>(B::add_wide(first, second));
  }
  return first_lane(all);
}

}  // namespace tool::RWKV_LEVEL

#ifndef RWKV_AGAIN
#define RWKV_READ "arithmetic.hpp"
#define RWKV_READ_BF16 "arithmetic.hpp"
#include <rwkv/kernels/read_per_isa.hpp>
#endif

#endif
