// SPDX-License-Identifier: Apache-2.0
// The firmware's program on an ordinary computer.
#include "board.hpp"

#include <cstdio>

void board::print(const char* text) { std::fputs(text, stdout); }
