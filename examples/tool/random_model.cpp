// SPDX-License-Identifier: Apache-2.0
#include "random_model.hpp"

#include <rwkv/io/layout.hpp>

#include <cmath>
#include <random>

namespace tool {

namespace {

using Pool = std::shared_ptr<std::vector<std::byte>>;

/// So many numbers of a type of floats.
template <class Number>
Pool pool_of(rwkv::DType type, std::size_t elements, Number&& number) {
  auto pool = std::make_shared<std::vector<std::byte>>(elements * size_of(type));
  for (std::size_t i = 0; i < elements; ++i) {
    const float f = number();
    const rwkv::half h = rwkv::to_half(f);
    const rwkv::bfloat16 b = rwkv::to_bfloat16(f);
    const void* bytes = type == rwkv::DType::f16    ? static_cast<const void*>(&h)
                        : type == rwkv::DType::bf16 ? static_cast<const void*>(&b)
                                                    : static_cast<const void*>(&f);
    std::memcpy(pool->data() + i * size_of(type), bytes, size_of(type));
  }
  return pool;
}

/// x where the normal distribution has so much below x.
double quantile(double probability) {
  double low = -8.0, high = 8.0;
  for (int i = 0; i < 60; ++i) {
    const double x = (low + high) / 2;
    (std::erfc(-x / std::sqrt(2.0)) / 2 < probability ? low : high) = x;
  }
  return low;
}

/// Gives what the key of each channel mix reads a mean, 1/2, and its weights another one, so that
/// this fraction of the products is not positive.
template <class Number>
void set_zeros(rwkv::io::Checkpoint& c, rwkv::DType type, const rwkv::Dimensions& d, double zeros,
               Number&& number) {
  constexpr double mean = 0.5, deviation_of_weights = 0.05 / 3.4641016;
  const auto channels = static_cast<double>(d.embed);
  const double deviation = deviation_of_weights * std::sqrt(channels * (1 + mean * mean));
  const auto lower = static_cast<float>(quantile(zeros) * deviation / (mean * channels));
  const std::size_t elements = d.ffn * d.embed + 4096;
  const Pool keys = pool_of(type, elements, [&] { return number() - lower; });
  const Pool ones = pool_of(type, d.embed, [] { return 1.0f; });
  const Pool means = pool_of(type, d.embed, [] { return static_cast<float>(mean); });
  for (const Pool& pool : {keys, ones, means}) c.storage.push_back(pool);
  for (std::size_t i = 0; i < d.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    c.tensors.at(block + "ln2.weight").bytes = *ones;
    c.tensors.at(block + "ln2.bias").bytes = *means;
    rwkv::io::Tensor& key = c.tensors.at(block + "ffn.key.weight");
    key.bytes =
        std::span(*keys).subspan(i * 331 % 4096 * size_of(type), key.size() * size_of(type));
  }
}

}  // namespace

rwkv::io::Checkpoint random_checkpoint(const std::string& name, rwkv::DType type,
                                       std::optional<double> ffn_zeros) {
  struct Released {
    const char* name;
    rwkv::Dimensions d;
  };
  const Released released[] = {
      {"0.1b", {12, 768, 64, 3072, 65536, 64, 64, 32, 128}},
      {"0.4b", {24, 1024, 64, 4096, 65536, 64, 64, 32, 128}},
      {"1.5b", {24, 2048, 64, 8192, 65536, 96, 96, 64, 256}},
      {"2.9b", {32, 2560, 64, 10240, 65536, 96, 96, 64, 320}},
  };
  const auto* shape = std::find_if(std::begin(released), std::end(released),
                                   [&](const Released& r) { return name == r.name; });
  if (shape == std::end(released))
    rwkv::fail_with(rwkv::ErrorCategory::argument, "--shape: \"", name,
                    "\" is none of 0.1b, 0.4b, 1.5b, 2.9b");
  const rwkv::Dimensions d = shape->d;

  const std::size_t elements = d.vocab * d.embed + 4096;
  std::mt19937 random(1);
  const auto number = [&] { return (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f) * 0.05f; };
  const auto pool = pool_of(type, elements, number);
  rwkv::io::Checkpoint c;
  c.source = "random " + name;
  c.format = "random";
  c.storage.push_back(pool);
  for (const rwkv::io::LayoutEntry& entry : rwkv::io::layout_of(d)) {
    rwkv::io::Tensor t{type, entry.shape, rwkv::io::c_order(entry.shape), {}};
    const std::size_t offset = random() % (elements - t.size() + 1);
    t.bytes = std::span(*pool).subspan(offset * size_of(type), t.size() * size_of(type));
    c.tensors.emplace(entry.name, std::move(t));
  }
  if (ffn_zeros) set_zeros(c, type, d, *ffn_zeros, number);
  return c;
}

}  // namespace tool
