// SPDX-License-Identifier: Apache-2.0
// The kernels that Level::amx_int8 (simd/level.hpp) has beside those of its vectors.
#include <rwkv/compiled/part.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_TARGET_AMX
#define RWKV_PART_LEVEL amx_int8
#define RWKV_PART_LANES Avx512Vnni
#define RWKV_PART_BEGIN RWKV_BEGIN_VNNI
#define RWKV_KERNELS_OF_TILES 1
#include <rwkv/compiled/kernels_of_isa.hpp>
#endif
