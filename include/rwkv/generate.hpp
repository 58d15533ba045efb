// SPDX-License-Identifier: Apache-2.0
// The loop: feed the prompt, then sample, stream, feed, until something says stop.
//
//   rwkv::GenerateResult r = rwkv::generate(model, state, work, tokenizer, "Once upon a time",
//       {.max_tokens = 200}, [](std::string_view piece) { std::cout << piece << std::flush; });
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/sampler.hpp>
#include <rwkv/text/stop_matcher.hpp>
#include <rwkv/tokenizer.hpp>

#include <chrono>
#include <concepts>
#include <functional>
#include <type_traits>

namespace rwkv::inline RWKV_ABI {

/// Why the text ended.
enum class StopReason : std::uint8_t {
  none,         ///< it has not
  max_tokens,   ///< as many tokens as asked for
  stop_token,   ///< the model said that it has finished
  stop_string,  ///< a stop string was complete
  cancelled,    ///< the callback or `cancelled` asked to stop
};

struct GenerateOptions {
  std::size_t max_tokens = 256;
  SamplerOptions sampler{};
  std::vector<Token> stop_tokens{0};        ///< 0 ends a text in RWKV's vocabularies
  std::vector<std::string> stop_strings{};  ///< not shown, nor is any part of them
  /// Fed before the prompt. Token 0 tells a model with a fresh state that a text begins.
  std::optional<Token> leading_token{};
  /// Asked before every forward pass; true stops. Empty: never.
  std::function<bool()> cancelled{};
};

struct GenerateResult {
  std::vector<Token> tokens;  ///< sampled and consumed; a stop token is not among them
  std::string text;           ///< all pieces that the callback was given
  /// decode(tokens) past `text`: a stop string and what its last token held beyond it, or what a
  /// cancelled call had not shown yet. Otherwise empty.
  std::string overrun;
  StopReason reason = StopReason::none;
  std::size_t prompt_tokens = 0;  ///< consumed, with the leading token
  double prompt_seconds = 0;      ///< for these
  double generate_seconds = 0;    ///< for `tokens`
};

/// Tokens of one sequence to text that can be shown: whole UTF-8 characters, no part of a stop
/// string, an end. It knows no model, so that a server can keep one per sequence of a batch. The
/// pieces that `push` returned and `pending` together are the bytes of all tokens but a stop token.
/// A value type.
class TokenStream {
 public:
  /// Throws `Error` (argument) for an empty stop string.
  TokenStream(Tokenizer tokenizer, const GenerateOptions& options)
      : tokenizer_(std::move(tokenizer)),
        stop_tokens_(options.stop_tokens),
        matcher_(options.stop_strings),
        left_(options.max_tokens),
        reason_(left_ == 0 ? StopReason::max_tokens : StopReason::none) {}

  /// `none` as long as tokens are wanted.
  [[nodiscard]] StopReason reason() const noexcept { return reason_; }

  /// Takes a sampled token and returns the text that is certain with it; valid until the next call.
  /// When this token is the last one, that includes everything held back but a stop string. Throws
  /// `Error` (argument) for a token past the vocabulary. Precondition: reason() is none.
  std::string_view push(Token token) {
    RWKV_ASSERT(reason_ == StopReason::none);
    if (std::find(stop_tokens_.begin(), stop_tokens_.end(), token) != stop_tokens_.end()) {
      reason_ = StopReason::stop_token;
      piece_ = utf8_.push(matcher_.flush());
    } else {
      piece_ = utf8_.push(matcher_.push(tokenizer_.token_bytes(token)));
      --left_;
      if (matcher_.matched()) {
        reason_ = StopReason::stop_string;
      } else if (left_ == 0) {
        reason_ = StopReason::max_tokens;
        piece_ += utf8_.push(matcher_.flush());
      }
    }
    if (reason_ != StopReason::none) piece_ += utf8_.flush();
    return piece_;
  }

  /// The bytes that were not returned (yet).
  [[nodiscard]] std::string pending() const {
    return std::string(utf8_.pending()) += matcher_.pending();
  }

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
[[nodiscard]] inline std::vector<Token> digits_and_spaces(const Tokenizer& tokenizer) {
  std::vector<Token> tokens;
  for (Token token = 0; token < tokenizer.vocab_size(); ++token)
    if (std::string_view(" \t0123456789").find(tokenizer.token_bytes(token)) !=
        std::string_view::npos)
      tokens.push_back(token);
  return tokens;
}

/// A callback that shows nothing.
struct NoCallback {
  void operator()(std::string_view) const noexcept {}
};

/// Continues `state` with a prompt and then with sampled tokens. `on_text` gets every piece of text
/// as soon as it is certain; it may return bool, where false stops. Afterwards **the state has
/// consumed exactly the prompt and `tokens`**, all of them (the last one costs a pass that nothing
/// is sampled from), so that another call, or anything else, can go on from it.
///
/// A cancelled call stops between passes, in a long prompt too: `prompt_tokens` then says how much
/// of it was consumed. Tokens that the tokenizer does not know are never sampled. Same options,
/// prompt and state give the same tokens.
///
/// Throws `Error` (argument) when there is nothing to feed, for a token outside the model's
/// vocabulary and for options out of range, before anything has changed; and (numeric) when the
/// model yields NaN. If `on_text` throws, the state lacks the last token.
template <class Model, class State, class Work, class OnText = NoCallback, Executor Exec = Serial>
requires std::invocable<OnText&, std::string_view> GenerateResult
generate(const Model& model, State& state, Work& work, const Tokenizer& tokenizer,
         std::span<const Token> prompt, const GenerateOptions& options = {}, OnText&& on_text = {},
         Exec&& exec = {}) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto seconds_since = [&](auto start) {
    return std::chrono::duration<double>(now() - start).count();
  };
  const auto cancelled = [&] { return options.cancelled && options.cancelled(); };
  const std::size_t vocab = model.shape().vocab();

  std::vector<Token> input;
  input.reserve(prompt.size() + 1);
  if (options.leading_token) input.push_back(*options.leading_token);
  input.insert(input.end(), prompt.begin(), prompt.end());
  if (input.empty())
    fail(ErrorCategory::argument, "the prompt is empty: the model has nothing to go on from");
  for (std::size_t i = 0; i < input.size(); ++i)
    if (input[i] >= vocab)
      fail_with(ErrorCategory::argument, "token ", input[i], " at position ", i,
                " of the prompt is outside the model's vocabulary of ", vocab);
  SamplerOptions sampler_options = options.sampler;
  sampler_options.validate(vocab);
  if (!sampler_options.uncounted) sampler_options.uncounted = digits_and_spaces(tokenizer);
  Sampler sampler(std::move(sampler_options));
  TokenStream stream(tokenizer, options);
  GenerateResult result;

  // In pieces of one pass, so that a long prompt can be cancelled.
  const auto prompt_start = now();
  std::span<const float> logits;
  while (result.prompt_tokens < input.size()) {
    if (cancelled()) {
      result.reason = StopReason::cancelled;
      result.prompt_seconds = seconds_since(prompt_start);
      return result;
    }
    const std::size_t rows = (std::min)(work.rows(), input.size() - result.prompt_tokens);
    logits = model.forward(state, std::span<const Token>(input).subspan(result.prompt_tokens, rows),
                           work, exec);
    result.prompt_tokens += rows;
  }
  result.prompt_seconds = seconds_since(prompt_start);

  const auto show = [&](std::string_view piece) {
    if (piece.empty()) return true;
    result.text += piece;
    if constexpr (std::is_void_v<std::invoke_result_t<OnText&, std::string_view>>) {
      on_text(piece);
      return true;
    } else {
      return static_cast<bool>(on_text(piece));
    }
  };
  const auto generate_start = now();
  bool wanted = true;
  while (stream.reason() == StopReason::none && wanted && !cancelled()) {
    const Token token =
        sampler.sample(logits.first((std::min)(logits.size(), tokenizer.vocab_size())));
    wanted = show(stream.push(token));
    if (stream.reason() == StopReason::stop_token) break;
    result.tokens.push_back(token);
    logits = model.forward(state, std::span<const Token>(&token, 1), work, exec);
  }
  result.reason = stream.reason() == StopReason::none ? StopReason::cancelled : stream.reason();
  result.overrun = stream.pending();
  result.generate_seconds = seconds_since(generate_start);
  return result;
}

/// The same for a prompt in text.
template <class Model, class State, class Work, class OnText = NoCallback, Executor Exec = Serial>
requires std::invocable<OnText&, std::string_view> GenerateResult
generate(const Model& model, State& state, Work& work, const Tokenizer& tokenizer,
         std::string_view prompt, const GenerateOptions& options = {}, OnText&& on_text = {},
         Exec&& exec = {}) {
  const std::vector<Token> tokens = tokenizer.encode(prompt);
  return generate(model, state, work, tokenizer, std::span<const Token>(tokens), options,
                  std::forward<OnText>(on_text), exec);
}

}  // namespace rwkv::inline RWKV_ABI
