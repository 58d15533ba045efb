// SPDX-License-Identifier: Apache-2.0
// For tests of block formats: all of them, a second reading of their layouts, numbers to encode.
#pragma once

#include "../support/numbers.hpp"
#include <rwkv/quant/format.hpp>
#include <rwkv/quant/rows.hpp>

#include <cmath>
#include <vector>

namespace test {

inline constexpr rwkv::DType block_types[] = {
    rwkv::DType::q4_0, rwkv::DType::q4_1, rwkv::DType::q5_0,  rwkv::DType::q5_1,
    rwkv::DType::q8_0, rwkv::DType::q2_k, rwkv::DType::q3_k,  rwkv::DType::q4_k,
    rwkv::DType::q5_k, rwkv::DType::q6_k, rwkv::DType::iq4_nl};

using Bytes = std::vector<std::byte>;

/// The numbers of one block, worked out in double, field by field, with loops over bytes instead of
/// elements: a different reading of the formats from the library's.
class NaiveBlock {
 public:
  explicit NaiveBlock(const std::byte* bytes) : bytes_(bytes) {}

  [[nodiscard]] std::vector<double> read(rwkv::DType type) const {
    std::vector<double> x(rwkv::block_elements(type));
    switch (type) {
      case rwkv::DType::q4_0:
        for (std::size_t j = 0; j < 16; ++j)
          for (std::size_t h = 0; h < 2; ++h) x[j + 16 * h] = at(0) * (nibble(2 + j, h) - 8);
        break;
      case rwkv::DType::q4_1:
        for (std::size_t j = 0; j < 16; ++j)
          for (std::size_t h = 0; h < 2; ++h) x[j + 16 * h] = at(0) * nibble(4 + j, h) + at(2);
        break;
      case rwkv::DType::q5_0:
        for (std::size_t j = 0; j < 16; ++j)
          for (std::size_t h = 0; h < 2; ++h)
            x[j + 16 * h] = at(0) * (nibble(6 + j, h) + 16 * word_bit(2, j + 16 * h) - 16);
        break;
      case rwkv::DType::q5_1:
        for (std::size_t j = 0; j < 16; ++j)
          for (std::size_t h = 0; h < 2; ++h)
            x[j + 16 * h] = at(0) * (nibble(8 + j, h) + 16 * word_bit(4, j + 16 * h)) + at(2);
        break;
      case rwkv::DType::q8_0:
        for (std::size_t j = 0; j < 32; ++j) x[j] = at(0) * signed_byte(2 + j);
        break;
      case rwkv::DType::q2_k:
        for (std::size_t n = 0; n < 2; ++n)
          for (std::size_t j = 0; j < 32; ++j)
            for (std::size_t k = 0; k < 4; ++k) {
              const std::size_t i = 128 * n + 32 * k + j;
              const int code = byte(16 + 32 * n + j) / power(4, k) % 4;
              x[i] = at(80) * nibble(i / 16, 0) * code - at(82) * nibble(i / 16, 1);
            }
        break;
      case rwkv::DType::q3_k:
        for (std::size_t n = 0; n < 2; ++n)
          for (std::size_t j = 0; j < 32; ++j)
            for (std::size_t k = 0; k < 4; ++k) {
              const std::size_t i = 128 * n + 32 * k + j;
              const std::size_t part = i / 16;
              const int scale = nibble(96 + part % 8, part / 8) +
                                16 * (byte(104 + part % 4) / power(4, part / 4) % 4) - 32;
              const int low = byte(32 + 32 * n + j) / power(4, k) % 4;
              const int high = byte(j) / power(2, 4 * n + k) % 2;
              x[i] = at(108) * scale * (low - (high == 1 ? 0 : 4));
            }
        break;
      case rwkv::DType::q4_k:
      case rwkv::DType::q5_k:
        for (std::size_t n = 0; n < 4; ++n)
          for (std::size_t j = 0; j < 32; ++j)
            for (std::size_t h = 0; h < 2; ++h) {
              const std::size_t part = 2 * n + h;
              int code = 0;
              if (type == rwkv::DType::q4_k)
                code = nibble(16 + 32 * n + j, h);
              else
                code = nibble(48 + 32 * n + j, h) + 16 * (byte(16 + j) / power(2, part) % 2);
              x[32 * part + j] = at(0) * six_bits(part, 0) * code - at(2) * six_bits(part, 4);
            }
        break;
      case rwkv::DType::q6_k:
        for (std::size_t n = 0; n < 2; ++n)
          for (std::size_t j = 0; j < 32; ++j)
            for (std::size_t k = 0; k < 4; ++k) {
              const std::size_t i = 128 * n + 32 * k + j;
              const int low = nibble(64 * n + 32 * (k % 2) + j, k / 2);
              const int high = byte(128 + 32 * n + j) / power(4, k) % 4;
              x[i] = at(208) * signed_byte(192 + i / 16) * (low + 16 * high - 32);
            }
        break;
      default: {
        constexpr int levels[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
        for (std::size_t j = 0; j < 16; ++j)
          for (std::size_t h = 0; h < 2; ++h) x[j + 16 * h] = at(0) * levels[nibble(2 + j, h)];
      }
    }
    return x;
  }

 private:
  [[nodiscard]] int byte(std::size_t i) const { return std::to_integer<int>(bytes_[i]); }
  [[nodiscard]] int signed_byte(std::size_t i) const {
    return byte(i) < 128 ? byte(i) : byte(i) - 256;
  }
  [[nodiscard]] int nibble(std::size_t i, std::size_t high) const {
    return high == 1 ? byte(i) / 16 : byte(i) % 16;
  }
  [[nodiscard]] int word_bit(std::size_t i, std::size_t bit) const {
    return byte(i + bit / 8) / power(2, bit % 8) % 2;
  }
  // Scale (which = 0) or min (which = 4) of Q4_K and Q5_K.
  [[nodiscard]] int six_bits(std::size_t part, std::size_t which) const {
    if (part < 4) return byte(4 + which + part) % 64;
    return nibble(8 + part, which / 4) + 16 * (byte(which + part) / 64);
  }
  // The half at byte i.
  [[nodiscard]] double at(std::size_t i) const {
    const int bits = byte(i) + 256 * byte(i + 1);
    const int exponent = bits / 1024 % 32;
    const double fraction = bits % 1024;
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return bits >= 32768 ? -magnitude : magnitude;
  }
  static int power(int base, std::size_t exponent) {
    int result = 1;
    for (; exponent > 0; --exponent) result *= base;
    return result;
  }

  const std::byte* bytes_;
};

/// Where the halves of a block lie.
inline std::vector<std::size_t> halves_of(rwkv::DType type) {
  switch (type) {
    case rwkv::DType::q4_1:
    case rwkv::DType::q5_1:
    case rwkv::DType::q4_k:
    case rwkv::DType::q5_k:
      return {0, 2};
    case rwkv::DType::q2_k:
      return {80, 82};
    case rwkv::DType::q3_k:
      return {108};
    case rwkv::DType::q6_k:
      return {208};
    default:
      return {0};
  }
}

/// Any block whose halves are finite; with `moderate`, between 2^-10 and 2^-5 in magnitude.
inline Bytes random_block(rwkv::DType type, Random& random, bool moderate = false) {
  Bytes block(rwkv::block_bytes(type));
  for (std::byte& byte : block) byte = static_cast<std::byte>(random.word() & 0xff);
  for (const std::size_t i : halves_of(type)) {
    std::uint32_t bits = random.word() & 0xffff;
    if (moderate) bits = (bits & 0x8000) | (0x1400 + bits % 0x1400);
    if ((bits & 0x7c00) == 0x7c00) bits ^= 0x4000;
    rwkv::quant::store_half({static_cast<std::uint16_t>(bits)}, &block[i]);
  }
  return block;
}

/// Roughly normal with standard deviation 1.
inline float normal(Random& random) {
  float sum = -6;
  for (int i = 0; i < 12; ++i) sum += random(0, 1);
  return sum;
}

/// Normal numbers, or with tails as heavy as those of outlier channels.
inline std::vector<float> numbers(std::size_t n, bool heavy, std::uint32_t seed = 1) {
  Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) {
    v = 0.02f * normal(random);
    if (heavy) v /= 0.1f + random(0, 1);
  }
  return x;
}

inline std::vector<float> decoded(rwkv::DType type, const Bytes& blocks) {
  std::vector<float> x(blocks.size() / rwkv::block_bytes(type) * rwkv::block_elements(type));
  rwkv::quant::decode_row(type, blocks.data(), x.size(), x.data());
  return x;
}

inline Bytes encoded(rwkv::DType type, const std::vector<float>& x,
                     const float* importance = nullptr) {
  Bytes blocks(rwkv::bytes_of(type, x.size()));
  rwkv::quant::encode_row(type, x.data(), importance, x.size(), blocks.data());
  return blocks;
}

/// Root of the weighted mean square of a - b, relative to that of a. Column i has weight w[i %
/// |w|].
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b,
                             const std::vector<float>& w = {1}) {
  double error = 0;
  double square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = double{a[i]} - double{b[i]};
    error += double{w[i % w.size()]} * difference * difference;
    square += double{w[i % w.size()]} * double{a[i]} * double{a[i]};
  }
  return error == 0 ? 0 : std::sqrt(error / square);
}

}  // namespace test
