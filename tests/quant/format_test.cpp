// SPDX-License-Identifier: Apache-2.0
// Layouts, bit for bit.
#include "support.hpp"

#include <doctest/doctest.h>

using rwkv::DType;
using test::Bytes;
namespace quant = rwkv::quant;

namespace {

struct Byte {
  std::size_t at;
  unsigned value;
};
struct Element {
  std::size_t at;
  float value;
};

// A block of zeros but for `bytes`, and some of its elements worked out by hand.
struct Example {
  DType type;
  std::vector<Byte> bytes;
  std::vector<Element> elements;
};

// 0x3c00 is 1, 0x3800 is 1/2, 0x4000 is 2 and 0xc000 is -2, as halves.
const Example examples[] = {
    {DType::q4_0,
     {{0, 0x00}, {1, 0x38}, {2, 0xf0}, {3, 0x89}, {17, 0x7a}},
     {{0, -4}, {16, 3.5f}, {1, 0.5f}, {17, 0}, {15, 1}, {31, -0.5f}, {2, -4}, {18, -4}}},
    {DType::q4_1,
     {{1, 0x38}, {3, 0xc0}, {4, 0xf0}, {5, 0x21}, {19, 0x4d}},
     {{0, -2}, {16, 5.5f}, {1, -1.5f}, {17, -1}, {15, 4.5f}, {31, 0}, {2, -2}}},
    {DType::q5_0,
     {{1, 0x38}, {2, 0x03}, {5, 0x80}, {6, 0x50}, {7, 0x01}, {21, 0xf0}},
     {{0, 0}, {16, -5.5f}, {1, 0.5f}, {17, -8}, {15, -8}, {31, 7.5f}, {2, -8}}},
    {DType::q5_1,
     {{1, 0x38}, {3, 0xc0}, {4, 0x01}, {7, 0x80}, {8, 0x21}, {23, 0xf0}},
     {{0, 6.5f}, {16, -1}, {15, -2}, {31, 13.5f}, {1, -2}}},
    {DType::q8_0,
     {{1, 0x38}, {2, 0x7f}, {3, 0x80}, {4, 0xff}, {33, 0x02}},
     {{0, 63.5f}, {1, -64}, {2, -0.5f}, {3, 0}, {31, 1}}},
    // Element 0 is in part 0 (scale 3, min 1), 32 in part 2 (scale 15, min 0), 255 in part 15.
    {DType::q2_k,
     {{0, 0x13}, {2, 0x0f}, {15, 0x21}, {16, 0x0e}, {79, 0xc0}, {81, 0x38}, {83, 0x40}},
     {{0, 1}, {1, -2}, {32, 22.5f}, {64, 0}, {255, -2.5f}, {254, -4}, {16, 0}}},
    // Scale 0 is 0x21 - 32 = 1, scale 8 is 0x1e - 32 = -2, the others -32. Without its highest bit,
    // a code of 0 is -4.
    {DType::q3_k,
     {{0, 0x01}, {31, 0x80}, {32, 0x03}, {96, 0xe1}, {104, 0x12}, {109, 0x38}},
     {{0, 1.5f}, {1, -2}, {128, 4}, {255, 0}, {254, 64}, {16, 64}}},
    // Scale 0 is 3 and min 0 is 5; scale 7 is 0x3f and min 7 is 0x2a.
    {DType::q4_k,
     {{1, 0x38},
      {3, 0x40},
      {4, 0x03},
      {7, 0xc0},
      {8, 0x05},
      {11, 0x80},
      {15, 0xaf},
      {16, 0x0f},
      {143, 0xe0}},
     {{0, 12.5f}, {1, -10}, {32, 0}, {255, 357}, {254, -84}, {223, 0}}},
    {DType::q5_k,
     {{1, 0x38},
      {3, 0x40},
      {4, 0x03},
      {7, 0xc0},
      {8, 0x05},
      {11, 0x80},
      {15, 0xaf},
      {16, 0x01},
      {47, 0x80},
      {48, 0x0f},
      {175, 0xe0}},
     {{0, 36.5f}, {1, -10}, {32, 0}, {255, 861}, {254, -84}}},
    {DType::q6_k,
     {{0, 0x21},
      {127, 0xf0},
      {128, 0x43},
      {191, 0xc0},
      {192, 0x02},
      {196, 0xff},
      {207, 0x80},
      {209, 0x38}},
     {{0, 17}, {1, -32}, {64, 15}, {96, 0}, {255, -1984}, {254, 2048}, {65, 16}, {16, 0}}},
    {DType::iq4_nl,
     {{1, 0x38}, {2, 0x80}, {3, 0xf7}, {17, 0x9e}},
     {{0, -63.5f}, {16, 0.5f}, {1, -5}, {17, 56.5f}, {15, 44.5f}, {31, 6.5f}, {2, -63.5f}}},
};

}  // namespace

TEST_CASE("names, sizes and formats belong together") {
  for (const DType type : test::block_types) {
    CHECK(rwkv::is_block(type));
    const auto format = quant::visit_format(type, []<class Format>(Format) {
      return std::pair(Format::type, std::pair(Format::elements, Format::bytes));
    });
    CHECK(format.first == type);
    CHECK(format.second.first == rwkv::block_elements(type));
    CHECK(format.second.second == rwkv::block_bytes(type));
  }
}

TEST_CASE("blocks written by hand") {
  for (const Example& example : examples) {
    CAPTURE(rwkv::name_of(example.type));
    Bytes block(rwkv::block_bytes(example.type));
    for (const Byte& byte : example.bytes) block[byte.at] = static_cast<std::byte>(byte.value);
    const auto x = test::decoded(example.type, block);
    for (const Element& element : example.elements) {
      CAPTURE(element.at);
      CHECK(x[element.at] == element.value);
    }
  }
  CHECK(std::size(examples) == std::size(test::block_types));
}

TEST_CASE("decoding is exact but for one rounding") {
  test::Random random(1);
  for (const DType type : test::block_types) {
    CAPTURE(rwkv::name_of(type));
    for (int round = 0; round < 500; ++round) {
      const Bytes block = test::random_block(type, random);
      const auto expected = test::NaiveBlock(block.data()).read(type);
      const auto x = test::decoded(type, block);
      std::size_t wrong = 0;
      for (std::size_t i = 0; i < x.size(); ++i) wrong += x[i] != static_cast<float>(expected[i]);
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("scales and codes are those of the decoded numbers") {
  test::Random random(3);
  for (const DType type : test::block_types)
    quant::visit_format(type, [&]<class Format>(Format) {
      CAPTURE(rwkv::name_of(type));
      constexpr bool signed_codes = Format::type == DType::q8_0 || Format::type == DType::iq4_nl;
      for (int round = 0; round < 100; ++round) {
        const Bytes bytes = test::random_block(type, random);
        // At the very end of its memory.
        test::Misaligned<std::byte> block(bytes.size());
        std::copy(bytes.begin(), bytes.end(), block.begin());
        const auto expected = test::NaiveBlock(bytes.data()).read(type);
        const quant::Scales stored = Format::load_scales(block.data());
        std::uint8_t scale[16], min[16];
        stored.scale.store(scale);
        stored.min.store(min);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < Format::elements; ++i) {
          const quant::Tile tile = Format::load_tile(block.data(), i / 32);
          std::uint8_t low[32], high[32];
          for (std::size_t half = 0; half < 2; ++half) {
            tile.low[half].store(low + 16 * half);
            tile.high[half].store(high + 16 * half);
          }
          const int code = signed_codes ? static_cast<std::int8_t>(low[i % 32])
                                        : low[i % 32] + 16 * high[i % 32];
          double by = 1, less = 1;
          if (Format::elements == 256) {
            const bool of_32 = Format::type == DType::q4_k || Format::type == DType::q5_k;
            const std::size_t p = i / (of_32 ? 32 : 16);
            by = static_cast<std::int8_t>(scale[p]);
            less = min[p];
          }
          const double x = rwkv::to_float(stored.d) * by * (code - Format::zero) -
                           rwkv::to_float(stored.dmin) * less;
          wrong += x != expected[i];
        }
        CHECK(wrong == 0);
      }
    });
}

TEST_CASE("any bytes at any address are decoded, and constants by the compiler") {
  test::Random random(2);
  for (const DType type : test::block_types) {
    const std::size_t elements = rwkv::block_elements(type);
    for (int round = 0; round < 50; ++round) {
      test::Misaligned<std::uint8_t> block(rwkv::block_bytes(type));
      for (auto& byte : block) byte = static_cast<std::uint8_t>(random.word());
      test::Misaligned<float> x(elements + 1);
      x[elements] = test::canary;
      const auto* bytes = reinterpret_cast<const std::byte*>(block.data());
      quant::decode_row(type, bytes, elements, x.data());
      CHECK(test::bits(x[elements]) == test::bits(test::canary));
    }
  }
  constexpr float third = [] {
    std::byte block[quant::Q8_0::bytes]{};
    block[1] = std::byte{0x3c};
    block[4] = std::byte{0xfd};
    float x[quant::Q8_0::elements]{};
    quant::Q8_0::decode(block, x);
    return x[2];
  }();
  static_assert(third == -3);
}
