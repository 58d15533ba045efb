// SPDX-License-Identifier: Apache-2.0
// The kernels for Avx2 (simd/level.hpp).
#include <rwkv/compiled/part.hpp>
#include <rwkv/kernels/every_level.hpp>
#include <rwkv/simd/x86_lanes.hpp>

#if RWKV_DISPATCH && RWKV_TARGET_AVX2
#define RWKV_AGAIN
#undef RWKV_LEVEL
#define RWKV_LEVEL avx2
#define RWKV_LANES simd::Avx2
#define RWKV_KERNELS_OF_FLOATS 1
#define RWKV_KERNELS_OF_BLOCKS 1
RWKV_BEGIN_AVX2
#include <rwkv/kernels/every_level.hpp>
#include <rwkv/kernels/instantiate.hpp>
RWKV_END_TARGET
#undef RWKV_KERNELS_OF_FLOATS
#undef RWKV_KERNELS_OF_BLOCKS
#undef RWKV_LANES
#undef RWKV_LEVEL
#define RWKV_LEVEL RWKV_COMPILED_LEVEL
#undef RWKV_AGAIN
#endif
