// SPDX-License-Identifier: Apache-2.0
// The kernels for Avx512Bf16 (simd/level.hpp).
#include <rwkv/compiled/part.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_TARGET_AVX512
#define RWKV_PART_LEVEL avx512_bf16
#define RWKV_PART_LANES Avx512Bf16
#define RWKV_PART_BEGIN RWKV_BEGIN_BF16
#define RWKV_KERNELS_OF_PAIRS 1
#include <rwkv/compiled/kernels_of_isa.hpp>
#endif
