// SPDX-License-Identifier: Apache-2.0
// The targets of tests/fuzz by their names, where all of them are in one program.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fuzz {

struct Target {
  const char* name;
  int (*run)(const std::uint8_t* data, std::size_t size);
};

}  // namespace fuzz

/// Ends with one without a name.
extern const fuzz::Target fuzz_targets[];
