// SPDX-License-Identifier: Apache-2.0
// Element types that tensors are stored in.
#pragma once

#include <rwkv/core/half.hpp>

#include <array>
#include <iterator>
#include <optional>
#include <string_view>

namespace rwkv::inline RWKV_ABI {

/// Element type of a stored tensor. Model weights are f32, f16, bf16 or a block type; f64 and the
/// integers occur in state files, test data and training checkpoints. Weights in floats of 8 bits
/// are widened when a file is read. A block type (q4_0 and after; layouts in quant/) stores a run
/// of elements as small integers with common scales.
enum class DType : std::uint8_t {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  u8,
  i16,
  i8,
  u64,
  u32,
  u16,
  boolean,
  f8_e4m3,
  f8_e5m2,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  end,  ///< no type: how many there are
};

namespace internal {

struct DTypeTraits {
  std::string_view name;
  std::size_t block_elements;
  std::size_t block_bytes;
  int gguf = -1;       ///< the type's number in GGUF files, if it has one
  int gguf_file = -1;  ///< the number of a file that is mostly of this type
};

inline constexpr DTypeTraits dtype_traits[] = {
    // in the order of the enumerators
    {"f64", 1, 8},
    {"f32", 1, 4, 0, 0},
    {"f16", 1, 2, 1, 1},
    {"bf16", 1, 2, 30, 32},
    {"i64", 1, 8},
    {"i32", 1, 4},
    {"u8", 1, 1},
    {"i16", 1, 2},
    {"i8", 1, 1},
    {"u64", 1, 8},
    {"u32", 1, 4},
    {"u16", 1, 2},
    {"boolean", 1, 1},
    {"f8_e4m3", 1, 1},
    {"f8_e5m2", 1, 1},
    {"q4_0", 32, 18, 2, 2},
    {"q4_1", 32, 20, 3, 3},
    {"q5_0", 32, 22, 6, 8},
    {"q5_1", 32, 24, 7, 9},
    {"q8_0", 32, 34, 8, 7},
    {"q2_k", 256, 84, 10, 10},
    {"q3_k", 256, 110, 11, 11},
    {"q4_k", 256, 144, 12, 14},
    {"q5_k", 256, 176, 13, 16},
    {"q6_k", 256, 210, 14, 18},
    {"iq4_nl", 32, 18, 20, 25},
};
inline constexpr std::size_t dtypes = std::size(dtype_traits);
inline constexpr std::size_t first_block_type = static_cast<std::size_t>(DType::q4_0);
static_assert(dtypes == static_cast<std::size_t>(DType::end));
static_assert([] {
  for (std::size_t i = 0; i < dtypes; ++i)
    if ((dtype_traits[i].block_elements != 1) != (i >= first_block_type)) return false;
  return true;
}());

constexpr const DTypeTraits& traits_of(DType type) noexcept {
  return dtype_traits[static_cast<std::size_t>(type)];
}

}  // namespace internal

/// "f32", "q4_k", ...
constexpr std::string_view name_of(DType type) noexcept { return internal::traits_of(type).name; }

/// The type of that name, if there is one.
constexpr std::optional<DType> type_named(std::string_view name) noexcept {
  for (std::size_t i = 0; i < std::size(internal::dtype_traits); ++i)
    if (internal::dtype_traits[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

/// Elements that are stored together; 1 for plain types.
constexpr std::size_t block_elements(DType type) noexcept {
  return internal::traits_of(type).block_elements;
}

/// Bytes of such a block; of one element for plain types.
constexpr std::size_t block_bytes(DType type) noexcept {
  return internal::traits_of(type).block_bytes;
}

constexpr bool is_block(DType type) noexcept {
  return static_cast<std::size_t>(type) >= internal::first_block_type;
}

/// All block types.
inline constexpr auto block_types = [] {
  std::array<DType, internal::dtypes - internal::first_block_type> types{};
  for (std::size_t i = 0; i < types.size(); ++i)
    types[i] = static_cast<DType>(internal::first_block_type + i);
  return types;
}();

/// Bytes per element of a plain type. An element of a block type has no bytes of its own: 0.
constexpr std::size_t size_of(DType type) noexcept {
  return is_block(type) ? 0 : block_bytes(type);
}

/// Bytes of as many whole blocks as `elements` elements reach into.
constexpr std::size_t bytes_of(DType type, std::size_t elements) noexcept {
  return (elements / block_elements(type) + (elements % block_elements(type) != 0)) *
         block_bytes(type);
}

/// True for the floats of 8 bits, which only files have.
constexpr bool is_float8(DType type) noexcept {
  return type == DType::f8_e4m3 || type == DType::f8_e5m2;
}

/// True for the plain types that a weight can have.
constexpr bool is_float(DType type) noexcept {
  return type == DType::f64 || type == DType::f32 || type == DType::f16 || type == DType::bf16;
}

template <class T>
inline constexpr DType dtype_of = DType::u8;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<float> = DType::f32;
template <>
inline constexpr DType dtype_of<half> = DType::f16;
template <>
inline constexpr DType dtype_of<bfloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::i32;

}  // namespace rwkv::inline RWKV_ABI
