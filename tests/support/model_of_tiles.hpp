// SPDX-License-Identifier: Apache-2.0
// The tile registers of AMX in plain loops, as Intel's manual describes them (palette 1): so that
// what uses them is tested on every machine. Where a processor would fault, `faults` counts.
#pragma once

#include <rwkv/simd/amx_tiles.hpp>

#include <cstring>

namespace test {

struct TileRegisters {
  static constexpr std::size_t tiles = 8, most_rows = 16, most_bytes = 64;
  bool configured = false;
  std::size_t rows[tiles] = {}, bytes[tiles] = {};
  std::uint8_t data[tiles][most_rows][most_bytes] = {};
};

struct ModelOfTiles {
  static constexpr std::size_t tiles = TileRegisters::tiles;
  static inline thread_local TileRegisters registers;
  static inline thread_local std::size_t faults = 0;
  static inline thread_local std::size_t products = 0;

  static void configure(const rwkv::simd::TileConfiguration& shapes) noexcept {
    registers = {};
    bool good = shapes.palette == 1 && shapes.start_row == 0;
    for (const std::uint8_t byte : shapes.reserved) good = good && byte == 0;
    for (std::size_t i = 0; i < 16; ++i) {
      const std::size_t rows = shapes.rows[i], bytes = shapes.bytes_per_row[i];
      good = good && rows <= TileRegisters::most_rows && bytes <= TileRegisters::most_bytes &&
             (rows == 0) == (bytes == 0) && (i < tiles || rows == 0);
      if (i >= tiles) continue;
      registers.rows[i] = rows;
      registers.bytes[i] = bytes;
    }
    check(good);
    registers.configured = good;
  }
  static void release() noexcept { registers = {}; }

  template <unsigned Tile>
  static void zero() noexcept {
    if (check(usable(Tile))) std::memset(registers.data[Tile], 0, sizeof registers.data[Tile]);
  }
  template <unsigned Tile>
  static void load(const void* from, std::size_t stride) noexcept {
    if (!check(usable(Tile))) return;
    std::memset(registers.data[Tile], 0, sizeof registers.data[Tile]);
    for (std::size_t r = 0; r < registers.rows[Tile]; ++r)
      std::memcpy(registers.data[Tile][r], static_cast<const std::byte*>(from) + r * stride,
                  registers.bytes[Tile]);
  }
  template <unsigned Tile>
  static void store(void* to, std::size_t stride) noexcept {
    if (!check(usable(Tile))) return;
    for (std::size_t r = 0; r < registers.rows[Tile]; ++r)
      std::memcpy(static_cast<std::byte*>(to) + r * stride, registers.data[Tile][r],
                  registers.bytes[Tile]);
  }
  template <unsigned C, unsigned A, unsigned B>
  static void add_products() noexcept {
    const auto& r = registers;
    if (!check(usable(C) && usable(A) && usable(B) && C != A && C != B && A != B &&
               r.bytes[C] % 4 == 0 && r.bytes[A] % 4 == 0 && r.bytes[B] % 4 == 0 &&
               r.rows[C] == r.rows[A] && r.bytes[C] == r.bytes[B] && r.bytes[A] / 4 == r.rows[B]))
      return;
    ++products;
    for (std::size_t m = 0; m < r.rows[C]; ++m)
      for (std::size_t n = 0; n < r.bytes[C] / 4; ++n) {
        std::uint32_t sum;
        std::memcpy(&sum, registers.data[C][m] + 4 * n, sizeof sum);
        for (std::size_t k = 0; k < r.bytes[A]; ++k)
          sum += static_cast<std::uint32_t>(
              static_cast<std::int8_t>(registers.data[A][m][k]) *
              static_cast<std::int8_t>(registers.data[B][k / 4][4 * n + k % 4]));
        std::memcpy(registers.data[C][m] + 4 * n, &sum, sizeof sum);
      }
  }

 private:
  static bool usable(unsigned tile) noexcept {
    return registers.configured && tile < tiles && registers.rows[tile] != 0;
  }
  static bool check(bool good) noexcept {
    faults += good ? 0 : 1;
    return good;
  }
};

using TilesOfModel = rwkv::simd::TilesOf<ModelOfTiles>;

}  // namespace test
