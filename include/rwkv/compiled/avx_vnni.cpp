// SPDX-License-Identifier: Apache-2.0
// The kernels for AvxVnni (simd/level.hpp).
#include <rwkv/compiled/part.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_TARGET_AVX2
#define RWKV_PART_LEVEL avx_vnni
#define RWKV_PART_LANES AvxVnni
#define RWKV_PART_BEGIN RWKV_BEGIN_AVX_VNNI
#define RWKV_KERNELS_OF_BLOCKS 1
#include <rwkv/compiled/kernels_of_isa.hpp>
#endif
