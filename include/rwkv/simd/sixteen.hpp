// SPDX-License-Identifier: Apache-2.0
// Sixteen bytes at a time, on every processor: for code that takes packed data apart and moves it.
// Freestanding.
#pragma once

#include <rwkv/core/config.hpp>

#include <cstring>
#include <utility>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS {

namespace detail {

#if defined(__GNUC__)  // and Clang
template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(16)));
};
using TwoWords = VectorOf<std::uint64_t>::type;
#else
struct TwoWords {
  std::uint64_t word[2];
  friend TwoWords operator&(TwoWords a, TwoWords b) noexcept {
    return {{a.word[0] & b.word[0], a.word[1] & b.word[1]}};
  }
  friend TwoWords operator|(TwoWords a, TwoWords b) noexcept {
    return {{a.word[0] | b.word[0], a.word[1] | b.word[1]}};
  }
  friend TwoWords operator+(TwoWords a, TwoWords b) noexcept {
    return {{a.word[0] + b.word[0], a.word[1] + b.word[1]}};
  }
  friend TwoWords operator>>(TwoWords a, unsigned n) noexcept {
    return {{a.word[0] >> n, a.word[1] >> n}};
  }
  friend TwoWords operator<<(TwoWords a, unsigned n) noexcept {
    return {{a.word[0] << n, a.word[1] << n}};
  }
};
#endif

}  // namespace detail

/// Sixteen bytes, in a register wherever GCC or Clang compile.
class Sixteen {
 public:
  Sixteen() = default;
  /// One byte eight times, then another.
  RWKV_INLINE Sixteen(std::uint8_t a, std::uint8_t b) noexcept
      : words_{0x0101010101010101u * a, 0x0101010101010101u * b} {}
  /// The same byte sixteen times.
  explicit RWKV_INLINE Sixteen(std::uint8_t value) noexcept : Sixteen(value, value) {}

  static RWKV_INLINE Sixteen load(const void* p) noexcept {
    Sixteen loaded;
    std::memcpy(&loaded.words_, p, sizeof loaded.words_);
    return loaded;
  }
  RWKV_INLINE void store(void* p) const noexcept { std::memcpy(p, &words_, sizeof words_); }

  friend RWKV_INLINE Sixteen operator&(Sixteen a, Sixteen b) noexcept {
    a.words_ = a.words_ & b.words_;
    return a;
  }
  friend RWKV_INLINE Sixteen operator|(Sixteen a, Sixteen b) noexcept {
    a.words_ = a.words_ | b.words_;
    return a;
  }
  /// No byte's sum may exceed 255.
  friend RWKV_INLINE Sixteen operator+(Sixteen a, Sixteen b) noexcept {
    a.words_ = a.words_ + b.words_;
    return a;
  }
  /// Moves the bits of every byte down, or up, by 0 ... 7 places. Bits of neighbouring bytes may
  /// come in where others leave: mask those.
  friend RWKV_INLINE Sixteen operator>>(Sixteen a, unsigned places) noexcept {
    a.words_ = a.words_ >> places;
    return a;
  }
  friend RWKV_INLINE Sixteen operator<<(Sixteen a, unsigned places) noexcept {
    a.words_ = a.words_ << places;
    return a;
  }

  /// Elements of type T, taken in turns from two rows of them: a0 b0 a1 b1 ... from the first
  /// halves, or the second.
  template <class T>
  static RWKV_INLINE Sixteen first_in_turns(Sixteen a, Sixteen b) noexcept {
    return in_turns<T, 0>(a, b);
  }
  template <class T>
  static RWKV_INLINE Sixteen second_in_turns(Sixteen a, Sixteen b) noexcept {
    return in_turns<T, 8 / sizeof(T)>(a, b);
  }

 private:
  template <class T, int from>
  static RWKV_INLINE Sixteen in_turns(Sixteen a, Sixteen b) noexcept {
    constexpr int n = 16 / sizeof(T);
    Sixteen mixed;
#if defined(__GNUC__)
    using V = typename detail::VectorOf<T>::type;
    const auto pick = [&]<int... i>(std::integer_sequence<int, i...>) RWKV_INLINE_LAMBDA {
      return reinterpret_cast<detail::TwoWords>(
          __builtin_shufflevector(reinterpret_cast<V>(a.words_), reinterpret_cast<V>(b.words_),
                                  (from + i / 2 + i % 2 * n)...));
    };
    mixed.words_ = pick(std::make_integer_sequence<int, n>());
#else
    T of_a[n], of_b[n], r[n];
    a.store(of_a);
    b.store(of_b);
    for (int i = 0; i < n; ++i) r[i] = (i % 2 == 0 ? of_a : of_b)[from + i / 2];
    mixed = load(r);
#endif
    return mixed;
  }

  detail::TwoWords words_;
};

/// Rows of elements become columns, one after the other. T is an unsigned integer; `n`, the number
/// of rows, is a power of two and at most 16 / sizeof(T).
template <class T, std::size_t n>
RWKV_INLINE void transpose(Sixteen (&rows)[n]) noexcept {
  static_assert(n <= 16 / sizeof(T));
  // Each round makes the highest bit of an element's column the lowest one of its row, and the
  // other way round.
  RWKV_UNROLL
  for (std::size_t round = 1; round < n; round *= 2) {
    Sixteen next[n];
    RWKV_UNROLL
    for (std::size_t i = 0; i < n / 2; ++i) {
      next[2 * i] = Sixteen::first_in_turns<T>(rows[i], rows[i + n / 2]);
      next[2 * i + 1] = Sixteen::second_in_turns<T>(rows[i], rows[i + n / 2]);
    }
    RWKV_UNROLL
    for (std::size_t i = 0; i < n; ++i) rows[i] = next[i];
  }
}

/// Asks for memory that will be read in a while, where the compiler can: into a cache that has room
/// for it until then.
template <std::size_t bytes>
RWKV_INLINE void prefetch_far([[maybe_unused]] const void* p) noexcept {
#if defined(__GNUC__) && !defined(__wasm__)  // which has no such instruction
  constexpr std::size_t line = 64;
  RWKV_UNROLL
  for (std::size_t i = 0; i < bytes; i += line)
    __builtin_prefetch(static_cast<const std::byte*>(p) + i, 0, 2);
#endif
}

/// Asks for memory that will be read soon, where the compiler can.
template <std::size_t bytes>
RWKV_INLINE void prefetch([[maybe_unused]] const std::byte* p) noexcept {
#if defined(__GNUC__) && !defined(__wasm__)  // which has no such instruction
  constexpr std::size_t line = 64;
  RWKV_UNROLL
  for (std::size_t i = 0; i < bytes; i += line) __builtin_prefetch(p + i);
#endif
}

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA::inline RWKV_FLAGS
