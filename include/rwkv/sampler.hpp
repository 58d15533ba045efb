// SPDX-License-Identifier: Apache-2.0
// Logits to a token, as the official pipeline does it:
//
//   1. banned tokens out; logit -= presence + frequency * occurrences for every token seen so far
//   2. p = softmax(logits); keep the smallest set of most probable tokens that holds `top_p` (and
//      the ties of its last member); keep the `top_k` most probable; drop p < min_p * max p
//   3. draw from p^(1 / temperature), renormalised
//   4. all occurrences *= decay; the drawn token's += 1, or += 0 for digits and spaces
//
// Probabilities are integers (text/fixed_exp.hpp), so that equal logits and seeds give equal tokens
// with every compiler and on every machine.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/text/draw.hpp>
#include <rwkv/text/token_mask.hpp>

#include <array>
#include <optional>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI {

/// The defaults are those of the official pipeline.
struct SamplerOptions {
  float temperature = 1;           ///< >= 0; 0: the most probable token, the lowest id of several
  float top_p = 0.85f;             ///< in [0, 1]; 1: off, 0: only the most probable
  std::size_t top_k = 0;           ///< 0: off; of equally probable tokens, the lowest ids stay
  float min_p = 0;                 ///< in [0, 1]; 0: off
  float presence_penalty = 0.2f;   ///< >= 0
  float frequency_penalty = 0.2f;  ///< >= 0
  float penalty_decay = 0.996f;    ///< in [0, 1]
  std::vector<Token> banned{};     ///< never drawn
  std::vector<std::pair<Token, float>> bias{};  ///< added to a token's logit; -infinity bans it
  /// Tokens whose occurrences are not counted (they still meet the presence penalty). Officially
  /// digits and spaces: `digits_and_spaces(tokenizer)`, which is what `generate` uses if this is
  /// not set.
  std::optional<std::vector<Token>> uncounted{};
  std::uint64_t seed = 0;

  /// Throws `Error` (argument) naming the value that is out of range, or the token that is outside
  /// a vocabulary of `vocab`.
  void validate(std::size_t vocab = dynamic) const;
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Draws the tokens of one sequence: options, the occurrences of past tokens, and random numbers. A
/// value type: a copy is a fork that draws the same. One thread at a time.
class Sampler {
 public:
  /// Throws `Error` (argument) if an option is out of range.
  explicit Sampler(SamplerOptions options = {});

  [[nodiscard]] const SamplerOptions& options() const noexcept { return options_; }

  /// Forgets which tokens occurred; the random numbers go on.
  void forget() noexcept { occurrences_.clear(); }

  /// Draws a token and counts it. Throws `Error` (numeric) for NaN or +infinity among the logits,
  /// or if every token is out (-infinity or banned), and (argument) for no logits; nothing has
  /// changed then. Options and occurrences of tokens past the logits have no effect. O(V + distinct
  /// tokens so far); allocates only when V or the number of distinct tokens grows.
  [[nodiscard]] Token sample(std::span<const float> logits);

  /// The same among the tokens that `allowed` holds; the others are as good as banned. Where it
  /// holds a single one, that is the token, whatever its logit, and no random number is drawn.
  /// Throws `Error` (numeric) as above, also if `allowed` holds none.
  [[nodiscard]] Token sample(std::span<const float> logits, const TokenMask& allowed);

  /// Counts a token that came about otherwise, as if it had been drawn.
  void observe(Token token) { count(token); }

 private:
  // x_ = the logits with bans, biases and penalties.
  void adjust(std::span<const float> logits);
  // The token of x_, counted.
  Token choose();

  void count(Token token);

  SamplerOptions options_;
  FixedExp tempered_;  // p^(1 / temperature)
  SplitMix64 random_;
  std::vector<detail::Occurrence> occurrences_;
  // Scratch of one call.
  std::vector<float> x_;         // [V]
  std::vector<float> agreeing_;  // [V]
  std::array<std::uint64_t, 2048> bins_{};
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/sampler.ipp>
#endif
