// SPDX-License-Identifier: Apache-2.0
#include "../support/hostile.hpp"
#include <rwkv/io/ggmf.hpp>
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/safetensors.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using test::Bytes;
using test::Writer;

namespace {

rwkv::io::Checkpoint parse(std::span<const std::byte> bytes) {
  return rwkv::io::read_ggmf(bytes, "file");
}

std::string refusal(const Bytes& bytes) { return test::read_or_refuse(bytes, parse); }

bool mentions(const std::string& sentence, const std::string& part) {
  return sentence.find(part) != std::string::npos;
}

Writer header(std::int32_t version = 101, std::int32_t vocab = 1, std::int32_t embed = 1) {
  return Writer().text("fmgg").put(version).put(vocab).put(embed).put(0).put(0);
}

// `shape` as in the file.
void put_tensor(Writer& out, const std::vector<std::int32_t>& shape, std::int32_t type,
                const std::string& name, const Bytes& data) {
  out.put(static_cast<std::int32_t>(shape.size())).put(static_cast<std::int32_t>(name.size()));
  out.put(type);
  for (const std::int32_t d : shape) out.put(d);
  out.text(name).raw(data);
}

std::string tensor_refusal(const std::vector<std::int32_t>& shape, std::int32_t type,
                           const std::string& name, std::size_t bytes) {
  Writer out = header();
  put_tensor(out, shape, type, name, Bytes(bytes));
  return refusal(out.bytes);
}

struct BlockType {
  std::int32_t number;
  DType dtype;
};
constexpr BlockType block_types[] = {
    {2, DType::q4_0}, {3, DType::q4_1}, {7, DType::q5_0}, {8, DType::q5_1}, {9, DType::q8_0}};

// A file with tensors of a block type wherever one could be.
Bytes block_file(const BlockType& type) {
  Writer out = header(101, 2, 64);
  put_tensor(out, {64, 2}, 0, "emb.weight", test::encode(test::ramp(128), DType::f32));
  put_tensor(out, {64, 1}, 0, "blocks.0.att.r_k", Bytes(256));
  const auto put = [&](const std::vector<std::int32_t>& shape, const std::string& name,
                       std::size_t elements) {
    put_tensor(out, shape, type.number, name, test::encode(test::ramp(elements), type.dtype));
  };
  put({64, 3}, "blocks.0.att.key.weight", 192);
  put({64, 2}, "blocks.0.att.w1", 128);
  put({64, 1, 6}, "blocks.0.att.x_rwkvag", 384);
  return out.bytes;
}

}  // namespace

TEST_CASE("a model reads back under official names and shapes") {
  const auto model = test::sample_model();
  for (const std::int32_t type : {0, 1}) {
    const Bytes bytes = test::to_ggmf(model, type);
    const auto checkpoint = parse(bytes);
    CHECK(test::difference(checkpoint, model) == "");
    CHECK(checkpoint.get("emb.weight").dtype == (type == 0 ? DType::f32 : DType::f16));
    CHECK(checkpoint.format == "ggmf");
  }
}

TEST_CASE("tensors of block types are views of the blocks") {
  for (const BlockType& type : block_types) {
    CAPTURE(rwkv::name_of(type.dtype));
    const Bytes bytes = block_file(type);
    const auto checkpoint = parse(bytes);
    const auto stored = [&](std::size_t elements) {
      return test::decode(test::encode(test::ramp(elements), type.dtype), type.dtype);
    };
    const auto& key = checkpoint.get("blocks.0.att.key.weight");
    CHECK(key.dtype == type.dtype);
    CHECK(key.shape == std::vector<std::size_t>{3, 64});
    CHECK(key.bytes.size() == rwkv::bytes_of(type.dtype, 192));
    CHECK(key.values() == stored(192));
    const auto& w1 = checkpoint.get("blocks.0.att.w1");
    CHECK(w1.shape == std::vector<std::size_t>{64, 2});
    CHECK(w1.values() == test::transposed({"", {2, 64}, stored(128)}).values);
    const auto fused = stored(384);
    const auto& x_k = checkpoint.get("blocks.0.att.x_k");
    CHECK(x_k.shape == std::vector<std::size_t>{1, 1, 64});
    CHECK(x_k.values() == std::vector<float>(fused.begin() + 128, fused.begin() + 192));
  }
}

TEST_CASE("tensors of other types and of parts of blocks are refused") {
  for (const BlockType& type : block_types) {
    const std::string name(rwkv::name_of(type.dtype));
    CHECK(mentions(tensor_refusal({48, 2}, type.number, "x", 200),
                   "\"x\" has rows of 48 elements, which are no whole blocks of " + name));
    CHECK(mentions(tensor_refusal({32, 4}, type.number, "x", 71), "more than the 71 bytes"));
  }
  CHECK(mentions(tensor_refusal({32}, 6, "x", 64), "unknown type 6"));
  CHECK(mentions(tensor_refusal({32}, -1, "x", 64), "unknown type -1"));
}

TEST_CASE("other versions and other models are unsupported") {
  CHECK(mentions(refusal(header(99).bytes), "version 99"));
  CHECK(mentions(refusal(header().bytes), "no RWKV-7 model"));
  CHECK(mentions(tensor_refusal({1}, 0, "emb.weight", 4), "no RWKV-7 model"));
  const auto model = test::sample_model();
  Bytes bytes = test::to_ggmf(model);
  bytes[8] = std::byte{11};
  CHECK(mentions(refusal(bytes), "the header says 11 tokens of 8"));
  bytes = test::to_ggmf(model);
  bytes[16] = std::byte{2};
  CHECK(test::difference(parse(bytes), model) == "");
  bytes[16] = std::byte{3};
  CHECK(mentions(refusal(bytes), "the header says 3 layers, and there are 2"));
}

TEST_CASE("tensors that do not fit are refused") {
  constexpr std::int32_t most = 0x7fffffff;
  CHECK(mentions(tensor_refusal({}, 0, "x", 0), "a tensor of 0 dimensions"));
  CHECK(mentions(tensor_refusal({1, 1, 1, 1}, 0, "x", 4), "a tensor of 4 dimensions"));
  CHECK(mentions(tensor_refusal({1}, 0, "", 4), "a name of 0 bytes"));
  CHECK(mentions(tensor_refusal({-1}, 0, "x", 4), "has dimension -1"));
  CHECK(mentions(tensor_refusal({2}, 0, "x", 4), "more than the 4 bytes"));
  CHECK(mentions(tensor_refusal({most, most, most}, 0, "x", 4), "more than the 4 bytes"));
  CHECK(mentions(tensor_refusal({1, 5}, 0, "blocks.0.att.x_rwkvag", 20), "not [6, ...]"));
  CHECK(mentions(tensor_refusal({4}, 0, "blocks.0.att.w1", 16), "is no matrix"));
  CHECK(mentions(refusal(header().put(1).put(most).put(0).put(1).bytes), "ends in the middle"));
  CHECK(mentions(refusal(header().put(1).put(-1).put(0).bytes), "a name of -1 bytes"));
  const auto model = test::sample_model();
  Bytes bytes = test::to_ggmf(model);
  const Bytes again = test::to_ggmf({model[0]});
  bytes.insert(bytes.end(), again.begin() + 24, again.end());
  CHECK(mentions(refusal(bytes), "\"emb.weight\" occurs twice"));
}

TEST_CASE("damaged files are read or refused") {
  const auto model =
      test::sample_model({.layers = 1, .embed = 4, .head_size = 4, .ffn = 4, .vocab = 2});
  const Bytes bytes = test::to_ggmf(model, 1);
  // There is no directory: a file that ends behind a tensor lacks the others, but is well formed.
  CHECK(test::truncate_everywhere(bytes, parse) < model.size());
  CHECK(test::flip_bytes(bytes, bytes.size(), 3000, parse) > 1200);
  for (const BlockType& type : block_types) {
    const Bytes blocks = block_file(type);
    CHECK(test::truncate_everywhere(blocks, parse) < 5);
    CHECK(test::flip_bytes(blocks, 200, 500, parse) > 50);
  }
}

#ifdef RWKV_GOLDENS
TEST_CASE("the published tiny model holds what its official twin holds") {
  const std::filesystem::path tiny = std::filesystem::path(RWKV_GOLDENS) / "tiny-rwkv";
  const rwkv::io::MappedFile twin(tiny / "tiny-rwkv-7v0-834K.official.safetensors");
  const auto expected = rwkv::io::read_safetensors(twin.bytes(), "twin");
  for (const bool full : {true, false}) {
    const rwkv::io::MappedFile file(
        tiny / (full ? "tiny-rwkv-7v0-834K-FP32.bin" : "tiny-rwkv-7v0-834K-FP16.bin"));
    const auto model = parse(file.bytes());
    CHECK(model.tensors.size() == expected.tensors.size());
    for (const auto& entry : expected.tensors) {
      CAPTURE(entry.first);
      const auto& tensor = model.get(entry.first);
      CHECK(tensor.shape == entry.second.shape);
      auto values = entry.second.values();
      if (tensor.dtype == DType::f16)
        for (float& value : values) value = rwkv::to_float(rwkv::to_half(value));
      CHECK(tensor.values() == values);
    }
  }
}
#endif
