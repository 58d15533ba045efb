// SPDX-License-Identifier: Apache-2.0
// Numbers in text, whatever the locale says.
#pragma once

#include <rwkv/core/config.hpp>

#include <charconv>
#include <limits>
#include <optional>
#include <string_view>
#include <type_traits>

#if defined(__cpp_lib_to_chars)
#elif defined(__wasi__)
#include <rwkv/core/decimal.hpp>
#else  // libc++ reads no fractions
#include <locale>
#include <sstream>
#include <string>
#endif

namespace rwkv::inline RWKV_ABI::internal {

/// All of `text` as a number, if it is one that T holds.
template <class T>
[[nodiscard]] std::optional<T> parse(std::string_view text) {
  T value{};
#if !defined(__cpp_lib_to_chars)
  if constexpr (std::is_floating_point_v<T>) {
    constexpr std::string_view allowed = "0123456789+-.eE";
    if (text.empty() || text[0] == '+' || text.find_first_not_of(allowed) != std::string_view::npos)
      return std::nullopt;
#if defined(__wasi__)  // streams would be a quarter of a program
    const std::optional<double> number = read_decimal(text);
    constexpr double largest = static_cast<double>((std::numeric_limits<T>::max)());
    if (!number || *number > largest || *number < -largest) return std::nullopt;
    return static_cast<T>(*number);
#else
    std::istringstream in{std::string(text)};
    in.imbue(std::locale::classic());
    in >> value;
    if (in.fail() || in.peek() != std::istringstream::traits_type::eof()) return std::nullopt;
    return value;
#endif
  } else
#endif
  {
    const char* const end = text.data() + text.size();
    const auto [after, error] = std::from_chars(text.data(), end, value);
    if (error != std::errc{} || after != end) return std::nullopt;
    return value;
  }
}

}  // namespace rwkv::inline RWKV_ABI::internal
