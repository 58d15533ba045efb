// SPDX-License-Identifier: Apache-2.0
// The definition of simd/level.hpp.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/simd/target.hpp>
#if RWKV_DISPATCH && RWKV_TARGET_AMX && !RWKV_HEADER_ONLY
#include <rwkv/simd/amx_tiles.hpp>
#endif

#include <algorithm>
#include <array>
#include <atomic>

#if RWKV_DISPATCH && RWKV_TARGET_DOTPROD
#include <sys/auxv.h>
#elif RWKV_DISPATCH || RWKV_TARGET_AVX2
#include <cpuid.h>
#if RWKV_DISPATCH && RWKV_TARGET_AMX && !RWKV_HEADER_ONLY
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA {

RWKV_FUNCTION std::span<const Level> compiled_levels() noexcept {
#if RWKV_DISPATCH && RWKV_TARGET_AVX2
  static constexpr Level levels[] = {
    Level::compiled,
    Level::avx2,
#if !RWKV_HEADER_ONLY  // it would cost every program its compilation
    Level::avx_vnni,
#endif
    Level::avx512,
    Level::avx512_vnni,
    Level::avx512_bf16,
#if RWKV_TARGET_AMX && !RWKV_HEADER_ONLY
    Level::amx_int8,
#endif
  };
#elif RWKV_DISPATCH
  static constexpr Level levels[] = {Level::compiled, Level::dotprod, Level::i8mm};
#else
  static constexpr Level levels[] = {Level::compiled};
#endif
  return levels;
}

namespace detail {

#if RWKV_DISPATCH && RWKV_TARGET_AMX && !RWKV_HEADER_ONLY
/// Whether this processor multiplies bytes in tiles of the sizes that simd/amx_tiles.hpp takes for
/// granted, the system lets the process use them, and a product is right. The system has to be asked
/// first: threads get their registers with the first instruction, and signal frames become so much
/// larger.
[[nodiscard]] inline bool has_tiles() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned tile = 1u << 24, int8 = 1u << 25, osxsave = 1u << 27;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & tile) == 0 || (d & int8) == 0)
    return false;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & osxsave) == 0) return false;
  constexpr unsigned tile_states = 1u << 17 | 1u << 18;
  unsigned enabled = 0, upper = 0;
  asm("xgetbv" : "=a"(enabled), "=d"(upper) : "c"(0));
  if ((enabled & tile_states) != tile_states) return false;
  // Palette 1: eight registers of 16 rows of 64 bytes. The unit: B of 16 lines of 64 bytes.
  if (__get_cpuid_count(0x1d, 1, &a, &b, &c, &d) == 0 || (a >> 16) < 1024 || (b & 0xffff) < 64 ||
      (b >> 16) < 8 || (c & 0xffff) < 16)
    return false;
  if (__get_cpuid_count(0x1e, 0, &a, &b, &c, &d) == 0 || (b & 0xff) < 16 || (b >> 8 & 0xffff) < 64)
    return false;
  constexpr long get_permissions = 0x1022, request_permission = 0x1023, tile_data = 18;  // of Linux
  std::uint64_t permitted = 0;
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0 &&
         syscall(SYS_arch_prctl, get_permissions, &permitted) == 0 &&
         (permitted >> tile_data & 1) != 0 && multiplies_exactly<AmxTiles>();
}
#endif

/// Whether this processor and this operating system run a compiled level.
[[nodiscard]] inline bool runs_here([[maybe_unused]] Level level) noexcept {
#if RWKV_DISPATCH && RWKV_TARGET_DOTPROD
  constexpr unsigned long has_dotprod = 1ul << 20, has_i8mm = 1ul << 13;  // of all Linux kernels
  if (level >= Level::dotprod && (getauxval(AT_HWCAP) & has_dotprod) == 0) return false;
  return level < Level::i8mm || (getauxval(AT_HWCAP2) & has_i8mm) != 0;
#elif RWKV_DISPATCH
  if (level == Level::compiled) return true;
  // F16C has no name in clang 14; every processor with AVX2 has it.
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return false;
  if (level == Level::avx_vnni) {  // nor has this
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
  }
  if (level >= Level::avx512 &&
      (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
       !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")))
    return false;
  if (level >= Level::avx512_vnni && !__builtin_cpu_supports("avx512vnni")) return false;
  if (level >= Level::avx512_bf16 && !__builtin_cpu_supports("avx512bf16")) return false;
#if RWKV_TARGET_AMX && !RWKV_HEADER_ONLY
  if (level == Level::amx_int8) return has_tiles();
#endif
  return true;
#else
  return true;
#endif
}

struct Levels {
  std::array<Level, 8> level{};
  std::size_t count = 0;
};
/// The compiled levels that run here, the best one last.
[[nodiscard]] inline const Levels& levels_here() noexcept {
  static const Levels here = [] {
    Levels found;
    for (const Level level : compiled_levels())
      if (runs_here(level)) found.level[found.count++] = level;
    return found;
  }();
  return here;
}

}  // namespace detail

RWKV_FUNCTION Level best_level() noexcept {
  const detail::Levels& here = detail::levels_here();
  return here.level[here.count - 1];
}

RWKV_FUNCTION std::span<const Level> available_levels() noexcept {
  const detail::Levels& here = detail::levels_here();
  return {here.level.data(), here.count};
}

namespace detail {

[[nodiscard]] inline std::atomic<Level>& level_in_use() noexcept {
  static std::atomic<Level> level{best_level()};
  return level;
}

}  // namespace detail

RWKV_FUNCTION Level level() noexcept {
  return detail::level_in_use().load(std::memory_order_relaxed);
}

RWKV_FUNCTION void use_level(Level level) {
  const std::span<const Level> available = available_levels();
  if (std::find(available.begin(), available.end(), level) == available.end()) {
    std::string names;
    for (const Level there : available) (names += names.empty() ? "" : ", ") += name_of(there);
    fail_with(ErrorCategory::argument, "the instruction-set level ", name_of(level),
              " is not available in this program and on this processor; there are: ", names);
  }
  detail::level_in_use().store(level, std::memory_order_relaxed);
}

namespace detail {

[[nodiscard]] inline bool made_by_intel() noexcept {
#if RWKV_TARGET_AVX2
  unsigned leaf = 0, genu = 0, ntel = 0, inei = 0;
  return __get_cpuid(0, &leaf, &genu, &ntel, &inei) != 0 && genu == 0x756e6547 &&
         inei == 0x49656e69 && ntel == 0x6c65746e;
#else
  return false;
#endif
}

[[nodiscard]] inline std::atomic<std::size_t>& bytes_ahead_in_use() noexcept {
  static std::atomic<std::size_t> bytes{made_by_intel() ? 8192u : 0u};
  return bytes;
}

}  // namespace detail

RWKV_FUNCTION std::size_t bytes_ahead() noexcept {
  return detail::bytes_ahead_in_use().load(std::memory_order_relaxed);
}

RWKV_FUNCTION void use_bytes_ahead(std::size_t bytes) noexcept {
  detail::bytes_ahead_in_use().store(bytes, std::memory_order_relaxed);
}

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA
