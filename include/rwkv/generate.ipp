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
  if (reason_ != StopReason::none)
    fail_with(ErrorCategory::argument, "token ", token, " for a text that has ended");
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
    if (internal::is_digits_or_spaces(tokenizer.token_bytes(token))) tokens.push_back(token);
  return tokens;
}

RWKV_FUNCTION Sampler make_sampler(SamplerOptions options, const Tokenizer& tokenizer) {
  if (!options.uncounted) options.uncounted = digits_and_spaces(tokenizer);
  return Sampler(std::move(options));
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

RWKV_FUNCTION Generation::Generation(std::size_t vocab, const Tokenizer& tokenizer,
                                     std::span<const Token> prompt, const GenerateOptions& options,
                                     Sampler* sampler)
    : options_(&options), tokenizer_(tokenizer), given_(sampler), stream_(tokenizer, options) {
  input_.reserve(prompt.size() + 1);
  if (options.leading_token) input_.push_back(*options.leading_token);
  input_.insert(input_.end(), prompt.begin(), prompt.end());
  if (input_.empty() && options.logits.empty()) {
    if (tokenizer_.vocab_size() == 0 || !tokenizer_.token_bytes(0).empty())
      fail(ErrorCategory::argument,
           "there is nothing to go on from: neither a prompt nor a leading token nor logits");
    input_.push_back(0);
  }
  if (input_.empty() && options.logits.size() != vocab)
    fail_with(ErrorCategory::argument, options.logits.size(),
              " logits to go on from, of a vocabulary of ", vocab);
  for (std::size_t i = 0; i < input_.size(); ++i)
    if (input_[i] >= vocab)
      fail_with(ErrorCategory::argument, "token ", input_[i], " at position ", i,
                " of the prompt is outside the model's vocabulary of ", vocab);
  if (given_ == nullptr) {
    options.sampler.validate(vocab);
    own_.emplace(make_sampler(options.sampler, tokenizer_));
  }
  if (!options.any_vocabulary) tokenizer_.require_fit(vocab);
  result_.constraint = options.constraint;
  started_ = seconds();
}

RWKV_FUNCTION double Generation::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

RWKV_FUNCTION std::span<const Token> Generation::wanted(std::size_t rows) {
  if (ended_) return {};
  if (!reads_prompt()) return std::span<const Token>(result_.tokens).subspan(fed_);
  if (cancelled()) {
    cancel();
    return {};
  }
  const auto rest = std::span<const Token>(input_).subspan(result_.prompt_tokens);
  return rest.first((std::min)(rows, rest.size()));
}

RWKV_FUNCTION void Generation::cancel() {
  result_.reason = StopReason::cancelled;
  result_.prompt_seconds = seconds() - started_;
  ended_ = true;
}

RWKV_FUNCTION bool Generation::show_if_any(std::string_view piece, const Show& show) {
  if (piece.empty()) return true;
  result_.text += piece;
  return show(piece);
}

/// False if there is more of the prompt to be read.
RWKV_FUNCTION bool Generation::count(std::size_t tokens) {
  if (fed_ > 0 || !result_.tokens.empty()) {
    fed_ += tokens;
    return true;
  }
  result_.prompt_tokens += tokens;  // or there was none
  if (reads_prompt()) return false;
  const double now = seconds();
  result_.prompt_seconds = now - started_;
  started_ = now;
  return true;
}

RWKV_FUNCTION void Generation::fed(std::size_t tokens, std::span<const float> logits,
                                   std::size_t rows, const Show& show) {
  if (!count(tokens)) return;
  ended_ = true;  // unless all goes well
  draw(logits, rows, show);
}

RWKV_FUNCTION void Generation::stop(std::size_t tokens, std::span<const float> logits) {
  if (ended_) return;
  if (!count(tokens)) return cancel();
  result_.tokens.resize(fed_);  // one may have been drawn that nobody fed
  ended_ = true;
  end(input_.empty() && fed_ == 0 ? options_->logits : logits);
}

RWKV_FUNCTION bool Generation::take_forced(std::size_t known, std::size_t rows, const Show& show) {
  Constraint& constraint = result_.constraint;
  const auto forced = constraint.forced_tokens(rows);
  for (const Token token : forced) {
    if (token >= known)
      fail_with(ErrorCategory::argument, "the constraint forces token ", token,
                ", which is outside the model's vocabulary of ", known);
    wanted_ = show_if_any(stream_.push(token), show);
    if (stream_.reason() == StopReason::stop_token) break;  // it is not part of the text
    constraint.accept(token);
    sampler().observe(token);
    result_.tokens.push_back(token);
    if (stream_.reason() != StopReason::none || !wanted_) break;
  }
  return !forced.empty();
}

RWKV_FUNCTION void Generation::draw(std::span<const float> logits, std::size_t rows,
                                    const Show& show) {
  if (stream_.reason() != StopReason::none || !wanted_ || cancelled()) return end(logits);
  Constraint& constraint = result_.constraint;
  const auto known = logits.first((std::min)(logits.size(), tokenizer_.vocab_size()));
  if (constraint) {
    if (take_forced(known.size(), rows, show)) {
      if (result_.tokens.size() == fed_) return end(logits);
      ended_ = false;
      return;
    }
    if (!allow(constraint, options_->stop_tokens, mask_)) {
      result_.reason = StopReason::complete;
      wanted_ = show_if_any(stream_.finish(), show);
      return end(logits);
    }
  }
  const Token token = constraint ? sampler().sample(known, mask_) : sampler().sample(known);
  wanted_ = show_if_any(stream_.push(token), show);
  if (stream_.reason() == StopReason::stop_token) return end(logits);
  if (constraint) constraint.accept(token);
  result_.tokens.push_back(token);
  ended_ = false;
}

RWKV_FUNCTION void Generation::end(std::span<const float> logits) {
  const bool constrained{result_.constraint};
  if (result_.reason == StopReason::none)
    result_.reason =
        stream_.reason() == StopReason::none ? StopReason::cancelled : stream_.reason();
  result_.satisfied = !constrained || result_.constraint.complete();
  result_.overrun = stream_.pending();
  result_.logits.assign(logits.begin(), logits.end());
  result_.generate_seconds = seconds() - started_;
}

RWKV_FUNCTION GenerateResult generate(const Feed& forward, std::size_t vocab, std::size_t rows,
                                      const Tokenizer& tokenizer, std::span<const Token> prompt,
                                      const GenerateOptions& options, const Show& show,
                                      Sampler* sampler) {
  Generation text(vocab, tokenizer, prompt, options, sampler);
  text.begin(rows, show);
  for (auto tokens = text.wanted(rows); !tokens.empty(); tokens = text.wanted(rows)) {
    const bool stoppable = text.reads_prompt() && tokens.size() > 1 && options.cancelled;
    const auto logits = forward(tokens, stoppable, text.expected());
    if (logits.empty()) {
      text.cancel();
      break;
    }
    text.fed(tokens.size(), logits, rows, show);
  }
  return std::move(text).result();
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
