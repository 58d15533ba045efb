// SPDX-License-Identifier: Apache-2.0
// Text through the debugger or emulator that hosts the processor.
#include "semihosting.hpp"

#include "board.hpp"

namespace {

/// The host's console: mode 0 reads, 4 writes.
std::uintptr_t open_console(std::uintptr_t mode) {
  const struct {
    const char* name;
    std::uintptr_t mode, length;
  } console{":tt", mode, 3};
  return semihosting::call(0x01, &console);  // SYS_OPEN
}

struct Transfer {
  std::uintptr_t file;
  const void* bytes;
  std::uintptr_t size;
};

}  // namespace

void board::write(std::string_view text) {
  constinit static std::uintptr_t out = 0;
  if (out == 0) out = open_console(4);
  const Transfer transfer{out, text.data(), text.size()};
  semihosting::call(0x05, &transfer);  // SYS_WRITE
}

int board::read() {
  constinit static std::uintptr_t in = 0;
  if (in == 0) in = open_console(0);
  unsigned char byte = 0;
  const Transfer transfer{in, &byte, 1};
  const std::uintptr_t missing = semihosting::call(0x06, &transfer);  // SYS_READ
  return missing != 0 || byte == 4 ? -1 : byte;                       // 4: end of transmission
}
