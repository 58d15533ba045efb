// SPDX-License-Identifier: Apache-2.0
// The board that an ordinary computer is.
#include "board.hpp"

#include <cstdio>

void board::write(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}
int board::read() { return std::getchar(); }
std::uint32_t board::clock() { return 0; }
std::size_t board::stack_used() { return 0; }
