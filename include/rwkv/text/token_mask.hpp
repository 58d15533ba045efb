// SPDX-License-Identifier: Apache-2.0
// A set of tokens: one bit for each id.
#pragma once

#include <rwkv/core/error.hpp>

#include <algorithm>
#include <bit>
#include <span>
#include <vector>

namespace rwkv::inline RWKV_ABI {

/// Which tokens of a vocabulary may come next. A value type.
class TokenMask {
 public:
  TokenMask() = default;
  /// No token of `tokens` ids.
  explicit TokenMask(std::size_t tokens) : words_((tokens + 63) / 64, 0), size_(tokens) {}

  /// The number of ids.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

  /// False for ids past the vocabulary.
  [[nodiscard]] bool operator[](Token token) const noexcept {
    return token < size_ && (words_[token / 64] >> token % 64 & 1) != 0;
  }

  /// Throws `Error` (argument) for an id past the vocabulary.
  void set(Token token, bool allowed = true) {
    if (token >= size_)
      fail_with(ErrorCategory::argument, "token ", token, " is outside the mask of ", size_,
                " tokens");
    const std::uint64_t bit = std::uint64_t{1} << token % 64;
    words_[token / 64] = allowed ? words_[token / 64] | bit : words_[token / 64] & ~bit;
  }

  /// No token of `tokens` ids. Allocates only if there are more than before.
  void clear(std::size_t tokens) {
    words_.assign((tokens + 63) / 64, 0);
    size_ = tokens;
  }

  /// The number of tokens in the set.
  [[nodiscard]] std::size_t count() const noexcept {
    std::size_t n = 0;
    for (const std::uint64_t word : words_) n += static_cast<std::size_t>(std::popcount(word));
    return n;
  }
  [[nodiscard]] bool none() const noexcept {
    return std::all_of(words_.begin(), words_.end(), [](std::uint64_t word) { return word == 0; });
  }
  /// The lowest token of the set; size() if there is none.
  [[nodiscard]] std::size_t first() const noexcept {
    for (std::size_t i = 0; i < words_.size(); ++i)
      if (words_[i] != 0) return i * 64 + static_cast<std::size_t>(std::countr_zero(words_[i]));
    return size_;
  }

  /// Bit t % 64 of word t / 64 is token t; bits past the vocabulary are 0.
  [[nodiscard]] std::span<const std::uint64_t> words() const noexcept { return words_; }
  /// Bits past the vocabulary must stay 0.
  [[nodiscard]] std::span<std::uint64_t> words() noexcept { return words_; }

  friend bool operator==(const TokenMask&, const TokenMask&) = default;

 private:
  std::vector<std::uint64_t> words_;
  std::size_t size_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI
