// SPDX-License-Identifier: Apache-2.0
// The definition of simd/level.hpp.
#pragma once

#include <rwkv/simd/level.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_DISPATCH && RWKV_TARGET_DOTPROD
#include <sys/auxv.h>
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA {

RWKV_FUNCTION Level level() noexcept {
#if RWKV_DISPATCH
  static const Level best = [] {
#if RWKV_TARGET_DOTPROD
    constexpr unsigned long has_dotprod = 1ul << 20, has_i8mm = 1ul << 13;  // of all Linux kernels
    if ((getauxval(AT_HWCAP) & has_dotprod) == 0) return Level::compiled;
    return (getauxval(AT_HWCAP2) & has_i8mm) != 0 ? Level::i8mm : Level::dotprod;
#else
    // F16C has no name in clang 14; every processor with AVX2 has it.
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Level::compiled;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
      return Level::avx2;
    if (!__builtin_cpu_supports("avx512vnni")) return Level::avx512;
    return __builtin_cpu_supports("avx512bf16") ? Level::avx512_bf16 : Level::avx512_vnni;
#endif
  }();
  return best;
#else
  return Level::compiled;
#endif
}

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA
