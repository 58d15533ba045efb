// SPDX-License-Identifier: Apache-2.0
// One of many strings, read byte by byte as JSON spells it. The strings that the text may still be
// are a range of the sorted list: those that share what was read.
#pragma once

#include <rwkv/grammar/program.hpp>

#include <optional>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// The UTF-8 form of a code point.
struct Utf8 {
  char bytes[4];
  std::uint32_t size;

  explicit Utf8(std::uint32_t c) noexcept {
    const auto byte = [](std::uint32_t b) {
      return static_cast<char>(static_cast<unsigned char>(b));
    };
    if (c < 0x80) {
      size = 1;
      bytes[0] = byte(c);
    } else if (c < 0x800) {
      size = 2;
      bytes[0] = byte(0xc0 | c >> 6);
      bytes[1] = byte(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
      size = 3;
      bytes[0] = byte(0xe0 | c >> 12);
      bytes[1] = byte(0x80 | (c >> 6 & 0x3f));
      bytes[2] = byte(0x80 | (c & 0x3f));
    } else {
      size = 4;
      bytes[0] = byte(0xf0 | c >> 18);
      bytes[1] = byte(0x80 | (c >> 12 & 0x3f));
      bytes[2] = byte(0x80 | (c >> 6 & 0x3f));
      bytes[3] = byte(0x80 | (c & 0x3f));
    }
  }
  [[nodiscard]] std::string_view view() const noexcept { return {bytes, size}; }
};

/// Where a string is being read.
struct Spelling {
  enum class Place : std::uint8_t {
    before,  // the opening quote is still to come
    text,
    after,       // the closing quote was read
    escape,      // after a backslash
    hex,         // after \u and `digits` digits
    low_escape,  // after the first half of a surrogate pair
    low_u,
    low_hex,
  };
  std::uint32_t low = 0, high = 0;  // the strings that it may be, from ... to
  std::uint32_t depth = 0;          // how many of their bytes were read
  std::uint32_t value = 0;          // of the digits, above it the first half of a pair
  Place place = Place::before;
  std::uint8_t digits = 0;

  friend bool operator==(const Spelling&, const Spelling&) = default;
};

/// What a byte completes.
struct Spelled {
  enum class What : std::uint8_t { nothing, byte, character, end, error };
  What what;
  std::uint32_t value = 0;
};

[[nodiscard]] constexpr bool may_be_escaped(JsonSpelling spelling, std::uint32_t c) noexcept {
  return c < 0x20 || c == '"' || c == '\\' || spelling == JsonSpelling::any ||
         (spelling == JsonSpelling::usual && c >= 0x80);
}

/// Goes on by a byte; `low`, `high` and `depth` stay as they are.
[[nodiscard]] inline Spelled spell(Spelling& s, unsigned char byte) noexcept {
  using What = Spelled::What;
  using Place = Spelling::Place;
  const auto go = [&](Place place) {
    s.place = place;
    return Spelled{What::nothing};
  };
  const auto character = [&](std::uint32_t c) {
    s.place = Place::text;
    s.value = 0;
    s.digits = 0;
    return Spelled{What::character, c};
  };
  const auto digit = [&](unsigned char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  constexpr Spelled error{What::error};
  switch (s.place) {
    case Place::before:
      return byte == '"' ? go(Place::text) : error;
    case Place::text:
      if (byte == '"') {
        s.place = Place::after;
        return {What::end};
      }
      if (byte == '\\') return go(Place::escape);
      return byte < 0x20 ? error : Spelled{What::byte, byte};
    case Place::after:
      return error;
    case Place::escape:
      switch (byte) {
        case '"':
        case '\\':
        case '/':
          return character(byte);
        case 'b':
          return character('\b');
        case 'f':
          return character('\f');
        case 'n':
          return character('\n');
        case 'r':
          return character('\r');
        case 't':
          return character('\t');
        case 'u':
          return go(Place::hex);
        default:
          return error;
      }
    case Place::hex: {
      const int d = digit(byte);
      if (d < 0) return error;
      s.value = s.value << 4 | static_cast<std::uint32_t>(d);
      if (++s.digits < 4) return {What::nothing};
      const std::uint32_t unit = s.value;
      if (unit < 0xd800 || unit > 0xdfff) return character(unit);
      if (unit >= 0xdc00) return error;
      s.value = unit - 0xd800;
      s.digits = 0;
      return go(Place::low_escape);
    }
    case Place::low_escape:
      return byte == '\\' ? go(Place::low_u) : error;
    case Place::low_u:
      return byte == 'u' ? go(Place::low_hex) : error;
    default: {
      const int d = digit(byte);
      if (d < 0 || (s.digits == 0 && d != 13) || (s.digits == 1 && d < 12)) return error;
      // The ten bits that the pair's second half holds: its last two digits and two bits of the
      // second.
      if (s.digits == 1) s.value = s.value << 2 | static_cast<std::uint32_t>(d - 12);
      if (s.digits >= 2) s.value = s.value << 4 | static_cast<std::uint32_t>(d);
      return ++s.digits < 4 ? Spelled{What::nothing} : character(0x10000 + s.value);
    }
  }
}

/// The strings from `low` to `high`, which share `depth` bytes, that go on with a character from
/// `first` to `last`.
[[nodiscard]] inline std::pair<std::uint32_t, std::uint32_t> narrow(
    const Names& names, std::uint32_t low, std::uint32_t high, std::uint32_t depth,
    std::uint32_t first, std::uint32_t last) {
  const auto from = [&](std::uint32_t c) {
    const Utf8 utf8(c);
    const auto begin = names.texts.begin();
    return static_cast<std::uint32_t>(
        std::lower_bound(begin + low, begin + high, utf8.view(),
                         [&](const std::string& text, std::string_view bound) {
                           return std::string_view(text).substr(depth) < bound;
                         }) -
        begin);
  };
  return {from(first), last >= 0x10ffff ? high : from(last + 1)};
}

/// Goes on by a byte. False if that spells none of the strings; at the end, if it is not the end of
/// the first that remains.
[[nodiscard]] inline bool advance(Spelling& s, const Names& names, unsigned char byte) {
  using What = Spelled::What;
  const bool inside = s.low < s.high && s.depth < names.texts[s.low].size() &&
                      (static_cast<unsigned char>(names.texts[s.low][s.depth]) & 0xc0u) == 0x80u;
  const Spelled spelled = spell(s, byte);
  switch (spelled.what) {
    case What::error:
      return false;
    case What::nothing:
      return !inside;  // no escape begins within a character
    case What::end:
      return s.low < s.high && names.texts[s.low].size() == s.depth;
    case What::byte: {
      const auto next = [&](std::uint32_t i) -> int {
        const std::string& text = names.texts[i];
        return s.depth < text.size() ? static_cast<unsigned char>(text[s.depth]) : -1;
      };
      if (s.low == s.high) return false;
      if (next(s.low) != byte || next(s.high - 1) != byte) {
        const auto bound = [&](int b) {  // the first whose next byte is b or more
          std::uint32_t low = s.low;
          std::uint32_t high = s.high;
          while (low < high) {
            const std::uint32_t middle = low + (high - low) / 2;
            if (next(middle) < b)
              low = middle + 1;
            else
              high = middle;
          }
          return low;
        };
        const std::uint32_t low = bound(byte);
        s.high = bound(byte + 1);
        s.low = low;
      }
      ++s.depth;
      return s.low < s.high;
    }
    default: {
      if (!may_be_escaped(names.spelling, spelled.value)) return false;
      const auto [low, high] = narrow(names, s.low, s.high, s.depth, spelled.value, spelled.value);
      s.low = low;
      s.high = high;
      s.depth += Utf8(spelled.value).size;
      return low < high;
    }
  }
}

/// Can what was read become one of the strings for which `any(low, high)` says that the range holds
/// one that is wanted?
template <class Any>
[[nodiscard]] bool viable(const Spelling& s, const Names& names, const Any& any) {
  using Place = Spelling::Place;
  const auto some = [&](std::uint32_t first, std::uint32_t last) {
    if (first > last) return false;
    const auto [low, high] = narrow(names, s.low, s.high, s.depth, first, last);
    return low < high && any(low, high);
  };
  const auto of_units = [&](std::uint32_t first, std::uint32_t last) {
    const auto part = [&](std::uint32_t from, std::uint32_t to) {
      return some((std::max)(first, from), (std::min)(last, to));
    };
    if (names.spelling == JsonSpelling::any ? part(0, 0x7f)
                                            : part(0, 0x1f) || part('"', '"') || part('\\', '\\'))
      return true;
    if (names.spelling == JsonSpelling::plain) return false;
    if (part(0x80, 0xd7ff) || part(0xe000, 0xffff)) return true;
    const std::uint32_t high_first = (std::max)(first, std::uint32_t{0xd800});
    const std::uint32_t high_last = (std::min)(last, std::uint32_t{0xdbff});
    return high_first <= high_last && some(0x10000 + ((high_first - 0xd800) << 10),
                                           0x10000 + ((high_last - 0xd800) << 10 | 0x3ff));
  };
  if (s.low >= s.high) return false;
  switch (s.place) {
    case Place::before:
    case Place::text:
    case Place::after:
      return any(s.low, s.high);
    case Place::escape:
      return of_units(0, 0xffff);
    case Place::hex: {
      const unsigned missing = 4 * (4u - s.digits);
      return of_units(s.value << missing, (s.value << missing) + ((1u << missing) - 1));
    }
    case Place::low_escape:
    case Place::low_u:
      return some(0x10000 + (s.value << 10), 0x10000 + (s.value << 10 | 0x3ff));
    default: {
      const unsigned missing = s.digits < 2 ? 10 : 4 * (4u - s.digits);
      return some(0x10000 + (s.value << missing),
                  0x10000 + (s.value << missing | ((1u << missing) - 1)));
    }
  }
}

/// `text` as a JSON string: quotes, and escapes only where they are needed.
[[nodiscard]] inline std::string json_quoted(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const char* const shorts = "btn\0fr";
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte >= 8 && byte <= 13 && byte != 11) {
      out += '\\';
      out += shorts[byte - 8];
    } else if (byte < 0x20) {
      constexpr std::string_view digits = "0123456789abcdef";
      out += "\\u00";
      out += digits[byte >> 4];
      out += digits[byte & 15];
    } else {
      out += c;
    }
  }
  return out += '"';
}

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
