// SPDX-License-Identifier: Apache-2.0
// The instruction sets that kernels are chosen from at run time.
#pragma once

#include <rwkv/simd/target.hpp>

#if RWKV_DISPATCH && RWKV_TARGET_DOTPROD
#include <sys/auxv.h>
#endif

namespace rwkv::inline RWKV_ABI::simd {

enum class Level : std::uint8_t {
  compiled,     ///< what the translation unit was compiled for
  avx2,         ///< AVX2, FMA and F16C: Haswell, Zen
  avx512,       ///< AVX-512 F, BW, DQ and VL: Skylake with AVX-512
  avx512_vnni,  ///< the same with VNNI: Ice Lake
  avx512_bf16,  ///< the same with BF16: Cooper Lake, Sapphire Rapids, Zen 4
  dotprod,      ///< NEON with dot products of bytes: Cortex-A55 and A76, Neoverse N1
  i8mm,         ///< the same with products of matrices of bytes: Cortex-A710, Neoverse V1
};

[[nodiscard]] constexpr const char* name_of(Level level) noexcept {
  switch (level) {
    case Level::avx2:
      return "avx2";
    case Level::avx512:
      return "avx512";
    case Level::avx512_vnni:
      return "avx512_vnni";
    case Level::avx512_bf16:
      return "avx512_bf16";
    case Level::dotprod:
      return "dotprod";
    case Level::i8mm:
      return "i8mm";
    case Level::compiled:
      break;
  }
  return "compiled";
}

/// The best level that this processor and this operating system run. Always `compiled` where
/// nothing is chosen at run time (RWKV_DISPATCH). Thread-safe; asks the processor once.
inline Level level() noexcept {
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

}  // namespace rwkv::inline RWKV_ABI::simd
