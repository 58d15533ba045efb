// SPDX-License-Identifier: Apache-2.0
// The three functions that a compiler may call on its own. Together with libgcc this is the whole
// run-time library: no C library is linked, and there is no malloc to call.
#include <cstddef>
#include <cstdint>

extern "C" {

// Without the attribute the compiler would turn each loop into a call of the function itself; with
// -Os, also what copies four words.
#define PLAIN_LOOP [[gnu::used, gnu::optimize("O2", "no-tree-loop-distribute-patterns")]]

struct [[gnu::may_alias]] Words {
  std::uint32_t words[4];
};

PLAIN_LOOP void* memcpy(void* to, const void* from, std::size_t n) {
  auto* out = static_cast<char*>(to);
  auto* in = static_cast<const char*>(from);
  if ((reinterpret_cast<std::uintptr_t>(to) | reinterpret_cast<std::uintptr_t>(from)) % 4 == 0)
    for (; n >= sizeof(Words); n -= sizeof(Words), out += sizeof(Words), in += sizeof(Words))
      *reinterpret_cast<Words*>(out) = *reinterpret_cast<const Words*>(in);
  for (; n > 0; --n) *out++ = *in++;
  return to;
}

PLAIN_LOOP void* memmove(void* to, const void* from, std::size_t n) {
  if (to <= from) return memcpy(to, from, n);
  for (std::size_t i = n; i-- > 0;) static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
  return to;
}

PLAIN_LOOP void* memset(void* to, int value, std::size_t n) {
  auto* out = static_cast<char*>(to);
  const std::uint32_t word = static_cast<unsigned char>(value) * 0x01010101u;
  if (reinterpret_cast<std::uintptr_t>(to) % 4 == 0)
    for (; n >= sizeof(Words); n -= sizeof(Words), out += sizeof(Words))
      *reinterpret_cast<Words*>(out) = {{word, word, word, word}};
  for (; n > 0; --n) *out++ = static_cast<char>(value);
  return to;
}

}  // extern "C"
