// SPDX-License-Identifier: Apache-2.0
// Ground floor: what the compiler and the target offer. Freestanding: no heap, no exceptions.
#pragma once

// What would compute wrong numbers without a word is refused. (Programs that use rwkv::compiled
// compute nothing of it themselves, whatever their flags.)
#if !defined(RWKV_COMPILED) || defined(RWKV_COMPILING)
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__) || \
    (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(_M_FP_FAST)
#error \
    "rwkv needs IEEE arithmetic with NaNs: compile the files that include it without -ffast-math, -Ofast, -funsafe-math-optimizations, -ffinite-math-only or /fp:fast (or put -fno-fast-math behind it), or use rwkv::compiled."
#endif
// 16: only _Float16 is kept in 16 bits.
#if (defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16) || \
    (defined(_M_IX86_FP) && _M_IX86_FP < 2)
#error \
    "rwkv needs floats that are rounded to float after every operation: on 32-bit x86 compile with -msse2 -mfpmath=sse, or /arch:SSE2."
#endif
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error \
    "rwkv needs a little-endian processor: model files are little-endian and are used where they lie."
#endif

#include <rwkv/core/isa.hpp>

#include <cassert>
#include <cstddef>
#include <cstdint>

// Everything lives in `rwkv::inline RWKV_ABI`, the version. What depends on the instruction set is
// in an inline namespace RWKV_ISA within (core/isa.hpp); the types that programs hand around
// (errors, shapes, states, tensors, tokenizers, options) are not, so that an object file built for
// one processor catches what another one throws.
#define RWKV_ABI v0_8

// Header-only is the default. With RWKV_COMPILED the headers declare, and what is heavy is defined
// once, in the translation units of rwkv/compiled/ (the CMake target rwkv::compiled, or
// rwkv/compiled.cpp added to a build).
#if defined(RWKV_COMPILED)
#define RWKV_HEADER_ONLY 0
#define RWKV_FUNCTION
#else
#define RWKV_HEADER_ONLY 1
#define RWKV_FUNCTION inline
#endif

// There is no file system that std::filesystem and mmap know of.
#if (defined(__wasi__) ||                                                         \
     ((defined(__NEWLIB__) || defined(__PICOLIBC__)) && !defined(__CYGWIN__))) && \
    !defined(RWKV_NO_FILES)
#define RWKV_NO_FILES
#endif

// Entry points that can fail for reasons outside the program throw `rwkv::Error`; without
// exceptions they call `rwkv::error_handler` (core/error.hpp).
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
#define RWKV_HAS_EXCEPTIONS 1
#else
#define RWKV_HAS_EXCEPTIONS 0
#endif

// Preconditions of inner functions. Active in debug builds; replace it to route into a firmware's
// own trap.
#ifndef RWKV_ASSERT
#if defined(NDEBUG) || (defined(__STDC_HOSTED__) && __STDC_HOSTED__ == 0)
#define RWKV_ASSERT(condition) ((void)0)
#else
#define RWKV_ASSERT(condition) assert(condition)
#endif
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#define RWKV_RESTRICT __restrict
#define RWKV_INLINE __forceinline
#define RWKV_INLINE_LAMBDA
#else
#define RWKV_RESTRICT __restrict__
#if defined(RWKV_PREFER_SIZE)  // for files without kernels, where a program is to be small
#define RWKV_INLINE inline
#define RWKV_INLINE_LAMBDA
#else
#define RWKV_INLINE inline __attribute__((always_inline))
#define RWKV_INLINE_LAMBDA __attribute__((always_inline))  // behind the parameters
#endif
#endif

// Inner loops of programs for bare processors, which are often compiled for size. (RISC-V: GCC loads
// so far ahead that registers run out. Cortex-M4F and later: those that count are in assembly.)
#if defined(__GNUC__) && !defined(__clang__) && defined(__STDC_HOSTED__) && __STDC_HOSTED__ == 0
#if defined(RWKV_PREFER_SIZE) && defined(__ARM_FEATURE_SIMD32) && defined(__ARM_FP)
#define RWKV_INNER_LOOP
#elif defined(__riscv)
#define RWKV_INNER_LOOP __attribute__((optimize("O2", "no-schedule-insns")))
#else
#define RWKV_INNER_LOOP __attribute__((optimize("O2")))
#endif
#else
#define RWKV_INNER_LOOP
#endif

// Before a loop of few rounds, whose arrays are then registers.
#if defined(RWKV_PREFER_SIZE)
#define RWKV_UNROLL
#elif defined(__clang__)
#define RWKV_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define RWKV_UNROLL _Pragma("GCC unroll 32")
#else
#define RWKV_UNROLL
#endif

namespace rwkv::inline RWKV_ABI {

/// Index of a vocabulary entry.
using Token = std::uint32_t;

/// A dimension that is known only at run time (see `Shape`).
inline constexpr std::size_t dynamic = static_cast<std::size_t>(-1);

/// Every buffer of the library starts on such a boundary: a cache line, and the widest vector
/// register.
inline constexpr std::size_t alignment = 64;

}  // namespace rwkv::inline RWKV_ABI
