// SPDX-License-Identifier: Apache-2.0
// Calls to the debugger or emulator that hosts the processor: text out, and an exit status.
#pragma once

#include <cstdint>

namespace semihosting {

inline void call(std::uint32_t operation, const void* argument) {
  register std::uint32_t r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

inline void print(const char* text) { call(0x04, text); }  // SYS_WRITE0

[[noreturn]] inline void exit(int status) {
  const std::uint32_t reason_and_status[2] = {0x20026,  // "the application ended"
                                              static_cast<std::uint32_t>(status)};
  for (;;) call(0x20, reason_and_status);  // SYS_EXIT_EXTENDED
}

}  // namespace semihosting
