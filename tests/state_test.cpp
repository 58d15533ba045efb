// SPDX-License-Identifier: Apache-2.0
#include "support/numbers.hpp"
#include <rwkv/state.hpp>

#include <doctest/doctest.h>

#include <numeric>
#include <type_traits>

namespace {

using Static = rwkv::Shape<3, 32, 16, 56, 40, 8, 6, 3, 10>;
using Dynamic = rwkv::DynamicShape;
constexpr rwkv::Dimensions dims = Static{}.dimensions();
constexpr std::size_t layer_floats = 32 + 32 + 32 * 16;

template <class Shape>
rwkv::State<Shape> counting() {
  rwkv::State<Shape> s{Shape(dims)};
  std::iota(s.values().begin(), s.values().end(), 1.0f);
  return s;
}

}  // namespace

TEST_CASE_TEMPLATE("a new state is the beginning of a text: zeros", Shape, Static, Dynamic) {
  const rwkv::State<Shape> s{Shape(dims)};
  CHECK(s.shape() == Shape(dims));
  CHECK(s.values().size() == 3 * layer_floats);
  CHECK(s.bytes() == 3 * layer_floats * sizeof(float));
  for (const float f : s.values()) CHECK(test::bits(f) == 0);
}

TEST_CASE_TEMPLATE("rows and matrices of all layers tile the values", Shape, Static, Dynamic) {
  rwkv::State<Shape> s{Shape(dims)};
  const auto& constant = s;
  std::vector<int> covered(s.values().size());
  for (std::size_t layer = 0; layer < dims.layers; ++layer) {
    CHECK(s.att_x_prev(layer).size() == dims.embed);
    CHECK(s.ffn_x_prev(layer).size() == dims.embed);
    CHECK(s.wkv(layer).size() == dims.embed * dims.head_size);
    for (const std::span<float> part : {s.att_x_prev(layer), s.ffn_x_prev(layer), s.wkv(layer)})
      for (float& f : part) ++covered[static_cast<std::size_t>(&f - s.values().data())];
    CHECK(constant.att_x_prev(layer).data() == s.att_x_prev(layer).data());
    CHECK(constant.ffn_x_prev(layer).data() == s.ffn_x_prev(layer).data());
    CHECK(constant.wkv(layer).data() == s.wkv(layer).data());
    CHECK(constant.wkv(layer).size() == s.wkv(layer).size());
  }
  CHECK(covered == std::vector<int>(covered.size(), 1));
}

TEST_CASE_TEMPLATE("a state is a regular value", Shape, Static, Dynamic) {
  const auto original = counting<Shape>();
  rwkv::State fork(original);
  static_assert(std::is_same_v<decltype(fork), rwkv::State<Shape>>);
  CHECK(fork == original);

  fork.wkv(2)[5] = -1.0f;
  CHECK(fork != original);
  CHECK(test::same_bits(original.values(), counting<Shape>().values()));

  fork = original;  // rewind
  CHECK(fork == original);
  const auto& self = fork;
  fork = self;
  CHECK(fork == original);

  rwkv::State<Shape> zero{Shape(dims)};
  std::swap(fork, zero);
  CHECK(zero == original);
  CHECK(fork == rwkv::State<Shape>{Shape(dims)});
  const rwkv::State<Shape> moved(std::move(zero));
  CHECK(moved == original);

  fork = original;
  fork.reset();
  CHECK(fork == rwkv::State<Shape>{Shape(dims)});
}

TEST_CASE("states are compared by their bits") {
  rwkv::State<Static> a;
  rwkv::State<Static> b;
  a.att_x_prev(0)[0] = 0.0f;
  b.att_x_prev(0)[0] = -0.0f;
  CHECK(a != b);
  a.att_x_prev(0)[0] = b.att_x_prev(0)[0] = test::canary;
  CHECK(a == b);
}

TEST_CASE("states of different shapes differ, and assignment takes the other's shape") {
  rwkv::Dimensions larger = dims;
  larger.layers = 4;
  rwkv::State a{Dynamic(dims)};
  const rwkv::State b{Dynamic(larger)};
  CHECK(a != b);
  CHECK(b != a);
  a = b;
  CHECK(a == b);
  CHECK(a.shape().layers() == 4);
}

TEST_CASE("a state whose numbers were moved away equals no other state") {
  rwkv::State a{Dynamic(dims)};
  const rwkv::State b(std::move(a));
  CHECK(a != b);
  CHECK(b != a);
  a = b;
  CHECK(a == b);
}

TEST_CASE("the state of a static shape is a plain object") {
  static_assert(sizeof(rwkv::State<Static>) == 3 * layer_floats * sizeof(float));
  static_assert(alignof(rwkv::State<Static>) == rwkv::alignment);
  static_assert(std::is_trivially_copyable_v<rwkv::State<Static>>);
  static_assert(std::is_nothrow_default_constructible_v<rwkv::State<Static>>);
  static_assert(!std::is_default_constructible_v<rwkv::State<Dynamic>>);
  constexpr rwkv::State<Static> constant;
  static_assert(constant.bytes() == 3 * layer_floats * sizeof(float));
  static_assert(constant.shape() == Static{});
  CHECK(constant == rwkv::State<Static>{});
}
