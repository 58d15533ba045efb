// SPDX-License-Identifier: Apache-2.0
#include "random_model.hpp"

#include <rwkv/io/layout.hpp>

#include <random>

namespace tool {

rwkv::io::Checkpoint random_checkpoint(const std::string& name, rwkv::DType type) {
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
  auto pool = std::make_shared<std::vector<std::byte>>(elements * size_of(type));
  std::mt19937 random(1);
  for (std::size_t i = 0; i < elements; ++i) {
    const float f = (static_cast<float>(random() >> 8) * 0x1p-24f - 0.5f) * 0.05f;
    const rwkv::half h = rwkv::to_half(f);
    const rwkv::bfloat16 b = rwkv::to_bfloat16(f);
    const void* bytes = type == rwkv::DType::f16    ? static_cast<const void*>(&h)
                        : type == rwkv::DType::bf16 ? static_cast<const void*>(&b)
                                                    : static_cast<const void*>(&f);
    std::memcpy(pool->data() + i * size_of(type), bytes, size_of(type));
  }

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
  return c;
}

}  // namespace tool
