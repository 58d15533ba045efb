// SPDX-License-Identifier: Apache-2.0
// The loop: feed the prompt, then sample, stream, feed, until something says stop.
//
//   rwkv::GenerateResult r = rwkv::generate(model, state, work, tokenizer, "Once upon a time",
//       {.max_tokens = 200}, [](std::string_view piece) { std::cout << piece << std::flush; });
#pragma once

#include <rwkv/constraint.hpp>
#include <rwkv/core/conventions.hpp>
#include <rwkv/exec/cancellable.hpp>
#include <rwkv/exec/serial.hpp>
#include <rwkv/sampler.hpp>
#include <rwkv/state.hpp>
#include <rwkv/text/stop_matcher.hpp>
#include <rwkv/tokenizer.hpp>

#include <concepts>
#include <functional>
#include <memory>
#include <type_traits>

namespace rwkv::inline RWKV_ABI {

template <class Shape>
struct Slot;
enum class Logits : std::uint8_t;

/// What feeds the state of one sequence for `generate` instead of `Model::forward` alone: Feeder
/// (speculate.hpp), which guesses ahead, records the way back, or both.
class AnyFeeder {
 public:
  /// Runs a batch: `Model::forward` with everything else given.
  using Forward =
      std::function<void(std::span<const Slot<DynamicShape>>, Logits, std::span<float>)>;

  virtual ~AnyFeeder() = default;
  /// Appends `tokens` to the sequence and returns the logits [V] after them; `expected`: how many
  /// tokens may follow one by one. The state may be ahead of the tokens until it is settled.
  virtual std::span<const float> feed(State<DynamicShape>& state, std::span<const Token> tokens,
                                      std::size_t expected, const Forward& forward,
                                      ExecutorRef exec) = 0;
  /// Makes the state that of the tokens that were fed.
  virtual void settle(State<DynamicShape>& state, ExecutorRef exec) = 0;
  /// The last `feed` was abandoned: the state is as it was before.
  virtual void abandon() = 0;

  /// A call of `feed`, as one of several.
  struct Request {
    AnyFeeder* feeder = nullptr;
    State<DynamicShape>* state = nullptr;
    std::span<const Token> tokens{};
    std::size_t expected = 0;
    std::span<const float> logits{};  ///< out: valid until the feeder's next call
  };
  /// Answers a request of this feeder whose tokens were all read before, as guesses: true. Nothing
  /// has changed otherwise.
  virtual bool feed_ahead(Request& request) = 0;
  /// Answers requests of several feeders of this kind, as many as possible in one pass.
  virtual void feed_together(std::span<Request> requests, const Forward& forward,
                             ExecutorRef exec) = 0;
  /// Another one of this kind, without guesses.
  [[nodiscard]] virtual std::unique_ptr<AnyFeeder> plain() const = 0;
};

struct GenerateOptions {
  std::size_t max_tokens = 256;
  SamplerOptions sampler{};
  std::vector<Token> stop_tokens{0};        ///< 0 ends a text in RWKV's vocabularies
  std::vector<std::string> stop_strings{};  ///< not shown, nor is any part of them
  /// Fed before the prompt. Token 0 tells a model with a fresh state that a text begins.
  std::optional<Token> leading_token{};
  /// To go on without a prompt: the logits [V] after everything that the state has read, which the
  /// first token is drawn from (`GenerateResult::logits`, or what `forward` returned). A state does
  /// not tell them: with neither these nor a prompt nor a leading token, token 0 is fed if it has
  /// no text, as in RWKV's vocabularies, where it begins one. Not used where there is something to
  /// feed.
  std::span<const float> logits{};
  /// Whether the tokenizer may belong to a model of another size (see `Tokenizer::require_fit`).
  bool any_vocabulary = false;
  /// Asked before every forward pass; true stops. Empty: never.
  std::function<bool()> cancelled{};
  /// What the text must look like (grammar.hpp), from its first token on. Stop tokens are drawn
  /// only where it is complete. Text that it forces is not sampled, but fed in passes of many
  /// tokens. Must be of this tokenizer. Default: none.
  Constraint constraint{};
  /// Several tokens per pass by guesses, the same text: see speculate.hpp; or a way back: see
  /// history.hpp. For RWKV-7 models on the processor whose shape is known at run time. Must outlive
  /// the call, and is of this sequence alone.
  AnyFeeder* feeder = nullptr;
};

struct GenerateResult {
  std::vector<Token> tokens;  ///< sampled and consumed; a stop token is not among them
  std::string text;           ///< all pieces that the callback was given
  /// decode(tokens) past `text`: a stop string and what its last token held beyond it, or what a
  /// cancelled call had not shown yet. Otherwise empty.
  std::string overrun;
  StopReason reason = StopReason::none;
  /// All of `tokens` together satisfy the constraint. True if there is none.
  bool satisfied = true;
  /// [V] after everything that was consumed, to go on from: see `GenerateOptions::logits`. Empty if
  /// the call was cancelled within the prompt.
  std::vector<float> logits;
  /// The constraint after `tokens`, for a call that goes on.
  Constraint constraint{};
  std::size_t prompt_tokens = 0;  ///< consumed, with the leading token
  double prompt_seconds = 0;      ///< for these
  double generate_seconds = 0;    ///< for `tokens`
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Tokens of one sequence to text that can be shown: whole UTF-8 characters, no part of a stop
/// string, an end. It knows no model, so that a server can keep one per sequence of a batch. The
/// pieces that `push` returned and `pending` together are the bytes of all tokens but a stop token.
/// A value type.
class TokenStream {
 public:
  /// Throws `Error` (argument) for an empty stop string.
  TokenStream(Tokenizer tokenizer, const GenerateOptions& options);

  /// `none` as long as tokens are wanted.
  [[nodiscard]] StopReason reason() const noexcept { return reason_; }

  /// Takes a sampled token and returns the text that is certain with it; valid until the next call.
  /// When this token is the last one, that includes everything held back but a stop string. Throws
  /// `Error` (argument) for a token past the vocabulary, and if reason() is not none.
  std::string_view push(Token token);

  /// Says that no token follows: returns everything held back but a stop string. Valid until the
  /// next call.
  std::string_view finish();

  /// The bytes that were not returned (yet).
  [[nodiscard]] std::string pending() const;

 private:
  Tokenizer tokenizer_;
  std::vector<Token> stop_tokens_;
  StopMatcher matcher_;
  Utf8Stream utf8_;
  std::string piece_;
  std::size_t left_;
  StopReason reason_;
};

/// The tokens that the official pipeline does not count as repetitions: those whose bytes are a
/// part of " \t0123456789".
[[nodiscard]] RWKV_FUNCTION std::vector<Token> digits_and_spaces(const Tokenizer& tokenizer);

/// The sampler that `generate` makes for itself: with `digits_and_spaces` uncounted unless the
/// options say otherwise. One that is kept goes on from call to call. Throws `Error` (argument).
[[nodiscard]] RWKV_FUNCTION Sampler make_sampler(SamplerOptions options,
                                                 const Tokenizer& tokenizer);

namespace detail {

/// Feeds tokens and returns the logits after them; `expected` more may follow. If `stoppable`, the
/// call may come to nothing: the state is then as it was, and there are no logits.
using Feed = std::function<std::span<const float>(std::span<const Token>, bool stoppable,
                                                  std::size_t expected)>;

/// The recurrent state that `state` is or (AnyState) holds; null for another kind.
template <class State>
[[nodiscard]] rwkv::State<DynamicShape>* recurrent_state([[maybe_unused]] State& state) noexcept {
  if constexpr (std::is_same_v<State, rwkv::State<DynamicShape>>)
    return &state;
  else if constexpr (requires { state.hybrid() != nullptr ? nullptr : &state.rwkv(); })
    return state.hybrid() != nullptr ? nullptr : &state.rwkv();
  else
    return nullptr;
}

/// Runs a batch of such states through the RWKV-7 model that `model` is or (AnyModel) holds.
template <class Model, class Work>
void forward_recurrent(const Model& model, std::span<const Slot<DynamicShape>> slots, Logits which,
                       std::span<float> logits, Work& work, ExecutorRef exec) {
  if constexpr (requires { model.forward(slots, which, logits, work, exec); })
    model.forward(slots, which, logits, work, exec);
  else if constexpr (requires {
                       model.rwkv7()->forward(slots, which, logits, *work.rwkv(), exec);
                     }) {
    if (model.rwkv7() == nullptr || work.rwkv() == nullptr)
      fail(ErrorCategory::argument,
           "states of RWKV-7 need a model and a workspace of the same architecture");
    model.rwkv7()->forward(slots, which, logits, *work.rwkv(), exec);
  }
}

/// Throws Error (unsupported) for a feeder of something that is no such state.
inline void require_way_back(const AnyFeeder* feeder, const State<DynamicShape>* state) {
  if (feeder != nullptr && state == nullptr)
    fail(
        ErrorCategory::unsupported,
        "only RWKV-7 models on the processor, with shapes known at run time, can be fed by guesses "
        "or rewound: the caches of RWKV-X, for one, have no way back");
}

/// Throws Error (cancelled) if the executor has abandoned the pass before: there are no logits.
inline void require_whole_pass(ExecutorRef exec) {
  if (!exec.proceed())
    fail(ErrorCategory::cancelled,
         "the executor has abandoned a pass, so that the text cannot go on; "
         "GenerateOptions::cancelled ends it with the state as it should be");
}

/// Settles a state whatever happens.
struct Settled {
  AnyFeeder* feeder;
  State<DynamicShape>* state;
  ExecutorRef exec;
  ~Settled() {
    if (feeder != nullptr) feeder->settle(*state, exec);
  }
};

/// Gets text, and says whether to go on.
using Show = std::function<bool(std::string_view)>;

/// The loop without the model: what a sequence wants to be fed, and what becomes of the logits.
class Generation {
 public:
  /// The options must outlive it. `sampler`: null for one of its own, by the options.
  Generation(std::size_t vocab, const Tokenizer& tokenizer, std::span<const Token> prompt,
             const GenerateOptions& options, Sampler* sampler = nullptr);

  /// The tokens to be fed now, at most `rows` of the prompt; none: it has ended.
  [[nodiscard]] std::span<const Token> wanted(std::size_t rows);

  /// True if a call of `fed` with so many of them needs the logits.
  [[nodiscard]] bool needs_logits(std::size_t tokens) const noexcept {
    return result_.prompt_tokens + tokens >= input_.size();
  }

  /// `tokens` of them were fed, and these are the logits after them (if they are needed): draws and
  /// shows. `rows`: how many forced tokens may be fed at once. If it throws, the text has ended,
  /// and what it threw out of is not part of the result.
  void fed(std::size_t tokens, std::span<const float> logits, std::size_t rows, const Show& show);

  /// The prompt is not read further.
  void cancel();

  /// `tokens` of them were fed, and nothing is to be drawn from the logits.
  void stop(std::size_t tokens, std::span<const float> logits);

  /// Without a prompt, instead of the first `fed`.
  void begin(std::size_t rows, const Show& show) {
    if (input_.empty()) fed(0, options_->logits, rows, show);
  }

  [[nodiscard]] bool reads_prompt() const noexcept { return result_.prompt_tokens < input_.size(); }

  /// How many tokens may follow those that are wanted, one by one; 0 within the prompt.
  [[nodiscard]] std::size_t expected() const noexcept {
    const bool over = reads_prompt() || stream_.reason() != StopReason::none || !wanted_;
    return over ? 0 : options_->max_tokens - result_.tokens.size();
  }

  /// Precondition: it has ended.
  [[nodiscard]] GenerateResult result() && { return std::move(result_); }

 private:
  [[nodiscard]] double seconds() const;
  [[nodiscard]] bool cancelled() const { return options_->cancelled && options_->cancelled(); }
  [[nodiscard]] Sampler& sampler() noexcept { return given_ != nullptr ? *given_ : *own_; }
  [[nodiscard]] bool show_if_any(std::string_view piece, const Show& show);
  void draw(std::span<const float> logits, std::size_t rows, const Show& show);
  [[nodiscard]] bool take_forced(std::size_t known, std::size_t rows, const Show& show);
  void end(std::span<const float> logits);
  [[nodiscard]] bool count(std::size_t tokens);

  const GenerateOptions* options_;
  Tokenizer tokenizer_;
  std::vector<Token> input_;
  std::optional<Sampler> own_;
  Sampler* given_;
  TokenStream stream_;
  TokenMask mask_;
  GenerateResult result_;
  std::size_t fed_ = 0;  // of the result's tokens
  double started_ = 0;   // when the prompt, or the text, began
  bool wanted_ = true;   // by `show`
  bool ended_ = false;
};

/// The loop, for any model: `forward` takes at most `rows` tokens.
RWKV_FUNCTION GenerateResult generate(const Feed& forward, std::size_t vocab, std::size_t rows,
                                      const Tokenizer& tokenizer, std::span<const Token> prompt,
                                      const GenerateOptions& options, const Show& show,
                                      Sampler* sampler);

/// A callback that may return nothing as one that returns whether to go on.
template <class OnText>
auto showing(OnText& on_text) {
  return [&on_text](std::string_view piece) {
    if constexpr (std::is_void_v<std::invoke_result_t<OnText&, std::string_view>>) {
      on_text(piece);
      return true;
    } else {
      return static_cast<bool>(on_text(piece));
    }
  };
}

/// The loop for a model.
template <class Model, class State, class Work, class OnText>
GenerateResult generate(const Model& model, State& state, Work& work, const Tokenizer& tokenizer,
                        std::span<const Token> prompt, Sampler* sampler,
                        const GenerateOptions& options, OnText& on_text, ExecutorRef exec) {
  rwkv::State<DynamicShape>* const fed = recurrent_state(state);
  require_way_back(options.feeder, fed);
  const auto feed = [&](std::span<const Token> tokens, std::size_t expected,
                        ExecutorRef runner) -> std::span<const float> {
    if (options.feeder == nullptr) return model.forward(state, tokens, work, runner);
    const auto run = [&](std::span<const Slot<DynamicShape>> slots, Logits which,
                         std::span<float> logits) {
      forward_recurrent(model, slots, which, logits, work, runner);
    };
    return options.feeder->feed(*fed, tokens, expected, std::cref(run), runner);
  };
  const auto forward = [&](std::span<const Token> tokens, bool stoppable,
                           std::size_t expected) -> std::span<const float> {
    if (!stoppable) {
      const std::span<const float> logits = feed(tokens, expected, exec);
      require_whole_pass(exec);
      return logits;
    }
    State before = state;
    Cancellable cancellable(exec, std::cref(options.cancelled));
    const std::span<const float> logits = feed(tokens, expected, cancellable);
    if (!cancellable.stopped()) return logits;
    state = std::move(before);
    if (options.feeder != nullptr) options.feeder->abandon();
    return {};
  };
  const Settled settled{options.feeder, fed, exec};
  return generate(forward, model.shape().vocab(), work.rows(), tokenizer, prompt, options,
                  showing(on_text), sampler);
}

}  // namespace detail

/// A callback that shows nothing.
struct NoCallback {
  void operator()(std::string_view) const noexcept {}
};

/// Continues `state` with a prompt and then with sampled tokens. `on_text` gets every piece of text
/// as soon as it is certain; it may return bool, where false stops. Afterwards **the state has
/// consumed exactly the prompt and `tokens`**, all of them (the last one costs a pass that nothing
/// is sampled from), so that another call, or anything else, can go on from it.
///
/// A cancelled call stops between passes, and in the middle of those of a prompt, which are then
/// undone: `prompt_tokens` says how much of it was consumed. Tokens that the tokenizer does not
/// know are never sampled. Same options, prompt and state give the same tokens.
///
/// Works with Model, HybridModel, AnyModel and StaticModel. A call with an empty prompt goes on
/// from `GenerateOptions::logits`.
///
/// Throws `Error` (argument) when there is nothing to go on from, for a token outside the model's
/// vocabulary, for a tokenizer of another model and for options out of range, before anything has
/// changed; (numeric) when the model yields NaN; (argument) when no token of the vocabulary fits
/// what the constraint wants next; and (cancelled) when `exec` abandons a pass (see Executor), which
/// leaves a state that is none. If `on_text` throws, the state lacks the last token.
template <class Model, class State, class Work, class OnText = NoCallback>
requires std::invocable<OnText&, std::string_view> GenerateResult
generate(const Model& model, State& state, Work& work, const Tokenizer& tokenizer,
         std::span<const Token> prompt, const GenerateOptions& options = {}, OnText&& on_text = {},
         ExecutorRef exec = {}) {
  return detail::generate(model, state, work, tokenizer, prompt, nullptr, options, on_text, exec);
}

/// The same for a prompt in text.
template <class Model, class State, class Work, class OnText = NoCallback>
requires std::invocable<OnText&, std::string_view> GenerateResult
generate(const Model& model, State& state, Work& work, const Tokenizer& tokenizer,
         std::string_view prompt, const GenerateOptions& options = {}, OnText&& on_text = {},
         ExecutorRef exec = {}) {
  const std::vector<Token> tokens = tokenizer.encode(prompt);
  return detail::generate(model, state, work, tokenizer, tokens, nullptr, options, on_text, exec);
}

/// The same with a sampler that the caller keeps (`options.sampler` is not used): its random
/// numbers and what it has counted go on from call to call, so that two calls of 30 tokens, the
/// second with the first one's `logits`, give what one of 60 gives. See `make_sampler`.
template <class Model, class State, class Work, class OnText = NoCallback>
requires std::invocable<OnText&, std::string_view> GenerateResult
generate(const Model& model, State& state, Work& work, const Tokenizer& tokenizer,
         std::span<const Token> prompt, Sampler& sampler, const GenerateOptions& options = {},
         OnText&& on_text = {}, ExecutorRef exec = {}) {
  return detail::generate(model, state, work, tokenizer, prompt, &sampler, options, on_text, exec);
}

/// The same for a prompt in text.
template <class Model, class State, class Work, class OnText = NoCallback>
requires std::invocable<OnText&, std::string_view> GenerateResult
generate(const Model& model, State& state, Work& work, const Tokenizer& tokenizer,
         std::string_view prompt, Sampler& sampler, const GenerateOptions& options = {},
         OnText&& on_text = {}, ExecutorRef exec = {}) {
  const std::vector<Token> tokens = tokenizer.encode(prompt);
  return detail::generate(model, state, work, tokenizer, tokens, &sampler, options, on_text, exec);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/generate.ipp>
#endif
