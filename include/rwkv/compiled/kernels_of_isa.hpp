// SPDX-License-Identifier: Apache-2.0
// One instruction set of the compiled library: kernels of level RWKV_PART_LEVEL for lanes of type
// RWKV_PART_LANES, between RWKV_PART_BEGIN and the end of that target. Which of them, see
// kernels/instantiate.hpp. Read after those are defined (and RWKV_AGAIN is not); undefines them.
#include <rwkv/kernels/all_kernels.hpp>
#if RWKV_KERNELS_OF_TILES
#include <rwkv/kernels/quantised_in_tiles.hpp>
#endif
#include <rwkv/simd/neon_lanes.hpp>
#include <rwkv/simd/x86_lanes.hpp>

#if RWKV_DISPATCH && defined(RWKV_PART_LEVEL)
#define RWKV_AGAIN
#undef RWKV_LEVEL
#define RWKV_LEVEL RWKV_PART_LEVEL
#define RWKV_LANES simd::RWKV_PART_LANES
RWKV_PART_BEGIN
#include <rwkv/kernels/all_kernels.hpp>
#if RWKV_KERNELS_OF_TILES
#include <rwkv/kernels/quantised_in_tiles.hpp>
#endif
#include <rwkv/kernels/instantiate.hpp>
RWKV_END_TARGET
#undef RWKV_LANES
#undef RWKV_LEVEL
#define RWKV_LEVEL RWKV_COMPILED_LEVEL
#undef RWKV_AGAIN
#endif

#undef RWKV_PART_LEVEL
#undef RWKV_PART_LANES
#undef RWKV_PART_BEGIN
#undef RWKV_KERNELS_OF_BLOCKS
#undef RWKV_KERNELS_OF_FLOATS
#undef RWKV_KERNELS_OF_PAIRS
#undef RWKV_KERNELS_OF_TILES
