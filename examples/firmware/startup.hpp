// SPDX-License-Identifier: Apache-2.0
// What every processor does before main, and how much stack is used after it. For the one file per
// processor that has the rest.
#pragma once

#include "board.hpp"
#include "semihosting.hpp"

extern "C" {

// From the linker script.
extern std::uint32_t __stack_top[], __bss_end[];
extern const std::uint32_t __data_load[];
extern std::uint32_t __data_start[], __data_end[], __bss_start[];

int main();

}  // extern "C"

namespace startup {

inline constexpr std::uint32_t paint = 0xa5a5a5a5u;

/// Fills in what has a value and what is zero, paints the free stack below `sp`, and runs main. (A
/// constructor would not be run.)
[[noreturn, gnu::always_inline]] inline void run_main(const std::uint32_t* sp) {
  const std::uint32_t* load = __data_load;
  for (std::uint32_t* word = __data_start; word != __data_end; ++word) *word = *load++;
  for (std::uint32_t* word = __bss_start; word != __bss_end; ++word) *word = 0;
  for (std::uint32_t* word = __bss_end; word < sp; ++word) *word = paint;
  semihosting::exit(main());
}

}  // namespace startup

std::size_t board::stack_used() {
  const std::uint32_t* word = __bss_end;
  while (word != __stack_top && *word == startup::paint) ++word;
  return static_cast<std::size_t>(__stack_top - word) * sizeof *word;
}
