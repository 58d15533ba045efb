// SPDX-License-Identifier: Apache-2.0
#include "support/numbers.hpp"
#include <rwkv/simd/sixteen.hpp>

#include <doctest/doctest.h>

#include <vector>

using rwkv::simd::Sixteen;

namespace {

template <class T, std::size_t n>
void check_transposed() {
  CAPTURE(sizeof(T));
  CAPTURE(n);
  constexpr std::size_t in_row = 16 / sizeof(T);
  test::Random random(n);
  std::vector<T> numbers(n * in_row);  // row by row
  for (T& number : numbers) number = static_cast<T>(random.word());
  Sixteen rows[n];
  for (std::size_t r = 0; r < n; ++r) rows[r] = Sixteen::load(numbers.data() + r * in_row);
  rwkv::simd::transpose<T>(rows);
  std::vector<T> columns(numbers.size());
  for (std::size_t r = 0; r < n; ++r) rows[r].store(columns.data() + r * in_row);
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t c = 0; c < in_row; ++c) CHECK(columns[c * n + r] == numbers[r * in_row + c]);
}

}  // namespace

TEST_CASE("sixteen bytes are worked on one by one") {
  test::Random random(1);
  std::uint8_t a[16], b[16], r[16];
  for (std::size_t i = 0; i < 16; ++i) {
    a[i] = static_cast<std::uint8_t>(random.word());
    b[i] = static_cast<std::uint8_t>(random.word());
  }
  const Sixteen x = Sixteen::load(a), y = Sixteen::load(b);
  const auto check = [&](Sixteen result, auto expected) {
    result.store(r);
    for (std::size_t i = 0; i < 16; ++i) CHECK(r[i] == expected(i));
  };
  check(x & y, [&](std::size_t i) { return a[i] & b[i]; });
  check(x | y, [&](std::size_t i) { return a[i] | b[i]; });
  check((x & Sixteen(0x7f)) + (y & Sixteen(0x7f)),
        [&](std::size_t i) { return (a[i] & 0x7f) + (b[i] & 0x7f); });
  for (unsigned n = 0; n < 8; ++n) {
    const auto mask = static_cast<std::uint8_t>(0xff >> n);
    check(x >> n & Sixteen(mask), [&](std::size_t i) { return a[i] >> n; });
    check((x & Sixteen(mask)) << n, [&](std::size_t i) { return (a[i] & mask) << n; });
  }
  check(Sixteen(3, 200), [](std::size_t i) { return i < 8 ? 3 : 200; });
}

TEST_CASE("rows become columns") {
  check_transposed<std::uint8_t, 2>();
  check_transposed<std::uint8_t, 4>();
  check_transposed<std::uint8_t, 16>();
  check_transposed<std::uint16_t, 4>();
  check_transposed<std::uint16_t, 8>();
  check_transposed<std::uint32_t, 4>();
  check_transposed<std::uint64_t, 2>();
}
