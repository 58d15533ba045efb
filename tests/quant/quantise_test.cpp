// SPDX-License-Identifier: Apache-2.0
#include "../support/executors.hpp"
#include "../support/sanitizers.hpp"
#include "support.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/quant/quantise.hpp>

#include <doctest/doctest.h>

#include <limits>

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::quant::quantise;
using rwkv::quant::QuantiseOptions;

namespace {

template <class F>
ErrorCategory category_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.category();
  }
  return ErrorCategory::io;  // nothing here fails this way
}

}  // namespace

TEST_CASE("a matrix becomes its rows, one after the other") {
  const auto x = test::numbers(5 * 512, true);
  for (const DType type : test::block_types) {
    const auto blocks = quantise(x, 5, 512, type);
    CHECK(blocks == test::encoded(type, x));
    CHECK(blocks.size() == 5 * rwkv::bytes_of(type, 512));
  }
}

TEST_CASE("no thread count and no order of work changes a bit") {
  // More than one slice for few workers, less than one for many; rows that no cut respects.
  const std::size_t rows = 300;
  const std::size_t cols = 1056;
  const auto x = test::numbers(rows * cols, false);
  std::vector<float> importance(cols);
  test::Random random(1);
  test::fill(importance, random, 0, 1);
  const QuantiseOptions options{.importance = importance};
  const auto expected = quantise(x, rows, cols, DType::q4_0, options);
  for (const std::size_t threads : {2u, 3u, 5u}) {
    rwkv::ThreadPool pool({.threads = threads, .oversubscribe = true});
    CHECK(quantise(x, rows, cols, DType::q4_0, options, pool) == expected);
  }
  for (const std::size_t concurrency : {2u, 64u}) {
    test::Backwards executor(concurrency);
    CHECK(quantise(x, rows, cols, DType::q4_0, options, executor) == expected);
    CHECK(executor.largest() <= concurrency);
  }
}

TEST_CASE("importance belongs to columns") {
  const auto x = test::numbers(2 * 512, false);
  std::vector<float> importance(512);
  test::Random random(2);
  test::fill(importance, random, 0, 1);
  const auto blocks = quantise(x, 2, 512, DType::q4_k, {.importance = importance});
  for (std::size_t row = 0; row < 2; ++row) {
    const std::vector<float> alone(x.begin() + static_cast<std::ptrdiff_t>(row * 512),
                                   x.begin() + static_cast<std::ptrdiff_t>(row * 512 + 512));
    const auto expected = test::encoded(DType::q4_k, alone, importance.data());
    CHECK(std::equal(expected.begin(), expected.end(),
                     blocks.begin() + static_cast<std::ptrdiff_t>(row * expected.size())));
  }
}

TEST_CASE("progress rises to 1") {
  const auto x = test::numbers(400 * 1024, false);
  std::vector<double> seen;
  const auto blocks =
      quantise(x, 400, 1024, DType::q8_0, {.progress = [&](double done) { seen.push_back(done); }});
  CHECK(seen.size() >= 3);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.front() > 0);
  CHECK(seen.back() == 1);
}

TEST_CASE("an empty matrix is an empty result") {
  CHECK(quantise({}, 0, 256, DType::q6_k).empty());
  CHECK(quantise({}, 7, 0, DType::q6_k).empty());
}

TEST_CASE("numbers that no block can hold are refused, with their place") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  rwkv::ThreadPool pool(3);
  test::Thinned numbers(3);
  for (const float bad : {inf, -inf, std::numeric_limits<float>::quiet_NaN(), 65600.0f}) {
    if (numbers.leaves_out()) continue;
    auto x = test::numbers(600 * 1024, false);
    x[500 * 1024 + 77] = bad;
    x[500 * 1024 + 300] = bad;
    CHECK_THROWS_WITH_AS((void)quantise(x, 600, 1024, DType::q5_1, {}, pool),
                         doctest::Contains("the number at row 500, column 77 is "), Error);
    CHECK(category_of([&] { (void)quantise(x, 600, 1024, DType::q5_1); }) ==
          ErrorCategory::numeric);
  }
  auto x = test::numbers(64, false);
  x[3] = -rwkv::quant::largest_value;
  CHECK_NOTHROW((void)quantise(x, 1, 64, DType::q8_0));
}

TEST_CASE("what does not fit together is refused") {
  const auto x = test::numbers(512, false);
  const auto refusal = [&](std::size_t rows, std::size_t cols, DType type,
                           const QuantiseOptions& options = {}) {
    return category_of([&] { (void)quantise(x, rows, cols, type, options); });
  };
  CHECK(refusal(2, 256, DType::f16) == ErrorCategory::argument);
  CHECK(refusal(3, 256, DType::q4_0) == ErrorCategory::shape);
  CHECK(refusal(0, 0, DType::q4_0) == ErrorCategory::shape);
  CHECK(refusal(~std::size_t{0}, 512, DType::q4_0) == ErrorCategory::shape);
  CHECK(refusal(4, 128, DType::q4_k) == ErrorCategory::shape);
  CHECK(refusal(32, 16, DType::q4_0) == ErrorCategory::shape);
  std::vector<float> importance(255, 1.0f);
  CHECK(refusal(2, 256, DType::q4_0, {.importance = importance}) == ErrorCategory::shape);
  importance.push_back(-1);
  CHECK(refusal(2, 256, DType::q4_0, {.importance = importance}) == ErrorCategory::numeric);
  importance.back() = std::numeric_limits<float>::quiet_NaN();
  CHECK(refusal(2, 256, DType::q4_0, {.importance = importance}) == ErrorCategory::numeric);
  CHECK_THROWS_WITH_AS((void)quantise(x, 4, 128, DType::q4_k),
                       "rows of 128 numbers are no whole blocks of q4_k, which have 256", Error);
}
