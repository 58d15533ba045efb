// SPDX-License-Identifier: Apache-2.0
// The names that device code uses, in one place, so that it compiles for the host as well: where
// RWKV_CUDA_EMULATED is defined (the tests do), a header of the tests gives them a meaning there.
#pragma once

#include <cuda_runtime.h>

#if defined(RWKV_CUDA_EMULATED)

#include <emulated_device.hpp>

#elif defined(__CUDACC__)

#include <cstdint>

#define RWKV_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define RWKV_DEVICE __device__ __forceinline__
#define RWKV_CUDA_UNROLL _Pragma("unroll")
#define RWKV_CUDA_NO_UNROLL _Pragma("unroll 1")
#define RWKV_PARAMETER const __grid_constant__  // is read where it lies

namespace rwkv::inline RWKV_ABI::cuda::device {

RWKV_DEVICE unsigned thread() { return threadIdx.x; }
RWKV_DEVICE unsigned threads() { return blockDim.x; }
RWKV_DEVICE std::uint64_t block() { return blockIdx.x; }
RWKV_DEVICE std::uint64_t blocks() { return gridDim.x; }
RWKV_DEVICE unsigned lane() { return threadIdx.x & 31; }
RWKV_DEVICE unsigned warp() { return threadIdx.x >> 5; }

/// The block's shared memory, of the size that the launch asked for.
RWKV_DEVICE unsigned char* shared() {
  extern __shared__ uint4 rwkv_shared_memory[];
  return reinterpret_cast<unsigned char*>(rwkv_shared_memory);
}

RWKV_DEVICE void barrier() { __syncthreads(); }
RWKV_DEVICE void warp_barrier() { __syncwarp(); }
RWKV_DEVICE unsigned ballot(bool yes) { return __ballot_sync(0xffffffffu, yes); }

/// values[i] of the lane whose number differs by `mask`, for all i.
template <int n>
RWKV_DEVICE void exchange(float (&values)[n], unsigned mask) {
  RWKV_CUDA_UNROLL
  for (int i = 0; i < n; ++i)
    values[i] = __shfl_xor_sync(0xffffffffu, values[i], static_cast<int>(mask));
}
RWKV_DEVICE std::uint64_t from_lane(std::uint64_t value, unsigned source) {
  return __shfl_sync(0xffffffffu, static_cast<unsigned long long>(value), static_cast<int>(source));
}

RWKV_DEVICE unsigned lowest_bit(unsigned word) {
  return static_cast<unsigned>(__ffs(static_cast<int>(word)) - 1);
}

// Rounded once each, never fused behind the programmer's back.
RWKV_DEVICE float fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
RWKV_DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
RWKV_DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
RWKV_DEVICE float divide(float a, float b) { return __fdiv_rn(a, b); }
RWKV_DEVICE float square_root(float a) { return __fsqrt_rn(a); }
RWKV_DEVICE std::uint32_t bits_of(float f) { return __float_as_uint(f); }
RWKV_DEVICE float float_of(std::uint32_t bits) { return __uint_as_float(bits); }
/// A half in the lower 16 bits.
RWKV_DEVICE float half_to_float(std::uint32_t half) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(static_cast<unsigned short>(half)));
  return f;
}

/// The nearest half, in the lower 16 bits.
RWKV_DEVICE std::uint32_t float_to_half(float f) {
  unsigned short half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(f));
  return half;
}

/// Weights are read once and should not push anything out of the caches.
RWKV_DEVICE uint4 load_once(const uint4* p) { return __ldcs(p); }
RWKV_DEVICE uint2 load_once(const uint2* p) { return __ldcs(p); }
RWKV_DEVICE unsigned load_once(const unsigned* p) { return __ldcs(p); }
RWKV_DEVICE unsigned short load_once(const unsigned short* p) { return __ldcs(p); }
/// What another block may just have written.
RWKV_DEVICE float load_fresh(const float* p) { return __ldcg(p); }

/// True in all threads of the block that is the last of `expected` to get here. What the others
/// had written before is visible to it then, and the counter is zero again.
RWKV_DEVICE bool last_of(unsigned* counter, unsigned expected) {
  __threadfence();
  __syncthreads();
  __shared__ unsigned arrived;
  if (threadIdx.x == 0) {
    arrived = atomicAdd(counter, 1u) + 1;
    if (arrived == expected) *counter = 0;
  }
  __syncthreads();
  const bool last = arrived == expected;
  if (last) __threadfence();
  return last;
}

RWKV_DEVICE void add_shared(unsigned long long* to, unsigned long long n) { atomicAdd(to, n); }
RWKV_DEVICE void max_shared(int* to, int n) { atomicMax(to, n); }
RWKV_DEVICE void min_shared(unsigned* to, unsigned n) { atomicMin(to, n); }

// From compute capability 8.0 on: copies of 16 bytes to shared memory that go on by themselves, and
// tensor cores. Nobody calls them on older devices.

RWKV_DEVICE unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}
RWKV_DEVICE void copy_soon(void* to_shared, const void* from) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to_shared)),
               "l"(from)
               : "memory");
#endif
}
/// The copies since the last call are a group.
RWKV_DEVICE void end_of_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Waits for this thread's groups, but the last n.
template <int n>
RWKV_DEVICE void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
}

/// Four fragments of 8 x 8 numbers of 16 bits. Lane l gives the place of row l % 8 of fragment
/// l / 8, and gets of each fragment the numbers 2 (l % 4) and 2 (l % 4) + 1 of row l / 4 ...
RWKV_DEVICE void load_fragments(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}
/// ... or number l / 4 of the rows 2 (l % 4) and 2 (l % 4) + 1.
RWKV_DEVICE void load_fragments_turned(std::uint32_t (&to)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address(row))
               : "memory");
}

/// sums += a b, 16 x 16 times 16 x 8 numbers: the fragments of a are rows 0-7 and 8-15 of columns
/// 0-7, then of columns 8-15; those of b its columns as rows.
RWKV_DEVICE void add_products_of_halves(float (&sums)[4], const std::uint32_t (&a)[4],
                                        std::uint32_t b0, std::uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}
RWKV_DEVICE void add_products_of_bfloat16s(float (&sums)[4], const std::uint32_t (&a)[4],
                                           std::uint32_t b0, std::uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#endif
}

/// Begins the next kernel early, as far as it does not need this one's results ...
RWKV_DEVICE void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
/// ... which are there when this returns in it.
RWKV_DEVICE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
/// Brings a line of 128 bytes nearer.
RWKV_DEVICE void prefetch(const void* p) { asm volatile("prefetch.global.L2 [%0];" ::"l"(p)); }

}  // namespace rwkv::inline RWKV_ABI::cuda::device

#else
#error "rwkv/cuda/rwkv_cuda.cu is for nvcc; programs include rwkv/cuda.hpp"
#endif
