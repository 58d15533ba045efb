// SPDX-License-Identifier: Apache-2.0
// Text over a serial line: the CMSDK UART of ARM's MPS boards (data, state, control, ... from
// UART_BASE on), or the 16550 of RISC-V's virtual board. Other chips differ in these lines alone.
#include "board.hpp"

#ifndef UART_BASE
#if defined(__riscv)
#define UART_BASE 0x10000000
#else
#define UART_BASE 0x40004000
#endif
#endif

namespace {

#if defined(__riscv)

volatile std::uint8_t& at(std::size_t offset) {
  return *reinterpret_cast<volatile std::uint8_t*>(UART_BASE + offset);
}
bool may_write() { return (at(5) & 0x20) != 0; }
bool may_read() { return (at(5) & 1) != 0; }
void prepare() {}

#else

volatile std::uint32_t& at(std::size_t offset) {
  return *reinterpret_cast<volatile std::uint32_t*>(UART_BASE + offset);
}
bool may_write() { return (at(4) & 1) == 0; }
bool may_read() { return (at(4) & 2) != 0; }
void prepare() {
  if (at(8) == 3) return;
  at(16) = 16;  // the divider of the clock
  at(8) = 3;    // both directions
}

#endif

}  // namespace

void board::write(std::string_view text) {
  prepare();
  for (const char byte : text) {
    while (!may_write()) {
    }
    at(0) = static_cast<unsigned char>(byte);
  }
}

int board::read() {
  prepare();
  while (!may_read()) {
  }
  const int byte = static_cast<int>(at(0) & 0xffu);
  return byte == 4 ? -1 : byte;  // end of transmission
}
