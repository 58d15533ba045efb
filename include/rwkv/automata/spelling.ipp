// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/spelling.hpp.
#pragma once

#include <rwkv/automata/spelling.hpp>

#include <array>
#include <charconv>
#include <optional>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

namespace detail {

inline constexpr std::string_view spelling_key = "rwkv.automaton";

template <class Numbers>
[[nodiscard]] std::string write_numbers(const Numbers& numbers) {
  std::string text;
  for (const auto n : numbers) {
    if (!text.empty()) text += ' ';
    text += std::to_string(n);
  }
  return text;
}

/// Numbers below `limit`, separated by single spaces; nothing if `text` is anything else.
[[nodiscard]] inline std::optional<std::vector<Token>> read_numbers(std::string_view text,
                                                                    std::size_t limit) {
  std::vector<Token> numbers;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (!numbers.empty() && *at++ != ' ') return std::nullopt;
    Token n = 0;
    const auto [past, error] = std::from_chars(at, end, n);
    if (error != std::errc{} || n >= limit) return std::nullopt;
    numbers.push_back(n);
    at = past;
  }
  return numbers;
}

}  // namespace detail

RWKV_FUNCTION void Spelling::write(io::Metadata& metadata) const {
  const auto set = [&metadata](const char* part, std::string value) {
    metadata.insert_or_assign(std::string(detail::spelling_key) + part, std::move(value));
  };
  set("", std::string(name_of(output)));
  set(".labels", std::to_string(labels));
  set(".begin", detail::write_numbers(begin));
  std::string lines;
  for (const auto& symbol : symbols) {
    if (!lines.empty()) lines += '\n';
    lines += detail::write_numbers(symbol);
  }
  set(".symbols", lines);
  std::array<Symbol, 256> bytes{};
  for (std::size_t b = 0; b < bytes.size(); ++b) bytes[b] = alphabet[static_cast<unsigned char>(b)];
  set(".alphabet", detail::write_numbers(bytes));
}

RWKV_FUNCTION Spelling Spelling::read(const io::Checkpoint& checkpoint) {
  const auto value = [&](const char* part) -> std::string_view {
    const auto found = checkpoint.metadata.find(std::string(detail::spelling_key) + part);
    if (found == checkpoint.metadata.end())
      fail_with(ErrorCategory::format, checkpoint.source, ": not a compiled automaton (metadata ",
                std::string(detail::spelling_key), part, " is missing)");
    return found->second;
  };
  const auto refuse = [&](const char* part) {
    fail_with(ErrorCategory::format, checkpoint.source, ": metadata ",
              std::string(detail::spelling_key), part, " is damaged");
  };
  const auto numbers = [&](const char* part, std::string_view text, std::size_t limit) {
    auto found = detail::read_numbers(text, limit);
    if (!found) refuse(part);
    return *std::move(found);
  };

  Spelling spelling;
  bool known = false;
  for (const Output o : {Output::acceptance, Output::state, Output::permutation})
    if (value("") == name_of(o)) spelling.output = o, known = true;
  if (!known) refuse("");

  const auto& table = checkpoint.get("emb.weight").shape;
  const std::size_t vocabulary = table.empty() ? 0 : table[0];
  const auto labels = numbers(".labels", value(".labels"), vocabulary);
  if (labels.size() != 1 || labels[0] == 0) refuse(".labels");
  spelling.labels = labels[0];
  spelling.begin = numbers(".begin", value(".begin"), vocabulary);
  if (spelling.begin.empty()) refuse(".begin");

  std::string_view lines = value(".symbols");
  for (bool more = true; more;) {
    const std::size_t end = lines.find('\n');
    spelling.symbols.push_back(numbers(".symbols", lines.substr(0, end), vocabulary));
    if (spelling.symbols.back().empty() || spelling.symbols.size() >= Alphabet::none)
      refuse(".symbols");
    more = end != std::string_view::npos;
    if (more) lines.remove_prefix(end + 1);
  }

  const auto bytes = numbers(".alphabet", value(".alphabet"), std::size_t{Alphabet::none} + 1);
  std::array<Symbol, 256> symbols{};
  if (bytes.size() != symbols.size()) refuse(".alphabet");
  for (std::size_t b = 0; b < symbols.size(); ++b) {
    symbols[b] = static_cast<Symbol>(bytes[b]);
    if (symbols[b] != Alphabet::none && symbols[b] >= spelling.symbols.size()) refuse(".alphabet");
  }
  spelling.alphabet = Alphabet(symbols);
  return spelling;
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
