// SPDX-License-Identifier: Apache-2.0
// Text through the debugger or emulator that hosts the processor. What runs before main, and the few
// functions that a compiler may call on its own, are those of examples/firmware.
#include "../board.hpp"

#include "../../../examples/firmware/semihosting.hpp"

void board::print(const char* text) { semihosting::call(0x04, text); }  // SYS_WRITE0
