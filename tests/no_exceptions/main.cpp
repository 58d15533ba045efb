// SPDX-License-Identifier: Apache-2.0
// Without exceptions and RTTI all headers compile, a dynamic and a static model run, and agree;
// what would have been thrown goes to rwkv::error_handler, which this program ends in.
#include "all_headers.hpp"
#include "support/numbers.hpp"
#include "support/static_cases.hpp"
#include "support/static_weights.hpp"
#include <rwkv/model.hpp>
#include <rwkv/static_model.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <vector>

namespace {

using Shape = test::F32::Shape;
static_assert(!RWKV_HAS_EXCEPTIONS);

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("not true: %s\n", what);
  std::exit(1);
}

void handler(rwkv::ErrorCategory category, const char* sentence) {
  std::printf("%s\n", sentence);
  expect(category == rwkv::ErrorCategory::argument, "the category is argument");
  expect(std::strstr(sentence, "token 40 ") != nullptr, "the sentence names the token");
  std::exit(0);
}

}  // namespace

int main() {
  const rwkv::Model<> model(test::checkpoint_of<test::F32>());
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape());
  const auto weights = test::static_weights<Shape, float>(model.weights());
  using Weights = std::remove_reference_t<decltype(*weights)>;
  const rwkv::StaticModel<Weights, rwkv::simd::Chosen> constant(*weights);
  rwkv::State<Shape> static_state;
  rwkv::Workspace<Shape, 1> static_work;

  const std::vector<rwkv::Token> tokens{1, 2, 3};
  for (int i = 0; i < 3; ++i) {
    const auto logits = model.forward(state, tokens, work);
    const auto same = constant.forward(static_state, tokens, static_work);
    expect(test::same_bits(logits, same), "static and dynamic model agree");
  }

  rwkv::error_handler = handler;
  model.forward(state, std::vector<rwkv::Token>{40}, work);
  expect(false, "a token outside the vocabulary is an error");
}
