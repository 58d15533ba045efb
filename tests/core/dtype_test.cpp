// SPDX-License-Identifier: Apache-2.0
#include <rwkv/core/dtype.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>

using rwkv::DType;
using rwkv::dtype_of;

namespace {

constexpr DType plain[] = {DType::f64, DType::f32, DType::f16,     DType::bf16,    DType::i64,
                           DType::i32, DType::u8,  DType::i16,     DType::i8,      DType::u64,
                           DType::u32, DType::u16, DType::boolean, DType::f8_e4m3, DType::f8_e5m2};

constexpr DType blocks[] = {DType::q4_0, DType::q4_1, DType::q5_0,  DType::q5_1,
                            DType::q8_0, DType::q2_k, DType::q3_k,  DType::q4_k,
                            DType::q5_k, DType::q6_k, DType::iq4_nl};

template <class T>
constexpr bool describes = rwkv::size_of(dtype_of<T>) == sizeof(T);

}  // namespace

TEST_CASE("every type has its size and its own name") {
  static_assert(describes<double> && describes<float> && describes<rwkv::half> &&
                describes<rwkv::bfloat16> && describes<std::int64_t> && describes<std::int32_t> &&
                describes<std::uint8_t>);
  std::set<std::string> names;
  for (const DType type : plain) {
    CHECK(rwkv::size_of(type) > 0);
    CHECK(!rwkv::is_block(type));
    CHECK(rwkv::block_elements(type) == 1);
    CHECK(rwkv::block_bytes(type) == rwkv::size_of(type));
    CHECK(rwkv::bytes_of(type, 7) == 7 * rwkv::size_of(type));
    names.emplace(rwkv::name_of(type));
  }
  CHECK(names == std::set<std::string>{"f64", "f32", "f16", "bf16", "i64", "i32", "u8", "i16", "i8",
                                       "u64", "u32", "u16", "boolean", "f8_e4m3", "f8_e5m2"});
}

TEST_CASE("block types have sizes of blocks, not of elements") {
  std::set<std::string> names;
  for (const DType type : blocks) {
    CAPTURE(rwkv::name_of(type));
    CHECK(rwkv::is_block(type));
    CHECK(!rwkv::is_float(type));
    CHECK(rwkv::size_of(type) == 0);
    const std::size_t n = rwkv::block_elements(type);
    const std::size_t bytes = rwkv::block_bytes(type);
    CHECK((n == 32 || n == 256));
    CHECK(bytes * 8 > 2 * n);
    CHECK(bytes * 8 < 9 * n);
    CHECK(rwkv::bytes_of(type, 0) == 0);
    CHECK(rwkv::bytes_of(type, 1) == bytes);
    CHECK(rwkv::bytes_of(type, n) == bytes);
    CHECK(rwkv::bytes_of(type, n + 1) == 2 * bytes);
    names.emplace(rwkv::name_of(type));
  }
  CHECK(names == std::set<std::string>{"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k",
                                       "q4_k", "q5_k", "q6_k", "iq4_nl"});
  static_assert(rwkv::block_bytes(DType::q4_0) == 18 && rwkv::block_bytes(DType::q6_k) == 210);
}

TEST_CASE("C++ types and element types correspond") {
  static_assert(dtype_of<double> == DType::f64);
  static_assert(dtype_of<float> == DType::f32);
  static_assert(dtype_of<rwkv::half> == DType::f16);
  static_assert(dtype_of<rwkv::bfloat16> == DType::bf16);
  static_assert(dtype_of<std::int64_t> == DType::i64);
  static_assert(dtype_of<std::int32_t> == DType::i32);
  static_assert(dtype_of<std::uint8_t> == DType::u8);
}

TEST_CASE("floating-point types are those a weight can have") {
  for (const DType type : plain) {
    const bool weight =
        type == DType::f64 || type == DType::f32 || type == DType::f16 || type == DType::bf16;
    CHECK(rwkv::is_float(type) == weight);
    CHECK(rwkv::is_float8(type) == (type == DType::f8_e4m3 || type == DType::f8_e5m2));
  }
}
