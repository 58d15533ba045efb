// SPDX-License-Identifier: Apache-2.0
// Where a text ends in the middle of a character. Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

#include <string_view>

namespace rwkv::inline RWKV_ABI {

/// The number of bytes at the end of `text`, 0 to 3, that begin a character which more bytes could
/// complete.
[[nodiscard]] constexpr std::size_t incomplete_utf8_suffix(std::string_view text) noexcept {
  for (std::size_t k = 1; k <= 3 && k <= text.size(); ++k) {
    const auto lead = static_cast<unsigned char>(text[text.size() - k]);
    if ((lead & 0xc0u) == 0x80u) continue;  // a continuation byte: its lead byte lies before it
    const std::size_t length = lead < 0xc2   ? 1
                               : lead < 0xe0 ? 2
                               : lead < 0xf0 ? 3
                               : lead < 0xf5 ? 4
                                             : 1;
    if (k >= length) return 0;
    if (k == 1) return 1;
    // Overlong forms, surrogates and numbers past U+10FFFF show in the second byte.
    const auto second = static_cast<unsigned char>(text[text.size() - k + 1]);
    const bool possible = lead == 0xe0   ? second >= 0xa0
                          : lead == 0xed ? second <= 0x9f
                          : lead == 0xf0 ? second >= 0x90
                          : lead == 0xf4 ? second <= 0x8f
                                         : true;
    return possible ? k : 0;
  }
  return 0;
}

}  // namespace rwkv::inline RWKV_ABI
