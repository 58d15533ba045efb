// SPDX-License-Identifier: Apache-2.0
// A sampler for microcontrollers: the tokens that Sampler (sampler.hpp) draws with the same options,
// seed and logits, in less than 1 KB of RAM whatever the vocabulary. It works where the logits lie.
//
//   static rwkv::StaticSampler<> sampler({.temperature = 0.8f, .seed = 1});
//   const auto next = sampler.sample(work.logits());   // no value: the logits are no numbers
//
// Freestanding: no heap, no exceptions, no libm.
#pragma once

#include <rwkv/text/draw.hpp>

#include <concepts>
#include <optional>

namespace rwkv::inline RWKV_ABI {

/// The members of SamplerOptions that need no heap, with its defaults.
struct StaticSamplerOptions {
  float temperature = 1;           ///< >= 0; 0: the most probable token, the lowest id of several
  float top_p = 0.85f;             ///< in [0, 1]; 1: off, 0: only the most probable
  std::size_t top_k = 0;           ///< 0: off; of equally probable tokens, the lowest ids stay
  float min_p = 0;                 ///< in [0, 1]; 0: off
  float presence_penalty = 0.2f;   ///< >= 0
  float frequency_penalty = 0.2f;  ///< >= 0
  float penalty_decay = 0.996f;    ///< in [0, 1]
  std::uint64_t seed = 0;

  /// A sentence about the first value that is out of range; null if none is. (A sampler whose
  /// options are out of range draws some token, or none.)
  [[nodiscard]] constexpr const char* problem() const noexcept {
    const auto share = [](float x) { return x >= 0 && x <= 1; };
    const auto finite = [](float x) { return x >= 0 && x <= (std::numeric_limits<float>::max)(); };
    if (!finite(temperature)) return "temperature is not a number from 0 up";
    if (!share(top_p)) return "top_p is not from 0 to 1";
    if (!share(min_p)) return "min_p is not from 0 to 1";
    if (!finite(presence_penalty)) return "presence_penalty is not a number from 0 up";
    if (!finite(frequency_penalty)) return "frequency_penalty is not a number from 0 up";
    if (!share(penalty_decay)) return "penalty_decay is not from 0 to 1";
    return nullptr;
  }
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Draws the tokens of one sequence. A value type without pointers, of 8 * Remembered + 64 bytes:
/// may be saved as the bytes that it is. `Remembered`: how many distinct tokens the penalties know;
/// should more occur, the one that counts least is forgotten, and from then on the draws are no
/// longer those of Sampler. A text in bytes has some 60. 0: without penalties.
template <std::size_t Remembered = 96>
class StaticSampler {
 public:
  /// Precondition: options.problem() is null.
  constexpr explicit StaticSampler(const StaticSamplerOptions& options = {}) noexcept
      : options_(options),
        tempered_(options.temperature > 0 ? options.temperature : 1),
        random_(options.seed) {}

  [[nodiscard]] constexpr const StaticSamplerOptions& options() const noexcept { return options_; }

  /// Forgets which tokens occurred; the random numbers go on.
  constexpr void forget() noexcept { count_ = 0; }

  /// Draws a token and counts it. Nothing, and nothing has changed in the sampler, if NaN or
  /// +infinity is among the logits, or nothing but -infinity. **The logits are used as scratch**
  /// and hold nothing of use afterwards. O(V), some ten times what Sampler takes.
  [[nodiscard]] std::optional<Token> sample(std::span<float> logits) noexcept {
    const auto token = draw(logits);
    if (token) observe(*token);
    return token;
  }

  /// The same without counting the token: `observe` does.
  [[nodiscard]] std::optional<Token> draw(std::span<float> logits) noexcept {
    if (logits.empty()) return std::nullopt;
    if constexpr (Remembered > 0)
      detail::penalise(logits, std::span(occurrences_).first(count_), options_.presence_penalty,
                       options_.frequency_penalty);
    const detail::LargestLogit largest = detail::largest_logit(logits);
    if (!largest.numbers || !largest.any) return std::nullopt;
    if (!(options_.temperature > 0)) return argmax(logits);
    std::uint64_t bins[16];
    return detail::Draw(logits, bins)(
        largest.value, {options_.top_p, options_.min_p, options_.top_k}, tempered_, random_);
  }

  /// Counts a token. `counted` is false for one that has occurred and still does not count as a
  /// repetition, as digits and spaces (SamplerOptions::uncounted).
  void observe(Token token, bool counted = true) noexcept {
    if constexpr (Remembered > 0) {
      if (options_.presence_penalty == 0 && options_.frequency_penalty == 0) return;
      const auto known = std::span(occurrences_).first(count_);
      detail::Occurrence* found = detail::decay(known, options_.penalty_decay, token);
      if (found == nullptr) {
        if (count_ < Remembered) {
          found = &occurrences_[count_++];
        } else {
          found = &occurrences_[0];
          for (detail::Occurrence& o : occurrences_)
            if (o.count < found->count) found = &o;
        }
        *found = {token, 0};
      }
      if (counted) found->count += 1;
    } else {
      (void)token, (void)counted;
    }
  }

 private:
  StaticSamplerOptions options_;
  FixedExp tempered_;  // p^(1 / temperature)
  SplitMix64 random_;
  std::size_t count_ = 0;
  detail::Occurrence occurrences_[Remembered > 0 ? Remembered : 1]{};
};

/// Always the most probable token, the lowest id of several: temperature 0 without penalties, and
/// without the code that draws (5 KB of flash).
struct GreedySampler {
  [[nodiscard]] static std::optional<Token> draw(std::span<const float> logits) noexcept {
    const detail::LargestLogit largest = detail::largest_logit(logits);
    if (!largest.numbers || !largest.any) return std::nullopt;
    return argmax(logits);
  }
  static void observe(Token, bool) noexcept {}
};

/// What static_generate.hpp draws tokens with.
template <class S>
concept AnyStaticSampler = requires(S& sampler, std::span<float> logits, Token token) {
  { sampler.draw(logits) } -> std::same_as<std::optional<Token>>;
  sampler.observe(token, true);
};

static_assert(sizeof(StaticSampler<>) + 16 * sizeof(std::uint64_t) <= 1024);

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
