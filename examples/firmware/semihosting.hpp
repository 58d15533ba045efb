// SPDX-License-Identifier: Apache-2.0
// Calls to the debugger or emulator that hosts the processor.
#pragma once

#include <cstdint>

namespace semihosting {

#if defined(__riscv)

extern "C" std::uintptr_t rwkv_semihosting(std::uintptr_t operation, const void* argument);

inline std::uintptr_t call(std::uintptr_t operation, const void* argument) {
  return rwkv_semihosting(operation, argument);
}

#else

inline std::uintptr_t call(std::uintptr_t operation, const void* argument) {
  register std::uintptr_t r0 asm("r0") = operation;
  register const void* r1 asm("r1") = argument;
  asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

#endif

[[noreturn]] inline void exit(int status) {
  const std::uintptr_t reason_and_status[2] = {0x20026,  // "the application ended"
                                               static_cast<std::uintptr_t>(status)};
  for (;;) call(0x20, reason_and_status);  // SYS_EXIT_EXTENDED
}

}  // namespace semihosting
