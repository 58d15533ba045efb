// SPDX-License-Identifier: Apache-2.0
// Writes the spelling of a compiled automaton as C++ source for static_recogniser.hpp.
#pragma once

#include <rwkv/automata/spelling.hpp>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// Source that defines `spelling` in namespace `name`, to stand behind that of the model (of
/// io::static_source or io::static_blob_header).
[[nodiscard]] inline std::string static_spelling(const Spelling& spelling,
                                                 const std::string& name) {
  std::vector<std::uint32_t> starts{0};
  std::vector<Token> tokens;
  for (const auto& symbol : spelling.symbols) {
    tokens.insert(tokens.end(), symbol.begin(), symbol.end());
    starts.push_back(static_cast<std::uint32_t>(tokens.size()));
  }
  std::vector<std::uint32_t> alphabet;
  for (unsigned byte = 0; byte < 256; ++byte)
    alphabet.push_back(spelling.alphabet[static_cast<unsigned char>(byte)]);
  std::string out = "\n#include <rwkv/automata/static_recogniser.hpp>\n\nnamespace " + name +
                    " {\n\nnamespace spelled {\n";
  const auto array = [&out](const char* type, const char* of, const auto& numbers) {
    out += std::string("inline constexpr ") + type + ' ' + of + "[] = {";
    for (std::size_t i = 0; i < numbers.size(); ++i)
      out += (i == 0 ? "" : i % 16 == 0 ? ",\n    " : ", ") + std::to_string(numbers[i]);
    out += "};\n";
  };
  array("rwkv::Token", "begin", spelling.begin);
  array("std::uint16_t", "alphabet", alphabet);
  array("std::uint32_t", "starts", starts);
  array("rwkv::Token", "tokens", tokens);
  return out +
         "}  // namespace spelled\n\n/// Bytes to tokens, for rwkv::automata::StaticRecogniser.\n"
         "inline constexpr rwkv::automata::StaticSpelling spelling{\n    " +
         std::to_string(spelling.labels) +
         ", spelled::begin, spelled::alphabet, spelled::starts, spelled::tokens};\n\n"
         "}  // namespace " +
         name + "\n";
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
