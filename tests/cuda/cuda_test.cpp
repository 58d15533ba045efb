// SPDX-License-Identifier: Apache-2.0
// Models on the emulated device: against float64 goldens, the promise that bits depend on the
// sequence alone, states as values, and what is refused.
#include "support/golden.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/cuda.hpp>

#include <doctest/doctest.h>

#include <cuda/emulated/cuda_runtime.h>
#include <random>

namespace emulator {
void set_seed(std::uint64_t seed);
}

namespace {

using rwkv::Token;

std::vector<float> all_logits(const rwkv::CudaModel& model, rwkv::CudaState& state,
                              std::span<const Token> tokens, std::size_t rows, bool graphs = true) {
  rwkv::CudaWorkspace work(model, {.rows = rows, .graphs = graphs});
  std::vector<float> logits(tokens.size() * model.shape().vocab());
  const rwkv::CudaSlot slot{&state, tokens};
  model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
  return logits;
}

/// The same in calls of `chunk` tokens.
std::vector<float> in_chunks(const rwkv::CudaModel& model, rwkv::CudaState& state,
                             std::span<const Token> tokens, std::size_t chunk) {
  rwkv::CudaWorkspace work(model, chunk);
  std::vector<float> logits;
  std::vector<float> some;
  for (std::size_t done = 0; done < tokens.size(); done += chunk) {
    const auto part = tokens.subspan(done, std::min(chunk, tokens.size() - done));
    const rwkv::CudaSlot slot{&state, part};
    some.resize(part.size() * model.shape().vocab());
    model.forward(std::span(&slot, 1), rwkv::Logits::all, some, work);
    logits.insert(logits.end(), some.begin(), some.end());
  }
  return logits;
}

bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

}  // namespace

TEST_CASE("logits and states on the emulated device agree with float64 goldens") {
  for (const auto& c : golden::cases()) {
    CAPTURE(c.name);
    const auto want = golden::read(c.golden);
    const rwkv::CudaModel model(golden::read(c.model));
    auto tokens = golden::tokens(want, "tokens");
    auto positions = want.get("positions").values<std::size_t>();
    const auto logits64 = want.get("logits").values<double>();
    const std::size_t vocab = model.shape().vocab();

    // Every thread is emulated: long texts take long.
    constexpr std::size_t bearable = test::sanitized ? 40 : 130;
    const bool whole = tokens.size() <= bearable;
    if (!whole) tokens.resize(bearable);
    while (positions.back() >= tokens.size()) positions.pop_back();
    rwkv::CudaState state = model.initial_state();
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
    if (whole) {
      const auto final_error =
          golden::state_error(state.download(), golden::state(want, "final.", model.shape()));
      CHECK(final_error.shift <= 2e-5);
      CHECK(final_error.wkv <= 1e-5);
    }

    // A run from a random state.
    rwkv::CudaState given = model.initial_state();
    given.upload(golden::state(want, "init.state_in.", model.shape()));
    const auto init_logits = all_logits(model, given, golden::tokens(want, "init.tokens"), 64);
    CHECK(golden::max_error(init_logits, want.get("init.logits").values<double>()) <= 5e-5);
    const auto init_error = golden::state_error(
        given.download(), golden::state(want, "init.state_out.", model.shape()));
    CHECK(init_error.shift <= 2e-5);
    CHECK(init_error.wkv <= 1e-5);
  }
}

TEST_CASE("the bits of a sequence on the device do not depend on what is computed beside it") {
  for (const auto& c : golden::cases()) {
    if (c.model.string().find("golden_") == std::string::npos) continue;  // ours are enough
    CAPTURE(c.name);
    const rwkv::CudaModel model(golden::read(c.model));
    auto tokens = golden::tokens(golden::read(c.golden), "tokens");
    tokens.resize(std::min<std::size_t>(tokens.size(), 50));
    const std::size_t vocab = model.shape().vocab();
    rwkv::CudaState state = model.initial_state();
    const auto whole = all_logits(model, state, tokens, tokens.size());

    for (const std::size_t chunk : {1u, 3u, 7u}) {
      CAPTURE(chunk);
      emulator::set_seed(chunk);
      rwkv::CudaState other = model.initial_state();
      CHECK(same_bits(in_chunks(model, other, tokens, chunk), whole));
      CHECK(other == state);
    }

    // Random cuts, with other sequences beside this one.
    std::mt19937 random(1);
    rwkv::CudaWorkspace work(model, 40);
    rwkv::CudaState mine = model.initial_state();
    std::vector<rwkv::CudaState> others(3, mine);
    for (std::size_t done = 0; done < tokens.size();) {
      const std::size_t n = std::min<std::size_t>(1 + random() % 40, tokens.size() - done);
      std::vector<std::vector<Token>> noise(others.size());
      std::vector<rwkv::CudaSlot> slots;
      for (std::size_t s = 0; s < others.size(); ++s) {
        for (std::size_t t = 1 + random() % 20; t > 0; --t)
          noise[s].push_back(static_cast<Token>(random() % vocab));
        slots.push_back({&others[s], noise[s]});
      }
      const std::size_t place = random() % (slots.size() + 1);
      slots.insert(slots.begin() + static_cast<std::ptrdiff_t>(place),
                   rwkv::CudaSlot{&mine, std::span(tokens).subspan(done, n)});
      std::vector<float> logits(slots.size() * vocab);
      model.forward(slots, rwkv::Logits::last, logits, work);
      done += n;
      CHECK(same_bits(std::span(logits).subspan(place * vocab, vocab),
                      std::span(whole).subspan((done - 1) * vocab, vocab)));
    }
    CHECK(mine == state);
  }
}
