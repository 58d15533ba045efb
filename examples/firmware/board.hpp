// SPDX-License-Identifier: Apache-2.0
// All that these programs ask of the machine they run on: three functions, and a fourth to see how
// much stack they took. Implemented by semihosting.cpp (a debugger or emulator), uart.cpp (a serial
// line) and host.cpp (an ordinary computer); clock and stack by the start-up code.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/static_blob_format.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace board {

void write(std::string_view text);
/// The next byte; waits for it. Negative: no more will come.
int read();
/// Goes on steadily, also through 2^32, as long as it is asked now and then: a timer's ticks, or
/// instructions.
std::uint32_t clock();

/// The most stack that was ever used, in bytes; 0 where nobody knows.
std::size_t stack_used();

/// Without strlen, which is in no library that is linked.
inline void write(const char* text) {
  std::size_t n = 0;
  while (text[n] != '\0') ++n;
  write(std::string_view(text, n));
}

inline void write(std::uint32_t number) {
  char digits[10];
  std::size_t n = sizeof digits;
  do digits[--n] = static_cast<char>('0' + number % 10);
  while ((number /= 10) != 0);
  write(std::string_view(digits + n, sizeof digits - n));
}

/// A line without its end, cut to the size of `line`. False: there are no more.
inline bool read_line(std::span<char> line, std::string_view& text) {
  std::size_t n = 0;
  int byte = read();
  if (byte < 0) return false;
  for (; byte >= 0 && byte != '\n'; byte = read())
    if (byte != '\r' && n < line.size()) line[n++] = static_cast<char>(byte);
  text = {line.data(), n};
  return true;
}

/// Runs on the one core there is and, between layers, looks at the clock (so that no wrap of a short
/// timer is missed). This is where a firmware would reset its watchdog or serve other tasks.
class Stopwatch : public rwkv::Serial {
 public:
  bool proceed() {
    const std::uint32_t now = clock();
    ticks_ += now - last_;
    last_ = now;
    return true;
  }
  void start() {
    ticks_ = 0;
    last_ = clock();
  }
  [[nodiscard]] std::uint64_t ticks() {
    (void)proceed();
    return ticks_;
  }

 private:
  std::uint32_t last_ = 0;
  std::uint64_t ticks_ = 0;
};

/// "clock 123456 for 17 tokens, stack 2345, state 67890": the last is a checksum of the state's bits.
inline void report(Stopwatch& watch, std::size_t tokens, std::span<const std::byte> state) {
  write("clock ");
  write(static_cast<std::uint32_t>(watch.ticks()));
  write(" for ");
  write(static_cast<std::uint32_t>(tokens));
  write(" tokens, stack ");
  write(static_cast<std::uint32_t>(stack_used()));
  write(", state ");
  write(static_cast<std::uint32_t>(rwkv::internal::blob_checksum(state)));
  write("\n");
}

}  // namespace board
