// SPDX-License-Identifier: Apache-2.0
// What is assigned, fed, said or saved when memory runs out, wherever it does: nothing has changed
// then. Every operator new is replaced by one that can refuse.
#include "support/sample_checkpoint.hpp"
#include "support/sample_hybrid.hpp"
#include <rwkv/chat.hpp>
#include <rwkv/generate_batch.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/model.hpp>
#include <rwkv/speculate.hpp>
#include <rwkv/train/objective.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <vector>

namespace {

/// How many more allocations succeed; negative: all.
long left = -1;

void* given(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
bool refuses() { return left >= 0 && left-- == 0; }

}  // namespace

// Not inlined: GCC would take malloc and delete, or new and free, for a pair that does not match.
[[gnu::noinline]] void* operator new(std::size_t size) {
  return given(refuses() ? nullptr : std::malloc(size == 0 ? 1 : size));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t align) {
  const auto a = static_cast<std::size_t>(align);
  return given(refuses() ? nullptr : std::aligned_alloc(a, (size + a - 1) / a * a));
}
// Where a sanitizer has its own, it does not call these.
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t align,
                                     const std::nothrow_t&) noexcept {
  const auto a = static_cast<std::size_t>(align);
  return refuses() ? nullptr : std::aligned_alloc(a, (size + a - 1) / a * a);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

namespace {

using rwkv::Token;

/// Assigns `from` to a copy of `to`, with memory for one allocation more each time. Returns how
/// many attempts failed; each must leave the target as it was, and usable.
template <class T, class Use>
std::size_t failures(const T& from, const T& to, Use use) {
  for (std::size_t attempts = 0;; ++attempts) {
    REQUIRE(attempts < 200);
    T target = to;
    bool failed = false;
    left = static_cast<long>(attempts);
    try {
      target = from;
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    left = -1;
    REQUIRE(target == (failed ? to : from));
    T expected = failed ? to : from;
    use(target);
    use(expected);
    REQUIRE(target == expected);
    if (!failed) return attempts;
  }
}

/// Calls `f` with memory for one allocation more each time, and then `check(failed)`, until it gets
/// through. Returns how many attempts failed.
template <class F, class Check>
std::size_t attempts(F&& f, Check&& check) {
  for (std::size_t n = 0;; ++n) {
    REQUIRE(n < 1000);
    bool failed = false;
    left = static_cast<long>(n);
    try {
      f();
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    left = -1;
    check(failed);
    if (!failed) return n;
  }
}

rwkv::HybridConfig config(std::size_t max_cache) {
  rwkv::HybridConfig c;
  c.chunk = 4;
  c.max_cache = max_cache;
  c.min_cache = 120;
  c.window = 9;
  return c;
}

std::vector<Token> tokens(std::size_t n) {
  std::vector<Token> t(n);
  for (std::size_t i = 0; i < n; ++i) t[i] = static_cast<Token>(i * i % 10);
  return t;
}

}  // namespace

TEST_CASE("a state") {
  const rwkv::Model<> small(test::sample_checkpoint({.layers = 2}));
  const rwkv::Model<> large(test::sample_checkpoint({.layers = 4}));
  const rwkv::State<> a(small.shape()), b(large.shape());
  const auto use = [&](rwkv::State<>& state) {
    const bool deep = state.shape() == large.shape();
    rwkv::Workspace<> work(state.shape());
    (deep ? large : small).forward(state, tokens(5), work);
  };
  CHECK(failures(a, b, use) == 1);
  CHECK(failures(b, a, use) == 1);
  CHECK(failures(b, b, use) == 0);
}

TEST_CASE("a hybrid state, and a rewind that needs no memory") {
  const rwkv::HybridModel one(test::sample_hybrid(), config(150));
  const rwkv::HybridModel other(test::sample_hybrid(1), config(200));
  rwkv::HybridWorkspace work(one.shape(), 16), other_work(other.shape(), 16);
  const auto use = [&](rwkv::HybridState& state) {
    if (state.shape() == one.shape())
      one.forward(state, tokens(7), work);
    else
      other.forward(state, tokens(7), other_work);
  };
  rwkv::HybridState empty(one.shape());
  rwkv::HybridState some = empty, full = empty;
  one.forward(some, tokens(30), work);
  one.forward(full, tokens(400), work);
  rwkv::HybridState stranger(other.shape());
  other.forward(stranger, tokens(170), other_work);
  CHECK(failures(full, empty, use) > 3);
  CHECK(failures(full, some, use) > 3);
  CHECK(failures(some, full, use) == 0);
  CHECK(failures(empty, full, use) == 0);
  CHECK(failures(stranger, full, use) > 3);
  CHECK(failures(full, stranger, use) > 3);
}

TEST_CASE("a cache alone") {
  const rwkv::HybridModel model(test::sample_hybrid(), config(150));
  rwkv::HybridWorkspace work(model.shape(), 16);
  rwkv::HybridState empty(model.shape());
  rwkv::HybridState full = empty;
  model.forward(full, tokens(400), work);
  const auto nothing = [](rwkv::KvCache&) {};
  CHECK(failures(full.cache(0), empty.cache(0), nothing) > 1);
  CHECK(failures(empty.cache(0), full.cache(0), nothing) == 0);
  const rwkv::KvCache another(3, config(160));
  CHECK(failures(another, full.cache(0), nothing) == 0);
  CHECK(failures(full.cache(0), another, nothing) > 1);
  rwkv::KvCache moved = full.cache(0);
  const rwkv::KvCache taken(std::move(moved));
  CHECK(taken == full.cache(0));
  CHECK(moved == empty.cache(0));  // and may be used on
}

TEST_CASE("a text that is fed by guesses and into a history") {
  const rwkv::Model<> model(test::sample_checkpoint());
  const auto text = tokens(120);
  rwkv::State<> plain = model.initial_state();
  rwkv::Workspace<> work(model.shape(), 16);
  model.forward(plain, text, work);
  rwkv::NgramDraft draft;
  rwkv::History history(model.shape(), 6 * rwkv::RowLog::bytes_for(model.shape(), 16));
  rwkv::Feeder feeder(model.shape(), {.draft = &draft, .draft_tokens = 3, .history = &history});
  rwkv::State<> state = model.initial_state();
  std::size_t fed = 0;
  const auto feed = [&] {
    for (; fed < text.size(); ++fed) {
      rwkv::Feeder::Request request{&feeder, &state, std::span(&text[fed], 1), 4};
      rwkv::feed(model, std::span(&request, 1), work);
    }
    feeder.settle(state, {});
  };
  CHECK(attempts(feed, [&](bool) { CHECK(history.size() <= fed); }) > 10);
  CHECK(state == plain);
  REQUIRE(history.size() > 16);
  rwkv::State<> before = model.initial_state();
  model.forward(before, std::span(text).first(text.size() - history.size()), work);
  history.rewind(state, history.size());
  CHECK(state == before);
}

TEST_CASE("texts of a batch, some of them by guesses") {
  const rwkv::Model<> model(test::sample_checkpoint({.vocab = 256}));
  const auto bytes = rwkv::Tokenizer::bytes();
  const auto prompt = tokens(12);
  rwkv::Workspace<> work(model.shape(), 16);
  const rwkv::GenerateOptions plain{
      .max_tokens = 8, .sampler = {.temperature = 0, .presence_penalty = 0}, .stop_tokens = {}};
  rwkv::State<> whole = model.initial_state();
  const auto want =
      rwkv::generate(model, whole, work, bytes, std::span<const Token>(prompt), plain);
  auto script = prompt;
  script.insert(script.end(), want.tokens.begin(), want.tokens.end());
  script[15] ^= 1;
  std::size_t failed = 0;
  for (const int at : {0, 1, 2, 4})
    for (long n = 0; n < 40; ++n) {
      std::vector<rwkv::State<>> states(3, model.initial_state());
      rwkv::FixedDraft draft(script);
      rwkv::History history(model.shape(), 2 * rwkv::RowLog::bytes_for(model.shape(), 7));
      rwkv::Feeder guessing(model.shape(), {.draft = &draft, .draft_tokens = 3});
      rwkv::Feeder logging(model.shape(), {.history = &history});
      rwkv::GenerateBatch batch(model, bytes);
      for (rwkv::AnyFeeder* const feeder :
           {static_cast<rwkv::AnyFeeder*>(&guessing), static_cast<rwkv::AnyFeeder*>(&logging),
            static_cast<rwkv::AnyFeeder*>(nullptr)}) {
        rwkv::GenerateOptions options = plain;
        options.feeder = feeder;
        (void)batch.add(states[batch.size()], std::span<const Token>(prompt), options);
      }
      bool more = true;
      for (int step = 0; more; ++step) {
        left = step == at ? n : -1;
        try {
          more = batch.step(work);
        } catch (const std::bad_alloc&) {
          ++failed;
        }
        left = -1;
      }
      // Those that did not fail themselves go on; what failed has the state of what it says.
      for (std::size_t s = 0; s < 3; ++s) {
        const auto got = batch.take(s);
        auto read = prompt;
        read.insert(read.end(), got.tokens.begin(), got.tokens.end());
        REQUIRE(std::equal(got.tokens.begin(), got.tokens.end(), want.tokens.begin()));
        rwkv::State<> state = model.initial_state();
        model.forward(state, read, work);
        REQUIRE(state == states[s]);
      }
    }
  CHECK(failed > 20);
}

TEST_CASE("a conversation: what failed was not said") {
  const rwkv::Model<> model(test::sample_checkpoint({.vocab = 256}));
  rwkv::Workspace<> work(model.shape(), 16);
  const rwkv::GenerateOptions options{.max_tokens = 3, .stop_tokens = {}};
  rwkv::Conversation talk(model, model.initial_state(), rwkv::Tokenizer::bytes());
  (void)talk.ask("a", work, options);
  const rwkv::State<> before = talk.state();
  const auto say = [&] { (void)talk.ask("b", work, options); };
  CHECK(attempts(say, [&](bool failed) {
          CHECK(talk.size() == (failed ? 1 : 2));
          CHECK((talk.state() == before) == failed);
        }) > 10);
}

TEST_CASE("a state as bytes") {
  const rwkv::HybridModel model(test::sample_hybrid(), config(150));
  rwkv::HybridWorkspace work(model.shape(), 16);
  rwkv::HybridState state(model.shape());
  model.forward(state, tokens(5), work);
  std::optional<rwkv::HybridState> again;
  const auto there_and_back = [&] { again = model.state_from_bytes(model.state_to_bytes(state)); };
  CHECK(attempts(there_and_back, [&](bool failed) { CHECK(again.has_value() != failed); }) > 100);
  CHECK(again == state);
}

TEST_CASE("a loss, and the next one") {
  const auto layout = std::make_shared<const rwkv::train::Layout>(
      rwkv::Model<>(test::sample_checkpoint()).shape().dimensions());
  const rwkv::train::Parameters zeros(layout);
  const auto text = tokens(9);
  std::vector<rwkv::train::Sample> batch(2);
  for (rwkv::train::Sample& sample : batch) sample.tokens = text;
  rwkv::train::Objective objective(layout);
  double loss = 0;
  const auto compute = [&] { loss = objective.loss(zeros, batch, {}); };
  CHECK(attempts(compute, [](bool) {}) > 3);
  CHECK(loss == doctest::Approx(std::log(10.0)));
}
