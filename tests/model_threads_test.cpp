// SPDX-License-Identifier: Apache-2.0
// One model serves any number of threads at once.
#define RWKV_NO_IO
#include "support/sample_checkpoint.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <thread>
#include <vector>

namespace {

using rwkv::Token;

/// Reads a text of its own, token by token after a prompt; returns all logits.
template <class Exec>
std::vector<float> read(const rwkv::Model<>& model, std::uint32_t seed, Exec&& exec) {
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 16);
  test::Random random(seed);
  std::vector<float> logits;
  for (std::size_t n = 40; n > 0; n = n > 30 ? n - 1 : 0) {
    std::vector<Token> tokens(n == 40 ? 40 : 1);
    for (Token& token : tokens) token = static_cast<Token>(random.below(model.shape().vocab()));
    const auto last = model.forward(state, tokens, work, exec);
    logits.insert(logits.end(), last.begin(), last.end());
  }
  return logits;
}

}  // namespace

TEST_CASE("threads that share a model get what each would get alone") {
  const rwkv::Model<> model(
      test::sample_checkpoint({.layers = 3, .embed = 64, .head_size = 16, .ffn = 256}));
  constexpr std::uint32_t threads = 3;
  std::vector<std::vector<float>> got(threads);
  std::vector<std::thread> running;
  for (std::uint32_t t = 0; t < threads; ++t)
    running.emplace_back([&model, &got, t] {
      rwkv::ThreadPool pool({.threads = t + 1, .oversubscribe = true});
      got[t] = read(model, t, pool);
    });
  for (std::thread& t : running) t.join();
  for (std::uint32_t t = 0; t < threads; ++t) {
    CAPTURE(t);
    CHECK(test::same_bits(got[t], read(model, t, rwkv::Serial{})));
  }
  CHECK_FALSE(test::same_bits(got[0], got[1]));
}

TEST_CASE("copies of a model share its weights, and one may outlive the other") {
  auto first = std::make_unique<rwkv::Model<>>(test::sample_checkpoint());
  const auto logits = read(*first, 1, rwkv::Serial{});
  const rwkv::Model<> copy = *first;
  CHECK(&copy.weights() == &first->weights());
  std::thread([&] { first.reset(); }).join();
  CHECK(test::same_bits(read(copy, 1, rwkv::Serial{}), logits));
}
