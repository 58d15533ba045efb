// SPDX-License-Identifier: Apache-2.0
// Damaged input: a reader must either read it, and then every element it promised must be there, or
// throw rwkv::Error with a sentence.
#pragma once

#include "format_writers.hpp"
#include <rwkv/io/checkpoint.hpp>

#include <random>

namespace test {

/// Reads every element of every tensor, up to a bound. A view that reaches outside its bytes, or
/// bytes outside the file, show up under a sanitizer.
[[nodiscard]] inline double touch(const rwkv::io::Checkpoint& checkpoint,
                                  std::size_t budget = std::size_t{1} << 22) {
  double sum = 0;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    if (tensor.size() > budget) break;
    budget -= tensor.size();
    for (const float value : tensor.values()) sum += static_cast<double>(value);
    for (const std::byte byte : tensor.bytes) sum += std::to_integer<int>(byte);
  }
  if (checkpoint.vocabulary)
    for (const std::string& token : *checkpoint.vocabulary)
      sum += static_cast<double>(token.size());
  return sum;
}

/// "read" or the sentence; throws std::logic_error for a sentence that says nothing.
template <class Read>
std::string read_or_refuse(std::span<const std::byte> input, Read read) {
  const Bytes exact(input.begin(), input.end());  // its own block: overruns are caught at the byte
  try {
    volatile double sum = touch(read(std::span<const std::byte>(exact)));
    (void)sum;
    return "read";
  } catch (const rwkv::Error& error) {
    const std::string sentence = error.what();
    if (sentence.size() < 12 || sentence.rfind("file", 0) != 0)
      throw std::logic_error("not a sentence that names the file: " + sentence);
    return sentence;
  }
}

/// Cuts at every byte of a small input, at every 1 % of a larger one. Returns how many were read.
template <class Read>
std::size_t truncate_everywhere(const Bytes& input, Read read) {
  std::size_t accepted = 0;
  const std::size_t step = input.size() <= 8192 ? 1 : input.size() / 100;
  for (std::size_t size = 0; size < input.size(); size += step)
    accepted += read_or_refuse(std::span(input).first(size), read) == "read";
  return accepted;
}

/// Changes 1 to 8 bytes at random places, `rounds` times; half of the time in the first `header`
/// bytes, where it hurts most. Returns how many were refused.
template <class Read>
std::size_t flip_bytes(const Bytes& input, std::size_t header, int rounds, Read read) {
  std::mt19937 random(7);
  std::size_t refused = 0;
  for (int round = 0; round < rounds; ++round) {
    Bytes damaged = input;
    const std::size_t reach = random() % 2 == 0 ? header : damaged.size();
    for (std::size_t i = 1 + random() % 8; i > 0; --i) {
      constexpr std::byte nasty[] = {std::byte{0}, std::byte{0xff}, std::byte{0x7f},
                                     std::byte{0x80}};
      std::byte& byte = damaged[random() % reach];
      byte = random() % 2 == 0 ? nasty[random() % 4] : static_cast<std::byte>(random() & 0xff);
    }
    refused += read_or_refuse(damaged, read) != "read";
  }
  return refused;
}

}  // namespace test
