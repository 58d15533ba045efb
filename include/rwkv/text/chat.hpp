// SPDX-License-Identifier: Apache-2.0
// The chat format that the RWKV-7 "G1" models were trained on:
//
//   System: <text>\n\nUser: <text>\n\nAssistant: <answer>\n\nUser: <text>\n\nAssistant:
//
// A blank line ends a turn, so texts from outside must not contain one.
#pragma once

#include <rwkv/core/config.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA {

/// Between two turns.
inline constexpr std::string_view separator = "\n\n";

/// How the assistant's turn begins. The model writes on from there.
enum class Think : std::uint8_t {
  unsaid,      ///< "Assistant:", the model decides
  open,        ///< "Assistant: <think", it thinks first
  skip,        ///< "Assistant: <think></think", it answers at once
  skip_lines,  ///< "Assistant: <think>\n</think", the same in the other trained form
};

/// `text` as it may stand in a turn: "\r\n" becomes "\n", blank lines are removed, as is white
/// space (ASCII) at both ends.
[[nodiscard]] inline std::string clean(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && text.substr(i + 1).starts_with('\n')) continue;
    if (text[i] == '\n' && out.ends_with('\n')) continue;
    out += text[i];
  }
  constexpr std::string_view white = " \t\n\v\f\r";
  out.erase((std::min)(out.find_last_not_of(white) + 1, out.size()));
  out.erase(0, (std::min)(out.find_first_not_of(white), out.size()));
  return out;
}

/// "System: <text>\n\n", to stand before the first user turn.
[[nodiscard]] inline std::string system(std::string_view text) {
  return "System: " + clean(text) + std::string(separator);
}

/// "User: <text>\n\nAssistant:" and what `think` adds.
[[nodiscard]] inline std::string turn(std::string_view text, Think think = Think::unsaid) {
  std::string out = "User: " + clean(text) + std::string(separator) + "Assistant:";
  switch (think) {
    case Think::unsaid:
      return out;
    case Think::open:
      return out + " <think";
    case Think::skip:
      return out + " <think></think";
    case Think::skip_lines:
      return out + " <think>\n</think";
  }
  return out;
}

/// What ends the assistant's turn: the beginning of the next one. (Token 0 does, too.)
[[nodiscard]] inline std::vector<std::string> stop_strings() {
  return {"\n\nUser:", "\n\nSystem:", "\n\nAssistant:"};
}

/// The part of `text` that a state has yet to be fed when it has already consumed `consumed`, the
/// end of the last answer past what was shown (`GenerateResult::overrun`). After a stop at
/// "\n\nUser:", the turn "\n\nUser: hi\n\nAssistant:" goes on with " hi\n\nAssistant:".
[[nodiscard]] inline std::string_view remainder(std::string_view text, std::string_view consumed) {
  const auto common = std::mismatch(text.begin(), text.end(), consumed.begin(), consumed.end());
  return text.substr(static_cast<std::size_t>(common.first - text.begin()));
}

}  // namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA
