// SPDX-License-Identifier: Apache-2.0
// UTF-8 that arrives in pieces cut anywhere. Bytes that are no UTF-8 pass unchanged.
#pragma once

#include <rwkv/text/utf8_suffix.hpp>

#include <string>
#include <string_view>

namespace rwkv::inline RWKV_ABI {

/// Joins pieces of text so that no character is ever cut: the end of a piece that may be half a
/// character waits for the next one. All bytes come out, in order. A value type.
class Utf8Stream {
 public:
  /// The text that is complete now; valid until the next call.
  std::string_view push(std::string_view bytes) {
    text_.erase(0, released_);
    text_ += bytes;
    released_ = text_.size() - incomplete_utf8_suffix(text_);
    return std::string_view(text_).substr(0, released_);
  }

  /// The bytes that wait for the rest of their character.
  [[nodiscard]] std::string_view pending() const noexcept {
    return std::string_view(text_).substr(released_);
  }

  /// Releases them as they are. Valid until the next call.
  std::string_view flush() {
    text_.erase(0, released_);
    released_ = text_.size();
    return text_;
  }

 private:
  std::string text_;  // what the last call returned, then what waits
  std::size_t released_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI
