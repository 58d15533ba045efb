// SPDX-License-Identifier: Apache-2.0
#include "tool.hpp"
#include <rwkv/simd/level.hpp>

#include <algorithm>
#include <cstdio>

namespace tool {

void run(const Levels&) {
  namespace simd = rwkv::simd;
  const auto available = simd::available_levels();
  for (const simd::Level level : simd::compiled_levels()) {
    const bool here = std::find(available.begin(), available.end(), level) != available.end();
    std::printf("%-12s %s\n", simd::name_of(level),
                level == simd::level() ? "used"
                : here                 ? "available"
                                       : "not on this processor");
  }
}

}  // namespace tool
