// SPDX-License-Identifier: Apache-2.0
// RWKV_TEST_SANITIZER: the program runs under the address or the thread sanitizer, which replace
// malloc, reserve most of the address space and make everything slow. test::sanitized says the same
// to the compiler.
#pragma once

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
}  // namespace test
