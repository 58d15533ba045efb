// SPDX-License-Identifier: Apache-2.0
// The definitions of sampler.hpp.
#pragma once

#include <rwkv/sampler.hpp>

#include <algorithm>
#include <cmath>

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

RWKV_FUNCTION Sampler::Sampler(SamplerOptions options)
    : options_(std::move(options)), tempered_(1), random_(options_.seed) {
  options_.validate();
  if (options_.temperature > 0) tempered_ = FixedExp(options_.temperature);
  if (options_.uncounted) {  // few: less code than std::sort
    std::make_heap(options_.uncounted->begin(), options_.uncounted->end());
    std::sort_heap(options_.uncounted->begin(), options_.uncounted->end());
  }
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
  const detail::LargestLogit largest = detail::largest_logit(x_);
  if (!largest.numbers)
    for (std::size_t i = 0; i < x_.size(); ++i)
      if (detail::no_logit(x_[i]))
        fail_with(ErrorCategory::numeric, "the logit of token ", i, " is ", x_[i]);
  if (!largest.any) fail(ErrorCategory::numeric, "no token can be drawn: every logit is -infinity");
  if (options_.temperature == 0) {
    const Token token = argmax(x_);
    count(token);
    return token;
  }
  agreeing_.resize(x_.size());
  const Token token = detail::Draw(x_, bins_, agreeing_)(
      largest.value, {options_.top_p, options_.min_p, options_.top_k}, tempered_, random_);
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
  detail::penalise(x_, occurrences_, options_.presence_penalty, options_.frequency_penalty);
}

RWKV_FUNCTION void Sampler::count(Token token) {
  if (options_.presence_penalty == 0 && options_.frequency_penalty == 0) return;
  detail::Occurrence* found = detail::decay(occurrences_, options_.penalty_decay, token);
  const bool counted = !options_.uncounted || !std::binary_search(options_.uncounted->begin(),
                                                                  options_.uncounted->end(), token);
  if (found == nullptr) found = &occurrences_.emplace_back(detail::Occurrence{token, 0});
  if (counted) found->count += 1;
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
