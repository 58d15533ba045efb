// SPDX-License-Identifier: Apache-2.0
#include <rwkv/core/buffer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

namespace {

using Dynamic = rwkv::Buffer<int, rwkv::dynamic>;
using Static = rwkv::Buffer<int, 5>;

template <class Buffer>
Buffer counting(std::size_t n) {
  Buffer b(n);
  std::iota(b.data(), b.data() + n, 1);
  return b;
}

template <class Buffer>
std::vector<int> contents(const Buffer& b) {
  return {b.data(), b.data() + b.size()};
}

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % rwkv::alignment == 0; }

}  // namespace

TEST_CASE_TEMPLATE("a buffer is zero-initialised, aligned and a value", B, Static, Dynamic) {
  B zeros(5);
  REQUIRE(zeros.size() == 5);
  CHECK(aligned(zeros.data()));
  CHECK(contents(zeros) == std::vector<int>(5, 0));

  const B original = counting<B>(5);
  const std::vector<int> expected{1, 2, 3, 4, 5};
  B copy(original);
  CHECK(contents(copy) == expected);
  CHECK(aligned(copy.data()));
  copy.data()[0] = 99;
  CHECK(contents(original) == expected);

  zeros = original;
  CHECK(contents(zeros) == expected);
  B& self = zeros;
  zeros = self;
  CHECK(contents(zeros) == expected);

  const B moved(std::move(zeros));
  CHECK(contents(moved) == expected);
  B target(5);
  target = std::move(copy);
  CHECK(contents(target) == std::vector<int>{99, 2, 3, 4, 5});
  B& same = target;
  target = std::move(same);
  CHECK(contents(target) == std::vector<int>{99, 2, 3, 4, 5});
  std::swap(target, copy);
  CHECK(contents(copy) == std::vector<int>{99, 2, 3, 4, 5});
}

TEST_CASE("a static buffer is its elements and nothing else") {
  static_assert(sizeof(rwkv::Buffer<float, 16>) == 64);
  static_assert(alignof(rwkv::Buffer<char, 1>) == rwkv::alignment);
  static_assert(std::is_trivially_copyable_v<Static>);
  static_assert(Static::size() == 5);
  static_assert([] {
    Static b;
    b.data()[2] = 7;
    const Static copy = b;
    return copy.data()[2] + copy.data()[0];
  }() == 7);
}

TEST_CASE("a dynamic buffer moves without touching its elements") {
  static_assert(std::is_nothrow_move_constructible_v<Dynamic> &&
                std::is_nothrow_move_assignable_v<Dynamic>);
  Dynamic a = counting<Dynamic>(1000);
  const int* const where = a.data();
  Dynamic b(std::move(a));
  CHECK(b.data() == where);
  CHECK(a.size() == 0);
  CHECK(a.data() == nullptr);
  a = std::move(b);
  CHECK(a.data() == where);
  CHECK(a.size() == 1000);
}

TEST_CASE("assignment keeps the memory when the sizes agree, and otherwise takes the other size") {
  const Dynamic eight = counting<Dynamic>(8);
  Dynamic a(8);
  const int* const where = a.data();
  a = eight;
  CHECK(a.data() == where);
  CHECK(contents(a) == contents(eight));
  const Dynamic three = counting<Dynamic>(3);
  a = three;
  CHECK(contents(a) == std::vector<int>{1, 2, 3});
  a = eight;
  CHECK(contents(a) == contents(eight));
}

TEST_CASE("an empty buffer has no memory and can be copied, moved and assigned") {
  const Dynamic none;
  CHECK(none.size() == 0);
  CHECK(none.data() == nullptr);
  const Dynamic zero(0);
  CHECK(zero.data() == nullptr);
  Dynamic copy(none);
  copy = zero;
  CHECK(copy.size() == 0);
  Dynamic full = counting<Dynamic>(4);
  full = none;
  CHECK(full.size() == 0);
  full = counting<Dynamic>(2);
  CHECK(contents(full) == std::vector<int>{1, 2});
}

TEST_CASE("a size that no memory can hold is refused, also when its bytes overflow") {
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const std::size_t n : {most, most / 2, most / sizeof(int) + 2})
    CHECK_THROWS_AS(Dynamic{n}, std::bad_alloc);
  using rwkv::product_or_most;
  static_assert(product_or_most(6, 7) == 42);
  static_assert(product_or_most(most, 0) == 0);
  static_assert(product_or_most(most / 5, 5) == most);
  CHECK_THROWS_AS(Dynamic{product_or_most(most / 5 + 1, 5)}, std::bad_alloc);
}
