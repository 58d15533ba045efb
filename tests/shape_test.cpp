// SPDX-License-Identifier: Apache-2.0
#include <rwkv/shape.hpp>

#include <doctest/doctest.h>

#include <type_traits>

namespace {

using rwkv::Dimensions;
using rwkv::dynamic;
using rwkv::DynamicShape;
using Tiny = rwkv::Shape<2, 32, 16, 56, 40, 8, 6, 3, 10>;
using Mixed = rwkv::Shape<dynamic, 32, 16, dynamic, 40, 8, 6, 3, 10>;

constexpr Dimensions tiny{.layers = 2,
                          .embed = 32,
                          .head_size = 16,
                          .ffn = 56,
                          .vocab = 40,
                          .decay_rank = 8,
                          .icl_rank = 6,
                          .value_rank = 3,
                          .gate_rank = 10};

// Each dimension by itself changed to another value that keeps head_size a divisor of embed.
constexpr Dimensions others[] = {{3, 32, 16, 56, 40, 8, 6, 3, 10}, {2, 48, 16, 56, 40, 8, 6, 3, 10},
                                 {2, 32, 8, 56, 40, 8, 6, 3, 10},  {2, 32, 16, 57, 40, 8, 6, 3, 10},
                                 {2, 32, 16, 56, 41, 8, 6, 3, 10}, {2, 32, 16, 56, 40, 9, 6, 3, 10},
                                 {2, 32, 16, 56, 40, 8, 7, 3, 10}, {2, 32, 16, 56, 40, 8, 6, 4, 10},
                                 {2, 32, 16, 56, 40, 8, 6, 3, 11}};

template <class Shape>
constexpr bool reports(const Shape& s, const Dimensions& d) {
  return s.layers() == d.layers && s.embed() == d.embed && s.head_size() == d.head_size &&
         s.heads() == d.embed / d.head_size && s.ffn() == d.ffn && s.vocab() == d.vocab &&
         s.decay_rank() == d.decay_rank && s.icl_rank() == d.icl_rank &&
         s.value_rank() == d.value_rank && s.gate_rank() == d.gate_rank && s.dimensions() == d;
}

}  // namespace

TEST_CASE_TEMPLATE("a shape reports the numbers it was made of", S, Tiny, Mixed, DynamicShape) {
  static_assert(reports(S(tiny), tiny));
  static_assert(S(tiny) == S(tiny));
  static_assert(std::is_trivially_copyable_v<S>);
  S shape(tiny);
  const S copy = shape;
  shape = copy;
  CHECK(reports(shape, tiny));
}

TEST_CASE("a static shape occupies no memory and needs no numbers") {
  static_assert(Tiny::is_static && !Mixed::is_static && !DynamicShape::is_static);
  static_assert(std::is_empty_v<Tiny>);
  static_assert(reports(Tiny{}, tiny));
  static_assert(sizeof(Mixed) == 2 * sizeof(std::size_t));
  static_assert(sizeof(DynamicShape) == 10 * sizeof(std::size_t));
  struct Holder {
    [[no_unique_address]] Tiny shape;
    int number;
  };
  static_assert(sizeof(Holder) == sizeof(int));
}

TEST_CASE("a shape accepts the dimensions it can represent") {
  static_assert(Tiny::accepts(tiny) && Mixed::accepts(tiny) && DynamicShape::accepts(tiny));
  for (const Dimensions& other : others) {
    CAPTURE(&other - others);
    CHECK_FALSE(Tiny::accepts(other));
    CHECK(DynamicShape::accepts(other));
    CHECK(Mixed::accepts(other) == (other.layers != tiny.layers || other.ffn != tiny.ffn));
  }
}

TEST_CASE("shapes are equal when every dimension is") {
  for (const Dimensions& other : others) {
    CAPTURE(&other - others);
    CHECK(DynamicShape(other) == DynamicShape(other));
    CHECK(DynamicShape(other) != DynamicShape(tiny));
  }
}
