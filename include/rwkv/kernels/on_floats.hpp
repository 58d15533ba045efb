// SPDX-License-Identifier: Apache-2.0
// Where a kernel on floats is chosen: RWKV_ON_FLOATS(kernel, argument...) returns what it returns
// for the best level. The kernel has been read per instruction set (kernels/read_per_isa.hpp) in
// the namespace this is used in. (ARM processors have the same registers at every level.)
#pragma once

#include <rwkv/simd/level.hpp>
#include <rwkv/simd/native.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_DISPATCH && RWKV_TARGET_AVX2
#include <rwkv/simd/x86_lanes.hpp>
#define RWKV_ON_FLOATS(kernel, ...)                                                     \
  do {                                                                                  \
    const simd::Level level = simd::level();                                            \
    if (level >= simd::Level::avx512) return avx512::kernel<simd::Avx512>(__VA_ARGS__); \
    if (level >= simd::Level::avx2) return avx2::kernel<simd::Avx2>(__VA_ARGS__);       \
    return compiled::kernel<simd::Native>(__VA_ARGS__);                                 \
  } while (false)
#else
#define RWKV_ON_FLOATS(kernel, ...) return compiled::kernel<simd::Native>(__VA_ARGS__)
#endif
