// SPDX-License-Identifier: Apache-2.0
// All that main.cpp asks of the machine it runs on.
#pragma once

namespace board {

void print(const char* text);

}  // namespace board
