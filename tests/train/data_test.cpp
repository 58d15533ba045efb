// SPDX-License-Identifier: Apache-2.0
#include <rwkv/train/data.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

using rwkv::Error;
using rwkv::Token;
using namespace rwkv::train;

namespace {

/// 0, 1, 2, ...: a window's first token is where it begins.
std::vector<Token> numbers(std::size_t n) {
  std::vector<Token> tokens(n);
  std::iota(tokens.begin(), tokens.end(), Token{0});
  return tokens;
}

/// The samples of one epoch, one by one.
template <class Source>
std::vector<Sample> epoch(Source& source) {
  std::vector<Sample> samples(source.size());
  for (Sample& s : samples) source.next(std::span(&s, 1));
  return samples;
}

SampleList list(std::size_t n) {
  std::vector<SampleList::Item> items(n);
  for (std::size_t i = 0; i < n; ++i) items[i].tokens = {static_cast<Token>(i), 0};
  return {items, 1};
}

}  // namespace

TEST_CASE("an epoch has every window once; over the epochs windows begin at every offset") {
  constexpr std::size_t length = 4;
  for (std::size_t n = 2 * length + 1; n < 5 * length; ++n) {
    CAPTURE(n);
    TextWindows source(numbers(n), length, n);
    // One window less than fit at offset 0, so that as many fit at every offset.
    const std::size_t windows = (n - 1) / length - 1;
    CHECK(source.size() == windows);
    CHECK(source.largest_token() == n - 1);
    std::set<std::size_t> offsets;
    for (std::uint64_t e = 0; e < 60; ++e) {
      std::set<std::size_t> begins;
      for (const Sample& s : epoch(source)) {
        REQUIRE(s.tokens.size() == length + 1);
        CHECK(s.weights.empty());
        for (std::size_t i = 0; i <= length; ++i) CHECK(s.tokens[i] == s.tokens[0] + i);
        CHECK(s.tokens[length] < n);
        begins.insert(s.tokens[0]);
      }
      CHECK(source.position().epoch == e);
      CHECK(source.position().next == windows);
      CHECK(begins.size() == windows);
      CHECK(*begins.rbegin() - *begins.begin() == (windows - 1) * length);
      offsets.insert(*begins.begin());
    }
    CHECK(offsets == std::set<std::size_t>{0, 1, 2, 3});
  }
}

TEST_CASE("a text needs twice a window and one more") {
  CHECK_THROWS_AS(TextWindows(numbers(8), 4, 1), Error);
  CHECK_NOTHROW(TextWindows(numbers(9), 4, 1));
  CHECK_THROWS_AS(TextWindows(numbers(9), 0, 1), Error);
}

TEST_CASE("every order of the samples is as likely as another") {
  SampleList source = list(3);
  CHECK(source.size() == 3);
  std::map<std::vector<Token>, int> orders;
  for (int e = 0; e < 6000; ++e) {
    std::vector<Token> order;
    for (const Sample& s : epoch(source)) order.push_back(s.tokens[0]);
    ++orders[order];
  }
  CHECK(orders.size() == 6);
  for (const auto& [order, count] : orders) {
    CHECK(std::set<Token>(order.begin(), order.end()) == std::set<Token>{0, 1, 2});
    CHECK(std::abs(count - 1000) < 150);  // five standard deviations
  }
}

TEST_CASE("a position restores what would have come next, also at an epoch's very end") {
  for (const int done : {0, 3, 5, 7, 10}) {
    CAPTURE(done);
    SampleList source = list(5), other = list(5);
    Sample a, b;
    for (int i = 0; i < done; ++i) source.next(std::span(&a, 1));
    other.restore(source.position());
    CHECK(other.position() == source.position());
    for (int i = 0; i < 12; ++i) {
      source.next(std::span(&a, 1));
      other.next(std::span(&b, 1));
      CHECK(a.tokens[0] == b.tokens[0]);
    }
  }
  SampleList source = list(5);
  DataPosition position = source.position();
  position.next = 5;
  CHECK_NOTHROW(source.restore(position));
  position.next = 6;
  CHECK_THROWS_AS(source.restore(position), Error);
}

TEST_CASE("a cut predicts every token but the first, once") {
  for (std::size_t n = 0; n < 14; ++n) {
    CAPTURE(n);
    const auto tokens = numbers(n);
    std::vector<Token> predicted;
    const auto pieces = cut(tokens, 4);
    for (const Sample& s : pieces) {
      CHECK(s.tokens.size() >= 2);
      CHECK(s.tokens.size() <= 5);
      CHECK(s.tokens[0] % 4 == 0);
      predicted.insert(predicted.end(), s.tokens.begin() + 1, s.tokens.end());
    }
    CHECK(predicted ==
          (n < 2 ? std::vector<Token>{} : std::vector<Token>(tokens.begin() + 1, tokens.end())));
  }
}

TEST_CASE("samples have a prediction, and a weight for each or none") {
  const auto make = [](std::size_t tokens, std::size_t weights) {
    return SampleList({{numbers(tokens), std::vector<float>(weights, 1.0f)}}, 1);
  };
  CHECK_NOTHROW(make(2, 0));
  CHECK_NOTHROW(make(2, 1));
  CHECK_NOTHROW(make(5, 4));
  CHECK_THROWS_AS(make(1, 0), Error);
  CHECK_THROWS_AS(make(5, 3), Error);
  CHECK_THROWS_AS(make(5, 5), Error);
  CHECK(make(5, 0).largest_token() == 4);
}

TEST_CASE("a fingerprint tells data apart") {
  std::set<std::uint64_t> seen;
  for (const std::size_t length : {2u, 3u})
    for (const std::size_t n : {10u, 11u})
      seen.insert(TextWindows(numbers(n), length, 1).fingerprint());
  const auto add = [&](std::vector<SampleList::Item> items) {
    seen.insert(SampleList(std::move(items), 1).fingerprint());
  };
  add({{{1, 2, 3, 4}, {}}});
  add({{{1, 2, 4, 3}, {}}});
  add({{{1, 2}, {}}, {{3, 4}, {}}});
  add({{{1, 2}, {1.0f}}, {{3, 4}, {}}});
  add({{{1, 2}, {0.5f}}, {{3, 4}, {}}});
  CHECK(seen.size() == 9);
  CHECK(TextWindows(numbers(10), 2, 1).fingerprint() ==
        TextWindows(numbers(10), 2, 2).fingerprint());  // the order is not the data
}
