// SPDX-License-Identifier: Apache-2.0
// Products of small matrices of bytes, by the tile registers of AMX. Freestanding.
//
// Instructions, not intrinsics: those of GCC 12 do not say which memory they read.
#pragma once

#include <rwkv/core/config.hpp>
#include <rwkv/simd/target.hpp>

namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA {

/// What LDTILECFG reads.
struct TileConfiguration {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t bytes_per_row[16] = {};
  std::uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfiguration) == 64);

/// Tile registers of this thread while it lives: C [rows][16] = A [rows][inputs] B [inputs][16] in
/// integers, for signed bytes. B is as vectors have it: line q has inputs 4 q ... 4 q + 3 of every
/// column, one column after the other. Needs an operating system that lets the program use them
/// (Level::amx_int8). I: the instructions.
template <class I>
class TilesOf {
 public:
  static constexpr std::size_t columns = 16, line = 4 * columns;

  /// At most 16 rows and 64 inputs, a multiple of 4.
  TilesOf(std::size_t rows, std::size_t inputs) noexcept {
    alignas(alignment) TileConfiguration shapes;
    const auto shape = [&](unsigned tile, std::size_t of_rows, std::size_t bytes) {
      shapes.rows[tile] = static_cast<std::uint8_t>(of_rows);
      shapes.bytes_per_row[tile] = static_cast<std::uint16_t>(bytes);
    };
    shape(c, rows, line);
    shape(a, rows, inputs);
    shape(b, inputs / 4, line);
    I::configure(shapes);
  }
  ~TilesOf() { I::release(); }
  TilesOf(const TilesOf&) = delete;
  TilesOf& operator=(const TilesOf&) = delete;

  /// Rows of A are `stride` bytes apart, those of B and of the result follow each other.
  RWKV_INLINE void multiply(const std::int8_t* left, std::size_t stride, const std::byte* right,
                            std::int32_t* result) const noexcept {
    I::template zero<c>();
    I::template load<a>(left, stride);
    I::template load<b>(right, line);
    I::template add_products<c, a, b>();
    I::template store<c>(result, line);
  }

 private:
  static constexpr unsigned c = 0, a = 1, b = 2;
};

/// Whether one product is right: for processors, and what pretends to be one, that nobody has tried.
template <class Tiles>
[[nodiscard]] bool multiplies_exactly() noexcept {
  constexpr std::size_t rows = 16, inputs = 64;
  alignas(alignment) std::int8_t left[rows][inputs], right[inputs / 4][Tiles::line];
  alignas(alignment) std::int32_t sums[rows][Tiles::columns];
  for (std::size_t i = 0; i < rows * inputs; ++i) {
    left[i / inputs][i % inputs] = static_cast<std::int8_t>(static_cast<int>(i * 89 % 255) - 127);
    right[i / Tiles::line][i % Tiles::line] =
        static_cast<std::int8_t>(static_cast<int>(i * 57 % 251) - 127);
  }
  Tiles(rows, inputs)
      .multiply(left[0], inputs, reinterpret_cast<const std::byte*>(right[0]), sums[0]);
  for (std::size_t m = 0; m < rows; ++m)
    for (std::size_t n = 0; n < Tiles::columns; ++n) {
      std::int32_t sum = 0;
      for (std::size_t k = 0; k < inputs; ++k) sum += left[m][k] * right[k / 4][4 * n + k % 4];
      if (sum != sums[m][n]) return false;
    }
  return true;
}

#if RWKV_TARGET_AMX
struct AmxInstructions {
  RWKV_INLINE static void configure(const TileConfiguration& shapes) noexcept {
    asm volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
  }
  RWKV_INLINE static void release() noexcept { asm volatile("tilerelease" : : : "memory"); }
  template <unsigned Tile>
  RWKV_INLINE static void zero() noexcept {
    asm volatile("{tilezero %%tmm%c0|tilezero tmm%c0}" : : "i"(Tile));
  }
  template <unsigned Tile>
  RWKV_INLINE static void load(const void* from, std::size_t stride) noexcept {
    asm volatile("{tileloadd (%1,%2,1), %%tmm%c0|tileloadd tmm%c0, [%1+%2*1]}"
                 :
                 : "i"(Tile), "r"(from), "r"(stride)
                 : "memory");
  }
  template <unsigned Tile>
  RWKV_INLINE static void store(void* to, std::size_t stride) noexcept {
    asm volatile("{tilestored %%tmm%c0, (%1,%2,1)|tilestored [%1+%2*1], tmm%c0}"
                 :
                 : "i"(Tile), "r"(to), "r"(stride)
                 : "memory");
  }
  template <unsigned C, unsigned A, unsigned B>
  RWKV_INLINE static void add_products() noexcept {
    asm volatile("{tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0|tdpbssd tmm%c0, tmm%c1, tmm%c2}"
                 :
                 : "i"(C), "i"(A), "i"(B));
  }
};

using AmxTiles = TilesOf<AmxInstructions>;
#endif

}  // namespace rwkv::inline RWKV_ABI::simd::inline RWKV_ISA
