// SPDX-License-Identifier: Apache-2.0
// The official vocabulary file of the World tokenizer: UTF-8, one token per line,
//   <id> <Python str or bytes literal> <length in bytes>
// Blank lines, and blanks behind the length, are what editors leave.
// Read as published, written with bytes literals.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/python_literal.hpp>
#include <rwkv/io/vocabulary.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// Returns what is wrong with the line, or nothing.
[[nodiscard]] inline std::string add_line(Vocabulary& vocabulary, std::string_view line) {
  if (!is_utf8(line)) return "the line is not UTF-8";
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last)
    return "the line is not \"id token length\"";
  const auto id = internal::parse<std::uint64_t>(line.substr(0, first));
  if (!id) return "the id " + printable(line.substr(0, first)) + " is no number";
  const auto length = internal::parse<std::uint64_t>(line.substr(last + 1));
  if (!length) return "the length " + printable(line.substr(last + 1)) + " is no number";
  PythonLiteral token(line.substr(first + 1, last - first - 1));
  if (token.problem() != nullptr) return token.problem();
  if (token.value().size() != *length)
    return "the token has " + std::to_string(token.value().size()) + " bytes, not " +
           std::to_string(*length);
  return add_entry(vocabulary, *id, std::move(token.value()));
}

}  // namespace detail

/// Reads the text of a vocabulary file; `source` names it in messages. Ids may have gaps. Throws
/// `Error` (format) with the number of the line that is malformed, has another length than it
/// states, or repeats an id.
[[nodiscard]] inline Vocabulary read_vocabulary_text(std::string_view text,
                                                     const std::string& source) {
  text = detail::without_mark(text);
  Vocabulary vocabulary;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = (std::min)(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix((std::min)(end + 1, text.size()));
    line = line.substr(0, line.find_last_not_of(" \t\r") + 1);
    if (line.empty()) continue;
    if (const std::string problem = detail::add_line(vocabulary, line); !problem.empty())
      fail_with(ErrorCategory::format, source, ": line ", number, ": ", problem);
  }
  if (vocabulary.empty()) fail_with(ErrorCategory::format, source, ": holds no tokens");
  return vocabulary;
}

/// The text of a vocabulary file from which `read_vocabulary_text` reads `vocabulary`.
[[nodiscard]] inline std::string vocabulary_text(const Vocabulary& vocabulary) {
  std::string text;
  for (std::size_t id = 0; id < vocabulary.size(); ++id)
    if (!vocabulary[id].empty())
      text += std::to_string(id) + ' ' + detail::python_literal(vocabulary[id]) + ' ' +
              std::to_string(vocabulary[id].size()) + '\n';
  return text;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
