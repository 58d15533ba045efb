// SPDX-License-Identifier: Apache-2.0
// How the library says that the outside world (a file, memory, user input) did not fit: one
// exception type with a category and a sentence that names the file, the tensor and the numbers.
#pragma once

#include <rwkv/core/config.hpp>

#include <cstdlib>
#include <stdexcept>
#include <string>
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

/// Throws `Error`, or calls `error_handler` and then aborts when exceptions are disabled.
[[noreturn]] inline void fail(ErrorCategory category, const std::string& sentence) {
#if RWKV_HAS_EXCEPTIONS
  throw Error(category, sentence);
#else
  if (error_handler != nullptr) error_handler(category, sentence.c_str());
  std::abort();
#endif
}

namespace detail {
inline void append(std::string& out, const std::string& part) { out += part; }
inline void append(std::string& out, const char* part) { out += part; }
inline void append(std::string& out, char part) { out += part; }
template <class T>
requires std::is_arithmetic_v<T>
void append(std::string& out, T part) { out += std::to_string(part); }
}  // namespace detail

/// `fail` with the sentence put together from strings, characters and numbers.
template <class... Parts>
[[noreturn]] void fail_with(ErrorCategory category, const Parts&... parts) {
  std::string sentence;
  (detail::append(sentence, parts), ...);
  fail(category, sentence);
}

}  // namespace rwkv::inline RWKV_ABI
