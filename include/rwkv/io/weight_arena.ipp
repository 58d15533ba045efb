// SPDX-License-Identifier: Apache-2.0
// The definitions of io/weight_arena.hpp.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/io/weight_arena.hpp>

#include <algorithm>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

RWKV_FUNCTION WeightArena::WeightArena(std::size_t bytes, MemoryResource* resource) {
  constexpr std::size_t huge = std::size_t{2} << 20;
  const std::size_t align = resource == nullptr && bytes >= 2 * huge ? huge : alignment;
  if (bytes == 0) return;
  if (bytes > PTRDIFF_MAX - align)
    fail_with(ErrorCategory::memory, "weights of ", bytes, " bytes do not fit into memory");
  const std::size_t size = (bytes + align - 1) / align * align;
  void* block = nullptr;
  if (resource == nullptr) {
    block = ::operator new (size, std::align_val_t{align}, std::nothrow);
#if RWKV_HAS_MEMORY_RESOURCES
#if RWKV_HAS_EXCEPTIONS
  } else {
    try {
      block = resource->allocate(size, align);
    } catch (const std::bad_alloc&) {
    }
#else
  } else {
    block = resource->allocate(size, align);
#endif
#endif
  }
  if (block == nullptr)
    fail_with(ErrorCategory::memory, "no memory for ", bytes, " bytes of weights");
  block_ = {static_cast<std::byte*>(block), Free{resource, size, align}};
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (align == huge) (void)::madvise(block, size, MADV_HUGEPAGE);
#endif
}

RWKV_FUNCTION void WeightArena::Free::operator()(std::byte* p) const noexcept {
#if RWKV_HAS_MEMORY_RESOURCES
  if (resource != nullptr) return resource->deallocate(p, bytes, align);
#endif
  ::operator delete (p, std::align_val_t{align});
}

RWKV_FUNCTION std::byte* WeightArena::lines(std::size_t count) {
  const std::size_t begin = used_;
  used_ += product_or_most((std::max<std::size_t>)(1, count), alignment);
  if (used_ < begin) fail(ErrorCategory::memory, "the weights do not fit the address space");
  if (block_ == nullptr) return nullptr;
  if (used_ > block_.get_deleter().bytes)
    fail(ErrorCategory::memory, "the weights need more memory than was counted");
  return block_.get() + begin;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
