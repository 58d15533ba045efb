// SPDX-License-Identifier: Apache-2.0
// Decimal numbers in a small program, such as a WebAssembly module: the C++ library's from_chars and
// to_chars, and the C library's strtod and printf, are larger than much of what calls them. Floats
// are read and written exactly; of doubles with more than 15 digits, the last bits may differ.
#pragma once

#include <rwkv/core/config.hpp>

#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace rwkv::inline RWKV_ABI::internal {

/// value * 10^exponent; rounded once where 10^exponent is a double.
[[nodiscard]] constexpr double scaled(double value, int exponent) noexcept {
  constexpr double powers[] = {1e1, 1e2, 1e4, 1e8, 1e16, 1e32, 1e64, 1e128, 1e256};
  double by = 1;
  const unsigned n = static_cast<unsigned>(exponent < 0 ? -exponent : exponent);
  if (n >= 512) return exponent < 0 ? 0 : value * std::numeric_limits<double>::infinity();
  for (unsigned i = 0; i < 9; ++i) {
    if ((n >> i & 1) == 0) continue;
    if (i >= 5)  // by would not be exact, and might overflow
      value = exponent < 0 ? value / powers[i] : value * powers[i];
    else
      by *= powers[i];
  }
  return exponent < 0 ? value / by : value * by;
}

/// All of `text` ("-1.5e-3") as a number, if it is one and finite.
[[nodiscard]] constexpr std::optional<double> read_decimal(std::string_view text) noexcept {
  std::size_t at = 0;
  const auto digit = [&] { return at < text.size() && text[at] >= '0' && text[at] <= '9'; };
  const bool negative = text.starts_with('-');
  if (negative) ++at;
  std::uint64_t mantissa = 0;
  int exponent = 0;
  bool any = false, fraction = false;
  for (;; ++at) {
    if (at < text.size() && text[at] == '.' && !fraction) {
      fraction = true;
      continue;
    }
    if (!digit()) break;
    any = true;
    if (mantissa < 1000000000000000000u) {
      mantissa = mantissa * 10 + static_cast<unsigned>(text[at] - '0');
      exponent -= fraction ? 1 : 0;
    } else {
      exponent += fraction ? 0 : 1;
    }
  }
  if (any && at < text.size() && (text[at] == 'e' || text[at] == 'E')) {
    ++at;
    const bool down = at < text.size() && text[at] == '-';
    if (at < text.size() && (text[at] == '-' || text[at] == '+')) ++at;
    any = digit();
    int stated = 0;
    for (; digit(); ++at) stated = stated < 10000 ? stated * 10 + (text[at] - '0') : stated;
    exponent += down ? -stated : stated;
  }
  if (!any || at != text.size()) return std::nullopt;
  const double value = mantissa == 0 ? 0 : scaled(static_cast<double>(mantissa), exponent);
  if (value > (std::numeric_limits<double>::max)()) return std::nullopt;
  return negative ? -value : value;
}

/// Appends the shortest text that read_decimal reads as `value`: as a float if `single`.
inline void append_decimal(std::string& out, double value, bool single) {
  if (value != value) {
    out += "nan";
    return;
  }
  if (value < 0) out += '-';
  value = value < 0 ? -value : value;
  if (value > (std::numeric_limits<double>::max)() || value == 0) {
    out += value == 0 ? "0" : "inf";
    return;
  }
  int exponent = 0;  // of the first digit
  while (exponent < 308 && scaled(value, -exponent) >= 10) ++exponent;
  while (scaled(value, -exponent) < 1) --exponent;
  std::string digits;
  for (int n = 1; n <= 17; ++n) {
    const double units = scaled(value, n - 1 - exponent);
    digits = std::to_string(static_cast<std::uint64_t>(units + 0.5));
    const int tail =
        exponent + 1 - n;  // zeros behind the digits, or (negative) digits in a fraction
    const double read = scaled(static_cast<double>(static_cast<std::uint64_t>(units + 0.5)), tail);
    if (n == 17 || (single ? static_cast<float>(read) == static_cast<float>(value) : read == value))
      break;
  }
  if (static_cast<int>(digits.size()) > 1 && digits.find_first_not_of('0', 1) == digits.npos) {
    // 9.99... became 10
    const double first = scaled(value, -exponent);
    if (first >= 9.5) ++exponent;
    digits.resize(1);
  }
  const int n = static_cast<int>(digits.size());
  if (exponent >= 0 && exponent < 16) {
    if (exponent + 1 < n)
      digits.insert(static_cast<std::size_t>(exponent) + 1, 1, '.');
    else
      digits.append(static_cast<std::size_t>(exponent + 1 - n), '0');
  } else if (exponent < 0 && exponent >= -4) {
    digits.insert(0, "0." + std::string(static_cast<std::size_t>(-exponent - 1), '0'));
  } else {
    if (n > 1) digits.insert(1, 1, '.');
    const int size = exponent < 0 ? -exponent : exponent;
    digits += exponent < 0 ? "e-" : "e+";
    if (size < 10) digits += '0';
    digits += std::to_string(size);
  }
  out += digits;
}

}  // namespace rwkv::inline RWKV_ABI::internal
