// SPDX-License-Identifier: Apache-2.0
#include "support/sample_checkpoint.hpp"
#include "support/sample_hybrid.hpp"
#include <rwkv/exec/cancellable.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <vector>

namespace {

using namespace rwkv;

/// Cancels after each number of questions in turn: what a stopped call leaves must be what the
/// prompt tokens that it reports leave, and nothing else. Returns how many questions a whole call
/// asks.
template <class Model, class State, class Work>
int cancel_everywhere(const Model& model, const State& fresh, Work& work, ExecutorRef exec) {
  const std::vector<Token> prompt{1, 5, 2, 7, 3, 3, 8, 1, 4, 6, 2};
  GenerateOptions options;
  options.max_tokens = 2;
  options.sampler.temperature = 0;
  options.any_vocabulary = true;
  const Tokenizer tokenizer = Tokenizer::bytes();
  std::vector<std::size_t> seen;
  for (int allowed = 0;; ++allowed) {
    int asked = 0;
    options.cancelled = [&] { return asked++ >= allowed; };
    State state = fresh;
    const auto result = generate(model, state, work, tokenizer, std::span<const Token>(prompt),
                                 options, NoCallback{}, exec);
    std::vector<Token> consumed(prompt.begin(),
                                prompt.begin() + static_cast<std::ptrdiff_t>(result.prompt_tokens));
    consumed.insert(consumed.end(), result.tokens.begin(), result.tokens.end());
    State expected = fresh;
    if (!consumed.empty()) (void)model.forward(expected, consumed, work);
    CHECK(state == expected);
    if (asked <= allowed) {
      CHECK(result.reason == StopReason::max_tokens);
      return asked;
    }
    CHECK(asked == allowed + 1);
    CHECK(result.reason == StopReason::cancelled);
  }
}

}  // namespace

TEST_CASE("a prompt can be cancelled before any layer, and the pass that had begun is undone") {
  const Model<> model(test::sample_checkpoint());
  Workspace work(model.shape(), 4);
  const int layers = static_cast<int>(model.shape().layers());
  // Three passes of a prompt of 11, and two tokens.
  CHECK(cancel_everywhere(model, State(model.shape()), work, {}) == 3 * (1 + layers) + 2);
  ThreadPool pool(ThreadPoolOptions{.threads = 3, .oversubscribe = true});
  CHECK(cancel_everywhere(model, State(model.shape()), work, pool) == 3 * (1 + layers) + 2);
}

TEST_CASE("the same with sparse attention, whose cache grows") {
  const HybridModel model(test::sample_hybrid());
  HybridWorkspace work(model.shape(), 4);
  CHECK(cancel_everywhere(model, HybridState(model.shape()), work, {}) > 5);
}

TEST_CASE("an executor that stops abandons this pass and those after it") {
  const Model<> model(test::sample_checkpoint());
  Workspace work(model.shape(), 4);
  State state(model.shape());
  int asked = 0;
  Cancellable exec(Serial{}, [&] { return ++asked == 2; });
  CHECK_FALSE(exec.stopped());
  const std::vector<Token> tokens{1, 2, 3, 4, 5, 6};
  (void)model.forward(state, tokens, work, exec);
  CHECK(exec.stopped());
  CHECK(asked == 2);
  (void)model.forward(state, tokens, work, exec);
  CHECK(asked == 2);  // it knows
  Cancellable outer(exec, [] { return false; });
  CHECK_FALSE(outer.proceed());
  CHECK(outer.stopped());
}

TEST_CASE("no text is drawn from a pass that the executor abandoned") {
  const Model<> model(test::sample_checkpoint());
  Workspace work(model.shape(), 4);
  GenerateOptions options{.max_tokens = 4, .stop_tokens = {}, .any_vocabulary = true};
  const std::vector<Token> prompt{1, 5, 2, 7};
  for (const bool cancellable : {false, true}) {
    if (cancellable) options.cancelled = [] { return false; };
    int whole = 1000;
    for (int allowed = 1; allowed < whole; ++allowed) {
      CAPTURE(allowed);
      State state(model.shape());
      int asked = 0;
      Cancellable exec(Serial{}, [&] { return ++asked > allowed; });
      std::optional<GenerateResult> result;
      try {
        result = generate(model, state, work, Tokenizer::bytes(), std::span<const Token>(prompt),
                          options, NoCallback{}, exec);
      } catch (const Error& error) {
        CHECK(error.category() == ErrorCategory::cancelled);
      }
      if (exec.stopped() && result) {  // within the prompt, which is undone
        CHECK(cancellable);
        CHECK(result->reason == StopReason::cancelled);
        CHECK(result->tokens.empty());
        CHECK(state == State(model.shape()));
      }
      if (!exec.stopped()) {
        CHECK(result.value().reason == StopReason::max_tokens);
        whole = allowed;
      }
    }
    CHECK(whole > 4);
    CHECK(whole < 1000);
  }
}
