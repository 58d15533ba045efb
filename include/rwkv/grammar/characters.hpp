// SPDX-License-Identifier: Apache-2.0
// Sets of characters as expressions over bytes: UTF-8, or that within a JSON string.
#pragma once

#include <rwkv/automata/expression.hpp>
#include <rwkv/grammar/spelling.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

using automata::detail::ByteSet;
using automata::detail::Expression;

/// Code points without the surrogates, as ranges.
class Characters {
 public:
  static constexpr std::uint32_t last_character = 0x10ffff;

  Characters() = default;
  Characters(std::uint32_t first, std::uint32_t last) { add(first, last); }
  [[nodiscard]] static Characters all() { return {0, last_character}; }

  void add(std::uint32_t first, std::uint32_t last) {
    if (first < 0xd800 && last > 0xdfff) {
      ranges_.emplace_back(first, 0xd7ff);
      ranges_.emplace_back(0xe000, last);
    } else if (first >= 0xd800 && first <= 0xdfff) {
      if (last > 0xdfff) ranges_.emplace_back(0xe000, last);
    } else {
      if (last >= 0xd800 && last <= 0xdfff) last = 0xd7ff;
      ranges_.emplace_back(first, last);
    }
    sorted_ = false;
  }
  void add(const Characters& other) {
    ranges_.insert(ranges_.end(), other.ranges_.begin(), other.ranges_.end());
    sorted_ = false;
  }

  [[nodiscard]] Characters complement() {
    Characters out;
    std::uint32_t next = 0;
    for (const auto& [first, last] : ranges()) {
      if (first > next) out.add(next, first - 1);
      next = last + 1;
    }
    if (next <= last_character) out.add(next, last_character);
    return out;
  }

  /// In order, apart.
  [[nodiscard]] const std::vector<std::pair<std::uint32_t, std::uint32_t>>& ranges() {
    if (sorted_) return ranges_;
    std::sort(ranges_.begin(), ranges_.end());
    std::size_t n = 0;
    for (const auto& range : ranges_) {
      if (n > 0 && range.first <= ranges_[n - 1].second + 1)
        ranges_[n - 1].second = (std::max)(ranges_[n - 1].second, range.second);
      else
        ranges_[n++] = range;
    }
    ranges_.resize(n);
    sorted_ = true;
    return ranges_;
  }

 private:
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges_;
  bool sorted_ = true;
};

/// An expression in the making.
class Expressions {
 public:
  enum class Form : std::uint8_t {
    utf8,  ///< characters as they are
    json,  ///< as in a JSON string
  };

  explicit Expressions(Form form, JsonSpelling spelling = JsonSpelling::any)
      : form_(form), spelling_(spelling) {}

  [[nodiscard]] const std::vector<Expression>& nodes() const noexcept { return nodes_; }
  [[nodiscard]] std::size_t size() const noexcept { return nodes_.size(); }

  std::size_t add(Expression e) {
    nodes_.push_back(std::move(e));
    return nodes_.size() - 1;
  }
  std::size_t bytes(const ByteSet& set) {
    return add({.kind = Expression::Kind::bytes, .bytes = set});
  }
  std::size_t byte(unsigned char b) { return bytes(ByteSet().set(b)); }
  std::size_t sequence(std::vector<std::size_t> parts) {
    return parts.size() == 1
               ? parts[0]
               : add({.kind = Expression::Kind::sequence, .children = std::move(parts)});
  }
  std::size_t choice(std::vector<std::size_t> branches) {
    return branches.size() == 1
               ? branches[0]
               : add({.kind = Expression::Kind::choice, .children = std::move(branches)});
  }
  std::size_t repeat(std::size_t inner, std::size_t least, std::size_t most) {
    return add(
        {.kind = Expression::Kind::repetition, .children = {inner}, .least = least, .most = most});
  }
  std::size_t text(std::string_view text) {
    std::vector<std::size_t> parts;
    for (const char c : text) parts.push_back(byte(static_cast<unsigned char>(c)));
    return sequence(std::move(parts));
  }

  /// One of these characters. An empty set is never read.
  std::size_t characters(Characters set) {
    std::vector<std::size_t> branches;
    ByteSet single;  // those of one byte in one set
    const auto raw = [&](std::uint32_t first, std::uint32_t last) {
      if (first > last) return;
      for (std::uint32_t c = first; c <= last && c < 0x80; ++c) single.set(c);
      utf8((std::max)(first, std::uint32_t{0x80}), last, 0x7ff, branches);
      utf8((std::max)(first, std::uint32_t{0x800}), last, 0xffff, branches);
      utf8((std::max)(first, std::uint32_t{0x10000}), last, Characters::last_character, branches);
    };
    if (form_ == Form::utf8) {
      for (const auto& [first, last] : set.ranges()) raw(first, last);
    } else {
      std::vector<std::size_t> escapes;  // what follows the backslash
      ByteSet letters;
      for (const auto& range : set.ranges()) {
        const std::uint32_t first = range.first;
        const std::uint32_t last = range.second;
        const auto part = [&](std::uint32_t from, std::uint32_t to, const auto& f) {
          if ((std::max)(first, from) <= (std::min)(last, to))
            f((std::max)(first, from), (std::min)(last, to));
        };
        part(0x20, '"' - 1, raw);
        part('"' + 1, '\\' - 1, raw);
        const std::uint32_t odd = spelling_ == JsonSpelling::plain ? 0x7f : 0x110000;
        part('\\' + 1, odd - 1, raw);
        part(odd + 1, Characters::last_character, raw);
        const auto hex = [&](std::uint32_t from, std::uint32_t to) { unit(from, to, escapes); };
        if (spelling_ == JsonSpelling::any) {
          part(0, 0x7f, hex);
        } else {
          part(0, 0x1f, hex);
          part('"', '"', hex);
          part('\\', '\\', hex);
          part(odd, odd, hex);
        }
        if (spelling_ != JsonSpelling::plain) {
          part(0x80, 0xffff, hex);
          part(0x10000, Characters::last_character,
               [&](std::uint32_t from, std::uint32_t to) { pair(from, to, escapes); });
        }
        constexpr std::string_view short_ones = "\"\\\b\f\n\r\t/";
        constexpr std::string_view written = "\"\\bfnrt/";
        for (std::size_t i = 0; i < written.size(); ++i)
          if (written[i] != '/' || spelling_ == JsonSpelling::any) {
            const auto c = static_cast<unsigned char>(short_ones[i]);
            if (c >= first && c <= last) letters.set(static_cast<unsigned char>(written[i]));
          }
      }
      if (letters.any()) escapes.push_back(bytes(letters));
      if (!escapes.empty()) {
        const std::size_t backslash = byte('\\');
        branches.push_back(sequence({backslash, choice(std::move(escapes))}));
      }
    }
    if (single.any() || branches.empty()) branches.push_back(bytes(single));
    return choice(std::move(branches));
  }

 private:
  struct Digit {
    std::uint32_t first, last;
  };

  // All numbers from `low` to `high` (digits, the first one highest) as sequences of digits; emit
  // gets those.
  template <class Emit>
  static void split(std::span<const std::uint32_t> low, std::span<const std::uint32_t> high,
                    std::span<const Digit> all, std::vector<Digit>& prefix, const Emit& emit) {
    if (low.empty()) return emit(prefix);
    std::uint32_t first = low[0];
    std::uint32_t last = high[0];
    const auto go_on = [&](Digit digit, std::span<const std::uint32_t> l,
                           std::span<const std::uint32_t> h) {
      prefix.push_back(digit);
      split(l, h, all.subspan(1), prefix, emit);
      prefix.pop_back();
    };
    if (first == last) return go_on({first, last}, low.subspan(1), high.subspan(1));
    std::vector<std::uint32_t> least;
    std::vector<std::uint32_t> most;
    for (const Digit& d : all.subspan(1)) {
      least.push_back(d.first);
      most.push_back(d.last);
    }
    const auto equal = [](std::span<const std::uint32_t> a, const std::vector<std::uint32_t>& b) {
      return std::equal(a.begin(), a.end(), b.begin(), b.end());
    };
    if (!equal(low.subspan(1), least)) {
      go_on({first, first}, low.subspan(1), most);
      ++first;
    }
    if (!equal(high.subspan(1), most)) {
      go_on({last, last}, least, high.subspan(1));
      --last;
    }
    if (first <= last) go_on({first, last}, least, most);
  }

  void utf8(std::uint32_t first, std::uint32_t last, std::uint32_t largest,
            std::vector<std::size_t>& out) {
    last = (std::min)(last, largest);
    if (first > last) return;
    const Utf8 low(first);
    const Utf8 high(last);
    std::vector<std::uint32_t> l;
    std::vector<std::uint32_t> h;
    std::vector<Digit> all{{0xc2, 0xf4}};
    for (std::uint32_t i = 0; i < low.size; ++i) {
      l.push_back(static_cast<unsigned char>(low.bytes[i]));
      h.push_back(static_cast<unsigned char>(high.bytes[i]));
      if (i > 0) all.push_back({0x80, 0xbf});
    }
    std::vector<Digit> prefix;
    split(l, h, all, prefix, [&](const std::vector<Digit>& digits) {
      std::vector<std::size_t> parts;
      for (const Digit& d : digits) {
        ByteSet set;
        for (std::uint32_t b = d.first; b <= d.last; ++b) set.set(b);
        parts.push_back(bytes(set));
      }
      out.push_back(sequence(std::move(parts)));
    });
  }

  [[nodiscard]] static ByteSet hex_digits(std::uint32_t first, std::uint32_t last) {
    constexpr std::string_view lower = "0123456789abcdef";
    constexpr std::string_view upper = "0123456789ABCDEF";
    ByteSet set;
    for (std::uint32_t d = first; d <= last; ++d)
      set.set(static_cast<unsigned char>(lower[d])).set(static_cast<unsigned char>(upper[d]));
    return set;
  }

  // "uXXXX" for these.
  void unit(std::uint32_t first, std::uint32_t last, std::vector<std::size_t>& out) {
    const std::uint32_t low[] = {first >> 12, first >> 8 & 15, first >> 4 & 15, first & 15};
    const std::uint32_t high[] = {last >> 12, last >> 8 & 15, last >> 4 & 15, last & 15};
    const Digit all[] = {{0, 15}, {0, 15}, {0, 15}, {0, 15}};
    std::vector<Digit> prefix;
    split(low, high, all, prefix, [&](const std::vector<Digit>& digits) {
      std::vector<std::size_t> parts{byte('u')};
      for (const Digit& d : digits) parts.push_back(bytes(hex_digits(d.first, d.last)));
      out.push_back(sequence(std::move(parts)));
    });
  }

  // "uD8XX\uDCXX" for these.
  void pair(std::uint32_t first, std::uint32_t last, std::vector<std::size_t>& out) {
    const auto digits_of = [](std::uint32_t c) {
      c -= 0x10000;
      return std::array<std::uint32_t, 6>{c >> 18,    c >> 14 & 15, c >> 10 & 15,
                                          c >> 8 & 3, c >> 4 & 15,  c & 15};
    };
    const auto low = digits_of(first);
    const auto high = digits_of(last);
    const Digit all[] = {{0, 3}, {0, 15}, {0, 15}, {0, 3}, {0, 15}, {0, 15}};
    std::vector<Digit> prefix;
    split(low, high, all, prefix, [&](const std::vector<Digit>& digits) {
      std::vector<std::size_t> parts{byte('u'), bytes(hex_digits(13, 13))};
      for (std::size_t i = 0; i < 6; ++i) {
        if (i == 3) {
          parts.push_back(text("\\u"));
          parts.push_back(bytes(hex_digits(13, 13)));
        }
        const std::uint32_t base = i == 0 ? 8 : i == 3 ? 12 : 0;
        parts.push_back(bytes(hex_digits(base + digits[i].first, base + digits[i].last)));
      }
      out.push_back(sequence(std::move(parts)));
    });
  }

  Form form_;
  JsonSpelling spelling_;
  std::vector<Expression> nodes_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
