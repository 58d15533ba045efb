// SPDX-License-Identifier: Apache-2.0
// A model whose dimensions are constants computes what the dynamic one computes, bit for bit, with
// vectors and without.
#include "support/numbers.hpp"
#include "support/static_cases.hpp"
#include "support/static_weights.hpp"
#include <rwkv/simd/level.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/static_model.hpp>

#include <doctest/doctest.h>

#include <string>
#include <type_traits>
#include <vector>

namespace {

using test::same_bits;

/// Logits after each of some pieces of the text, and the state at the end.
struct Run {
  std::vector<float> logits;
  std::vector<float> state;
};

template <class Model, class State, class Work>
Run run(const Model& model, State state, Work& work, std::span<const rwkv::Token> tokens) {
  Run result;
  for (std::size_t piece = 1; !tokens.empty(); ++piece) {
    const std::size_t n = std::min(piece, tokens.size());
    const auto logits = model.forward(state, tokens.first(n), work);
    result.logits.insert(result.logits.end(), logits.begin(), logits.end());
    tokens = tokens.subspan(n);
  }
  result.state.assign(state.values().begin(), state.values().end());
  return result;
}

template <class Case>
Run run_dynamic() {
  const rwkv::Model<> model(test::checkpoint_of<Case>());
  rwkv::Workspace work(model.shape());
  return run(model, rwkv::State(model.shape()), work, test::tokens_of<Case>());
}

void check_same(const Run& got, const Run& want) {
  CHECK(same_bits(got.logits, want.logits));
  CHECK(same_bits(got.state, want.state));
}

}  // namespace

TEST_CASE_TEMPLATE("StaticModel gives the bits of Model", Case, test::F32, test::ExtendedF16,
                   test::Bf16) {
  using Shape = typename Case::Shape;
  const rwkv::io::StoredWeights stored(test::checkpoint_of<Case>());
  REQUIRE(stored.dimensions() == Shape{}.dimensions());
  const auto weights = test::static_weights<Shape, typename Case::Element>(stored);
  using Weights = std::remove_reference_t<decltype(*weights)>;
  const auto tokens = test::tokens_of<Case>();
  const Run want = run_dynamic<Case>();

  const rwkv::StaticModel<Weights, rwkv::simd::Chosen> chosen(*weights);
  rwkv::Workspace<Shape, 5> five;
  check_same(run(chosen, rwkv::State<Shape>{}, five, tokens), want);

  // Lanes named by type do not follow the processor, which may round fewer times than they do.
  const rwkv::StaticModel scalar(*weights);
  const rwkv::StaticModel<Weights, rwkv::simd::Native> vectors(*weights);
  rwkv::Workspace<Shape, 1> one;
  const Run by_scalars = run(scalar, rwkv::State<Shape>{}, one, tokens);
  check_same(run(vectors, rwkv::State<Shape>{}, five, tokens), by_scalars);
  if (rwkv::simd::level() == rwkv::simd::Level::compiled) {
    check_same(by_scalars, want);
  } else {
    for (std::size_t i = 0; i < want.logits.size(); ++i)
      CHECK(by_scalars.logits[i] == doctest::Approx(want.logits[i]).epsilon(1e-4).scale(1.0));
  }
}

TEST_CASE("Model with constant dimensions gives the bits of Model without") {
  using Shape = test::Bf16::Shape;
  const rwkv::Model<Shape> model(test::checkpoint_of<test::Bf16>());
  static_assert(std::is_same_v<decltype(model.shape()), const Shape&>);
  rwkv::Workspace<Shape, 4> work;
  check_same(run(model, rwkv::State<Shape>{}, work, test::tokens_of<test::Bf16>()),
             run_dynamic<test::Bf16>());
}

TEST_CASE("Model with constant dimensions refuses a model of others") {
  const auto checkpoint = test::checkpoint_of<test::F32>();
  const auto refused = [&]<class Shape>(Shape) {
    try {
      const rwkv::Model<Shape> model(checkpoint);
    } catch (const rwkv::Error& e) {
      CHECK(e.category() == rwkv::ErrorCategory::shape);
      const std::string sentence = e.what();
      CHECK(sentence.find(checkpoint.source) != std::string::npos);
      CHECK(sentence.find("head size 16") != std::string::npos);
      return true;
    }
    return false;
  };
  using rwkv::dynamic;
  CHECK_FALSE(refused(test::F32::Shape{}));
  CHECK(refused(rwkv::Shape<3, 32, 16, 56, 40, 8, 6, 3, 10>{}));
  CHECK(refused(rwkv::Shape<2, 64, 16, 56, 40, 8, 6, 3, 10>{}));
  CHECK(refused(rwkv::Shape<2, 32, 8, 56, 40, 8, 6, 3, 10>{}));
  CHECK(refused(rwkv::Shape<2, 32, 16, 57, 40, 8, 6, 3, 10>{}));
  CHECK(refused(rwkv::Shape<2, 32, 16, 56, 41, 8, 6, 3, 10>{}));
  CHECK(refused(rwkv::Shape<2, 32, 16, 56, 40, 9, 6, 3, 10>{}));
  CHECK(refused(rwkv::Shape<2, 32, 16, 56, 40, 8, 7, 3, 10>{}));
  CHECK(refused(rwkv::Shape<2, 32, 16, 56, 40, 8, 6, 4, 10>{}));
  CHECK(refused(rwkv::Shape<2, 32, 16, 56, 40, 8, 6, 3, 11>{}));
  CHECK_FALSE(refused(rwkv::Shape<dynamic, 32, 16, dynamic, dynamic, 8, 6, 3, 10>{}));
  CHECK(refused(rwkv::Shape<dynamic, 32, 16, dynamic, dynamic, 8, 6, 3, 11>{}));
}

TEST_CASE("a static model is one pointer and promises not to throw") {
  using Weights = rwkv::StaticWeights<test::F32::Shape, float>;
  using Model = rwkv::StaticModel<Weights>;
  using State = rwkv::State<test::F32::Shape>;
  using Work = rwkv::Workspace<test::F32::Shape, 1>;
  static_assert(sizeof(Model) == sizeof(void*));
  static_assert(std::is_trivially_copyable_v<Model>);
  static_assert(std::is_aggregate_v<Weights>);
  static_assert(noexcept(std::declval<const Model&>().forward(
      std::declval<State&>(), std::declval<std::span<const rwkv::Token>>(),
      std::declval<Work&>())));
  static_assert(Model::shape() == test::F32::Shape{});
}

TEST_CASE("a model of one block has no value residual") {
  auto checkpoint = test::checkpoint_of<test::F32>();
  std::erase_if(checkpoint.tensors,
                [](const auto& item) { return item.first.starts_with("blocks.1."); });
  using Shape = rwkv::Shape<1, 32, 16, 56, 40, 8, 6, 0, 10>;
  const rwkv::Model<> model(checkpoint);
  CHECK(model.shape().dimensions() == Shape{}.dimensions());
  const auto weights = test::static_weights<Shape, float>(model.weights());
  using Weights = std::remove_reference_t<decltype(*weights)>;
  const rwkv::StaticModel<Weights, rwkv::simd::Chosen> constant(*weights);
  const auto tokens = test::tokens_of<test::F32>();
  rwkv::Workspace work(model.shape());
  rwkv::Workspace<Shape, 2> two;
  check_same(run(constant, rwkv::State<Shape>{}, two, tokens),
             run(model, rwkv::State(model.shape()), work, tokens));
}
