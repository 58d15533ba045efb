// SPDX-License-Identifier: Apache-2.0
// The definitions of sampler.hpp.
#pragma once

#include <rwkv/sampler.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace rwkv::inline RWKV_ABI {

RWKV_FUNCTION void SamplerOptions::validate(std::size_t vocab) const {
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

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Integers in the order of the floats; its own inverse.
constexpr std::int32_t ordered(std::int32_t bits) noexcept {
  return bits ^ (bits >> 31 & INT32_MAX);
}

}  // namespace detail

RWKV_FUNCTION Sampler::Sampler(SamplerOptions options)
    : options_(std::move(options)), weight_(1), tempered_(1), random_(options_.seed) {
  options_.validate();
  if (options_.temperature > 0) tempered_ = FixedExp(options_.temperature);
  if (options_.uncounted) std::sort(options_.uncounted->begin(), options_.uncounted->end());
}

RWKV_FUNCTION Token Sampler::sample(std::span<const float> logits) {
  adjust(logits);
  return choose();
}

RWKV_FUNCTION Token Sampler::sample(std::span<const float> logits, const TokenMask& allowed) {
  const std::size_t only = allowed.first();
  if (only < logits.size() && allowed.count() == 1) {
    const auto token = static_cast<Token>(only);
    count(token);
    return token;
  }
  adjust(logits);
  for (std::size_t begin = 0; begin < x_.size(); begin += 64) {
    std::uint64_t word = begin < allowed.size() ? allowed.words()[begin / 64] : 0;
    if (word == ~std::uint64_t{0}) continue;
    const std::size_t end = (std::min)(begin + 64, x_.size());
    for (std::size_t i = begin; i < end; ++i, word >>= 1)
      if ((word & 1) == 0) x_[i] = -HUGE_VALF;
  }
  return choose();
}

RWKV_FUNCTION Token Sampler::choose() {
  const float largest = largest_logit();
  const Token token = options_.temperature == 0 ? argmax(x_) : draw(largest);
  count(token);
  return token;
}

RWKV_FUNCTION void Sampler::adjust(std::span<const float> logits) {
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

RWKV_FUNCTION float Sampler::largest_logit() const {
  std::int32_t largest = INT32_MIN;
  std::int32_t magnitude = 0;
  for (const float x : x_) {
    const auto bits = std::bit_cast<std::int32_t>(x);
    largest = (std::max)(largest, detail::ordered(bits));
    magnitude = (std::max)(magnitude, bits & INT32_MAX);
  }
  constexpr auto infinity = std::bit_cast<std::int32_t>(HUGE_VALF);
  if (magnitude > infinity || largest == infinity) {
    for (std::size_t i = 0; i < x_.size(); ++i)
      if (const auto bits = std::bit_cast<std::int32_t>(x_[i]);
          (bits & INT32_MAX) > infinity || bits == infinity)
        fail_with(ErrorCategory::numeric, "the logit of token ", i, " is ", x_[i]);
  }
  if (largest == detail::ordered(std::bit_cast<std::int32_t>(-HUGE_VALF)))
    fail(ErrorCategory::numeric, "no token can be drawn: every logit is -infinity");
  return std::bit_cast<float>(detail::ordered(largest));
}

RWKV_FUNCTION Token Sampler::draw(float largest) {
  for (float& x : x_) x = largest - x;
  float limit = (std::numeric_limits<float>::max)();  // tokens at infinity are out
  if (options_.top_p < 1) limit = (std::min)(limit, nucleus());
  if (options_.min_p > 0) limit = (std::min)(limit, weight_.farthest(options_.min_p));
  if (options_.top_k > 0 && options_.top_k < x_.size())
    limit = (std::min)(limit, nearest(options_.top_k));
  return pick(limit);
}

template <class Measure, class Target>
Sampler::Cut Sampler::cut(const Measure& measure, const Target& target) {
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

RWKV_FUNCTION float Sampler::nucleus() {
  return cut([this](float x) { return weight_(x); },
             [this](std::uint64_t total) {
               const double share = std::ceil(options_.top_p * static_cast<double>(total));
               return (std::max)(std::uint64_t{1}, static_cast<std::uint64_t>(share));
             })
      .distance;
}

RWKV_FUNCTION float Sampler::nearest(std::uint64_t k) {
  const auto [distance, ties] = cut([](float x) { return std::uint64_t{x < HUGE_VALF}; },
                                    [k](std::uint64_t total) { return (std::min)(k, total); });
  std::uint64_t seen = 0;
  for (float& x : x_)
    if (x == distance && seen++ >= ties) x = HUGE_VALF;
  return distance;
}

RWKV_FUNCTION Token Sampler::pick(float limit) {
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

RWKV_FUNCTION void Sampler::count(Token token) {
  if (options_.presence_penalty == 0 && options_.frequency_penalty == 0) return;
  Occurrence* found = nullptr;
  for (Occurrence& o : occurrences_) {
    o.count = static_cast<float>(double{o.count} * options_.penalty_decay);
    if (o.token == token) found = &o;
  }
  const bool counted = !options_.uncounted || !std::binary_search(options_.uncounted->begin(),
                                                                  options_.uncounted->end(), token);
  if (found == nullptr) found = &occurrences_.emplace_back(Occurrence{token, 0});
  if (counted) found->count += 1;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
