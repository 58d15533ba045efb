// SPDX-License-Identifier: Apache-2.0
// The instruction sets that kernels are chosen from at run time.
#pragma once

#include <rwkv/core/config.hpp>

#include <optional>
#include <span>
#include <string_view>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA {

/// Other instructions of these processors would give other numbers and are not used: AVX512-FP16 adds
/// up halves where sums are floats here, and products of bf16 in tiles (AMX-BF16) take denormals for
/// zeros and sum in another order than those of vectors, which lone rows would have to follow.
enum class Level : std::uint8_t {
  compiled,     ///< what the translation unit was compiled for
  avx2,         ///< AVX2, FMA and F16C: Haswell, Zen
  avx_vnni,     ///< the same with VNNI in 256 bits, in compiled programs: Alder Lake
  avx512,       ///< AVX-512 F, BW, DQ and VL: Skylake with AVX-512
  avx512_vnni,  ///< the same with VNNI: Ice Lake
  avx512_bf16,  ///< the same with BF16: Cooper Lake, Zen 4
  amx_int8,     ///< the same with AMX for bytes, in compiled programs for Linux: Sapphire Rapids
  dotprod,      ///< NEON with dot products of bytes: Cortex-A55 and A76, Neoverse N1
  i8mm,         ///< the same with products of matrices of bytes: Cortex-A710, Neoverse V1
};

[[nodiscard]] constexpr const char* name_of(Level level) noexcept {
  switch (level) {
    case Level::avx2:
      return "avx2";
    case Level::avx_vnni:
      return "avx_vnni";
    case Level::avx512:
      return "avx512";
    case Level::avx512_vnni:
      return "avx512_vnni";
    case Level::avx512_bf16:
      return "avx512_bf16";
    case Level::amx_int8:
      return "amx_int8";
    case Level::dotprod:
      return "dotprod";
    case Level::i8mm:
      return "i8mm";
    case Level::compiled:
      break;
  }
  return "compiled";
}

/// The level of that name, if there is one.
[[nodiscard]] constexpr std::optional<Level> level_named(std::string_view name) noexcept {
  for (std::uint8_t i = 0; i <= static_cast<std::uint8_t>(Level::i8mm); ++i)
    if (name_of(static_cast<Level>(i)) == name) return static_cast<Level>(i);
  return std::nullopt;
}

/// The levels that this program has kernels for, the best one last. `compiled` alone where nothing
/// is chosen at run time (RWKV_DISPATCH).
[[nodiscard]] RWKV_FUNCTION std::span<const Level> compiled_levels() noexcept;

/// The best of these that this processor and this operating system run. Thread-safe; asks the
/// processor once. Where it has AMX, Linux is asked for the tile registers: from then on the process
/// has larger signal frames, and alternate stacks that do not hold them (12 KiB) are refused.
[[nodiscard]] RWKV_FUNCTION Level best_level() noexcept;

/// Those of the compiled levels that run here, the best one last.
[[nodiscard]] RWKV_FUNCTION std::span<const Level> available_levels() noexcept;

/// The level that kernels are taken from: the best one, unless another one was chosen. Thread-safe.
[[nodiscard]] RWKV_FUNCTION Level level() noexcept;

/// From now on kernels of this level run, in the whole program: to measure or test them, or to get
/// the bits of another machine. Models that are loaded go on with it; while one is running its pass
/// may mix both. Throws Error (argument), naming those that there are, for a level that is not
/// available.
RWKV_FUNCTION void use_level(Level level);

/// How many bytes ahead products of one row ask for their weights; 0: not at all. AMD's processors
/// read one stream of memory faster when they are left alone. Intel's look ahead about as far as
/// their next 500 instructions reach, which is less, the more a byte of weights is computed with.
/// Thread-safe.
[[nodiscard]] RWKV_FUNCTION std::size_t bytes_ahead() noexcept;

/// Another number, in the whole program: to measure.
RWKV_FUNCTION void use_bytes_ahead(std::size_t bytes) noexcept;

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/simd/level.ipp>
#endif
