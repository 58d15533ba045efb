// SPDX-License-Identifier: Apache-2.0
// What text on a computer (generate.hpp) and on a microcontroller (static_generate.hpp) have in
// common. Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

#include <string_view>

namespace rwkv::inline RWKV_ABI {

/// Why the text ended.
enum class StopReason : std::uint8_t {
  none,         ///< it has not
  max_tokens,   ///< as many tokens as asked for
  stop_token,   ///< the model said that it has finished
  stop_string,  ///< a stop string was complete
  cancelled,    ///< the callback or `cancelled` asked to stop
  complete,     ///< the constraint is satisfied and nothing can follow
};

namespace internal {

/// Whether a token of these bytes is one that the official pipeline does not count as a repetition:
/// a part of " \t0123456789".
[[nodiscard]] constexpr bool is_digits_or_spaces(std::string_view bytes) noexcept {
  constexpr std::string_view all = " \t0123456789";
  if (bytes.empty()) return true;
  for (std::size_t at = 0; at + bytes.size() <= all.size(); ++at) {
    std::size_t n = 0;  // not by memcmp, which firmware lacks
    while (n < bytes.size() && all[at + n] == bytes[n]) ++n;
    if (n == bytes.size()) return true;
  }
  return false;
}

/// Whether a vocabulary of `ids` ids can be that of a model with `rows` rows of logits. A model has
/// as many rows as ids, or some more, which pad them: to a multiple of 64, or of up to 4096 as long
/// as that does not double them. (World: 65536 for 65530; Pile: 50304 for 50277.)
[[nodiscard]] constexpr bool vocabulary_fits(std::size_t ids, std::size_t rows) noexcept {
  const auto padded = [ids](std::size_t to) { return (ids + to - 1) / to * to; };
  if (rows < ids) return false;
  return rows <= padded(64) || (rows <= padded(4096) && rows <= 2 * ids);
}

}  // namespace internal

}  // namespace rwkv::inline RWKV_ABI
