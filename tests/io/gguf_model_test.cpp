// SPDX-License-Identifier: Apache-2.0
#include "../support/format_writers.hpp"
#include "../support/sample_checkpoint.hpp"
#include <rwkv/io/gguf.hpp>
#include <rwkv/io/gguf_model.hpp>
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/vocabulary_text.hpp>

#include <doctest/doctest.h>

#include <set>

using namespace std::string_literals;
using rwkv::DType;
using rwkv::io::GgufValue;

namespace {

const GgufValue* find(const rwkv::io::GgufMetadata& metadata, const std::string& key) {
  const auto it = std::find_if(metadata.begin(), metadata.end(),
                               [&](const auto& pair) { return pair.first == key; });
  return it == metadata.end() ? nullptr : &it->second;
}

template <class T>
const T& get(const rwkv::io::GgufMetadata& metadata, const std::string& key) {
  const GgufValue* value = find(metadata, key);
  REQUIRE(value != nullptr);
  return std::get<T>(*value);
}

rwkv::io::GgufMetadata with_vocabulary(const rwkv::io::Vocabulary& vocabulary, std::size_t size) {
  rwkv::Dimensions d;
  d.vocab = size;
  return rwkv::io::gguf_metadata(d, DType::f16, "m", false, vocabulary);
}

}  // namespace

TEST_CASE("the list of a model's tensors is complete, and in official shapes") {
  const auto checkpoint = test::sample_checkpoint();
  const auto layout = rwkv::io::layout_of(rwkv::io::dimensions_of(checkpoint));
  CHECK(layout.size() == checkpoint.tensors.size());
  for (const auto& entry : layout) {
    CAPTURE(entry.name);
    CHECK(checkpoint.get(entry.name).shape == entry.shape);
  }
  CHECK_NOTHROW(rwkv::io::check_layout(checkpoint, layout));
}

TEST_CASE("names go to GGUF and back") {
  const auto checkpoint = test::sample_checkpoint();
  for (const auto& entry : checkpoint.tensors) {
    const std::string& name = entry.first;
    CAPTURE(name);
    const auto back =
        rwkv::io::detail::official_from_gguf(rwkv::io::detail::gguf_from_official(name));
    REQUIRE(back.has_value());
    CHECK(back->name == (back->fused ? name.substr(0, name.size() - 3) : name));
    CHECK(back->transposed == test::low_rank(name));
  }
}

TEST_CASE("tensors have the names and shapes that llama.cpp asks for") {
  const test::SampleSizes sizes;
  const auto checkpoint = test::sample_checkpoint(sizes);
  const auto layout = rwkv::io::layout_of(rwkv::io::dimensions_of(checkpoint));
  std::map<std::string, std::vector<std::size_t>> shapes;
  for (const auto& tensor : rwkv::io::plan_gguf(checkpoint, layout, DType::f16, {}))
    CHECK(shapes.emplace(tensor.entry.name, tensor.entry.shape).second);

  const std::size_t c = sizes.embed;
  std::map<std::string, std::vector<std::size_t>> expected{{"token_embd.weight", {sizes.vocab, c}},
                                                           {"token_embd_norm.weight", {c}},
                                                           {"token_embd_norm.bias", {c}},
                                                           {"output_norm.weight", {c}},
                                                           {"output_norm.bias", {c}},
                                                           {"output.weight", {sizes.vocab, c}}};
  for (std::size_t i = 0; i < sizes.layers; ++i) {
    const std::string block = "blk." + std::to_string(i) + '.';
    const auto add = [&](const std::string& name, std::vector<std::size_t> shape) {
      expected[block + name] = std::move(shape);
    };
    for (const char* norm : {"attn_norm", "attn_norm_2", "time_mix_ln"})
      for (const char* part : {".weight", ".bias"}) add(std::string(norm) + part, {c});
    for (const char* v : {"w0", "a0", "v0", "k_k", "k_a", "r_k"})
      add("time_mix_" + std::string(v) + ".weight", {c});
    // The rank of the value residual in block 0 is that of a.
    for (const auto& [letter, rank] :
         {std::pair{'w', sizes.decay}, std::pair{'a', sizes.icl},
          std::pair{'v', i == 0 ? sizes.icl : sizes.value}, std::pair{'g', sizes.gate}}) {
      add(std::string("time_mix_") + letter + "1.weight", {rank, c});
      add(std::string("time_mix_") + letter + "2.weight", {c, rank});
    }
    add("time_mix_lerp_fused.weight", {6, 1, 1, c});
    for (const char* m : {"receptance", "key", "value", "output"})
      add("time_mix_" + std::string(m) + ".weight", {c, c});
    add("channel_mix_lerp_k.weight", {c});
    add("channel_mix_key.weight", {sizes.ffn, c});
    add("channel_mix_value.weight", {c, sizes.ffn});
  }
  CHECK(shapes == expected);
}

TEST_CASE("metadata says what llama.cpp asks for") {
  const rwkv::Dimensions d{2, 8, 4, 12, 10, 3, 2, 5, 7};
  const auto m = rwkv::io::gguf_metadata(d, DType::q4_k, "a model", false, std::nullopt);
  const auto number = [&](const char* key) { return get<std::uint32_t>(m, key); };
  CHECK(get<std::string>(m, "general.architecture") == "rwkv7");
  CHECK(get<std::string>(m, "general.name") == "a model");
  CHECK(get<std::string>(m, "tokenizer.ggml.model") == "none");
  CHECK(get<float>(m, "rwkv7.attention.layer_norm_epsilon") == 1e-5f);
  CHECK(number("general.file_type") == 14);
  CHECK(number("general.quantization_version") == 2);
  CHECK(number("rwkv7.block_count") == 2);
  CHECK(number("rwkv7.embedding_length") == 8);
  CHECK(number("rwkv7.feed_forward_length") == 12);
  CHECK(number("rwkv7.attention.head_count") == 0);
  CHECK(number("rwkv7.wkv.head_size") == 4);
  CHECK(number("rwkv7.attention.decay_lora_rank") == 3);
  CHECK(number("rwkv7.attention.iclr_lora_rank") == 2);
  CHECK(number("rwkv7.attention.value_residual_mix_lora_rank") == 5);
  CHECK(number("rwkv7.attention.gate_lora_rank") == 7);
  CHECK(number("rwkv7.vocab_size") == 10);
  CHECK(get<std::string>(rwkv::io::gguf_metadata(d, DType::f32, "m", true, std::nullopt),
                         "general.architecture") == "rwkv7-extended");
}

TEST_CASE("a vocabulary becomes texts that differ, and reads back") {
  using Types = std::vector<std::int32_t>;
  using Texts = std::vector<std::string>;
  const rwkv::io::Vocabulary vocabulary{"", "<s>", "[PAD7]", "", "\xff\0"s, "it's", "\\n"};
  const auto m = with_vocabulary(vocabulary, 8);
  const auto& texts = get<Texts>(m, "tokenizer.ggml.tokens");
  CHECK(texts == Texts{"<s>", R"(\x3cs>)", R"(\x5bPAD7])", "[PAD3]", R"(\xff\x00)", "it's",
                       R"(\\n)", "[PAD7]"});
  CHECK(std::set<std::string>(texts.begin(), texts.end()).size() == texts.size());
  CHECK(get<Types>(m, "tokenizer.ggml.token_type") == Types{3, 1, 1, 5, 1, 1, 1, 5});
  CHECK(get<std::uint32_t>(m, "tokenizer.ggml.eos_token_id") == 0);
  CHECK(find(m, "tokenizer.chat_template") == nullptr);

  test::GgufWriter gguf;
  gguf.text("general.architecture", "rwkv7");
  gguf.text("tokenizer.ggml.model", "rwkv");
  gguf.texts("tokenizer.ggml.tokens", texts);
  gguf.numbers("tokenizer.ggml.token_type", get<Types>(m, "tokenizer.ggml.token_type"));
  const test::Bytes bytes = gguf.finish();
  auto expected = vocabulary;
  expected.resize(8);
  CHECK(rwkv::io::read_gguf(bytes, "file").vocabulary == expected);
}

TEST_CASE("in a vocabulary of bytes 0 is a byte, and nothing ends a text") {
  rwkv::io::Vocabulary bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.emplace_back(1, static_cast<char>(byte));
  const auto m = with_vocabulary(bytes, 256);
  CHECK(get<std::vector<std::string>>(m, "tokenizer.ggml.tokens").front() == R"(\x00)");
  const auto& types = get<std::vector<std::int32_t>>(m, "tokenizer.ggml.token_type");
  CHECK(std::count(types.begin(), types.end(), 1) == 256);
  CHECK(find(m, "tokenizer.ggml.bos_token_id") == nullptr);
}

#ifdef RWKV_GOLDENS
TEST_CASE("the World vocabulary brings its conversation") {
  const rwkv::io::MappedFile file(std::filesystem::path(RWKV_GOLDENS) / "vocab" /
                                  "rwkv_vocab_v20230424.txt");
  const auto vocabulary = rwkv::io::read_vocabulary_text(
      {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()}, "v");
  const auto m = with_vocabulary(vocabulary, 65536);
  CHECK(get<std::uint32_t>(m, "tokenizer.ggml.eot_token_id") == 261);
  CHECK(get<std::string>(m, "tokenizer.chat_template")
            .find(R"({{- 'User: ' + message['content']|trim + '\n\n' -}})") != std::string::npos);
  const auto& texts = get<std::vector<std::string>>(m, "tokenizer.ggml.tokens");
  CHECK(std::set<std::string>(texts.begin(), texts.end()).size() == 65536);
  CHECK(rwkv::io::read_vocabulary_text(rwkv::io::vocabulary_text(vocabulary), "v") == vocabulary);
}
#endif
