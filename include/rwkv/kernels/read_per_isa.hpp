// SPDX-License-Identifier: Apache-2.0
// Reads the header RWKV_READ (for bf16, RWKV_READ_BF16) again for every instruction set that
// kernels are chosen from at run time, with RWKV_LEVEL as its name and the compiler allowed its
// instructions (kernels/isa_namespace.hpp). To be included wherever there is something to read;
// undefines both.
#include <rwkv/kernels/isa_namespace.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_DISPATCH && defined(RWKV_READ)
#define RWKV_AGAIN
#undef RWKV_LEVEL

#if RWKV_TARGET_AVX2
#define RWKV_LEVEL avx2
RWKV_BEGIN_AVX2
#include RWKV_READ
RWKV_END_TARGET
#undef RWKV_LEVEL

#if !RWKV_HEADER_ONLY
#define RWKV_LEVEL avx_vnni
RWKV_BEGIN_AVX_VNNI
#include RWKV_READ
RWKV_END_TARGET
#undef RWKV_LEVEL
#endif

#define RWKV_LEVEL avx512
RWKV_BEGIN_AVX512
#include RWKV_READ
RWKV_END_TARGET
#undef RWKV_LEVEL

#define RWKV_LEVEL avx512_vnni
RWKV_BEGIN_VNNI
#include RWKV_READ
RWKV_END_TARGET
#undef RWKV_LEVEL

#define RWKV_LEVEL avx512_bf16
RWKV_BEGIN_BF16
#include RWKV_READ_BF16
RWKV_END_TARGET
#undef RWKV_LEVEL
#endif

#if RWKV_TARGET_DOTPROD
#define RWKV_LEVEL dotprod
RWKV_BEGIN_DOTPROD
#include RWKV_READ
RWKV_END_TARGET
#undef RWKV_LEVEL

#define RWKV_LEVEL i8mm
RWKV_BEGIN_I8MM
#include RWKV_READ
RWKV_END_TARGET
#undef RWKV_LEVEL
#endif

#define RWKV_LEVEL RWKV_COMPILED_LEVEL
#undef RWKV_AGAIN
#endif

#undef RWKV_READ
#undef RWKV_READ_BF16
