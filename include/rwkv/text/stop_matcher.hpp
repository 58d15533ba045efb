// SPDX-License-Identifier: Apache-2.0
// Finds the first stop string in text that arrives in pieces cut anywhere, and lets no part of it
// out.
#pragma once

#include <rwkv/core/error.hpp>

#include <algorithm>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Passes text through until one of the stop strings is complete. Text that may be the beginning of
/// one is held back. The match is the one that is complete first (of several, the longest), so the
/// result does not depend on how the text was cut. A value type.
class StopMatcher {
 public:
  StopMatcher() = default;
  /// Throws `Error` (argument) if a string is empty.
  explicit StopMatcher(std::vector<std::string> strings) : strings_(std::move(strings)) {
    for (const std::string& s : strings_)
      if (s.empty()) fail(ErrorCategory::argument, "a stop string is empty");
  }

  /// The bytes that are certain to precede any stop string; valid until the next call.
  /// Throws `Error` (argument) if matched(). O(bytes + sum of squared lengths of the stop strings).
  std::string_view push(std::string_view bytes) {
    require_more();
    text_.erase(0, released_);
    text_ += bytes;
    const std::string_view text = text_;
    std::size_t end = std::string_view::npos;
    for (const std::string& s : strings_) {
      const std::size_t at = text.find(s);
      if (at == std::string_view::npos || at + s.size() > end) continue;
      if (at + s.size() == end && at > released_) continue;
      released_ = at;
      end = at + s.size();
    }
    matched_ = end != std::string_view::npos;
    if (!matched_) released_ = text.size() - possible_beginning(text);
    return text.substr(0, released_);
  }

  /// True when a stop string is complete.
  [[nodiscard]] bool matched() const noexcept { return matched_; }

  /// What was not let out: the beginning of a possible stop string; after a match, the stop string
  /// and what came after it in the last piece.
  [[nodiscard]] std::string_view pending() const noexcept {
    return std::string_view(text_).substr(released_);
  }

  /// Lets out what was held back. Throws `Error` (argument) if matched(). Valid until the next
  /// call.
  std::string_view flush() {
    require_more();
    text_.erase(0, released_);
    released_ = text_.size();
    return text_;
  }

 private:
  void require_more() const {
    if (matched_) fail(ErrorCategory::argument, "a stop string is complete: no text follows it");
  }

  // The length of the longest end of `text` that is the beginning of a stop string.
  [[nodiscard]] std::size_t possible_beginning(std::string_view text) const noexcept {
    std::size_t longest = 0;
    for (const std::string& s : strings_)
      for (std::size_t n = (std::min)(s.size() - 1, text.size()); n > longest; --n)
        if (text.ends_with(std::string_view(s).substr(0, n))) longest = n;
    return longest;
  }

  std::vector<std::string> strings_;
  std::string text_;  // what the last call returned, then what is held back
  std::size_t released_ = 0;
  bool matched_ = false;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
