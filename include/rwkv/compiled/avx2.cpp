// SPDX-License-Identifier: Apache-2.0
// The kernels for Avx2 (simd/level.hpp).
#include <rwkv/compiled/part.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_TARGET_AVX2
#define RWKV_PART_LEVEL avx2
#define RWKV_PART_LANES Avx2
#define RWKV_PART_BEGIN RWKV_BEGIN_AVX2
#define RWKV_KERNELS_OF_BLOCKS 1
#define RWKV_KERNELS_OF_FLOATS 1
#include <rwkv/compiled/kernels_of_isa.hpp>
#endif
