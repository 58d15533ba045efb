// SPDX-License-Identifier: Apache-2.0
#include <rwkv/core/decimal.hpp>
#include <rwkv/core/error.hpp>

#include <doctest/doctest.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <random>
#include <string>

using rwkv::Error;
using rwkv::ErrorCategory;

namespace {

template <class F>
std::pair<ErrorCategory, std::string> caught(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return {e.category(), e.what()};
  }
  FAIL("nothing was thrown");
  return {};
}

}  // namespace

TEST_CASE("a failure carries its category and its sentence") {
  const auto [category, sentence] =
      caught([] { rwkv::fail(ErrorCategory::io, "model.pth: no such file"); });
  CHECK(category == ErrorCategory::io);
  CHECK(sentence == "model.pth: no such file");
}

TEST_CASE("the sentence is put together from strings, characters and numbers") {
  const std::string name = "emb.weight";
  const auto [category, sentence] = caught([&] {
    rwkv::fail_with(ErrorCategory::shape, "tensor ", name, " has ", std::size_t{3}, ' ', "rows, ",
                    -1, " or ", std::uint64_t{18446744073709551615u}, " were expected");
  });
  CHECK(category == ErrorCategory::shape);
  CHECK(sentence == "tensor emb.weight has 3 rows, -1 or 18446744073709551615 were expected");
}

TEST_CASE("an error is a runtime_error and survives a copy") {
  const Error error(ErrorCategory::numeric, "not a number");
  const Error copy = error;
  CHECK(copy.category() == ErrorCategory::numeric);
  CHECK_THROWS_WITH_AS(throw copy, "not a number", std::runtime_error);
}

TEST_CASE("decimal numbers without the standard library's tables") {
  using rwkv::internal::append_decimal;
  using rwkv::internal::read_decimal;
  const auto text = [](double value, bool single) {
    std::string out;
    append_decimal(out, value, single);
    return out;
  };
  CHECK(text(1e-5f, true) == "1e-05");
  CHECK(text(0.1f, true) == "0.1");
  CHECK(text(99.5, false) == "99.5");
  CHECK(text(0.000644, false) == "0.000644");
  CHECK(text(1e22, false) == "1e+22");
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) {
    const float f = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!std::isfinite(f) || f == 0) continue;
    const auto read = read_decimal(text(f, true));
    REQUIRE(read);
    REQUIRE(static_cast<float>(*read) == f);
    char shortest[32];
    const auto end = std::to_chars(shortest, shortest + sizeof shortest, f).ptr;
    REQUIRE(static_cast<float>(read_decimal({shortest, end}).value_or(0)) == f);
  }
  for (const char* wrong : {"", "-", "+1", ".", "1e", "1e+", " 1", "1 ", "1x", "0x1", "inf", "nan",
                            "1e400", "--1", "1.2.3"}) {
    CAPTURE(wrong);
    CHECK_FALSE(read_decimal(wrong));
  }
  CHECK(read_decimal("1e-400") == 0.0);
  CHECK(read_decimal("-12.5e1") == -125.0);
}
