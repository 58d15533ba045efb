// SPDX-License-Identifier: Apache-2.0
#include "random_model.hpp"
#include <rwkv/shape.hpp>

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
  const auto add = [&](const std::string& tensor, std::vector<std::size_t> dims) {
    rwkv::io::Tensor t{type, dims, rwkv::io::c_order(dims), {}};
    const std::size_t offset = random() % (elements - t.size() + 1);
    t.bytes = std::span(*pool).subspan(offset * size_of(type), t.size() * size_of(type));
    c.tensors.emplace(tensor, std::move(t));
  };
  const auto norm = [&](const std::string& tensor) {
    add(tensor + ".weight", {d.embed});
    add(tensor + ".bias", {d.embed});
  };
  add("emb.weight", {d.vocab, d.embed});
  add("head.weight", {d.vocab, d.embed});
  norm("ln_out");
  norm("blocks.0.ln0");
  for (std::size_t i = 0; i < d.layers; ++i) {
    const std::string block = "blocks." + std::to_string(i) + ".";
    for (const char* n : {"ln1", "ln2", "att.ln_x"}) norm(block + n);
    for (const char* v : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g", "w0", "a0", "v0", "k_k", "k_a"})
      add(block + "att." + v, {d.embed});
    add(block + "att.r_k", {d.embed / d.head_size, d.head_size});
    const std::pair<const char*, std::size_t> low[] = {
        {"w", d.decay_rank}, {"a", d.icl_rank}, {"v", d.value_rank}, {"g", d.gate_rank}};
    for (const auto& [letter, rank] : low) {
      add(block + "att." + letter + "1", {d.embed, rank});
      add(block + "att." + letter + "2", {rank, d.embed});
    }
    for (const char* m : {"receptance", "key", "value", "output"})
      add(block + "att." + m + ".weight", {d.embed, d.embed});
    add(block + "ffn.x_k", {d.embed});
    add(block + "ffn.key.weight", {d.ffn, d.embed});
    add(block + "ffn.value.weight", {d.embed, d.ffn});
  }
  return c;
}

}  // namespace tool
