// SPDX-License-Identifier: Apache-2.0
// Compiled for any processor of this kind, and run before everything else: see processor.hpp. Knows
// nothing of the standard library, whose inline functions could be shared with files compiled for
// this processor alone.
#include "processor.hpp"

#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)

#include <cpuid.h>
#include <unistd.h>

namespace tool {

namespace {

bool has(const Extension& e) {
  unsigned registers[4] = {};
  if (__get_cpuid_count(e.leaf, e.subleaf, &registers[0], &registers[1], &registers[2],
                        &registers[3]) == 0 ||
      (registers[e.register_] >> e.bit & 1) == 0)
    return false;
  if (!e.wide) return true;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c >> 27 & 1) == 0) return false;  // XGETBV
  unsigned saved = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  const bool zmm = e.name[3] == '-' && e.name[4] == '5';  // AVX-512...
  const unsigned needed = zmm ? 0xe6 : 0x06;
  return (saved & needed) == needed;
}

void say(const char* text) {
  unsigned long length = 0;
  while (text[length] != 0) ++length;
  [[maybe_unused]] const auto ignored = write(STDERR_FILENO, text, length);
}

// Before the constructors of other files, some of which are compiled for this processor alone.
__attribute__((constructor(101))) void check_processor() {
  bool missing = false;
  for (const Extension* e = needed_extensions; e->name != nullptr; ++e) {
    if (has(*e)) continue;
    say(missing ? ", " : "error: this program was compiled for a processor with ");
    say(e->name);
    missing = true;
  }
  if (!missing) return;
  say(", which this one does not have; compile it here, or without RWKV_NATIVE\n");
  _exit(1);
}

}  // namespace

}  // namespace tool

#endif
