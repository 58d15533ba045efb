// SPDX-License-Identifier: Apache-2.0
// Which tensor of a model is stored in which type, when somebody asks for a model "in q4_k".
//
// Most of a model are the matrices of role `matrix`; they get the type that was asked for. The rest
// is small, or sensitive, or both:
//   vectors                     f32
//   low-rank maps               w1, w2 (the decay) f32; the others 16 bits when matrices are blocks
//   att.output of block 0       16 bits when matrices are blocks: a few of its columns are millions
//                               of times as large as the median
//   table and head              q6_k when matrices have 2 to 5 bits per weight: the head decides
//                               between tokens, and of the table only one row per token is read
// Rows that are no whole super-blocks of 256 get a type of blocks of 32 (q2_k, q3_k: iq4_nl; q4_k:
// q5_0; q5_k: q5_1; q6_k: q8_0), and rows that are no whole blocks of 32 get 16 bits. "16 bits" is
// bf16 if the tensor is bf16 already, otherwise f16.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/tensors.hpp>

#include <optional>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

using Role = TensorRole;

/// `type`, or a type of about its size that rows of `cols` elements are whole blocks of; nothing if
/// there is none.
[[nodiscard]] constexpr std::optional<DType> fitting_type(DType type, std::size_t cols) noexcept {
  if (cols % block_elements(type) == 0) return type;
  const DType smaller = type == DType::q2_k || type == DType::q3_k ? DType::iq4_nl
                        : type == DType::q4_k                      ? DType::q5_0
                        : type == DType::q5_k                      ? DType::q5_1
                                                                   : DType::q8_0;
  if (cols % block_elements(smaller) == 0) return smaller;
  return std::nullopt;
}

/// The 16 bits of a tensor that is stored as `stored` so far.
[[nodiscard]] constexpr DType half_width(DType stored) noexcept {
  return stored == DType::bf16 ? DType::bf16 : DType::f16;
}

/// The type for the tensor `name` with rows of `cols` elements, stored as `stored` so far, of a
/// model "in `target`": f32, f16, bf16 or a block type.
[[nodiscard]] constexpr DType weight_type(Role role, std::string_view name, std::size_t cols,
                                          DType stored, DType target) noexcept {
  const DType half = half_width(stored);
  const auto blocks = [&](DType type) { return fitting_type(type, cols).value_or(half); };
  switch (role) {
    case Role::vector:
      return DType::f32;
    case Role::low_rank:
      if (name.ends_with(".att.w1") || name.ends_with(".att.w2")) return DType::f32;
      return is_block(target) ? half : target;
    case Role::table:
    case Role::head:
      if (!is_block(target)) return target;
      return blocks(target == DType::q8_0 ? target : DType::q6_k);
    default:
      if (!is_block(target)) return target;
      return name == "blocks.0.att.output.weight" ? half : blocks(target);
  }
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
