// SPDX-License-Identifier: Apache-2.0
// The definitions of generate.hpp.
#pragma once

#include <rwkv/generate.hpp>

#include <algorithm>
#include <chrono>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION TokenStream::TokenStream(Tokenizer tokenizer, const GenerateOptions& options)
    : tokenizer_(std::move(tokenizer)),
      stop_tokens_(options.stop_tokens),
      matcher_(options.stop_strings),
      left_(options.max_tokens),
      reason_(left_ == 0 ? StopReason::max_tokens : StopReason::none) {}

RWKV_FUNCTION std::string_view TokenStream::push(Token token) {
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

RWKV_FUNCTION std::string_view TokenStream::finish() {
  piece_.clear();
  if (reason_ == StopReason::none) {
    piece_ = utf8_.push(matcher_.flush());
    piece_ += utf8_.flush();
    reason_ = StopReason::complete;
  }
  return piece_;
}

RWKV_FUNCTION std::string TokenStream::pending() const {
  return std::string(utf8_.pending()) += matcher_.pending();
}

RWKV_FUNCTION std::vector<Token> digits_and_spaces(const Tokenizer& tokenizer) {
  std::vector<Token> tokens;
  for (Token token = 0; token < tokenizer.vocab_size(); ++token)
    if (std::string_view(" \t0123456789").find(tokenizer.token_bytes(token)) !=
        std::string_view::npos)
      tokens.push_back(token);
  return tokens;
}

namespace detail {

/// Sets `mask` to the tokens that the constraint allows, stop tokens among them where the text may
/// end. False if it must end, as nothing can follow.
[[nodiscard]] inline bool allow(Constraint& constraint, std::span<const Token> stop_tokens,
                                TokenMask& mask) {
  constraint.allowed(mask);
  const bool complete = constraint.complete();
  if (mask.none()) {
    if (complete) return false;
    fail(ErrorCategory::argument,
         "no token of the vocabulary begins with any byte that the constraint allows next");
  }
  for (const Token token : stop_tokens)
    if (token < mask.size()) mask.set(token, complete);
  return true;
}

RWKV_FUNCTION GenerateResult generate(const Feed& forward, std::size_t vocab, std::size_t rows,
                                      const Tokenizer& tokenizer, std::span<const Token> prompt,
                                      const GenerateOptions& options,
                                      const std::function<bool(std::string_view)>& show) {
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto seconds_since = [&](auto start) {
    return std::chrono::duration<double>(now() - start).count();
  };
  const auto cancelled = [&] { return options.cancelled && options.cancelled(); };

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
  if (!options.any_vocabulary) tokenizer.require_fit(vocab);
  GenerateResult result;

  // In pieces of one pass, so that a long prompt can be cancelled.
  const auto prompt_start = now();
  std::span<const float> logits;
  while (result.prompt_tokens < input.size()) {
    const std::size_t some = (std::min)(rows, input.size() - result.prompt_tokens);
    const auto tokens = std::span<const Token>(input).subspan(result.prompt_tokens, some);
    logits = {};
    if (!cancelled()) logits = forward(tokens, some > 1 && options.cancelled);
    if (logits.empty()) {
      result.reason = StopReason::cancelled;
      result.prompt_seconds = seconds_since(prompt_start);
      return result;
    }
    result.prompt_tokens += some;
  }
  result.prompt_seconds = seconds_since(prompt_start);

  const auto show_if_any = [&](std::string_view piece) {
    if (piece.empty()) return true;
    result.text += piece;
    return show(piece);
  };
  const auto generate_start = now();
  bool wanted = true;
  Constraint constraint = options.constraint;
  TokenMask mask;
  while (stream.reason() == StopReason::none && wanted && !cancelled()) {
    const auto known = logits.first((std::min)(logits.size(), tokenizer.vocab_size()));
    if (constraint) {
      if (const auto forced = constraint.forced_tokens(rows); !forced.empty()) {
        const std::size_t before = result.tokens.size();
        for (const Token token : forced) {
          if (token >= known.size())
            fail_with(ErrorCategory::argument, "the constraint forces token ", token,
                      ", which is outside the model's vocabulary of ", known.size());
          constraint.accept(token);
          sampler.observe(token);
          wanted = show_if_any(stream.push(token));
          if (stream.reason() == StopReason::stop_token) break;
          result.tokens.push_back(token);
          if (stream.reason() != StopReason::none || !wanted) break;
        }
        if (result.tokens.size() > before)
          logits = forward(std::span<const Token>(result.tokens).subspan(before), false);
        continue;
      }
      if (!allow(constraint, options.stop_tokens, mask)) {
        result.reason = StopReason::complete;
        wanted = show_if_any(stream.finish());
        break;
      }
    }
    const Token token = constraint ? sampler.sample(known, mask) : sampler.sample(known);
    wanted = show_if_any(stream.push(token));
    if (stream.reason() == StopReason::stop_token) break;
    if (constraint) constraint.accept(token);
    result.tokens.push_back(token);
    logits = forward(std::span<const Token>(&token, 1), false);
  }
  if (result.reason == StopReason::none)
    result.reason = stream.reason() == StopReason::none ? StopReason::cancelled : stream.reason();
  result.satisfied = !constraint || constraint.complete();
  result.overrun = stream.pending();
  result.generate_seconds = seconds_since(generate_start);
  return result;
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
