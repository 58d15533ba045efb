// SPDX-License-Identifier: Apache-2.0
// Static models in integers alone: how far from floats, the same bits everywhere, and nothing that
// overflows whatever the numbers are.
#include "support/numbers.hpp"
#include "support/static_cases.hpp"
#include "support/static_weights.hpp"
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/model.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/static_blob.hpp>
#include <rwkv/static_fixed_state.hpp>
#include <rwkv/static_generate.hpp>
#include <rwkv/static_memory.hpp>
#include <rwkv/static_state_store.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

namespace {

namespace fixed = rwkv::kernels::fixed;
using fixed::Int;
using fixed::Word;
using rwkv::DType;

constinit rwkv::FixedState<test::F32::Shape> needs_no_constructor;
constinit rwkv::FixedWorkspace<test::F32::Shape> nor_does_this;

template <class Shape>
using AnyBlob = rwkv::StaticBlob<Shape, DType::f32, DType::f16, DType::bf16, DType::q8_0>;

/// A blob at a multiple of 64, and its weights.
template <class Shape>
class Blob {
 public:
  explicit Blob(const rwkv::Model<>& model, bool quads = false) {
    const auto blobs = rwkv::io::static_blob(model.weights(), {.quads = quads});
    lines_.resize(blobs.core.size() / 64 + 1);
    size_ = blobs.core.size();
    std::memcpy(lines_.data(), blobs.core.data(), size_);
  }
  [[nodiscard]] std::span<std::byte> bytes() { return {lines_[0].bytes, size_}; }
  [[nodiscard]] AnyBlob<Shape> weights() {
    const auto weights = AnyBlob<Shape>::from(bytes());
    REQUIRE(weights.has_value());
    return *weights;
  }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines_;
  std::size_t size_ = 0;
};

/// Logits after each token of the text, one at a time.
template <class Shape, class Model>
std::vector<float> run(const Model& model, rwkv::FixedState<Shape>& state,
                       std::span<const rwkv::Token> tokens) {
  const auto work = std::make_unique<rwkv::FixedWorkspace<Shape>>();
  std::vector<float> all;
  for (const rwkv::Token& token : tokens) {
    const auto logits = model.forward(state, std::span(&token, 1), *work);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

template <class Case>
void check_accuracy(const rwkv::LoadOptions& options, double most) {
  using Shape = typename Case::Shape;
  CAPTURE(Case::name);
  const rwkv::Model<> model(test::checkpoint_of<Case>(), options);
  const auto tokens = test::tokens_of<Case>();
  rwkv::State dynamic_state(model.shape());
  rwkv::Workspace dynamic_work(model.shape());
  Blob<Shape> blob(model);
  rwkv::FixedState<Shape> state;
  const auto got = run(rwkv::StaticModel(blob.weights()), state, tokens);
  double error = 0, size = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const auto want = model.forward(dynamic_state, std::span(tokens).subspan(t, 1), dynamic_work);
    for (std::size_t i = 0; i < want.size(); ++i) {
      error += std::pow(static_cast<double>(got[t * want.size() + i] - want[i]), 2);
      size += std::pow(static_cast<double>(want[i]), 2);
    }
  }
  CHECK(std::sqrt(error / size) < most);

  // The order of the codes makes no difference, nor how a text is cut.
  Blob<Shape> in_quads(model, true);
  rwkv::FixedState<Shape> quad_state;
  CHECK(test::same_bits(run(rwkv::StaticModel(in_quads.weights()), quad_state, tokens), got));
  rwkv::FixedState<Shape> whole_state;
  rwkv::FixedWorkspace<Shape> work;
  const auto last = rwkv::StaticModel(in_quads.weights()).forward(whole_state, tokens, work);
  CHECK(test::same_bits(last, std::span(got).last(last.size())));
  CHECK(std::ranges::equal(whole_state.values(), state.values()));
  CHECK(std::ranges::equal(quad_state.values(), state.values()));
}

struct GivesUp : rwkv::Serial {
  int layers = 0;
  bool proceed() { return ++layers < 4; }
};

}  // namespace

TEST_CASE("numbers in integers") {
  const auto real = [](Int x, int fraction) { return std::ldexp(x, -fraction); };
  for (Int x = -20 * 65536; x < 20 * 65536; x += 1237) {
    const double z = real(x, 16), s = 1 / (1 + std::exp(-z));
    REQUIRE(std::abs(real(fixed::sigmoid(x), 30) - s) < 5e-8);
    REQUIRE(std::abs(real(fixed::tanh(x), 16) - std::tanh(z)) < 8e-6);
    REQUIRE(std::abs(real(fixed::decay(fixed::sigmoid(x)), 30) - std::exp(-std::exp(-0.5) * s)) <
            2e-7);
  }
  for (const Int x : {fixed::limit, -fixed::limit}) {
    CHECK(std::abs(fixed::sigmoid(x) - (x > 0 ? fixed::one : 0)) <= 1);
    CHECK(fixed::tanh(x) == (x > 0 ? 1 << 16 : -(1 << 16)));
  }
  test::Random random(1);
  for (int i = 0; i < 20000; ++i) {
    const Word a = random.word(), b = random.word() >> random.below(32);
    REQUIRE(fixed::high<true>(a, b) == fixed::high<false>(a, b));
    const Int x = static_cast<Int>(a) >> random.below(32), y = static_cast<Int>(b) >> 2;
    const Int c = static_cast<Int>(random.word()) >> 2;
    REQUIRE(fixed::product<16, true>(x, y, c) == fixed::product<16, false>(x, y, c));
    const double want = std::floor(std::ldexp(double{1} * x * y, -16) + 0.5) + c;
    REQUIRE(fixed::product<16>(x, y, c) ==
            std::clamp(want, double{-fixed::limit}, double{fixed::limit}));
    const Word root = a | 0x40000000u;
    REQUIRE(std::abs(real(static_cast<Int>(fixed::inverse_root(root) >> 1), 29) *
                         std::sqrt(std::ldexp(root, -32)) -
                     1) < 1e-8);
    const float f = test::from_bits(random.word());
    const double units = std::ldexp(static_cast<double>(f), 16);
    if (std::abs(units) < double{fixed::limit})
      REQUIRE(std::abs(fixed::from_float(f) - units) <= 0.5);
    else
      REQUIRE(fixed::from_float(f) == (std::signbit(f) ? -fixed::limit : fixed::limit));
    REQUIRE(std::abs(std::ldexp(static_cast<double>(fixed::to_float(c)), 16) - c) <=
            std::abs(c) * 0x1p-23);
  }
  CHECK(fixed::root_of(144) == 12 << 16);
}

TEST_CASE("a model in integers is close to the one in floats") {
  for (const auto type : {DType::f32, DType::f16, DType::bf16}) {
    check_accuracy<test::F32>({.matrix_type = type}, 2e-3);
    check_accuracy<test::ExtendedF16>({.matrix_type = type}, 2e-3);
    check_accuracy<test::Bf16>({.matrix_type = type}, 2e-3);
  }
  // Floats have inputs of 8 bits here.
  check_accuracy<test::F32>(rwkv::quantised(DType::q8_0), 2e-2);
  check_accuracy<test::ExtendedF16>(rwkv::quantised(DType::q8_0), 2e-2);
}

TEST_CASE("weights in a constant object, by integers") {
  const rwkv::Model<> model(test::checkpoint_of<test::F32>());
  using Shape = test::F32::Shape;
  const auto weights = test::static_weights<Shape, float>(model.weights());
  Blob<Shape> blob(model);
  const auto tokens = test::tokens_of<test::F32>();
  rwkv::FixedState<Shape> states[2];
  CHECK(test::same_bits(run(rwkv::StaticModel(*weights), states[0], tokens),
                        run(rwkv::StaticModel(blob.weights()), states[1], tokens)));
}

TEST_CASE("a model in integers has the same bits everywhere") {
  const rwkv::Model<> model(test::checkpoint_of<test::F32>());
  using Shape = test::F32::Shape;
  Blob<Shape> blob(model);
  rwkv::FixedState<Shape> state;
  const auto tokens = test::tokens_of<test::F32>();
  const auto logits = run(rwkv::StaticModel(blob.weights()), state, tokens);
  const auto sum = [](auto span) {
    return rwkv::internal::blob_checksum(std::as_bytes(std::span(span)));
  };
  CHECK(sum(state.values()) == 2309882173243171598u);
  CHECK(sum(std::span(logits)) == 10730299807557581279u);

  // Saved and restored it goes on with the same.
  std::vector<std::byte> bytes(rwkv::saved_bytes<rwkv::FixedState<Shape>>);
  const std::size_t size = rwkv::save_state(state, 7, bytes);
  REQUIRE(size > 0);
  rwkv::FixedState<Shape> loaded;
  REQUIRE(rwkv::load_state(loaded, 7, bytes) == nullptr);
  const rwkv::StaticModel again(blob.weights());
  CHECK(test::same_bits(run(again, loaded, tokens), run(again, state, tokens)));
  rwkv::State<Shape> floats;
  CHECK(rwkv::load_state(floats, 7, bytes) != nullptr);

  // An executor may give up.
  rwkv::FixedWorkspace<Shape> work;
  GivesUp executor;
  (void)again.forward(loaded, tokens, work, executor);
  CHECK(executor.layers == 4);
  loaded.reset();
  CHECK(std::ranges::count(loaded.values(), 0) ==
        static_cast<std::ptrdiff_t>(loaded.values().size()));
}

TEST_CASE("text by a model in integers") {
  const rwkv::Model<> model(test::checkpoint_of<test::F32>(), rwkv::quantised(DType::q8_0));
  using Shape = test::F32::Shape;
  using State = rwkv::FixedState<Shape>;
  static_assert(rwkv::static_memory<State, State::Workspace>().state == sizeof(State));
  static_assert(sizeof(State) < sizeof(rwkv::State<Shape>) * 6 / 10);
  Blob<Shape> blob(model);
  const auto weights = blob.weights();
  const rwkv::StaticModel fixed_model(weights);
  CHECK(needs_no_constructor.values().size() * 2 == sizeof(State));
  CHECK(nor_does_this.logits().size() == 40);
  // A tokenizer of bytes has more tokens than this vocabulary.
  rwkv::GreedySampler sampler;
  const auto result = rwkv::generate(fixed_model, needs_no_constructor, nor_does_this,
                                     rwkv::ByteTokenizer(), "", sampler, {.leading_token = 1});
  CHECK(result.problem != nullptr);
}

// Overflow is for the sanitized build to see.
TEST_CASE("no number overflows in integers") {
  using Shape = test::F32::Shape;
  const auto tokens = test::tokens_of<test::F32>();
  test::Random random(5);
  for (int round = 0; round < 60; ++round) {
    const bool quantised = round % 2 != 0;
    const rwkv::Model<> model(test::checkpoint_of<test::F32>(),
                              quantised ? rwkv::quantised(DType::q8_0) : rwkv::LoadOptions{});
    Blob<Shape> blob(model, round % 4 == 1);
    const auto weights = blob.weights();
    // All bytes behind the entries, or some of them, become anything, or something extreme.
    const std::size_t first = sizeof(rwkv::StaticBlobHeader) +
                              sizeof(rwkv::StaticBlobEntry) *
                                  (rwkv::global_tensors.size() + 2 * rwkv::block_tensors.size());
    const std::size_t some = std::size_t{1} << random.below(12);
    constexpr unsigned extremes[] = {0xff, 0x7f, 0x80, 0x00, 0x7b};
    const auto extreme = static_cast<std::byte>(extremes[random.below(5)]);
    for (std::size_t i = first; i < blob.bytes().size(); ++i)
      if (random.below(some) == 0)
        blob.bytes()[i] = round % 3 == 0 ? extreme : static_cast<std::byte>(random.word());
    rwkv::FixedState<Shape> state;
    if (round % 5 == 0)
      for (std::int16_t& x : state.values()) x = static_cast<std::int16_t>(random.word());
    for (const float x : run(rwkv::StaticModel(weights), state, std::span(tokens).first(12)))
      REQUIRE(std::abs(x) <= 16384);
  }
}
