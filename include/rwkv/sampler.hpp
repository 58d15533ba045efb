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

#include <rwkv/core/argmax.hpp>
#include <rwkv/core/error.hpp>
#include <rwkv/text/fixed_exp.hpp>
#include <rwkv/text/random.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
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
  void validate(std::size_t vocab = dynamic) const {
    const auto check_token = [vocab](const char* option, Token token) {
      if (token >= vocab)
        fail_with(ErrorCategory::argument, option, " names token ", token, " of a vocabulary of ",
                  vocab);
    };
    const auto check = [](bool fine, const char* name, float value, const char* range) {
      if (!fine) fail_with(ErrorCategory::argument, name, " is ", value, ", not ", range);
    };
    const auto finite = [](float x) { return std::isfinite(x) && x >= 0; };
    const auto share = [](float x) { return x >= 0 && x <= 1; };
    check(finite(temperature), "temperature", temperature, "a number from 0 up");
    check(share(top_p), "top_p", top_p, "from 0 to 1");
    check(share(min_p), "min_p", min_p, "from 0 to 1");
    check(finite(presence_penalty), "presence_penalty", presence_penalty, "a number from 0 up");
    check(finite(frequency_penalty), "frequency_penalty", frequency_penalty, "a number from 0 up");
    check(share(penalty_decay), "penalty_decay", penalty_decay, "from 0 to 1");
    for (const auto& [token, amount] : bias) {
      check(amount < HUGE_VALF, "the bias of a token", amount, "a number or -infinity");
      check_token("bias", token);
    }
    for (const Token token : banned) check_token("banned", token);
  }
};

/// Draws the tokens of one sequence: options, the occurrences of past tokens, and random numbers. A
/// value type: a copy is a fork that draws the same. One thread at a time.
class Sampler {
 public:
  /// Throws `Error` (argument) if an option is out of range.
  explicit Sampler(SamplerOptions options = {})
      : options_(std::move(options)), weight_(1), tempered_(1), random_(options_.seed) {
    options_.validate();
    if (options_.temperature > 0) tempered_ = FixedExp(options_.temperature);
    if (options_.uncounted) std::sort(options_.uncounted->begin(), options_.uncounted->end());
  }

  [[nodiscard]] const SamplerOptions& options() const noexcept { return options_; }

  /// Forgets which tokens occurred; the random numbers go on.
  void forget() noexcept { occurrences_.clear(); }

  /// Draws a token and counts it. Throws `Error` (numeric) for NaN or +infinity among the logits,
  /// or if every token is out (-infinity or banned), and (argument) for no logits; nothing has
  /// changed then. Options and occurrences of tokens past the logits have no effect. O(V + distinct
  /// tokens so far); allocates only when V or the number of distinct tokens grows.
  [[nodiscard]] Token sample(std::span<const float> logits) {
    adjust(logits);
    const float largest = largest_logit();
    const Token token = options_.temperature == 0 ? argmax(x_) : draw(largest);
    count(token);
    return token;
  }

 private:
  struct Occurrence {
    Token token;
    float count;
  };

  // x_ = the logits with bans, biases and penalties.
  void adjust(std::span<const float> logits) {
    if (logits.empty()) fail(ErrorCategory::argument, "there are no logits to sample from");
    x_.assign(logits.begin(), logits.end());
    for (const Token token : options_.banned)
      if (token < x_.size()) x_[token] = -HUGE_VALF;
    for (const auto& [token, amount] : options_.bias)
      if (token < x_.size()) x_[token] += amount;
    for (const auto& [token, count] : occurrences_) {
      if (token >= x_.size()) continue;
      // The product of two floats is exact in double, so fused operations give the same.
      const double penalty = options_.presence_penalty + double{count} * options_.frequency_penalty;
      x_[token] = static_cast<float>(x_[token] - penalty);
    }
  }

  // In integers, which compilers vectorise and no floating-point option changes.
  [[nodiscard]] float largest_logit() const {
    std::int32_t largest = INT32_MIN;
    std::int32_t magnitude = 0;
    for (const float x : x_) {
      const auto bits = std::bit_cast<std::int32_t>(x);
      largest = (std::max)(largest, ordered(bits));
      magnitude = (std::max)(magnitude, bits & INT32_MAX);
    }
    constexpr auto infinity = std::bit_cast<std::int32_t>(HUGE_VALF);
    if (magnitude > infinity || largest == infinity) {
      for (std::size_t i = 0; i < x_.size(); ++i)
        if (const auto bits = std::bit_cast<std::int32_t>(x_[i]);
            (bits & INT32_MAX) > infinity || bits == infinity)
          fail_with(ErrorCategory::numeric, "the logit of token ", i, " is ", x_[i]);
    }
    if (largest == ordered(std::bit_cast<std::int32_t>(-HUGE_VALF)))
      fail(ErrorCategory::numeric, "no token can be drawn: every logit is -infinity");
    return std::bit_cast<float>(ordered(largest));
  }

  // Integers in the order of the floats; its own inverse.
  static constexpr std::int32_t ordered(std::int32_t bits) noexcept {
    return bits ^ (bits >> 31 & INT32_MAX);
  }

  // From here on x_ holds distances from the largest logit, at which probability falls. Every
  // filter is a largest distance.
  Token draw(float largest) {
    for (float& x : x_) x = largest - x;
    float limit = (std::numeric_limits<float>::max)();  // tokens at infinity are out
    if (options_.top_p < 1) limit = (std::min)(limit, nucleus());
    if (options_.min_p > 0) limit = (std::min)(limit, farthest_of_at_least(options_.min_p));
    if (options_.top_k > 0 && options_.top_k < x_.size())
      limit = (std::min)(limit, nearest(options_.top_k));
    return pick(limit);
  }

  [[nodiscard]] float nucleus() {
    return cut([this](float x) { return weight_(x); },
               [this](std::uint64_t total) {
                 const double share = std::ceil(options_.top_p * static_cast<double>(total));
                 return (std::max)(std::uint64_t{1}, static_cast<std::uint64_t>(share));
               })
        .distance;
  }

  // The largest distance at which p >= share * (p at distance 0), found bit by bit.
  [[nodiscard]] float farthest_of_at_least(float share) const {
    const double least = share * static_cast<double>(FixedExp::one);
    std::uint32_t key = 0;
    for (std::uint32_t bit = 1u << 30; bit != 0; bit >>= 1)
      if (static_cast<double>(weight_(std::bit_cast<float>(key | bit))) >= least) key |= bit;
    return std::bit_cast<float>(key);
  }

  [[nodiscard]] float nearest(std::uint64_t k) {
    const auto [distance, ties] = cut([](float x) { return std::uint64_t{x < HUGE_VALF}; },
                                      [k](std::uint64_t total) { return (std::min)(k, total); });
    std::uint64_t seen = 0;
    for (float& x : x_)
      if (x == distance && seen++ >= ties) x = HUGE_VALF;
    return distance;
  }

  // Where a running total over the tokens, nearest first, reaches a target (from 1 up).
  struct Cut {
    float distance;           // tokens nearer than this hold less than the target ...
    std::uint64_t remainder;  // ... by so much, which tokens at this distance hold
  };

  // A radix selection: the bits of a float that is not negative order as its value does, so each
  // pass fixes the next 10 or 11 bits of the distance, for the tokens that agree so far. O(V)
  // always.
  template <class Measure, class Target>
  [[nodiscard]] Cut cut(const Measure& measure, const Target& target) {
    const auto key = [](float x) { return std::bit_cast<std::uint32_t>(x); };
    std::span<const float> agreeing = x_;
    agreeing_.resize(x_.size());
    std::uint32_t known = 0;
    std::uint64_t wanted = 0;
    for (const auto& [shift, width] : {std::pair{20u, 11u}, {10u, 10u}, {0u, 10u}}) {
      bins_.fill(0);
      for (const float x : agreeing) bins_[key(x) >> shift & ((1u << width) - 1)] += measure(x);
      if (wanted == 0)  // the first pass, which sees all
        wanted = target(std::accumulate(bins_.begin(), bins_.end(), std::uint64_t{0}));
      std::uint32_t bin = 0;
      while (bins_[bin] < wanted) wanted -= bins_[bin++];
      known = known << width | bin;
      std::size_t count = 0;
      for (const float x : agreeing) {  // without a branch, which would be mispredicted
        agreeing_[count] = x;
        count += key(x) >> shift == known;
      }
      agreeing = std::span(agreeing_).first(count);
    }
    return {std::bit_cast<float>(known), wanted};
  }

  // Draws among the tokens up to `limit`. The first pass sums blocks of tokens, so that the second
  // one only visits the block which the random number falls into.
  [[nodiscard]] Token pick(float limit) {
    const auto weight = [&](std::size_t i) { return x_[i] <= limit ? tempered_(x_[i]) : 0; };
    const std::size_t block = x_.size() / bins_.size() + 1;
    std::uint64_t total = 0;
    for (std::size_t b = 0, i = 0; i < x_.size(); ++b) {
      bins_[b] = 0;
      for (const std::size_t end = (std::min)(i + block, x_.size()); i < end; ++i)
        bins_[b] += weight(i);
      total += bins_[b];
    }
    std::uint64_t left = random_.below(total);
    std::size_t b = 0;
    while (left >= bins_[b]) left -= bins_[b++];
    std::size_t i = b * block;
    for (std::uint64_t w; left >= (w = weight(i)); ++i) left -= w;
    return static_cast<Token>(i);
  }

  void count(Token token) {
    if (options_.presence_penalty == 0 && options_.frequency_penalty == 0) return;
    Occurrence* found = nullptr;
    for (Occurrence& o : occurrences_) {
      o.count = static_cast<float>(double{o.count} * options_.penalty_decay);
      if (o.token == token) found = &o;
    }
    const bool counted =
        !options_.uncounted ||
        !std::binary_search(options_.uncounted->begin(), options_.uncounted->end(), token);
    if (found == nullptr) found = &occurrences_.emplace_back(Occurrence{token, 0});
    if (counted) found->count += 1;
  }

  SamplerOptions options_;
  FixedExp weight_;    // p at temperature 1
  FixedExp tempered_;  // p^(1 / temperature)
  SplitMix64 random_;
  std::vector<Occurrence> occurrences_;
  // Scratch of one call.
  std::vector<float> x_;         // [V]
  std::vector<float> agreeing_;  // [V]
  std::array<std::uint64_t, 2048> bins_{};
};

}  // namespace rwkv::inline RWKV_ABI
