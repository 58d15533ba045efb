// SPDX-License-Identifier: Apache-2.0
// RWKV_TEST_SANITIZER: the program runs under the address or the thread sanitizer, which replace
// malloc, reserve most of the address space and make everything slow. test::sanitized says the same
// to the compiler.
#pragma once

#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define RWKV_TEST_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define RWKV_TEST_SANITIZER
#endif
#endif

namespace test {
#ifdef RWKV_TEST_SANITIZER
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

/// Whether an emulator runs this: whoever starts one names the level that it has.
[[nodiscard]] inline bool emulated() noexcept { return std::getenv("RWKV_TEST_LEVEL") != nullptr; }

/// Of cases that a test meets one after the other: none is left out, but under a sanitizer and in an
/// emulator all but every n-th, where the rest differs in numbers alone.
class Thinned {
 public:
  explicit Thinned(std::size_t n) noexcept : n_(sanitized || emulated() ? n : 1) {}
  [[nodiscard]] bool leaves_out() noexcept { return met_++ % n_ != 0; }

 private:
  std::size_t n_, met_ = 0;
};
}  // namespace test
