// SPDX-License-Identifier: Apache-2.0
// The memory that a model's weights are put in.
#pragma once

#include <rwkv/core/error.hpp>

#include <cstddef>
#include <memory>
#include <new>

#if __has_include(<memory_resource>)
#include <memory_resource>
#endif
#if defined(__cpp_lib_memory_resource)
#define RWKV_HAS_MEMORY_RESOURCES 1
#else  // libc++ before 16
#define RWKV_HAS_MEMORY_RESOURCES 0
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

#if RWKV_HAS_MEMORY_RESOURCES
using MemoryResource = std::pmr::memory_resource;
#else
struct MemoryResource;
#endif

/// The memory of a model's weights: one block, of which tensors are handed out one behind the
/// other, most of them being too small for huge pages of their own. Weights are streamed once per
/// token, and with 4 KiB pages every 64th cache line would wait for an address translation.
class WeightArena {
 public:
  /// Without memory: counts what is asked for.
  WeightArena() = default;
  /// `bytes`: what such an arena counted. From operator new if `resource` is null. Throws Error
  /// (memory).
  WeightArena(std::size_t bytes, MemoryResource* resource);

  /// `count` numbers, not initialised, from the beginning of a cache line on; null where only
  /// counted. Precondition: no more in all than were counted.
  template <class T>
  T* allocate(std::size_t count) {
    static_assert(sizeof(T) <= alignment);
    constexpr std::size_t line = alignment / sizeof(T);
    return reinterpret_cast<T*>(lines(count / line + (count % line != 0)));
  }

  /// Bytes handed out so far.
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

 private:
  struct Free {
    MemoryResource* resource;
    std::size_t bytes;
    std::size_t align;
    void operator()(std::byte* p) const noexcept;
  };

  [[nodiscard]] std::byte* lines(std::size_t count);

  std::unique_ptr<std::byte, Free> block_{nullptr, Free{nullptr, 0, alignment}};
  std::size_t used_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail

#if RWKV_HEADER_ONLY
#include <rwkv/io/weight_arena.ipp>
#endif
