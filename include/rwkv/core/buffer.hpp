// SPDX-License-Identifier: Apache-2.0
// Zero-initialised, cache-line aligned storage whose size is a constant (no heap) or a run-time
// number.
#pragma once

#include <rwkv/core/config.hpp>

#include <algorithm>
#include <cstdlib>
#include <new>
#include <type_traits>
#include <utility>

namespace rwkv::inline RWKV_ABI {

/// a * b, or where that overflows the largest number, of which no Buffer can be.
constexpr std::size_t product_or_most(std::size_t a, std::size_t b) noexcept {
  return b != 0 && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}
/// a + b in the same way.
constexpr std::size_t sum_or_most(std::size_t a, std::size_t b) noexcept {
  return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

/// `N` elements inside the object; `N == dynamic`: on the heap. A value type; T must be trivial.
template <class T, std::size_t N>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  constexpr Buffer() = default;
  constexpr explicit Buffer(std::size_t size) { RWKV_ASSERT(size == N), (void)size; }
  [[nodiscard]] constexpr T* data() noexcept { return data_; }
  [[nodiscard]] constexpr const T* data() const noexcept { return data_; }
  [[nodiscard]] static constexpr std::size_t size() noexcept { return N; }

 private:
  alignas(alignment) T data_[N]{};
};

template <class T>
class Buffer<T, dynamic> {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  /// Throws std::bad_alloc.
  explicit Buffer(std::size_t size) : data_(allocate(size)), size_(size) {
    std::fill_n(data_, size, T{});
  }
  Buffer(const Buffer& other) : data_(allocate(other.size_)), size_(other.size_) {
    std::copy_n(other.data_, size_, data_);
  }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(const Buffer& other) {
    if (this == &other) return *this;
    if (size_ == other.size_) {  // restoring a state must not allocate
      std::copy_n(other.data_, size_, data_);
      return *this;
    }
    return *this = Buffer(other);
  }
  /// Leaves `other` empty: what was here may be of another size than its owner believes.
  Buffer& operator=(Buffer&& other) noexcept {
    Buffer taken(std::move(other));
    std::swap(data_, taken.data_);
    std::swap(size_, taken.size_);
    return *this;
  }
  ~Buffer() {
    if (data_ != nullptr) ::operator delete (data_, std::align_val_t{alignment});
  }
  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  static T* allocate(std::size_t size) {
    if (size == 0) return nullptr;
    // Not left to operator new: a product that overflows would be a small request, and libstdc++
    // rounds a huge one up to zero.
    if (size > PTRDIFF_MAX / sizeof(T)) {
#if RWKV_HAS_EXCEPTIONS
      throw std::bad_array_new_length();
#else
      std::abort();
#endif
    }
    return static_cast<T*>(::operator new (size * sizeof(T), std::align_val_t{alignment}));
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace rwkv::inline RWKV_ABI
