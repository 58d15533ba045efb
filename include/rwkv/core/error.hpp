// SPDX-License-Identifier: Apache-2.0
// How the library says that the outside world (a file, memory, user input) did not fit: one
// exception type with a category and a sentence that names the file, the tensor and the numbers.
#pragma once

#include <rwkv/core/config.hpp>

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace rwkv::inline RWKV_ABI {

/// What kind of thing went wrong; stable, for programs. The sentence in `what()` is for people.
enum class ErrorCategory : std::uint8_t {
  io,           ///< the operating system refused: missing file, no permission, disk full
  format,       ///< a file is damaged, or is not what its header claims
  unsupported,  ///< a valid file that uses something this library does not do
  shape,        ///< sizes that do not fit together (tensor, state, batch)
  argument,     ///< a value from the caller that is out of range
  memory,       ///< an allocation of this size is not possible
  numeric,      ///< NaN or infinity where a number was needed
  cancelled,    ///< the caller asked for the work to stop
};

/// The only exception the library throws on purpose.
class Error : public std::runtime_error {
 public:
  Error(ErrorCategory category, const std::string& sentence)
      : std::runtime_error(sentence), category_(category) {}
  [[nodiscard]] ErrorCategory category() const noexcept { return category_; }

 private:
  ErrorCategory category_;
};

/// Called instead of throwing when exceptions are disabled. Must not return. Replace it once, at
/// start-up.
using ErrorHandler = void (*)(ErrorCategory, const char* sentence);
inline ErrorHandler error_handler = nullptr;

/// Throws `Error`, or calls `error_handler` and then aborts when exceptions are disabled (where
/// rwkv::compiled is used: when it was compiled without them).
[[noreturn]] RWKV_FUNCTION void fail(ErrorCategory category, const std::string& sentence);

namespace internal {

/// A part of a sentence. Parts are put together in one function, not in one for every combination
/// of types.
class Part {
 public:
  Part(const std::string& text) noexcept : kind_(Kind::text), text_(text) {}
  Part(const char* text) noexcept : kind_(Kind::text), text_(text) {}
  Part(char letter) noexcept : kind_(Kind::letter), letter_(letter) {}
  template <class T>
  requires std::is_arithmetic_v<T> Part(T number)
  noexcept {
    if constexpr (std::is_floating_point_v<T>) {
      kind_ = std::is_same_v<T, float> ? Kind::single : Kind::real;
      real_ = static_cast<double>(number);
    } else if constexpr (std::is_signed_v<T>) {
      kind_ = Kind::integer;
      integer_ = number;
    } else {
      kind_ = Kind::natural;
      natural_ = number;
    }
  }

  void append_to(std::string& sentence) const;

 private:
  enum class Kind : std::uint8_t { text, letter, integer, natural, single, real };
  Kind kind_;
  union {
    std::string_view text_;
    char letter_;
    long long integer_;
    unsigned long long natural_;
    double real_;
  };
};

[[noreturn]] RWKV_FUNCTION void fail_with_parts(ErrorCategory category, const Part* parts,
                                                std::size_t count);

}  // namespace internal

/// `fail` with the sentence put together from strings, characters and numbers.
template <class... Parts>
[[noreturn]] void fail_with(ErrorCategory category, const Parts&... parts) {
  const internal::Part all[] = {parts...};
  internal::fail_with_parts(category, all, sizeof...(parts));
}

}  // namespace rwkv::inline RWKV_ABI

#if RWKV_HEADER_ONLY
#include <rwkv/core/error.ipp>
#endif
