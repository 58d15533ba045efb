// SPDX-License-Identifier: Apache-2.0
// Automata that are not what they should be: saved from views, asked for what they do not have.
#include "../support/refusal.hpp"
#include "../support/temporary_directory.hpp"
#include <rwkv/automata.hpp>
#include <rwkv/io/read.hpp>

#include <doctest/doctest.h>

using namespace rwkv::automata;
using rwkv::ErrorCategory;

namespace {

using test::contains;

template <class F>
std::string refusal(F&& f) {
  return test::refusal(ErrorCategory::argument, f);
}

/// The same numbers, lying otherwise: every matrix column by column, every vector with gaps.
rwkv::io::Checkpoint strided(rwkv::io::Checkpoint c) {
  for (auto& [name, tensor] : c.tensors) {
    const auto values = tensor.values<float>();
    const std::size_t cols = tensor.shape.back();
    const std::size_t rows = cols == 0 ? 0 : values.size() / cols;
    auto kept = std::make_shared<std::vector<float>>(values.size() * 2, -1.0f);
    for (std::size_t i = 0; i < values.size(); ++i)
      (*kept)[2 * (i % cols * rows + i / cols)] = values[i];
    tensor.stride = rwkv::io::c_order(tensor.shape);
    for (std::size_t d = 0; d < tensor.shape.size(); ++d)
      tensor.stride[d] = d + 1 == tensor.shape.size() ? 2 * rows : 2 * tensor.stride[d] / cols;
    tensor.bytes = std::as_bytes(std::span(*kept));
    c.storage.push_back(std::move(kept));
  }
  return c;
}

}  // namespace

TEST_CASE("an automaton is saved as its numbers are, wherever they lie") {
  const test::TemporaryDirectory directory;
  const auto checkpoint = compile(from_regex("(a|b)*a(a|b){3}|c+"));
  const auto view = strided(checkpoint);
  for (const auto& [name, tensor] : checkpoint.tensors)
    REQUIRE(view.get(name).values<float>() == tensor.values<float>());
  save(directory / "plain", checkpoint);
  save(directory / "strided", view);
  const auto plain = rwkv::io::read_checkpoint(directory / "plain");
  const auto read = rwkv::io::read_checkpoint(directory / "strided");
  CHECK(plain.metadata == read.metadata);
  CHECK(plain.tensors.size() == read.tensors.size());
  std::size_t wrong = 0;
  for (const auto& [name, tensor] : plain.tensors) {
    const auto expected = tensor.values<float>(), got = read.get(name).values<float>();
    for (std::size_t i = 0; i < expected.size(); ++i) wrong += got[i] != expected[i];
  }
  CHECK(wrong == 0);
  Recogniser word(read);
  word.feed("bbabab");
  CHECK(word.accepted() == from_regex("(a|b)*a(a|b){3}|c+").accepts("bbabab"));
}

TEST_CASE("symbols and permutations that do not exist") {
  const Dfa dfa(2, {0, 1, 1, 0}, {true, false});
  CHECK(contains(refusal([&] { (void)dfa.run(std::vector<Symbol>{0, 2}); }), "symbol 2"));
  CHECK(contains(refusal([&] { (void)dfa.accepts(std::vector<Symbol>{255}); }), "symbol 255"));
  CHECK(contains(refusal([] { (void)permutation(3, 6); }), "rank 6"));
  CHECK(contains(refusal([] { (void)then({1, 0}, {0}); }), "1 points"));
  CHECK(contains(refusal([] { (void)then({1, 5}, {0, 1}); }), "5"));
}

TEST_CASE("an automaton that was moved away") {
  Dfa dfa(2, {0, 1, 1, 0}, {true, false});
  Recogniser recogniser(compile(dfa));
  {
    const Recogniser elsewhere(std::move(recogniser));
    const Dfa other(std::move(dfa));
  }
  CHECK(contains(refusal([&] { (void)compile(dfa); }), "no states"));
  CHECK(contains(refusal([&] { (void)dfa.run({}); }), "no states"));
  CHECK(contains(refusal([&] { recogniser.reset(); }), "moved away"));
  CHECK(contains(refusal([&] { recogniser.feed(std::vector<Symbol>{1}); }), ""));
}
