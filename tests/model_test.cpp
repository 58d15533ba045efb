// SPDX-License-Identifier: Apache-2.0
// The model against float64 goldens, and the promise that bits depend on the sequence alone.
#include "support/golden.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/exec/thread_pool.hpp>

#include <doctest/doctest.h>

#include <random>

namespace {

using rwkv::Token;

std::vector<float> all_logits(const rwkv::Model<>& model, rwkv::State<>& state,
                              const std::vector<Token>& tokens, std::size_t rows) {
  rwkv::Workspace work(model.shape(), rows);
  std::vector<float> logits(tokens.size() * model.shape().vocab());
  const rwkv::Slot<> slot{&state, tokens};
  model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
  return logits;
}

}  // namespace

TEST_CASE("logits and states agree with float64 goldens") {
  for (const auto& c : golden::cases()) {
    CAPTURE(c.name);
    const auto want = golden::read(c.golden);
    const rwkv::Model<> model(golden::read(c.model));
    const auto tokens = golden::tokens(want, "tokens");
    const auto positions = want.get("positions").values<std::size_t>();
    const auto logits64 = want.get("logits").values<double>();
    const std::size_t vocab = model.shape().vocab();

    rwkv::State state(model.shape());
    const auto logits = all_logits(model, state, tokens, 64);
    double worst = 0;
    for (std::size_t p = 0; p < positions.size(); ++p)
      worst = std::max(
          worst,
          golden::max_error(std::span(logits).subspan(positions[p] * vocab, vocab),
                            {logits64.begin() + static_cast<std::ptrdiff_t>(p * vocab),
                             logits64.begin() + static_cast<std::ptrdiff_t>((p + 1) * vocab)}));
    MESSAGE(c.name << ": largest logit error " << worst);
    CHECK(worst <= 5e-5);
    const auto final_error =
        golden::state_error(state, golden::state(want, "final.", model.shape()));
    CHECK(final_error.shift <= 2e-5);
    CHECK(final_error.wkv <= 1e-5);

    // The middle of the text, and on from there.
    const auto middle = static_cast<std::ptrdiff_t>(want.get("mid_pos").values<std::size_t>()[0]);
    rwkv::State halfway(model.shape());
    all_logits(model, halfway, {tokens.begin(), tokens.begin() + middle}, 64);
    const auto middle_error =
        golden::state_error(halfway, golden::state(want, "mid.", model.shape()));
    CHECK(middle_error.shift <= 2e-5);
    CHECK(middle_error.wkv <= 1e-5);
    all_logits(model, halfway, {tokens.begin() + middle, tokens.end()}, 64);
    CHECK(halfway == state);

    // A run from a random state.
    rwkv::State given = golden::state(want, "init.state_in.", model.shape());
    const auto init_logits = all_logits(model, given, golden::tokens(want, "init.tokens"), 64);
    CHECK(golden::max_error(init_logits, want.get("init.logits").values<double>()) <= 5e-5);
    const auto init_error =
        golden::state_error(given, golden::state(want, "init.state_out.", model.shape()));
    CHECK(init_error.shift <= 2e-5);
    CHECK(init_error.wkv <= 1e-5);
  }
}

TEST_CASE("the bits of a sequence do not depend on chunking, batching or threads") {
  rwkv::ThreadPool two(2);
  rwkv::ThreadPool five({.threads = 5, .oversubscribe = true});
  test::Thinned models(2);
  for (const auto& c : golden::cases()) {
    if (models.leaves_out()) continue;
    CAPTURE(c.name);
    const rwkv::Model<> model(golden::read(c.model));
    const auto tokens = golden::tokens(golden::read(c.golden), "tokens");
    rwkv::State state(model.shape());
    const auto whole = all_logits(model, state, tokens, tokens.size());

    test::Thinned numbers(2);
    for (const std::size_t rows : {1u, 2u, 3u, 7u, 64u}) {
      if (numbers.leaves_out()) continue;
      CAPTURE(rows);
      rwkv::State other(model.shape());
      CHECK(all_logits(model, other, tokens, rows) == whole);
      CHECK(other == state);
    }

    // Random cuts, on threads, with other sequences beside this one.
    std::mt19937 random(1);
    const std::size_t vocab = model.shape().vocab();
    for (rwkv::ThreadPool* pool : {&two, &five}) {
      rwkv::Workspace work(model.shape(), 48);
      rwkv::State mine(model.shape());
      std::vector<rwkv::State<>> others(3, mine);
      for (std::size_t done = 0; done < tokens.size();) {
        const std::size_t n = std::min<std::size_t>(1 + random() % 90, tokens.size() - done);
        std::vector<std::vector<Token>> noise(others.size());
        std::vector<rwkv::Slot<>> slots;
        for (std::size_t s = 0; s < others.size(); ++s) {
          for (std::size_t t = 1 + random() % 60; t > 0; --t)
            noise[s].push_back(static_cast<Token>(random() % vocab));
          slots.push_back({&others[s], noise[s]});
        }
        const std::size_t place = random() % (slots.size() + 1);
        slots.insert(slots.begin() + static_cast<std::ptrdiff_t>(place),
                     rwkv::Slot<>{&mine, std::span(tokens).subspan(done, n)});
        std::vector<float> logits(slots.size() * vocab);
        model.forward(slots, rwkv::Logits::last, logits, work, *pool);
        done += n;
        const auto got = std::span(logits).subspan(place * vocab, vocab);
        const auto expected = std::span(whole).subspan((done - 1) * vocab, vocab);
        CHECK(std::memcmp(got.data(), expected.data(), got.size_bytes()) == 0);
      }
      CHECK(mine == state);
    }
  }
}
