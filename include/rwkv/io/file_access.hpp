// SPDX-License-Identifier: Apache-2.0
// How files are opened.
#pragma once

#include <rwkv/core/config.hpp>

namespace rwkv::inline RWKV_ABI::io {

enum class FileAccess : std::uint8_t {
  map,   ///< mapped where the system can: takes no time and no memory; the file must not change
  read,  ///< read into memory: what becomes of the file later does not matter
};

}  // namespace rwkv::inline RWKV_ABI::io
