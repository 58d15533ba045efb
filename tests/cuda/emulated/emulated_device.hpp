// SPDX-License-Identifier: Apache-2.0
// The names of rwkv/cuda/device.cuh on the host. The threads of a block are fibers that run one at
// a time, in an order drawn from a seed, from one meeting (barrier, shuffle, ballot) to the next. A
// kernel that relies on an order gets another one; one that misses a barrier reads what is not
// there yet; one whose threads do not all come to a meeting is stopped with a sentence. Shared
// memory begins as NaNs.
#pragma once

#include <rwkv/core/half.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

struct uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

#define RWKV_KERNEL(threads, blocks) inline void
#define RWKV_DEVICE inline
#define RWKV_CUDA_UNROLL
#define RWKV_CUDA_NO_UNROLL
#define RWKV_PARAMETER const

namespace emulator {

struct Place {
  unsigned thread, threads;
  std::uint64_t block, blocks;
  unsigned char* shared;
};
/// Of the running fiber.
const Place& here();

/// Waits for all threads of the block.
void meet_block();
/// Waits for all lanes of the warp, having given them `bytes` bytes; returns what lane `source`
/// gave.
const void* meet_warp(const void* given, std::size_t bytes, unsigned source);
/// What the lanes gave when they last met: that of the next lane is most_given bytes further.
const void* given_by(unsigned lane);
inline constexpr std::size_t most_given = 256;

/// Copies 16 bytes, but not before the thread waits for the group it belongs to.
void copy_soon(void* to, const void* from);
void end_of_copies();
/// Waits for the thread's groups, but the last n.
void wait_for_copies(int n);

}  // namespace emulator

namespace rwkv::inline RWKV_ABI::cuda::device {

inline unsigned thread() { return emulator::here().thread; }
inline unsigned threads() { return emulator::here().threads; }
inline std::uint64_t block() { return emulator::here().block; }
inline std::uint64_t blocks() { return emulator::here().blocks; }
inline unsigned lane() { return thread() % 32; }
inline unsigned warp() { return thread() / 32; }
inline unsigned char* shared() { return emulator::here().shared; }
inline void barrier() { emulator::meet_block(); }
inline void warp_barrier() { emulator::meet_warp(nullptr, 0, 0); }

inline unsigned ballot(bool yes) {
  emulator::meet_warp(&yes, sizeof yes, 0);
  unsigned word = 0;
  for (unsigned l = 0; l < 32; ++l)
    if (*static_cast<const bool*>(emulator::given_by(l))) word |= 1u << l;
  return word;
}
template <int n>
void exchange(float (&values)[n], unsigned mask) {
  float given[n];
  std::memcpy(given, values, sizeof given);
  std::memcpy(values, emulator::meet_warp(given, sizeof given, lane() ^ mask), sizeof given);
}
inline std::uint64_t from_lane(std::uint64_t value, unsigned source) {
  std::uint64_t out;
  std::memcpy(&out, emulator::meet_warp(&value, sizeof value, source), sizeof out);
  return out;
}
inline unsigned lowest_bit(unsigned word) { return static_cast<unsigned>(__builtin_ctz(word)); }

inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline float mul(float a, float b) { return a * b; }
inline float add(float a, float b) { return a + b; }
inline float divide(float a, float b) { return a / b; }
inline float square_root(float a) { return std::sqrt(a); }
inline std::uint32_t bits_of(float f) {
  std::uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  return bits;
}
inline float float_of(std::uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}
inline float half_to_float(std::uint32_t bits) {
  return to_float(half{static_cast<std::uint16_t>(bits)});
}

inline std::uint32_t float_to_half(float f) { return to_half(f).bits; }

template <class T>
T load_once(const T* p) {
  return *p;  // also tells the sanitizer of addresses that are no multiple of their size
}
inline float load_fresh(const float* p) { return *p; }

inline bool last_of(unsigned* counter, unsigned expected) {
  barrier();
  unsigned arrived = 0;
  if (thread() == 0) {
    arrived = ++*counter;
    if (arrived == expected) *counter = 0;
  }
  barrier();
  // Thread 0 tells the others.
  auto* const told = reinterpret_cast<unsigned*>(shared());
  const unsigned kept = thread() == 0 ? *told : 0;
  if (thread() == 0) *told = arrived;
  barrier();
  const bool last = *told == expected;
  barrier();
  if (thread() == 0) *told = kept;
  barrier();
  return last;
}

inline void add_shared(unsigned long long* to, unsigned long long n) { *to += n; }
inline void max_shared(int* to, int n) {
  if (n > *to) *to = n;
}
inline void min_shared(unsigned* to, unsigned n) {
  if (n < *to) *to = n;
}
// Copies arrive as late as they may: when somebody waits for them.
inline void copy_soon(void* to_shared, const void* from) { emulator::copy_soon(to_shared, from); }
inline void end_of_copies() { emulator::end_of_copies(); }
template <int n>
void wait_for_copies() {
  emulator::wait_for_copies(n);
}

inline void load_fragments(std::uint32_t (&to)[4], const void* row) {
  emulator::meet_warp(&row, sizeof row, 0);
  for (unsigned f = 0; f < 4; ++f) {
    const void* from = nullptr;
    std::memcpy(&from, emulator::given_by(8 * f + lane() / 4), sizeof from);
    std::memcpy(&to[f], static_cast<const std::uint32_t*>(from) + lane() % 4, sizeof to[f]);
  }
}
inline void load_fragments_turned(std::uint32_t (&to)[4], const void* row) {
  emulator::meet_warp(&row, sizeof row, 0);
  for (unsigned f = 0; f < 4; ++f) {
    std::uint16_t halves[2];
    for (unsigned i = 0; i < 2; ++i) {
      const void* from = nullptr;
      std::memcpy(&from, emulator::given_by(8 * f + lane() % 4 * 2 + i), sizeof from);
      halves[i] = static_cast<const std::uint16_t*>(from)[lane() / 4];
    }
    std::memcpy(&to[f], halves, sizeof to[f]);
  }
}

template <class Widen>
void add_products(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1,
                  Widen widen) {
  struct Given {
    std::uint16_t a[4][2], b[2][2];
  } given;
  std::memcpy(given.a, a, sizeof given.a);
  std::memcpy(given.b[0], &b0, sizeof b0);
  std::memcpy(given.b[1], &b1, sizeof b1);
  const auto* const all =
      static_cast<const unsigned char*>(emulator::meet_warp(&given, sizeof given, 0));
  const auto of = [all](unsigned l) {
    return reinterpret_cast<const Given*>(all + l * emulator::most_given);
  };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane() / 4 + i / 2 * 8;
    const unsigned column = lane() % 4 * 2 + i % 2;
    double sum = double{sums[i]};
    for (unsigned k = 0; k < 16; ++k) {
      const Given* const of_row = of(row % 8 * 4 + k % 8 / 2);
      const Given* const of_column = of(column * 4 + k % 8 / 2);
      sum += double{widen(of_row->a[row / 8 + k / 8 * 2][k % 2])} *
             double{widen(of_column->b[k / 8][k % 2])};
    }
    sums[i] = static_cast<float>(sum);
  }
}
inline void add_products_of_halves(float (&sums)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                   std::uint32_t b1) {
  add_products(sums, a, b0, b1, [](std::uint16_t bits) { return to_float(half{bits}); });
}
inline void add_products_of_bfloat16s(float (&sums)[4], const std::uint32_t (&a)[4],
                                      std::uint32_t b0, std::uint32_t b1) {
  add_products(sums, a, b0, b1, [](std::uint16_t bits) { return to_float(bfloat16{bits}); });
}

inline void let_next_start() {}
inline void wait_for_previous() {}
inline void prefetch(const void*) {}

}  // namespace rwkv::inline RWKV_ABI::cuda::device
