// SPDX-License-Identifier: Apache-2.0
// The kernels for Avx512Bf16 (simd/level.hpp).
#include <rwkv/compiled/part.hpp>
#include <rwkv/kernels/every_level.hpp>
#include <rwkv/simd/x86_lanes.hpp>

#if RWKV_DISPATCH && RWKV_TARGET_AVX512
#define RWKV_AGAIN
#undef RWKV_LEVEL
#define RWKV_LEVEL avx512_bf16
#define RWKV_LANES simd::Avx512Bf16
#define RWKV_KERNELS_OF_PAIRS 1
RWKV_BEGIN_BF16
// clang-format off
#include <rwkv/kernels/matmul.hpp>
#include <rwkv/kernels/instantiate.hpp>
// clang-format on
RWKV_END_TARGET
#undef RWKV_KERNELS_OF_PAIRS
#undef RWKV_LANES
#undef RWKV_LEVEL
#define RWKV_LEVEL RWKV_COMPILED_LEVEL
#undef RWKV_AGAIN
#endif
