// SPDX-License-Identifier: Apache-2.0
#include <rwkv/core/error.hpp>

#include <doctest/doctest.h>

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
