// SPDX-License-Identifier: Apache-2.0
// The loop of generate.hpp for static models: feed the prompt, then sample, show, feed, until
// something says stop. The same tokens for the same options, in memory that is known beforehand.
//
//   const auto weights = tales::Weights::from(RWKV_EMBEDDED(tales_blob));   // static_blob.hpp
//   const rwkv::StaticModel model(*weights);
//   static rwkv::State<tales::Shape> state;
//   static rwkv::Workspace<tales::Shape, 1> work;
//   static rwkv::StaticSampler<> sampler({.seed = 7});
//   (void)rwkv::generate(model, state, work, rwkv::ByteTokenizer(), "Once upon a time", sampler,
//                        {.max_tokens = 200}, [](std::string_view piece) { print(piece); });
//
// Freestanding: no heap, no exceptions.
#pragma once

#include <rwkv/static_model.hpp>
#include <rwkv/static_sampler.hpp>
#include <rwkv/static_tokenizer.hpp>
#include <rwkv/text/utf8_suffix.hpp>

namespace rwkv::inline RWKV_ABI {

/// GenerateOptions of the host, but for what needs a heap.
struct StaticGenerateOptions {
  static constexpr Token end_of_text[1] = {0};
  static constexpr std::size_t max_stop_string = 32;

  std::size_t max_tokens = 256;
  std::span<const Token> stop_tokens = end_of_text;  ///< 0 ends a text in RWKV's vocabularies
  /// Not shown, nor is any part of them. Of 1 to `max_stop_string` bytes.
  std::span<const std::string_view> stop_strings{};
  /// Fed before the prompt. Token 0 tells a model with a fresh state that a text begins.
  std::optional<Token> leading_token{};
  /// To go on without a prompt: the logits [V] after everything that the state has read
  /// (`StaticGenerateResult::logits`). Used up. Not used where there is something to feed.
  std::span<float> logits{};
};

struct StaticGenerateResult {
  StopReason reason = StopReason::none;
  std::size_t prompt_tokens = 0;  ///< consumed, with the leading token
  std::size_t tokens = 0;         ///< sampled and consumed; a stop token is not among them
  /// A sentence if something was wrong: with what was given, and then nothing has changed; or with
  /// the model's logits, where the text ends. Else null.
  const char* problem = nullptr;
  /// [V] after everything that was consumed, in the workspace; nothing after a problem, or where a
  /// token was drawn that was not consumed (stop_token).
  std::span<float> logits{};
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Bytes of tokens to text that can be shown: whole UTF-8 characters, no part of a stop string.
template <class OnText>
class StaticTextStream {
 public:
  StaticTextStream(std::span<const std::string_view> stop_strings, OnText& on_text) noexcept
      : stop_strings_(stop_strings), on_text_(on_text) {}

  /// False: no more text is wanted.
  bool push(std::string_view bytes) noexcept {
    for (const char byte : bytes) {
      if (matched_) break;  // what comes after a stop string is not shown
      if (held_ == sizeof text_) release(held_ - waiting());
      text_[held_++] = byte;
      std::size_t longest = 0;
      for (const std::string_view s : stop_strings_)
        if (s.size() > longest && s.size() <= held_ && begins(s, s.size())) longest = s.size();
      if (longest == 0) continue;
      matched_ = true;
      release(held_ - longest);
    }
    if (!matched_) release(held_ - waiting());
    return wanted_;
  }

  /// Shows what waited, if no stop string is complete.
  void finish() noexcept {
    if (!matched_) release(held_);
  }

  [[nodiscard]] bool matched() const noexcept { return matched_; }

 private:
  // Whether the text that is held ends with the first n bytes of s.
  [[nodiscard]] bool begins(std::string_view s, std::size_t n) const noexcept {
    for (std::size_t i = 0; i < n; ++i)
      if (text_[held_ - n + i] != s[i]) return false;
    return true;
  }

  // The bytes at the end that must not be shown yet.
  [[nodiscard]] std::size_t waiting() const noexcept {
    std::size_t longest = 0;
    for (const std::string_view s : stop_strings_)
      for (std::size_t n = (std::min)(s.size() - 1, held_); n > longest; --n)
        if (begins(s, n)) longest = n;
    return longest + incomplete_utf8_suffix({text_, held_ - longest});
  }

  void release(std::size_t n) noexcept {
    if (n == 0) return;
    const std::string_view piece(text_, n);
    if constexpr (std::is_same_v<decltype(on_text_(piece)), bool>)
      wanted_ &= on_text_(piece);
    else
      on_text_(piece);
    held_ -= n;
    for (std::size_t i = 0; i < held_; ++i) text_[i] = text_[i + n];
  }

  std::span<const std::string_view> stop_strings_;
  OnText& on_text_;
  std::size_t held_ = 0;
  bool matched_ = false;
  bool wanted_ = true;
  char text_[2 * StaticGenerateOptions::max_stop_string]{};
};

/// What is wrong with what `generate` was given; null: nothing.
template <class Tokenizer>
[[nodiscard]] const char* static_problem(std::size_t vocab, const Tokenizer& tokenizer,
                                         std::string_view prompt,
                                         const StaticGenerateOptions& options) noexcept {
  if (!internal::vocabulary_fits(tokenizer.vocab_size(), vocab))
    return "the tokenizer and the model do not belong together";
  for (const std::string_view s : options.stop_strings)
    if (s.empty() || s.size() > options.max_stop_string)
      return "a stop string is empty, or longer than 32 bytes";
  if (options.leading_token && *options.leading_token >= vocab)
    return "the leading token is outside the model's vocabulary";
  for (std::size_t at = 0; at < prompt.size();) {
    const TokenMatch match = tokenizer.longest_prefix(prompt.substr(at));
    if (match.length == 0) return "the prompt has a byte that no token begins with";
    if (match.token >= vocab) return "a token of the prompt is outside the model's vocabulary";
    at += match.length;
  }
  if (!prompt.empty() || options.leading_token) return nullptr;
  if (options.logits.empty())
    return tokenizer.token_bytes(0).empty()
               ? nullptr
               : "there is nothing to go on from: neither a prompt nor a leading token nor logits";
  return options.logits.size() == vocab ? nullptr
                                        : "the logits to go on from are of another vocabulary";
}

}  // namespace detail

/// A callback that shows nothing.
struct NoStaticCallback {
  void operator()(std::string_view) const noexcept {}
};

/// Continues `state` with a prompt and then with tokens of the sampler, as `generate` of
/// generate.hpp does with `Tokenizer` and `Sampler`: the same tokens, and the same text in pieces
/// of whole characters. `on_text` may return bool, where false stops. Afterwards the state has
/// consumed exactly the prompt and the tokens. The model is a StaticModel, the state one that it
/// takes. `exec` is the model's; if its `proceed` gives a pass up, the reason is `cancelled` and
/// the state is none. Stack: see static_memory.hpp.
template <class Weights, class Lanes, class State, class Work, AnyStaticTokenizer Tokenizer,
          AnyStaticSampler Sampler, class OnText = NoStaticCallback, class Exec = Serial>
requires std::invocable<OnText&, std::string_view> StaticGenerateResult
generate(const StaticModel<Weights, Lanes>& model, State& state, Work& work,
         const Tokenizer& tokenizer, std::string_view prompt, Sampler& sampler,
         const StaticGenerateOptions& options = {}, OnText&& on_text = {}, Exec&& exec = Exec{})
noexcept {
  StaticGenerateResult result;
  constexpr std::size_t vocab = typename Weights::Shape{}.vocab();
  result.problem = detail::static_problem(vocab, tokenizer, prompt, options);
  if (result.problem != nullptr) return result;

  // False: the executor has given up.
  const auto feed = [&](std::span<const Token> tokens) {
    (void)model.forward(state, tokens, work, exec);
    return proceed(exec);
  };
  std::span<float> logits = options.logits;
  const auto read = [&](std::span<const Token> tokens) {
    if (!feed(tokens)) return false;
    result.prompt_tokens += tokens.size();
    logits = work.logits();
    return true;
  };
  const auto cancelled = [&]() {
    result.reason = StopReason::cancelled;
    return result;
  };

  if (options.leading_token || (prompt.empty() && logits.empty())) {
    const Token first = options.leading_token.value_or(0);
    if (!read({&first, 1})) return cancelled();
  }
  Token tokens[Work::row_count];
  while (!prompt.empty()) {
    std::size_t count = 0;
    for (; count < std::size(tokens) && !prompt.empty(); ++count) {
      const TokenMatch match = tokenizer.longest_prefix(prompt);
      tokens[count] = match.token;
      prompt.remove_prefix(match.length);
    }
    if (!read({tokens, count})) return cancelled();
  }

  detail::StaticTextStream<std::remove_reference_t<OnText>> stream(options.stop_strings, on_text);
  bool wanted = true;
  while (result.reason == StopReason::none) {
    if (result.tokens == options.max_tokens) {
      result.reason = StopReason::max_tokens;
      break;
    }
    const auto known = logits.first((std::min)(vocab, tokenizer.vocab_size()));
    const auto token = sampler.draw(known);
    if (!token) {
      result.problem = "the model's logits are no numbers, or all of them are -infinity";
      result.reason = StopReason::cancelled;
      return result;
    }
    const std::string_view bytes = tokenizer.token_bytes(*token);
    sampler.observe(*token, !internal::is_digits_or_spaces(bytes));
    if (std::find(options.stop_tokens.begin(), options.stop_tokens.end(), *token) !=
        options.stop_tokens.end()) {
      stream.finish();
      result.reason = StopReason::stop_token;
      return result;
    }
    wanted = stream.push(bytes);
    ++result.tokens;
    if (result.tokens == options.max_tokens) stream.finish();
    if (!feed({&*token, 1})) return cancelled();
    logits = work.logits();
    if (stream.matched())
      result.reason = StopReason::stop_string;
    else if (!wanted && result.tokens < options.max_tokens)
      result.reason = StopReason::cancelled;
  }
  result.logits = logits;
  return result;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
