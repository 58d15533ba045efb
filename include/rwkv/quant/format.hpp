// SPDX-License-Identifier: Apache-2.0
// All block formats: from a DType known at run time to the type that knows the layout.
// Freestanding.
#pragma once

#include <rwkv/quant/iq4_nl.hpp>
#include <rwkv/quant/q2_k.hpp>
#include <rwkv/quant/q3_k.hpp>
#include <rwkv/quant/q4_0.hpp>
#include <rwkv/quant/q4_1.hpp>
#include <rwkv/quant/q4_k.hpp>
#include <rwkv/quant/q5_0.hpp>
#include <rwkv/quant/q5_1.hpp>
#include <rwkv/quant/q5_k.hpp>
#include <rwkv/quant/q6_k.hpp>
#include <rwkv/quant/q8_0.hpp>

#include <algorithm>
#include <concepts>

namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA {

/// A block of `elements` numbers in `bytes` bytes, bit for bit as in GGUF files.
///
/// `decode(block, out)` accepts any bytes at any address. Every product in it is exact, so that
/// each number has at most the one rounding of its subtraction or addition, on every processor.
///
/// `load_scales(block)` and `load_tile(block, t)`, of elements 32 t ... 32 t + 31, give the same
/// numbers as integers, with the format's `zero`. Codes of q8_0 and iq4_nl are signed bytes.
///
/// `encode(in, importance, block)` keeps the sum of importance * error^2 small; `importance` has
/// one number >= 0 per element, or is null: all equal. Numbers beyond `largest_value` are stored as
/// it; what becomes of NaNs is unspecified. The same input gives the same bytes.
template <class F>
concept BlockFormat = requires(const std::byte* block, std::byte* to, const float* in, float* out) {
  requires std::same_as<decltype(F::zero), const int>;
  requires std::same_as<decltype(F::type), const DType>;
  requires F::elements == block_elements(F::type) && F::bytes == block_bytes(F::type);
  { F::decode(block, out) }
  noexcept;
  { F::load_scales(block) }
  noexcept->std::same_as<Scales>;
  { F::load_tile(block, std::size_t{}) }
  noexcept->std::same_as<Tile>;
  { F::encode(in, in, to) }
  noexcept;
};

namespace detail {

template <BlockFormat... Formats>
struct FormatList {
  static constexpr bool has(DType type) noexcept { return ((Formats::type == type) || ...); }

  template <class F, class First, class... Rest>
  static constexpr decltype(auto) visit(DType type, F&& f) {
    if constexpr (sizeof...(Rest) > 0)
      if (type != First::type) return visit<F, Rest...>(type, static_cast<F&&>(f));
    RWKV_ASSERT(type == First::type);
    return f(First{});
  }
  template <class F>
  static constexpr decltype(auto) visit(DType type, F&& f) {
    return visit<F, Formats...>(type, static_cast<F&&>(f));
  }
};

}  // namespace detail

/// All of them.
using BlockFormats =
    detail::FormatList<Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL>;
static_assert(std::all_of(block_types.begin(), block_types.end(), BlockFormats::has),
              "a block type has no format");

/// Returns f(F{}) with the format F of the block type `type`.
template <class F>
constexpr decltype(auto) visit_format(DType type, F&& f) {
  return BlockFormats::visit(type, static_cast<F&&>(f));
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
