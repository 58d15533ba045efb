// SPDX-License-Identifier: Apache-2.0
// How constrained JSON is written.
#pragma once

#include <rwkv/core/config.hpp>

namespace rwkv::inline RWKV_ABI {

/// How numbers, and strings that a schema says something about, may be written.
enum class JsonSpelling : std::uint8_t {
  /// Escapes only where they must be. Integers are digits alone, numbers between bounds have no
  /// exponent; and no more digits than programs can use: 18 before the point, 17 behind it (or what
  /// bounds need; of multiples, 15 in all), exponents up to 289.
  plain,
  /// Also \u escapes for other characters than those of ASCII; 1.0 and 1e2 are integers.
  usual,
  /// Also escapes for what needs none.
  any,
};

/// How JSON is written. The defaults accept what JSON writers write: any order, white space.
struct JsonOptions {
  /// The longest run of white space (space, tab, line feed, carriage return) where JSON allows any
  /// within a value. 0: none at all. Before and after the whole value there is none.
  std::size_t whitespace = 64;
  /// Properties come in the order of the schema, others after them.
  bool ordered = false;
  /// "format" is checked where it is date, time, date-time, duration, uuid, email, hostname, ipv4,
  /// ipv6, uri; other formats are not. (By the 2020-12 standard it is an annotation.)
  bool formats = false;
  JsonSpelling spelling = JsonSpelling::usual;

  /// For generation: no white space, properties in order, formats checked, one spelling. Much of
  /// the text is then forced.
  [[nodiscard]] static JsonOptions compact() {
    return {.whitespace = 0, .ordered = true, .formats = true, .spelling = JsonSpelling::plain};
  }
};

}  // namespace rwkv::inline RWKV_ABI
