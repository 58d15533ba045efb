// SPDX-License-Identifier: Apache-2.0
#include <rwkv/core/dtype.hpp>

#include <doctest/doctest.h>

#include <set>
#include <string>

using rwkv::DType;
using rwkv::dtype_of;

namespace {

constexpr DType all[] = {DType::f64, DType::f32, DType::f16, DType::bf16,
                         DType::i64, DType::i32, DType::u8};

template <class T>
constexpr bool describes = rwkv::size_of(dtype_of<T>) == sizeof(T);

}  // namespace

TEST_CASE("every type has its size and its own name") {
  static_assert(describes<double> && describes<float> && describes<rwkv::half> &&
                describes<rwkv::bfloat16> && describes<std::int64_t> && describes<std::int32_t> &&
                describes<std::uint8_t>);
  std::set<std::string> names;
  for (const DType type : all) {
    CHECK(rwkv::size_of(type) > 0);
    names.emplace(rwkv::name_of(type));
  }
  CHECK(names == std::set<std::string>{"f64", "f32", "f16", "bf16", "i64", "i32", "u8"});
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
  for (const DType type : all) {
    const bool integer = type == DType::i64 || type == DType::i32 || type == DType::u8;
    CHECK(rwkv::is_float(type) != integer);
  }
}
