// SPDX-License-Identifier: Apache-2.0
// A packed matrix whose storage type is known only at run time. Freestanding.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/kernels/by_input.hpp>
#include <rwkv/kernels/panels.hpp>
#include <rwkv/kernels/quantised_activations.hpp>
#include <rwkv/kernels/quantised_layout.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

struct LowRank;

struct AnyMatrix {
  DType type = DType::f32;  ///< f32, f16, bf16 or a block type
  const void* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  kernels::Inputs inputs = kernels::Inputs::rounded;  ///< of products
  const LowRank* low_rank = nullptr;                  ///< added to every product
  /// Whether products of few rows leave out the weights of inputs that are zero. For matrices that
  /// have many such inputs and no weight that is infinite or NaN.
  bool skips_zeros = false;
  bool by_input = false;  ///< blocks in the order of kernels/by_input.hpp
};

/// A product of two small matrices of floats beside a large one: y = W x + b (a x).
struct LowRank {
  AnyMatrix a;  ///< [rank, inputs]
  AnyMatrix b;  ///< [outputs, rank]
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA {

/// Bytes of memory that a matrix occupies.
[[nodiscard]] constexpr std::size_t packed_bytes(DType type, std::size_t rows,
                                                 std::size_t cols) noexcept {
  return is_block(type) ? quantised_bytes(type, rows, cols)
                        : panel_elements(rows, cols) * size_of(type);
}

/// In what format products with `w` want their inputs, on a processor that multiplies pairs of
/// bfloat16 or does not.
[[nodiscard]] constexpr ActivationFormat activation_format_of(const AnyMatrix& w,
                                                              bool pairs) noexcept {
  if (is_block(w.type))
    return w.inputs == Inputs::exact ? ActivationFormat::sums : ActivationFormat::codes;
  return pairs && w.type == DType::bf16 && w.inputs == Inputs::fastest && w.cols % 2 == 0
             ? ActivationFormat::bfloats16
             : ActivationFormat::none;
}

/// Panels that must not be parted when a product is divided.
[[nodiscard]] constexpr std::size_t panels_together(const AnyMatrix& w) noexcept {
  return w.by_input ? ByInput::panels : 2;
}

/// Whether products of few rows leave out the weights of inputs that are zero, which they get in a
/// format.
[[nodiscard]] constexpr bool leaves_out(const AnyMatrix& w, ActivationFormat how) noexcept {
  constexpr std::size_t countable = 0xffff;  // by ListedInputs
  return w.skips_zeros &&
         (how == ActivationFormat::codes || (how == ActivationFormat::none && w.cols <= countable));
}

/// Of `packed_bytes`, what a matrix has for its inputs one by one, so that it can be skipped.
[[nodiscard]] constexpr std::size_t skippable_bytes(const AnyMatrix& w) noexcept {
  if (!is_block(w.type)) return packed_bytes(w.type, w.rows, w.cols);
  return panel_elements(w.rows, w.cols) * layout_of(w.type).bits / 8;
}

/// What a product's cost is in proportion to: bytes of 256 weights.
[[nodiscard]] constexpr std::size_t weight_cost(const AnyMatrix& m) noexcept {
  return block_bytes(m.type) * (256 / block_elements(m.type));
}

}  // namespace rwkv::inline RWKV_ABI::kernels::inline RWKV_ISA
