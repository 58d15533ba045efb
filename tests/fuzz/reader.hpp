// SPDX-License-Identifier: Apache-2.0
// What all reader targets do: a file is read, and then every element it promised must be there, or
// it is refused with rwkv::Error. Anything else (a sanitizer, another exception) ends the program.
#pragma once

#include "../support/hostile.hpp"

#include <cstdint>

namespace fuzz {

template <class Read>
int run(const std::uint8_t* data, std::size_t size, Read read) {
  (void)test::read_or_refuse(std::as_bytes(std::span(data, size)), read);
  return 0;
}

}  // namespace fuzz
