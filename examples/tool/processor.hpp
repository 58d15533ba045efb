// SPDX-License-Identifier: Apache-2.0
// What this program was compiled for and the processor lacks. A program that uses an instruction
// which the processor does not have is ended by the system without a word.
//
// Included in two translation units: the one that is compiled as the program is says what that
// means in a table; the one that is compiled for any processor looks.
#pragma once

#include <cstdint>

namespace tool {

/// One instruction-set extension: where `cpuid` says that a processor has it.
struct Extension {
  const char* name;
  std::uint32_t leaf;
  std::uint32_t subleaf;
  std::uint8_t register_;  ///< 0 eax, 1 ebx, 2 ecx, 3 edx
  std::uint8_t bit;
  bool wide;  ///< the system must save its registers, too
};

/// Those that the compiler was allowed to use anywhere in the program; ends with a null name.
extern const Extension needed_extensions[];

}  // namespace tool
