// SPDX-License-Identifier: Apache-2.0
// Text through the debugger or emulator that hosts the processor.
#include "semihosting.hpp"

#include "board.hpp"

void board::write(std::string_view text) {
  for (const char byte : text) semihosting::call(0x03, &byte);  // SYS_WRITEC
}

int board::read() {
  const int byte = static_cast<int>(semihosting::call(0x07, nullptr));  // SYS_READC
  return byte == 4 ? -1 : byte;                                         // end of transmission
}
