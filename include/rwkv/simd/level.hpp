// SPDX-License-Identifier: Apache-2.0
// The instruction sets that kernels are chosen from at run time.
#pragma once

#include <rwkv/core/config.hpp>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA {

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
RWKV_FUNCTION Level level() noexcept;

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/simd/level.ipp>
#endif
