// SPDX-License-Identifier: Apache-2.0
// RWKV_ISA: the name of the instructions that this translation unit may use, one digit for each
// extension that makes a compiler write other code. Kernels, and all that they are inlined into,
// live in an inline namespace of this name: objects built with different flags then never share
// such a function (a linker keeps one copy, and an older processor would meet the instructions of a
// newer one). With RWKV_COMPILED all of that is in the library, whatever the flags of its users,
// and RWKV_ISA has one name; lanes, which a program may still name by type, and kernels on them
// then carry the digits themselves: RWKV_FLAGS. Freestanding.
#pragma once

// 1 if the macro is defined as nothing, 1, 2 or 3, else 0.
#define RWKV_DEFINED_ 0,
#define RWKV_DEFINED_1 0,
#define RWKV_DEFINED_2 0,
#define RWKV_DEFINED_3 0,
#define RWKV_SECOND(first, second, ...) second
#define RWKV_PROBE(probe) RWKV_SECOND(probe 1, 0, 0)
#define RWKV_PROBE_VALUE(value) RWKV_PROBE(RWKV_DEFINED_##value)
#define RWKV_BIT(macro) RWKV_PROBE_VALUE(macro)
#define RWKV_JOIN(a, b, c, d, e, f, g, h) a##b##c##d##e##f##g##h
#define RWKV_JOIN_VALUES(a, b, c, d, e, f, g, h) RWKV_JOIN(a, b, c, d, e, f, g, h)
// clang-format off
#define RWKV_BITS(prefix, a, b, c, d, e, f, g) \
  RWKV_JOIN_VALUES(prefix, RWKV_BIT(a), RWKV_BIT(b), RWKV_BIT(c), RWKV_BIT(d), RWKV_BIT(e), \
                   RWKV_BIT(f), RWKV_BIT(g))

#if defined(__x86_64__) || defined(__i386__) || defined(_M_X64) || defined(_M_IX86)
#define RWKV_ISA_1 RWKV_BITS(isa_, RWKV_NO_SIMD, RWKV_NO_DISPATCH, __SSE2__, __SSE3__, __SSSE3__, __SSE4_1__, __SSE4_2__)
#define RWKV_ISA_2 RWKV_BITS(_, __POPCNT__, __LZCNT__, __BMI__, __BMI2__, __MOVBE__, __AVX__, __F16C__)
#define RWKV_ISA_3 RWKV_BITS(_, __FMA__, __FMA4__, __XOP__, __AVX2__, __AVXVNNI__, __GFNI__, __ADX__)
#define RWKV_ISA_4 RWKV_BITS(_, __AVX512F__, __AVX512CD__, __AVX512BW__, __AVX512DQ__, __AVX512VL__, __AVX512IFMA__, __AVX512VBMI__)
#define RWKV_ISA_5 RWKV_BITS(_, __AVX512VBMI2__, __AVX512VNNI__, __AVX512BITALG__, __AVX512VPOPCNTDQ__, __AVX512BF16__, __AVX512FP16__, __AVX512ER__)
#define RWKV_ISA_DIGITS RWKV_JOIN_VALUES(RWKV_ISA_1, RWKV_ISA_2, RWKV_ISA_3, RWKV_ISA_4, RWKV_ISA_5, RWKV_BIT(RWKV_NO_XSIMD), , )
#else
#define RWKV_ISA_1 RWKV_BITS(isa_, RWKV_NO_SIMD, RWKV_NO_DISPATCH, __ARM_NEON, __ARM_FEATURE_FMA, __ARM_FEATURE_DSP, __ARM_FEATURE_MVE, __ARM_FEATURE_DOTPROD)
#define RWKV_ISA_2 RWKV_BITS(_, __ARM_FEATURE_MATMUL_INT8, __ARM_FEATURE_BF16, __ARM_FEATURE_FP16_VECTOR_ARITHMETIC, __ARM_FEATURE_SVE, __ARM_FEATURE_SVE2, __ARM_FEATURE_ATOMICS, __ARM_FEATURE_CRC32)
#define RWKV_ISA_3 RWKV_BITS(_, __riscv_vector, __riscv_zfh, __wasm_simd128__, __wasm_relaxed_simd__, __ALTIVEC__, __VSX__, __loongarch_asx)
#define RWKV_ISA_DIGITS RWKV_JOIN_VALUES(RWKV_ISA_1, RWKV_ISA_2, RWKV_ISA_3, RWKV_BIT(RWKV_NO_XSIMD), RWKV_BIT(__loongarch_sx), , , )
#endif
// clang-format on

#if defined(RWKV_COMPILED)
#define RWKV_ISA isa_compiled
#define RWKV_FLAGS RWKV_ISA_DIGITS
#else
#define RWKV_ISA RWKV_ISA_DIGITS
#define RWKV_FLAGS same
#endif
