// SPDX-License-Identifier: Apache-2.0
// The three functions that a compiler may call on its own. Together with libgcc this is the whole
// run-time library: no C library is linked, and there is no malloc to call.
#include <cstddef>

extern "C" {

// Without the attribute the compiler would turn each loop into a call of the function itself.
#define PLAIN_LOOP [[gnu::used, gnu::optimize("no-tree-loop-distribute-patterns")]]

PLAIN_LOOP void* memcpy(void* to, const void* from, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
  return to;
}

PLAIN_LOOP void* memmove(void* to, const void* from, std::size_t n) {
  if (to <= from) return memcpy(to, from, n);
  for (std::size_t i = n; i-- > 0;) static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
  return to;
}

PLAIN_LOOP void* memset(void* to, int value, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) static_cast<char*>(to)[i] = static_cast<char>(value);
  return to;
}

}  // extern "C"
