// SPDX-License-Identifier: Apache-2.0
// Bytes that nobody vouches for: reading them without running past the end, multiplying the sizes
// they claim without overflow, and quoting their names in messages. Every reader stands on this.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/core/error.hpp>

#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

static_assert(std::endian::native == std::endian::little,
              "model files are little-endian and their tensors are used where they lie");

/// No model has tensors of more dimensions; it bounds the work per tensor.
inline constexpr std::size_t max_rank = 8;

[[nodiscard]] constexpr std::optional<std::size_t> checked_product(std::size_t a,
                                                                   std::size_t b) noexcept {
  if (b != 0 && a > (std::numeric_limits<std::size_t>::max)() / b) return std::nullopt;
  return a * b;
}

/// Number of elements, or nothing when it does not fit (a zero anywhere gives zero only if the
/// other dimensions multiply without overflow).
[[nodiscard]] inline std::optional<std::size_t> element_count(
    const std::vector<std::size_t>& shape) noexcept {
  std::optional<std::size_t> count = 1;
  bool empty = false;
  for (const std::size_t d : shape) {
    empty |= d == 0;
    count = checked_product(*count, d == 0 ? 1 : d);
    if (!count) return std::nullopt;
  }
  return empty ? 0 : *count;
}

/// Bytes of a tensor whose rows are whole blocks, or nothing when their number does not fit.
[[nodiscard]] inline std::optional<std::size_t> byte_count(const std::vector<std::size_t>& shape,
                                                           DType type) noexcept {
  const auto count = element_count(shape);
  return count ? checked_product(*count / block_elements(type), block_bytes(type)) : std::nullopt;
}

/// `name` as it may appear in a message: quoted, control characters escaped, overlong text cut.
[[nodiscard]] inline std::string printable(std::string_view name) {
  constexpr std::size_t longest = 120;
  constexpr std::string_view hex = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : name.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f || c == '"' || c == '\\') {
      out += "\\x";
      out += hex[byte >> 4];
      out += hex[byte & 15];
    } else {
      out += c;
    }
  }
  return out + (name.size() > longest ? "...\"" : "\"");
}

/// Throws "<source>: tensor "<name>"<why...>".
template <class... Why>
[[noreturn]] void refuse_tensor(ErrorCategory category, const std::string& source,
                                std::string_view name, const Why&... why) {
  fail_with(category, source, ": tensor ", printable(name), why...);
}

/// Refuses a tensor whose rows are no whole blocks of its type.
inline void require_whole_blocks(const std::vector<std::size_t>& shape, DType type,
                                 const std::string& source, std::string_view name) {
  const std::size_t row = shape.empty() ? 1 : shape.back();
  if (row % block_elements(type) != 0)
    refuse_tensor(ErrorCategory::format, source, name, " has rows of ", row,
                  " elements, which are no whole blocks of ", std::string(name_of(type)));
}

/// True if `text` is well-formed UTF-8 (no overlong forms, no surrogates, at most U+10FFFF).
[[nodiscard]] constexpr bool is_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(text[i + k]); };
    const unsigned lead = byte(0);
    const std::size_t length = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if ((lead >= 0x80 && lead < 0xc2) || lead > 0xf4 || length > text.size() - i) return false;
    for (std::size_t k = 1; k < length; ++k)
      if ((byte(k) & 0xc0u) != 0x80u) return false;
    if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) ||
        (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f))
      return false;
    i += length;
  }
  return true;
}

/// Without the mark that some editors put before UTF-8.
[[nodiscard]] constexpr std::string_view without_mark(std::string_view text) noexcept {
  constexpr std::string_view mark = "\xef\xbb\xbf";
  return text.substr(text.starts_with(mark) ? mark.size() : 0);
}
[[nodiscard]] inline std::span<const std::byte> without_mark(
    std::span<const std::byte> bytes) noexcept {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return bytes.subspan(bytes.size() - without_mark(text).size());
}

/// Reads values one after the other and refuses to read past the end.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& source)
      : bytes_(bytes), source_(&source) {}

  [[nodiscard]] std::size_t position() const noexcept { return at_; }
  [[nodiscard]] std::size_t remaining() const noexcept { return bytes_.size() - at_; }

  /// The next `count` bytes; `what` names them in the message when the file is too short.
  std::span<const std::byte> take(std::uint64_t count, const char* what) {
    if (count > remaining())
      fail_with(ErrorCategory::format, *source_, ": ends in the middle of ", what, ": ", count,
                " bytes at offset ", at_, " of ", bytes_.size());
    const auto part = bytes_.subspan(at_, static_cast<std::size_t>(count));
    at_ += part.size();
    return part;
  }

  template <class T>
  T get(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  std::string_view text(std::uint64_t length, const char* what) {
    const auto part = take(length, what);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  const std::string* source_;
  std::size_t at_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
