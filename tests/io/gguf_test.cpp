// SPDX-License-Identifier: Apache-2.0
#include "../support/hostile.hpp"
#include <rwkv/io/gguf.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using test::Bytes;
using test::GgufWriter;

namespace {

constexpr std::size_t head_size = 4;  // of the sample model

rwkv::io::Checkpoint parse(std::span<const std::byte> bytes) {
  return rwkv::io::read_gguf(bytes, "file");
}

std::string refusal(const Bytes& bytes) { return test::read_or_refuse(bytes, parse); }

bool mentions(const std::string& sentence, const std::string& part) {
  return sentence.find(part) != std::string::npos;
}

GgufWriter rwkv7() {
  GgufWriter gguf;
  gguf.text("general.architecture", "rwkv7");
  return gguf;
}

// The refusal of a file with one tensor.
std::string tensor_refusal(const std::string& name, const std::vector<std::size_t>& shape,
                           std::uint32_t type, std::size_t bytes) {
  GgufWriter gguf = rwkv7();
  gguf.tensor(name, shape, type, Bytes(bytes));
  return refusal(gguf.finish());
}

struct BlockType {
  std::uint32_t number;
  DType dtype;
};
constexpr BlockType block_types[] = {{2, DType::q4_0},  {3, DType::q4_1},   {6, DType::q5_0},
                                     {7, DType::q5_1},  {8, DType::q8_0},   {10, DType::q2_k},
                                     {11, DType::q3_k}, {12, DType::q4_k},  {13, DType::q5_k},
                                     {14, DType::q6_k}, {20, DType::iq4_nl}};

// A file with tensors of a block type wherever one could be.
Bytes block_file(const BlockType& type) {
  GgufWriter gguf = rwkv7();
  gguf.number("rwkv7.wkv.head_size", head_size);
  const auto put = [&](const std::string& name, const std::vector<std::size_t>& shape,
                       std::size_t elements) {
    gguf.tensor(name, shape, type.number, test::encode(test::ramp(elements), type.dtype));
  };
  put("output.weight", {3, 256}, 768);
  put("blk.0.time_mix_w1.weight", {2, 256}, 512);
  put("blk.0.time_mix_lerp_fused.weight", {6, 1, 1, 256}, 6 * 256);
  put("blk.0.time_mix_r_k.weight", {256}, 256);
  return gguf.finish();
}

// A file written by hand after the header's counts.
std::string raw_refusal(std::uint64_t tensors, std::uint64_t pairs, const Bytes& rest,
                        std::uint32_t version = 3) {
  return refusal(test::Writer().text("GGUF").put(version).put(tensors).put(pairs).raw(rest).bytes);
}

}  // namespace

TEST_CASE("a model reads back under official names and shapes") {
  const auto model = test::sample_model();
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    const Bytes bytes = test::gguf_of(model, type, head_size).finish();
    const auto checkpoint = parse(bytes);
    CHECK(test::difference(checkpoint, model) == "");
    CHECK(checkpoint.get("emb.weight").dtype == type);
    CHECK(checkpoint.format == "gguf");
  }
}

TEST_CASE("scalar metadata becomes text") {
  GgufWriter gguf = rwkv7();
  gguf.number("rwkv7.block_count", 12);
  gguf.real("rwkv7.attention.layer_norm_epsilon", 1e-5f);
  gguf.text("general.name", "a model");
  gguf.numbers("ignored", {1, 2, 3});
  gguf.texts("ignored too", {"a", "b"});
  const Bytes bytes = gguf.finish();
  CHECK(parse(bytes).metadata == rwkv::io::Metadata{{"general.architecture", "rwkv7"},
                                                    {"rwkv7.block_count", "12"},
                                                    {"rwkv7.attention.layer_norm_epsilon", "1e-05"},
                                                    {"general.name", "a model"}});
}

TEST_CASE("the vocabulary is decoded") {
  GgufWriter gguf = rwkv7();
  gguf.text("tokenizer.ggml.model", "rwkv");
  gguf.texts("tokenizer.ggml.tokens",
             {"<s>", R"(\x00)", R"(\xff\xe4)", R"(\t\n\r)", R"(\\)", R"(\')", "a b", "\xc3\xa9",
              "[PAD8]", "[PAD8]", "unused", "control"});
  SUBCASE("with token types") {
    gguf.numbers("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 5, 3});
    const Bytes bytes = gguf.finish();
    const auto vocabulary = parse(bytes).vocabulary;
    REQUIRE(vocabulary.has_value());
    const std::vector<std::string> expected{
        "",    std::string(1, '\0'), "\xff\xe4", "\t\n\r", "\\", "'",
        "a b", "\xc3\xa9",           "",         "[PAD8]", "",   ""};
    CHECK(*vocabulary == expected);
  }
  SUBCASE("without") {
    const Bytes bytes = gguf.finish();
    CHECK(parse(bytes).vocabulary->at(10) == "unused");
  }
  SUBCASE("types of another length") {
    gguf.numbers("tokenizer.ggml.token_type", {3, 1});
    CHECK(mentions(refusal(gguf.finish()), "2 token types for 12 tokens"));
  }
  SUBCASE("types of a greater length") {
    gguf.numbers("tokenizer.ggml.token_type", std::vector<std::int32_t>(13, 1));
    CHECK(mentions(refusal(gguf.finish()), "13 token types for 12 tokens"));
  }
}

TEST_CASE("damaged escapes in the vocabulary are refused, other tokenizers left alone") {
  const auto with_token = [](const std::string& token, const char* tokenizer) {
    GgufWriter gguf = rwkv7();
    gguf.text("tokenizer.ggml.model", tokenizer);
    gguf.texts("tokenizer.ggml.tokens", {"<s>", token});
    return gguf.finish();
  };
  for (const char* token : {R"(\x)", R"(\x1)", R"(\xg0)", R"(\x-1)", R"(ab\)"})
    CHECK(mentions(refusal(with_token(token, "rwkv")), "escape"));
  // The byte behind the second token is the length of the third, 49: a digit.
  GgufWriter digit = rwkv7();
  digit.text("tokenizer.ggml.model", "rwkv");
  digit.texts("tokenizer.ggml.tokens", {"<s>", R"(\x4)", std::string(49, 'n')});
  CHECK(mentions(refusal(digit.finish()), "escape"));
  const Bytes other = with_token(R"(\x)", "gpt2");
  CHECK(!parse(other).vocabulary.has_value());
}

TEST_CASE("other architectures and types are unsupported, by name") {
  GgufWriter llama;
  llama.text("general.architecture", "arwkv7");
  CHECK(mentions(refusal(llama.finish()), "architecture \"arwkv7\" is not supported"));
  CHECK(mentions(refusal(GgufWriter().finish()), "architecture (none)"));
  CHECK(mentions(tensor_refusal("blk.0.time_mix_key.weight", {32, 256}, 16, 32 * 66),
                 "\"blk.0.time_mix_key.weight\" has type IQ2_XXS, which is not supported"));
  CHECK(mentions(tensor_refusal("output.weight", {1, 256}, 15, 292), "has type Q8_K"));
  CHECK(mentions(tensor_refusal("output.weight", {1}, 4, 4), "has type number 4"));
  CHECK(mentions(tensor_refusal("output.weight", {1}, 0xffffffff, 4), "number 4294967295"));
  for (const char* name :
       {"output.bias", "blk.0.attn_q.weight", "blk.x.attn_norm.weight", "blk.0",
        "blk..attn_norm.weight", "blk.0.time_mix_q1.weight", "", "blk.0.time_mix_"})
    CHECK(mentions(tensor_refusal(name, {1}, 0, 4), "is not part of an RWKV-7 model"));
}

TEST_CASE("tensors of block types are views of the blocks") {
  for (const BlockType& type : block_types) {
    CAPTURE(rwkv::name_of(type.dtype));
    const Bytes bytes = block_file(type);
    const auto checkpoint = parse(bytes);
    const auto stored = [&](std::size_t elements) {
      return test::decode(test::encode(test::ramp(elements), type.dtype), type.dtype);
    };
    const auto& head = checkpoint.get("head.weight");
    CHECK(head.dtype == type.dtype);
    CHECK(head.shape == std::vector<std::size_t>{3, 256});
    CHECK(head.bytes.size() == rwkv::bytes_of(type.dtype, 768));
    CHECK(head.values() == stored(768));
    const auto& w1 = checkpoint.get("blocks.0.att.w1");
    CHECK(w1.shape == std::vector<std::size_t>{256, 2});
    CHECK(w1.values() == test::transposed({"", {2, 256}, stored(512)}).values);
    const auto fused = stored(6 * 256);
    const auto& x_k = checkpoint.get("blocks.0.att.x_k");
    CHECK(x_k.shape == std::vector<std::size_t>{1, 1, 256});
    CHECK(x_k.values() == std::vector<float>(fused.begin() + 512, fused.begin() + 768));
    const auto& r_k = checkpoint.get("blocks.0.att.r_k");
    CHECK(r_k.shape == std::vector<std::size_t>{64, 4});
    CHECK(r_k.values() == stored(256));

    const std::string name(rwkv::name_of(type.dtype));
    CHECK(mentions(tensor_refusal("output.weight", {2, 48}, type.number, 512),
                   "has rows of 48 elements, which are no whole blocks of " + name));
    CHECK(mentions(tensor_refusal("output.weight", {2, 256}, type.number, 32),
                   "lies at 0 of 32 data bytes"));
  }
}

TEST_CASE("shapes that do not fit are refused") {
  CHECK(mentions(tensor_refusal("blk.0.time_mix_lerp_fused.weight", {5, 1, 1, 2}, 0, 40),
                 "not [6, ...]"));
  CHECK(mentions(tensor_refusal("blk.0.time_mix_w1.weight", {4}, 0, 16), "is no matrix"));
  CHECK(mentions(tensor_refusal("blk.0.time_mix_r_k.weight", {4}, 0, 16), "no heads"));
  GgufWriter heads = rwkv7();
  heads.number("rwkv7.wkv.head_size", 4);
  heads.tensor("blk.0.time_mix_r_k.weight", {6}, 0, Bytes(24));
  CHECK(mentions(refusal(heads.finish()), "6 elements, which are no heads"));
  CHECK(mentions(tensor_refusal("output.weight", {3}, 0, 8), "needs") == false);
  CHECK(mentions(tensor_refusal("output.weight", {9}, 0, 32), "lies at 0 of 32 data bytes"));
  constexpr std::size_t huge = std::size_t{1} << 33;
  CHECK(mentions(tensor_refusal("output.weight", {huge, huge}, 0, 32), "lies at 0 of"));
  CHECK(mentions(tensor_refusal("output.weight", {~std::size_t{0}}, 1, 32), "lies at 0 of"));
  CHECK(mentions(tensor_refusal("output.weight", {1, 1, 1, 1, 1}, 0, 4), "5 dimensions"));

  GgufWriter twice = rwkv7();
  twice.tensor("output.weight", {1}, 0, Bytes(4));
  twice.tensor("output.weight", {1}, 0, Bytes(4));
  CHECK(mentions(refusal(twice.finish()), "\"head.weight\" occurs twice"));
}

TEST_CASE("offsets that lie are refused") {
  GgufWriter gguf = rwkv7();
  gguf.tensor("output_norm.weight", {16}, 0, Bytes(64));
  gguf.tensor("output_norm.bias", {16}, 0, Bytes(64));
  const Bytes good = gguf.finish();
  const std::size_t data = good.size() - 128;
  std::size_t at = data - data % 8;  // the second offset is the last thing before the padding
  while (good[at] != std::byte{64}) --at;
  const auto with_offset = [&](std::uint64_t offset) {
    Bytes bytes = good;
    std::memcpy(bytes.data() + at, &offset, 8);
    return refusal(bytes);
  };
  CHECK(with_offset(64) == "read");
  CHECK(mentions(with_offset(0), "overlap at data byte 0"));
  CHECK(mentions(with_offset(32), "overlap at data byte 32"));
  CHECK(mentions(with_offset(33), "no multiple of 32"));
  CHECK(mentions(with_offset(96), "lies at 96 of 128"));
  CHECK(mentions(with_offset(~std::uint64_t{31}), "lies at 18446744073709551584"));
  Bytes cut = good;
  cut.pop_back();
  CHECK(mentions(refusal(cut), "lies at 64 of 127 data bytes"));
}

TEST_CASE("tensors lie in any order, and without elements anywhere within the data") {
  const auto with_offsets = [](std::size_t second, std::uint64_t first_offset,
                               std::uint64_t second_offset) {
    test::Writer out;
    const auto text = [&](const std::string& value) {
      out.put(std::uint64_t{value.size()}).text(value);
    };
    out.text("GGUF").put<std::uint32_t>(3).put(std::uint64_t{2}).put(std::uint64_t{1});
    text("general.architecture");
    out.put<std::uint32_t>(8);
    text("rwkv7");
    const auto tensor = [&](const char* name, std::size_t size, std::uint64_t offset) {
      text(name);
      out.put<std::uint32_t>(1).put(std::uint64_t{size}).put<std::uint32_t>(0).put(offset);
    };
    tensor("output_norm.weight", 16, first_offset);
    tensor("output_norm.bias", second, second_offset);
    out.align(32).raw(Bytes(64 + 4 * second));
    return refusal(out.bytes);
  };
  CHECK(with_offsets(8, 0, 64) == "read");
  CHECK(with_offsets(8, 32, 0) == "read");
  CHECK(mentions(with_offsets(8, 0, 32), "overlap"));
  CHECK(with_offsets(0, 0, 0) == "read");
  CHECK(with_offsets(0, 0, 32) == "read");
  CHECK(with_offsets(0, 0, 64) == "read");
  CHECK(mentions(with_offsets(0, 0, 96), "lies at 96 of 64"));
}

TEST_CASE("an alignment that the file names holds for tensors and data") {
  const auto aligned = [](std::uint32_t alignment, std::uint64_t offset) {
    test::Writer out;
    const auto text = [&](const std::string& value) {
      out.put(std::uint64_t{value.size()}).text(value);
    };
    out.text("GGUF").put<std::uint32_t>(2).put(std::uint64_t{1}).put(std::uint64_t{2});
    text("general.architecture");
    out.put<std::uint32_t>(8);
    text("rwkv7");
    text("general.alignment");
    out.put<std::uint32_t>(4).put(alignment);
    text("output_norm.weight");
    out.put<std::uint32_t>(1).put(std::uint64_t{1}).put<std::uint32_t>(0).put(offset);
    out.align(alignment).raw(Bytes(static_cast<std::size_t>(offset))).put(2.5f);
    if (const std::string sentence = refusal(out.bytes); sentence != "read") return sentence;
    return parse(out.bytes).get("ln_out.weight").values() == std::vector<float>{2.5f}
               ? std::string("read")
               : std::string("misread");
  };
  CHECK(aligned(8, 8) == "read");
  CHECK(aligned(32, 32) == "read");
  CHECK(aligned(64, 64) == "read");
  CHECK(aligned(256, 0) == "read");
  CHECK(mentions(aligned(8, 4), "no multiple of 8"));
  CHECK(mentions(aligned(64, 32), "no multiple of 64"));
}

TEST_CASE("headers that lie are refused") {
  using test::Writer;
  constexpr std::uint64_t huge = ~std::uint64_t{0};
  const auto key = [](std::uint32_t type) {
    return Writer().put(std::uint64_t{1}).text("k").put(type);
  };
  CHECK(mentions(raw_refusal(0, 0, {}, 1), "GGUF version 1"));
  CHECK(mentions(raw_refusal(0, 0, {}, 2), "architecture (none)"));
  CHECK(mentions(raw_refusal(0, 0, {}, 3), "architecture (none)"));
  CHECK(mentions(raw_refusal(0, 0, {}, 4), "GGUF version 4"));
  // As many of the smallest as there is room for: an empty name and a byte, an empty name and
  // zeros.
  CHECK(mentions(raw_refusal(0, 1, Bytes(13)), "architecture (none)"));
  CHECK(mentions(raw_refusal(0, 1, Bytes(12)), "more than the file can hold"));
  CHECK(mentions(raw_refusal(1, 0, Bytes(24)), "the padding before the data"));
  CHECK(mentions(raw_refusal(1, 0, Bytes(23)), "more than the file can hold"));
  CHECK(mentions(raw_refusal(0, 0, {}, 0x03000000), "a big-endian file"));
  CHECK(mentions(raw_refusal(huge, 0, Bytes(64)), "more than the file can hold"));
  CHECK(mentions(raw_refusal(0, huge, Bytes(64)), "more than the file can hold"));
  CHECK(mentions(raw_refusal(0, 1, Writer().put(huge).raw(Bytes(64)).bytes), "ends in the middle"));
  CHECK(mentions(raw_refusal(0, 1, key(13).raw(Bytes(64)).bytes), "unknown type 13"));
  CHECK(mentions(raw_refusal(0, 1, key(8).put(huge).bytes), "ends in the middle"));
  const auto array = [&](std::uint32_t type, std::uint64_t count) {
    return raw_refusal(0, 1, key(9).put(type).put(count).raw(Bytes(64)).bytes);
  };
  CHECK(mentions(array(8, huge), "promises"));
  CHECK(mentions(array(8, 8), "architecture (none)"));
  CHECK(mentions(array(8, 9), "promises 9 texts"));
  CHECK(mentions(array(4, 16), "architecture (none)"));
  CHECK(mentions(array(4, 17), "promises 17 values"));
  CHECK(mentions(array(4, huge / 4 + 2), "promises"));
  CHECK(mentions(array(9, 1), "elements of type 9"));
  CHECK(mentions(array(99, 1), "elements of type 99"));

  GgufWriter twice = rwkv7();
  twice.text("general.architecture", "rwkv7");
  CHECK(mentions(refusal(twice.finish()), "two entries \"general.architecture\""));
  for (const std::uint32_t alignment : {0u, 3u, 0xffffffffu}) {
    GgufWriter gguf = rwkv7();
    gguf.number("general.alignment", alignment);
    CHECK(mentions(refusal(gguf.finish()), "no power of two"));
  }
  GgufWriter text = rwkv7();
  text.text("general.alignment", "32");
  CHECK(mentions(refusal(text.finish()), "no power of two"));
}

TEST_CASE("damaged files are read or refused") {
  GgufWriter gguf = test::gguf_of(
      test::sample_model({.layers = 1, .embed = 4, .head_size = 4, .ffn = 4, .vocab = 3}),
      DType::f16, 4);
  gguf.text("tokenizer.ggml.model", "rwkv");
  gguf.texts("tokenizer.ggml.tokens", {"<s>", "a", R"(\xff)"});
  const Bytes bytes = gguf.finish();
  // The last tensor's padding may be missing, nothing else.
  CHECK(test::truncate_everywhere(bytes, parse) < 32);
  CHECK(test::flip_bytes(bytes, bytes.size() / 2, 5000, parse) > 2000);
  for (const BlockType& type : block_types) {
    const Bytes blocks = block_file(type);
    CHECK(test::flip_bytes(blocks, 400, 200, parse) > 50);
  }
}
