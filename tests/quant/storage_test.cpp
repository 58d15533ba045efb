// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"
#include <rwkv/quant/scales_and_mins.hpp>
#include <rwkv/quant/storage.hpp>

#include <doctest/doctest.h>

#include <algorithm>

using rwkv::half;
using rwkv::quant::Packed;

namespace {

// Puts random codes, and finds each of them again, by itself, as part of its run, and of sixteen.
template <unsigned Bits, std::size_t Run>
void check_packing(std::size_t n) {
  CAPTURE(Bits);
  CAPTURE(Run);
  using Codes = Packed<Bits, Run>;
  test::Random random(Bits + Run);
  std::vector<std::byte> bytes(n * Bits / 8);
  std::vector<unsigned> codes(n);
  for (std::size_t i = 0; i < n; ++i) {
    codes[i] = random.word() % (1u << Bits);
    Codes::put(codes[i], bytes.data(), i);
  }
  for (std::size_t i = 0; i < n; ++i) {
    CHECK(Codes::get(bytes.data(), i) == codes[i]);
    const auto run = Codes::from(bytes.data(), i);
    for (std::size_t k = 0; k < Run - i % Run; ++k) CHECK(run[k] == codes[i + k]);
    if (Run - i % Run >= 16) {
      std::uint8_t together[16];
      run.sixteen(0).store(together);
      for (std::size_t k = 0; k < 16; ++k) CHECK(together[k] == codes[i + k]);
    }
  }
}

}  // namespace

TEST_CASE("halves are little-endian and need no alignment") {
  test::Misaligned<std::uint8_t> memory(2);
  auto* bytes = reinterpret_cast<std::byte*>(memory.data());
  rwkv::quant::store_half(half{0x3c01}, bytes);
  CHECK(memory[0] == 0x01);
  CHECK(memory[1] == 0x3c);
  CHECK(rwkv::quant::load_half(bytes) == half{0x3c01});
}

TEST_CASE("signed bytes are in two's complement") {
  for (int value = -128; value < 128; ++value) {
    std::byte byte;
    rwkv::quant::store_signed(value, &byte);
    CHECK(std::to_integer<int>(byte) == (value + 256) % 256);
    CHECK(rwkv::quant::load_signed(&byte) == value);
  }
}

TEST_CASE("the bits of two bytes are spread over sixteen") {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const std::byte two[] = {static_cast<std::byte>(byte), static_cast<std::byte>(255 - byte)};
    std::uint8_t spread[16];
    rwkv::quant::spread_bits(two).store(spread);
    for (unsigned k = 0; k < 8; ++k) {
      CHECK(spread[k] == (byte >> k & 1));
      CHECK(spread[8 + k] == 1 - spread[k]);
    }
  }
}

TEST_CASE("packed codes of every width and run come back") {
  check_packing<4, 16>(32);
  check_packing<4, 32>(256);
  check_packing<4, 64>(256);
  check_packing<4, 8>(16);
  check_packing<2, 32>(256);
  check_packing<2, 4>(16);
  check_packing<1, 32>(256);
  check_packing<1, 1>(32);
}

TEST_CASE("a run takes the lowest bits of its bytes, the next run the bits above") {
  std::byte bytes[4]{};
  Packed<2, 2>::put(3, bytes, 0);
  Packed<2, 2>::put(1, bytes, 3);
  Packed<2, 2>::put(2, bytes, 9);
  CHECK(bytes[0] == std::byte{0x03});
  CHECK(bytes[1] == std::byte{0x04});
  CHECK(bytes[2] == std::byte{0x00});
  CHECK(bytes[3] == std::byte{0x02});
}

TEST_CASE("scales and mins of 6 bits share 12 bytes without touching each other") {
  using rwkv::quant::load_scale_and_min;
  test::Random random(1);
  for (int round = 0; round < 200; ++round) {
    rwkv::quant::ScaleAndMin expected[8];
    std::byte block[20]{};  // d, dmin, the scales and mins, something else
    rwkv::quant::store_half(half{0x1234}, block);
    rwkv::quant::store_half(half{0x5678}, block + 2);
    std::byte* const bytes = block + 4;
    for (std::size_t p = 0; p < 8; ++p) {
      expected[p] = {random.word() % 64, random.word() % 64};
      rwkv::quant::store_scale_and_min(expected[p], bytes, p);
    }
    CHECK(std::all_of(bytes + 12, bytes + 16, [](std::byte b) { return b == std::byte{}; }));
    std::uint8_t scales[16], mins[16];
    const rwkv::quant::Scales all = rwkv::quant::load_scales_and_mins(block);
    CHECK(all.d == half{0x1234});
    CHECK(all.dmin == half{0x5678});
    all.scale.store(scales);
    all.min.store(mins);
    for (std::size_t p = 0; p < 8; ++p) {
      CHECK(scales[p] == expected[p].scale);
      CHECK(mins[p] == expected[p].min);
      CHECK(load_scale_and_min(bytes, p).scale == expected[p].scale);
      CHECK(load_scale_and_min(bytes, p).min == expected[p].min);
    }
  }
}
