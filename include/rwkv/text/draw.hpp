// SPDX-License-Identifier: Apache-2.0
// How a token is drawn from logits, in memory that the caller has: what Sampler (sampler.hpp) and
// StaticSampler (static_sampler.hpp) have in common, and why they draw the same. Freestanding.
#pragma once

#include <rwkv/core/argmax.hpp>
#include <rwkv/text/fixed_exp.hpp>
#include <rwkv/text/random.hpp>

#include <algorithm>
#include <bit>
#include <limits>
#include <span>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail {

/// How often a token occurred, as it counts today.
struct Occurrence {
  Token token;
  float count;
};

/// Takes the penalties of what occurred from the logits; tokens past them have none.
inline void penalise(std::span<float> logits, std::span<const Occurrence> occurrences,
                     float presence, float frequency) noexcept {
  for (const auto& [token, count] : occurrences) {
    if (token >= logits.size()) continue;
    // The product of two floats is exact in double, so fused operations give the same.
    const double penalty = presence + double{count} * frequency;
    logits[token] = static_cast<float>(logits[token] - penalty);
  }
}

/// All counts decay; returns that of `token`, null if it did not occur.
[[nodiscard]] inline Occurrence* decay(std::span<Occurrence> occurrences, float factor,
                                       Token token) noexcept {
  Occurrence* found = nullptr;
  for (Occurrence& o : occurrences) {
    o.count = static_cast<float>(double{o.count} * factor);
    if (o.token == token) found = &o;
  }
  return found;
}

/// Integers in the order of the floats; its own inverse.
constexpr std::int32_t ordered(std::int32_t bits) noexcept {
  return bits ^ (bits >> 31 & INT32_MAX);
}

/// True for NaN and +infinity, which no logit may be.
constexpr bool no_logit(float x) noexcept {
  constexpr auto infinity = std::bit_cast<std::int32_t>(std::numeric_limits<float>::infinity());
  const auto bits = std::bit_cast<std::int32_t>(x);
  return (bits & INT32_MAX) > infinity || bits == infinity;
}

struct LargestLogit {
  float value;
  bool numbers;  ///< none of the logits is NaN or +infinity
  bool any;      ///< not all of them are -infinity
};

/// In integers, which compilers vectorise and no floating-point option changes.
[[nodiscard]] constexpr LargestLogit largest_logit(std::span<const float> logits) noexcept {
  std::int32_t largest = INT32_MIN;
  std::int32_t magnitude = 0;
  for (const float x : logits) {
    const auto bits = std::bit_cast<std::int32_t>(x);
    largest = (std::max)(largest, ordered(bits));
    magnitude = (std::max)(magnitude, bits & INT32_MAX);
  }
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr auto most = std::bit_cast<std::int32_t>(infinity);
  return {std::bit_cast<float>(ordered(largest)), magnitude <= most && largest != most,
          largest > ordered(std::bit_cast<std::int32_t>(-infinity))};
}

/// One draw. `x` are logits at first and then distances from the largest one, at which probability
/// falls; every filter is a largest distance.
class Draw {
 public:
  struct Filters {
    float top_p;
    float min_p;
    std::size_t top_k;
  };

  /// `bins`: 2^n numbers of scratch, from 2 up; the more, the fewer passes. `agreeing`: scratch as
  /// large as x, or nothing, which costs time. No result depends on either.
  Draw(std::span<float> x, std::span<std::uint64_t> bins, std::span<float> agreeing = {}) noexcept
      : x_(x), agreeing_(agreeing), bins_(bins) {}

  /// Preconditions: `largest` is that of x, and finite; x are logits.
  [[nodiscard]] Token operator()(float largest, const Filters& filters, const FixedExp& tempered,
                                 SplitMix64& random) noexcept {
    for (float& x : x_) x = largest - x;
    float limit = (std::numeric_limits<float>::max)();  // tokens at infinity are out
    if (filters.top_p < 1) limit = (std::min)(limit, nucleus(filters.top_p));
    if (filters.min_p > 0) limit = (std::min)(limit, weight.farthest(filters.min_p));
    if (filters.top_k > 0 && filters.top_k < x_.size())
      limit = (std::min)(limit, nearest(filters.top_k));
    return pick(limit, tempered, random);
  }

 private:
  // Where a running total over the tokens, nearest first, reaches a target (from 1 up).
  struct Cut {
    float distance;           // tokens nearer than this hold less than the target ...
    std::uint64_t remainder;  // ... by so much, which tokens at this distance hold
  };

  static constexpr FixedExp weight{1};  // p at temperature 1

  // A radix selection: the bits of a float that is not negative order as its value does, so each
  // pass fixes the next bits of the distance, for the tokens that agree so far. O(V) always.
  template <class Measure, class Target>
  [[nodiscard]] Cut cut(const Measure& measure, const Target& target) noexcept {
    const auto key = [](float x) { return std::bit_cast<std::uint32_t>(x); };
    const auto digit = static_cast<unsigned>(std::countr_zero(bins_.size()));
    std::span<const float> agreeing = x_;
    std::uint32_t known = 0;
    std::uint64_t wanted = 0;
    for (unsigned shift = 31; shift > 0;) {
      const unsigned above = shift;
      const unsigned width = (std::min)(digit, shift);
      shift -= width;
      std::fill(bins_.begin(), bins_.end(), std::uint64_t{0});
      for (const float x : agreeing)
        if (key(x) >> above == known) bins_[key(x) >> shift & ((1u << width) - 1)] += measure(x);
      if (wanted == 0) {  // the first pass, which sees all
        std::uint64_t total = 0;
        for (const std::uint64_t bin : bins_) total += bin;
        wanted = target(total);
      }
      std::uint32_t bin = 0;
      while (bins_[bin] < wanted) wanted -= bins_[bin++];
      known = known << width | bin;
      if (agreeing_.empty()) continue;
      std::size_t count = 0;
      for (const float x : agreeing) {  // without a branch, which would be mispredicted
        agreeing_[count] = x;
        count += key(x) >> shift == known;
      }
      agreeing = agreeing_.first(count);
    }
    return {std::bit_cast<float>(known), wanted};
  }

  [[nodiscard]] float nucleus(float top_p) noexcept {
    return cut([](float x) { return weight(x); },
               [top_p](std::uint64_t total) {
                 const double share = top_p * static_cast<double>(total);
                 if (!(share > 1)) return std::uint64_t{1};
                 const auto whole = static_cast<std::uint64_t>(share);
                 return whole + (static_cast<double>(whole) < share);  // rounded up
               })
        .distance;
  }

  [[nodiscard]] float nearest(std::uint64_t k) noexcept {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const Cut least = cut([](float x) { return std::uint64_t{x < infinity}; },
                          [k](std::uint64_t total) { return (std::min)(k, total); });
    std::uint64_t seen = 0;
    for (float& x : x_)
      if (x == least.distance && seen++ >= least.remainder) x = infinity;
    return least.distance;
  }

  // Draws among the tokens up to `limit`. The first pass sums blocks of tokens, so that the second
  // one only visits the block which the random number falls into.
  [[nodiscard]] Token pick(float limit, const FixedExp& tempered, SplitMix64& random) noexcept {
    const auto weight_of = [&](std::size_t i) { return x_[i] <= limit ? tempered(x_[i]) : 0; };
    const std::size_t block = x_.size() / bins_.size() + 1;
    std::uint64_t total = 0;
    for (std::size_t b = 0, i = 0; i < x_.size(); ++b) {
      bins_[b] = 0;
      for (const std::size_t end = (std::min)(i + block, x_.size()); i < end; ++i)
        bins_[b] += weight_of(i);
      total += bins_[b];
    }
    std::uint64_t left = random.below(total);
    std::size_t b = 0;
    while (left >= bins_[b]) left -= bins_[b++];
    std::size_t i = b * block;
    for (std::uint64_t w; left >= (w = weight_of(i)); ++i) left -= w;
    return static_cast<Token>(i);
  }

  std::span<float> x_;
  std::span<float> agreeing_;
  std::span<std::uint64_t> bins_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA::detail
