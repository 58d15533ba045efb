// SPDX-License-Identifier: Apache-2.0
// Python string literals: the value of '..' and ".." (text, as UTF-8) and b'..' and b".." (bytes),
// and the literal of a value.
#pragma once

#include <rwkv/io/untrusted.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

inline void append_utf8(std::string& out, std::uint32_t c) {
  const auto byte = [&](std::uint32_t value) { out += static_cast<char>(value); };
  const auto rest = [&](unsigned shift) { byte(0x80 | (c >> shift & 0x3f)); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xc0 | c >> 6);
    rest(0);
  } else if (c < 0x10000) {
    byte(0xe0 | c >> 12);
    rest(6);
    rest(0);
  } else {
    byte(0xf0 | c >> 18);
    rest(12);
    rest(6);
    rest(0);
  }
}

/// Reads one literal. `problem()` says why it is none.
class PythonLiteral {
 public:
  explicit PythonLiteral(std::string_view source) : source_(source) { read(); }

  /// The bytes it stands for.
  [[nodiscard]] std::string& value() noexcept { return value_; }
  /// Null if the literal is well formed.
  [[nodiscard]] const char* problem() const noexcept { return problem_; }

 private:
  void read() {
    bytes_ = source_.starts_with('b');
    if (bytes_) ++at_;
    const char quote = at_ < source_.size() ? source_[at_++] : '\0';
    if (quote != '\'' && quote != '"') return fail_as("the token is no quoted string");
    value_.reserve(source_.size());
    while (problem_ == nullptr && at_ < source_.size()) {
      const char c = source_[at_++];
      if (c == quote) {
        if (at_ < source_.size()) fail_as("text follows the closing quote");
        return;
      }
      if (c == '\\') {
        escape();
      } else if (bytes_ && static_cast<unsigned char>(c) >= 0x80) {
        fail_as("a bytes literal holds a character that is not ASCII");
      } else {
        value_ += c;
      }
    }
    if (problem_ == nullptr) fail_as("the closing quote is missing");
  }

  void escape() {
    constexpr std::string_view letters = "\\'\"abfnrtv";
    constexpr std::string_view meaning = "\\'\"\a\b\f\n\r\t\v";
    if (at_ == source_.size()) return;  // reported as a missing quote
    const char c = source_[at_++];
    if (const std::size_t i = letters.find(c); i != std::string_view::npos) {
      value_ += meaning[i];
    } else if (c == 'x') {
      number(16, 2, 2);
    } else if (c >= '0' && c <= '7') {
      --at_;
      number(8, 1, 3);
    } else if (!bytes_ && c == 'u') {
      number(16, 4, 4);
    } else if (!bytes_ && c == 'U') {
      number(16, 8, 8);
    } else if (!bytes_ && c == 'N') {
      fail_as("an escape names a character, which is not supported");
    } else {  // Python keeps the backslash of escapes that it does not know
      value_ += '\\';
      --at_;
    }
  }

  void number(std::uint32_t radix, int at_least, int at_most) {
    std::uint32_t value = 0;
    int digits = 0;
    for (; digits < at_most && at_ < source_.size(); ++digits, ++at_) {
      const char c = source_[at_];
      const std::uint32_t digit = c >= '0' && c <= '9'   ? static_cast<std::uint32_t>(c - '0')
                                  : c >= 'a' && c <= 'f' ? static_cast<std::uint32_t>(c - 'a' + 10)
                                  : c >= 'A' && c <= 'F' ? static_cast<std::uint32_t>(c - 'A' + 10)
                                                         : radix;
      if (digit >= radix) break;
      value = value * radix + digit;
    }
    if (digits < at_least) return fail_as("an escape lacks digits");
    if (bytes_) {
      if (value > 0xff) return fail_as("an octal escape is larger than a byte");
      value_ += static_cast<char>(value);
    } else {
      if (value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return fail_as("an escape is no Unicode character");
      append_utf8(value_, value);
    }
  }

  void fail_as(const char* problem) { problem_ = problem; }

  std::string_view source_;
  std::size_t at_ = 0;
  bool bytes_ = false;
  std::string value_;
  const char* problem_ = nullptr;
};

/// The literal b'..' that Python itself writes for `bytes`.
[[nodiscard]] inline std::string python_literal(std::string_view bytes) {
  constexpr std::string_view hex = "0123456789abcdef";
  const bool apostrophes = bytes.find('\'') != std::string_view::npos;
  const char quote = apostrophes && bytes.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out{'b', quote};
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\t' || c == '\n' || c == '\r') {
      out += '\\';
      out += c == '\t' ? 't' : c == '\n' ? 'n' : 'r';
    } else if (byte < 0x20 || byte >= 0x7f) {
      out += "\\x";
      out += hex[byte >> 4];
      out += hex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + quote;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
