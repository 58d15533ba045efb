// SPDX-License-Identifier: Apache-2.0
// Code for instruction sets that the translation unit is not compiled for: between RWKV_BEGIN_X and
// RWKV_END_TARGET, functions, lambdas and templates (wherever they are instantiated) may use the
// instructions of X. Nothing of it may be called before the processor has been asked.
//
// RWKV_TARGET_AVX2, _AVX512, _AMX, _DOTPROD, _I8MM: whether such code can be written here at all.
// (clang's arm_neon.h has dot products only where the whole translation unit has them. Tile
// registers have to be asked for, which is known of Linux; they need the target VNNI beside them.)
// RWKV_DISPATCH: whether kernels are chosen at run time (kernels/dispatched.hpp). They are in
// programs for any x86-64 or 64-bit ARM processor; a translation unit that is compiled for a newer
// one has said what it wants. Define RWKV_NO_DISPATCH to do without. (Not with GCC for Windows,
// which aligns the stack to less than these registers may need.)
#pragma once

#include <rwkv/core/config.hpp>

#if defined(__x86_64__) && !defined(RWKV_NO_SIMD) && (defined(__GNUC__) || defined(__clang__))
#define RWKV_TARGET_AVX2 1
#define RWKV_TARGET_AVX512 1
#else
#define RWKV_TARGET_AVX2 0
#define RWKV_TARGET_AVX512 0
#endif

#if RWKV_TARGET_AVX512 && defined(__linux__) && defined(__LP64__)
#define RWKV_TARGET_AMX 1
#else
#define RWKV_TARGET_AMX 0
#endif

#if defined(__aarch64__) && defined(__linux__) && !defined(RWKV_NO_SIMD) && defined(__GNUC__) && \
    !defined(__clang__)
#define RWKV_TARGET_DOTPROD 1
#define RWKV_TARGET_I8MM 1
#else
#define RWKV_TARGET_DOTPROD 0
#define RWKV_TARGET_I8MM 0
#endif

#if __STDC_HOSTED__ && !defined(RWKV_NO_DISPATCH) && !(defined(_WIN32) && !defined(__clang__)) && \
    ((RWKV_TARGET_AVX2 && !defined(__AVX2__)) ||                                                  \
     (RWKV_TARGET_DOTPROD && !defined(__ARM_FEATURE_DOTPROD)))
#define RWKV_DISPATCH 1
#else
#define RWKV_DISPATCH 0
#endif

#define RWKV_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define RWKV_BEGIN_TARGET(features) \
  RWKV_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define RWKV_END_TARGET RWKV_PRAGMA(clang attribute pop)
#else
#define RWKV_BEGIN_TARGET(features) RWKV_PRAGMA(GCC push_options) RWKV_PRAGMA(GCC target(features))
#define RWKV_END_TARGET RWKV_PRAGMA(GCC pop_options)
#endif

#define RWKV_BEGIN_AVX2 RWKV_BEGIN_TARGET("avx2,fma,f16c")
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)  // which is the same for these registers
#define RWKV_BEGIN_AVX_VNNI RWKV_BEGIN_AVX2
#else
#define RWKV_BEGIN_AVX_VNNI RWKV_BEGIN_TARGET("avx2,fma,f16c,avxvnni")
#endif
#define RWKV_BEGIN_AVX512 RWKV_BEGIN_TARGET("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#define RWKV_BEGIN_VNNI \
  RWKV_BEGIN_TARGET("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#define RWKV_BEGIN_BF16 \
  RWKV_BEGIN_TARGET("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")
#define RWKV_BEGIN_DOTPROD RWKV_BEGIN_TARGET("arch=armv8.2-a+dotprod")
#define RWKV_BEGIN_I8MM RWKV_BEGIN_TARGET("arch=armv8.2-a+dotprod+i8mm")
