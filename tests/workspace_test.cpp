// SPDX-License-Identifier: Apache-2.0
#include <rwkv/workspace.hpp>

#include <doctest/doctest.h>

#include <type_traits>
#include <vector>

namespace {

using rwkv::dynamic;
using rwkv::Workspace;
using Static = rwkv::Shape<3, 36, 12, 100, 45, 8, 6, 3, 10>;
using WideRanks = rwkv::Shape<3, 36, 12, 20, 45, 8, 6, 3, 10>;
using Dynamic = rwkv::DynamicShape;

constexpr std::size_t line = rwkv::alignment / sizeof(float);

/// Writes every element that a pass may write, each once, and reads all of them again.
template <class Work>
void use(Work& work, std::size_t hidden_width) {
  const std::size_t channels = work.shape().embed();
  float number = 0;
  const auto each = [&](auto&& visit) {
    for (std::size_t m = 0; m < work.rows(); ++m) {
      for (std::size_t name = Work::x; name <= Work::v_first; ++name)
        for (std::size_t i = 0; i < channels; ++i)
          visit(work.row(static_cast<typename Work::Name>(name), m)[i]);
      for (std::size_t i = 0; i < hidden_width; ++i)
        visit(work.hidden()[m * work.hidden_stride() + i]);
    }
    for (float& logit : work.logits()) visit(logit);
  };
  each([&](float& f) { f = ++number; });
  number = 0;
  bool kept = true;
  each([&](float& f) { kept = kept && f == ++number; });
  CHECK(kept);
  for (std::size_t m = 0; m < work.rows(); ++m) {
    work.segments()[m] = {nullptr, nullptr, m, 1};
    work.previous()[m] = work.row(Work::normed, m);
  }
  CHECK(work.segments()[work.rows() - 1].first_row == work.rows() - 1);
  CHECK(work.previous()[0] == work.row(Work::normed, 0));
}

bool on_cache_line(const float* p) {
  return reinterpret_cast<std::uintptr_t>(p) % rwkv::alignment == 0;
}

}  // namespace

TEST_CASE("every activation has its own place") {
  for (const std::size_t rows : {1u, 2u, 7u, 64u}) {
    CAPTURE(rows);
    Workspace work(Dynamic(Static{}.dimensions()), rows);
    CHECK(work.rows() == rows);
    CHECK(work.logits().size() == 45);
    use(work, 100);
  }
  Workspace<Static, 5> fixed;
  CHECK(fixed.rows() == 5);
  use(fixed, 100);
  Workspace<Static> heap(Static{}, 3);
  CHECK(heap.rows() == 3);
  use(heap, 100);
  Workspace<Dynamic, 2> mixed{Dynamic(Static{}.dimensions())};
  CHECK(mixed.rows() == 2);
  use(mixed, 100);
}

TEST_CASE("low ranks wider than the channel mix have room side by side") {
  Workspace<WideRanks, 4> work;
  use(work, 8 + 6 + 3 + 10);
}

TEST_CASE("rows start on cache lines and not all in the same cache sets") {
  Workspace work(Dynamic(Static{}.dimensions()), 8);
  for (std::size_t m = 0; m < work.rows(); ++m) {
    CHECK(on_cache_line(work.row(Workspace<>::v_first, m)));
    CHECK(on_cache_line(work.hidden() + m * work.hidden_stride()));
  }
  for (const std::size_t embed : {512u, 1024u, 4096u}) {
    rwkv::Dimensions d = Static{}.dimensions();
    d.embed = embed;
    d.head_size = 64;
    const Workspace powers(Dynamic(d), 2);
    CHECK(powers.stride() == embed + line);
  }
}

TEST_CASE("without a number there are rows for a prompt; no rows means one") {
  CHECK(Workspace(Dynamic(Static{}.dimensions())).rows() == 128);
  CHECK(Workspace(Dynamic(Static{}.dimensions()), 0).rows() == 1);
}

TEST_CASE("bytes() is the memory that was allocated") {
  const Workspace work(Dynamic(Static{}.dimensions()), 1);
  // One row of 12 activations of 36 (48 with padding), hidden of 100 (112), 45 logits; and three
  // quantised inputs of 36 (two tiles of 32 codes, a step and two sums).
  CHECK(work.bytes() == (12 * 48 + 112 + 45) * sizeof(float) + 3 * 128 +
                            sizeof(rwkv::detail::Segment<Dynamic>) + sizeof(float*));
}

TEST_CASE("a number of rows that no memory can hold is refused") {
  const Dynamic shape(Static{}.dimensions());
  CHECK_THROWS_AS(Workspace(shape, dynamic / 2), std::bad_alloc);
  // With so many rows the number of floats overflows to exactly nothing.
  CHECK_THROWS_AS(Workspace(shape, ~(dynamic >> 4)), std::bad_alloc);
  // And with these to few.
  CHECK_THROWS_AS(Workspace(shape, dynamic / (12 * 64 + 128) + 1), std::bad_alloc);
}

TEST_CASE("a static workspace is a plain object that sizeof measures") {
  using One = Workspace<Static, 1>;
  static_assert(std::is_trivially_copyable_v<One>);
  static_assert(std::is_default_constructible_v<One>);
  static_assert(!std::is_default_constructible_v<Workspace<Static>>);
  static_assert(!std::is_default_constructible_v<Workspace<Dynamic, 1>>);
  static_assert(sizeof(One) <=
                (12 * 48 + 112 + 48) * sizeof(float) + 3 * 128 + 4 * rwkv::alignment);
  One work;
  CHECK(work.bytes() <= sizeof work);
}
