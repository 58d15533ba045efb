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

/// Returns f(F{}) with the format F of the block type `type`.
template <class F>
constexpr decltype(auto) visit_format(DType type, F&& f) {
  const auto use = [&f]<BlockFormat Format>(Format format) -> decltype(auto) { return f(format); };
  switch (type) {
    case DType::q4_0:
      return use(Q4_0{});
    case DType::q4_1:
      return use(Q4_1{});
    case DType::q5_0:
      return use(Q5_0{});
    case DType::q5_1:
      return use(Q5_1{});
    case DType::q8_0:
      return use(Q8_0{});
    case DType::q2_k:
      return use(Q2_K{});
    case DType::q3_k:
      return use(Q3_K{});
    case DType::q4_k:
      return use(Q4_K{});
    case DType::q5_k:
      return use(Q5_K{});
    case DType::q6_k:
      return use(Q6_K{});
    default:
      RWKV_ASSERT(type == DType::iq4_nl);
      return use(IQ4_NL{});
  }
}

}  // namespace rwkv::inline RWKV_ABI::quant::inline RWKV_ISA
