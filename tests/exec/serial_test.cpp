// SPDX-License-Identifier: Apache-2.0
#include <rwkv/exec/serial.hpp>

#include <doctest/doctest.h>

#include <vector>

namespace {

struct Nothing {};
struct OnlyParallel {
  void parallel(std::size_t, void (*)(std::size_t)) {}
};
struct Adapted {
  int concurrency() { return 2; }
  template <class F>
  void parallel(std::size_t n, F&& f) {
    for (std::size_t i = n; i-- > 0;) f(i);
  }
};

}  // namespace

TEST_CASE("an executor is a type with two members") {
  static_assert(rwkv::Executor<rwkv::Serial>);
  static_assert(rwkv::Executor<const rwkv::Serial>);
  static_assert(rwkv::Executor<rwkv::Serial&>);
  static_assert(rwkv::Executor<Adapted>);
  static_assert(!rwkv::Executor<Nothing>);
  static_assert(!rwkv::Executor<OnlyParallel>);
}

TEST_CASE("Serial calls every index once, in order, also in constant expressions") {
  std::vector<std::size_t> seen;
  const rwkv::Serial serial;
  CHECK(serial.concurrency() == 1);
  serial.parallel(0, [&](std::size_t i) { seen.push_back(i); });
  CHECK(seen.empty());
  serial.parallel(4, [&](std::size_t i) { seen.push_back(i); });
  CHECK(seen == std::vector<std::size_t>{0, 1, 2, 3});
  static_assert([] {
    std::size_t sum = 0;
    rwkv::Serial{}.parallel(5, [&](std::size_t i) { sum += i; });
    return sum;
  }() == 10);
}

TEST_CASE("shares of as many items as there may be") {
  constexpr std::size_t items = ~std::size_t{0} - 7;
  CHECK(rwkv::share(items, 5, 0, 8).begin == 0);
  for (std::size_t i = 0; i < 5; ++i) {
    const rwkv::Range r = rwkv::share(items, 5, i, 8);
    CHECK(r.end == (i == 4 ? items : rwkv::share(items, 5, i + 1, 8).begin));
    CHECK(r.end - r.begin - items / 40 * 8 <= 8);
  }
}

TEST_CASE("shares are contiguous, cover everything once, and are cut at multiples of the grain") {
  for (std::size_t items = 0; items <= 100; ++items)
    for (std::size_t workers = 1; workers <= 20; ++workers)
      for (const std::size_t grain : {1u, 2u, 3u, 8u, 16u, 200u}) {
        CAPTURE(items);
        CAPTURE(workers);
        CAPTURE(grain);
        std::size_t at = 0;
        std::size_t smallest = items;
        std::size_t largest = 0;
        for (std::size_t i = 0; i < workers; ++i) {
          const rwkv::Range r = rwkv::share(items, workers, i, grain);
          REQUIRE(r.begin == at);
          REQUIRE(r.begin <= r.end);
          REQUIRE((r.end % grain == 0 || r.end == items));
          at = r.end;
          smallest = std::min(smallest, r.end - r.begin);
          largest = std::max(largest, r.end - r.begin);
        }
        REQUIRE(at == items);
        REQUIRE(largest - smallest <= grain);
      }
}
