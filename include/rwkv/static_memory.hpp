// SPDX-License-Identifier: Apache-2.0
// All the RAM that text on a device takes, as constants:
//
//   constexpr auto memory = rwkv::static_memory<rwkv::State<tales::Shape>,
//                                               rwkv::Workspace<tales::Shape, 1>>();
//   static_assert(memory.total() <= 128 * 1024);
//
// Freestanding.
#pragma once

#include <rwkv/static_sampler.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// What `forward` and `generate` of static models take of the stack at the most, one token at a
/// time and with what calls them: measured by the tests on every core (bench/README.md), with GCC
/// and -O2. Not of functions that an application passes in.
inline constexpr std::size_t static_stack = 4096;

/// In bytes. There is no heap.
struct StaticMemory {
  std::size_t state = 0;      ///< per sequence
  std::size_t workspace = 0;  ///< per thread that runs the model
  std::size_t sampler = 0;    ///< per sequence
  std::size_t stack = static_stack;

  [[nodiscard]] constexpr std::size_t total() const noexcept {
    return state + workspace + sampler + stack;
  }
};

/// The sizes of these types.
template <class State, class Workspace, class Sampler = StaticSampler<>>
[[nodiscard]] constexpr StaticMemory static_memory() noexcept {
  return {sizeof(State), sizeof(Workspace), sizeof(Sampler)};
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
