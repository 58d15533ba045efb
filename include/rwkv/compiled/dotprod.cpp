// SPDX-License-Identifier: Apache-2.0
// The kernels for NeonDot (simd/level.hpp).
#include <rwkv/compiled/part.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_TARGET_DOTPROD
#define RWKV_PART_LEVEL dotprod
#define RWKV_PART_LANES NeonDot
#define RWKV_PART_BEGIN RWKV_BEGIN_DOTPROD
#define RWKV_KERNELS_OF_BLOCKS 1
#include <rwkv/compiled/kernels_of_isa.hpp>
#endif
