// SPDX-License-Identifier: Apache-2.0
// The kernels for NeonMatrix (simd/level.hpp).
#include <rwkv/compiled/part.hpp>
#include <rwkv/simd/target.hpp>

#if RWKV_TARGET_I8MM
#define RWKV_PART_LEVEL i8mm
#define RWKV_PART_LANES NeonMatrix
#define RWKV_PART_BEGIN RWKV_BEGIN_I8MM
#define RWKV_KERNELS_OF_BLOCKS 1
#include <rwkv/compiled/kernels_of_isa.hpp>
#endif
