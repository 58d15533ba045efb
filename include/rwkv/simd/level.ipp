// SPDX-License-Identifier: Apache-2.0
// The definition of simd/level.hpp.
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/simd/target.hpp>

#include <algorithm>
#include <atomic>

#if RWKV_DISPATCH && RWKV_TARGET_DOTPROD
#include <sys/auxv.h>
#endif

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA {

RWKV_FUNCTION std::span<const Level> compiled_levels() noexcept {
#if RWKV_DISPATCH && RWKV_TARGET_AVX2
  static constexpr Level levels[] = {Level::compiled, Level::avx2, Level::avx512,
                                     Level::avx512_vnni, Level::avx512_bf16};
#elif RWKV_DISPATCH
  static constexpr Level levels[] = {Level::compiled, Level::dotprod, Level::i8mm};
#else
  static constexpr Level levels[] = {Level::compiled};
#endif
  return levels;
}

RWKV_FUNCTION Level best_level() noexcept {
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

RWKV_FUNCTION std::span<const Level> available_levels() noexcept {
  const std::span<const Level> all = compiled_levels();
  const auto best = std::find(all.begin(), all.end(), best_level());
  return all.first(static_cast<std::size_t>(best - all.begin()) + 1);
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

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA
