// SPDX-License-Identifier: Apache-2.0
// Writes the kept fuzz inputs of the readers: one tiny model in every form that each of them knows.
//   c++ -std=c++20 -Iinclude tests/fuzz/make_seeds.cpp -o make_seeds && ./make_seeds
//   tests/data/fuzz
#include "../support/format_writers.hpp"
#include "../support/temporary_directory.hpp"

#include <cstdio>

namespace {

using rwkv::DType;
using test::Bytes;

void write(const std::filesystem::path& path, const Bytes& bytes) {
  std::filesystem::create_directories(path.parent_path());
  test::write_file(path, bytes);
}

// Two tensors of one storage, one of them transposed, the other a parameter; protocol 4's opcodes.
Bytes views_pickle() {
  test::PickleWriter pickle;
  pickle.op("\x80\4").global("collections", "OrderedDict").op(")R\x94(").text("a");
  pickle.tensor("FloatStorage", "0", 6, 0, {3, 2}, {1, 3});
  pickle.text("b").global("torch._utils", "_rebuild_parameter");
  pickle.tensor("FloatStorage", "0", 6, 2, {4}, {1});
  pickle.op(
      "\x88\x8c\x0b"
      "collections\x8c\x0bOrderedDict\x93)R\x87Ru}");
  pickle.text("_metadata").op(std::string_view("h\0sb", 4));
  return pickle.finish();
}

// What a training checkpoint holds beside its weights: objects of every kind, protocol 5's opcodes,
// a tensor of an untyped storage, one of a subclass, one whose type nobody knows.
Bytes training_pickle() {
  test::PickleWriter pickle;
  pickle.op(std::string_view("\x80\5\x95\0\0\0\0\0\0\0\0", 11)).op("}(").text("args");
  pickle.global("argparse", "Namespace").op(")R}").text("lr");
  pickle.op(std::string_view("G\0\0\0\0\0\0\0\0sb", 11));
  pickle.text("rng").global("numpy._core.multiarray", "_reconstruct");
  pickle.global("numpy", "ndarray").op(std::string_view("(K\0tC\1b\x87R(K\1C\2xyNtb", 19));
  pickle.text("set").op("\x8f(K\1K\2\x90").text("frozen").op("(K\1\x91").text("list");
  pickle.op("](K\1NeK\2a").text("path").global("pathlib", "PosixPath").op("(").text("a");
  pickle.op("t\x81").text("ex").global("a", "B").op(")}\x92").text("inst").op("(K\1ia\nC\n");
  pickle.text("obj").op("(").global("a", "D").op("No").text("bytes");
  pickle.op(std::string_view("\x96\1\0\0\0\0\0\0\0x", 10)).text("ext").op("\x82\1");
  pickle.text("long")
      .op("\x8a\x09"
          "123456789")
      .text("pop")
      .op("N20(K\1"
          "1");
  pickle.text("optimizer").op("}(").text("exp_avg").op("}(").text("blocks.0.att.k_k");
  pickle.tensor("QInt8Storage", "9", 6, 0, {3}, {1}).op("uu").text("model").op("}(");
  pickle.text("module.blocks.0.att.k_k").tensor("ByteStorage", "0", 6, 0, {3}, {1});
  pickle.text("module.blocks.0.att.k_a").global("torch._tensor", "_rebuild_from_type_v2").op("(");
  pickle.global("torch._utils", "_rebuild_tensor_v3").global("torch.nn.parameter", "Parameter");
  pickle.op("((").text("storage").global("torch.storage", "UntypedStorage").text("0").text("cpu");
  pickle.number(6).op("tQ").number(2).tuple({3}).tuple({1}).op("\x89}");
  pickle.global("torch", "float8_e4m3fn").op("t}tR");
  pickle.text("other").global("torch", "Size").op("(K\1t\x85R").op("uu");
  return pickle.finish();
}

Bytes training_pth() {
  test::ZipWriter zip;
  zip.add("m/data.pkl", training_pickle());
  zip.add("m/data/0", Bytes(6));
  return zip.finish();
}

Bytes text_of(std::string_view text) { return test::Writer().text(text).bytes; }

Bytes views_pth() {
  test::ZipWriter zip;
  zip.add("m/data.pkl", views_pickle());
  zip.add("m/data/0", Bytes(24));
  zip.add("m/byteorder", test::Writer().text("little").bytes);
  return zip.finish();
}

Bytes gguf(const std::vector<test::SampleTensor>& model, DType type) {
  test::GgufWriter out = test::gguf_of(model, type, 2);
  out.number("general.alignment", 32);
  out.text("tokenizer.ggml.model", "rwkv");
  out.texts("tokenizer.ggml.tokens", {"<s>", "a", R"(\xff\n)", "[PAD3]"});
  out.numbers("tokenizer.ggml.token_type", {3, 1, 1, 5});
  return out.finish();
}

// Blocks of both sizes, as a matrix, transposed, and fused.
Bytes gguf_of_blocks() {
  test::GgufWriter out;
  out.text("general.architecture", "rwkv7");
  const auto put = [&](const char* name, const std::vector<std::size_t>& shape,
                       std::uint32_t number, DType type, std::size_t elements) {
    out.tensor(name, shape, number, test::encode(test::ramp(elements), type));
  };
  put("output.weight", {1, 256}, 12, DType::q4_k, 256);
  put("blk.0.channel_mix_key.weight", {1, 256}, 11, DType::q3_k, 256);
  put("blk.0.time_mix_w1.weight", {2, 32}, 8, DType::q8_0, 64);
  put("blk.0.time_mix_lerp_fused.weight", {6, 1, 1, 32}, 7, DType::q5_1, 192);
  return out.finish();
}

// What gguf-split makes of a model, behind the length of its first part.
Bytes gguf_parts() {
  test::GgufWriter parts[2];
  parts[0].text("general.architecture", "rwkv7");
  for (std::uint32_t k = 0; k < 2; ++k) {
    parts[k].number("split.no", k);
    parts[k].number("split.count", 2);
    parts[k].number("split.tensors.count", 2);
  }
  parts[0].tensor("output_norm.weight", {4}, 0, test::encode(test::ramp(4), DType::f32));
  parts[1].tensor("output.weight", {2, 2}, 0, test::encode(test::ramp(4), DType::f32));
  const Bytes first = parts[0].finish();
  return std::move(test::Writer()
                       .put(static_cast<std::uint16_t>(first.size()))
                       .raw(first)
                       .raw(parts[1].finish())
                       .bytes);
}

Bytes ggmf_of_blocks() {
  test::Writer out;
  out.text("fmgg").put<std::int32_t>(101).put<std::int32_t>(1).put<std::int32_t>(32);
  out.put<std::int32_t>(1).put<std::int32_t>(2);
  const auto put = [&](std::string_view name, std::int32_t rows, std::int32_t number, DType type) {
    out.put<std::int32_t>(2).put(static_cast<std::int32_t>(name.size())).put(number);
    out.put<std::int32_t>(32).put(rows).text(name);
    out.raw(test::encode(test::ramp(32 * static_cast<std::size_t>(rows)), type));
  };
  put("emb.weight", 1, 0, DType::f32);
  put("blocks.0.att.r_k", 1, 1, DType::f16);
  put("blocks.0.att.key.weight", 2, 2, DType::q4_0);
  put("blocks.0.att.w1", 2, 7, DType::q5_0);
  put("blocks.0.att.x_rwkvag", 6, 9, DType::q8_0);
  return out.bytes;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::puts("usage: make_seeds DIRECTORY");
    return 2;
  }
  const std::filesystem::path root(arguments[1]);
  const auto model = test::sample_model({.layers = 1,
                                         .embed = 2,
                                         .head_size = 2,
                                         .ffn = 2,
                                         .vocab = 4,
                                         .decay = 1,
                                         .icl = 1,
                                         .value = 1,
                                         .gate = 1});
  const std::vector<test::SampleTensor> few{model[0], model[3], model[5]};
  const std::vector<test::SampleTensor> state{{"blocks.0.att.time_state", {1, 1, 1}, {0.5f}}};
  const Bytes official =
      test::to_safetensors(model, DType::f16, {{"rwkv.eigenvalues", "standard"}});
  const Bytes fla = test::to_safetensors(test::with_fla_names(model, true), DType::bf16);
  const Bytes web = test::to_safetensors(test::with_web_rwkv_layout(model), DType::f16);
  const Bytes pth = test::to_pth(model, DType::bf16);
  const Bytes trained = test::to_pth(few, DType::f64, {.zip64 = false}, "state_dict");
  const Bytes gguf_f16 = gguf(model, DType::f16);
  const Bytes ggmf = test::to_ggmf(model, 1);

  write(root / "safetensors/official", official);
  write(root / "safetensors/few", test::to_safetensors(few));
  write(root / "safetensors/state", test::to_safetensors(state));
  write(root / "safetensors/empty", test::to_safetensors({}));
  write(root / "pth/model", pth);
  write(root / "pth/trained", trained);
  write(root / "pth/views", views_pth());
  write(root / "pth/training", training_pth());
  write(root / "pickle/views", views_pickle());
  write(root / "pickle/training", training_pickle());
  write(root / "model_config/transformers",
        text_of(R"({"architectures": ["RWKV7ForCausalLM"], "model_type": "rwkv7",
 "hidden_size": 8, "num_hidden_layers": 2, "head_dim": 4, "intermediate_size": 12, "vocab_size": 10,
 "norm_eps": 1e-05, "embedding_layer_norm_fused": false, "tie_word_embeddings": false,
 "use_deep_embed": false, "wkv_mode": "chunk", "bos_token_id": 0, "dtype": "bfloat16"})"));
  write(root / "model_config/fla",
        text_of(R"({"a_low_rank_dim": 2, "attn": null, "decay_low_rank_dim": 3, "fuse_norm": true,
 "gate_low_rank_dim": 7, "head_dim": 4, "hidden_act": "sqrelu", "hidden_ratio": 4.0, "norm_eps": 0.001,
 "num_heads": 2, "v_low_rank_dim": 5, "value_dim": [8, 8], "model_type": "rwkv7"})"));
  write(root / "model_config/other",
        text_of(R"({"model_type": "rwkv6", "attn": {"layers": [1, {}], "n": [[]]}, "x": -1})"));
  write(root / "gguf/f16", gguf_f16);
  write(root / "gguf/bf16", gguf(model, DType::bf16));
  write(root / "gguf/blocks", gguf_of_blocks());
  write(root / "gguf_parts/two", gguf_parts());
  const auto text = [&](const char* name, const char* content) {
    write(root / name, test::Writer().text(content).bytes);
  };
  text("shard_index/two", R"({"metadata":{"total_size":3},"weight_map":{"a":"x","b":"y"}})");
  text("tokenizer_json/small",
       R"({"version":"1.0","added_tokens":[{"id":0,"content":"<|rwkv_tokenizer_end_of_text|>",)"
       R"("special":true},{"id":6,"content":"<t>","special":false}],"normalizer":null,)"
       R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},)"
       R"("decoder":{"type":"ByteLevel"},"model":{"type":"WordLevel","unk_token":"a","vocab":)"
       R"({"<|rwkv_tokenizer_end_of_text|>":0,"a":1,"\u0120b":2,"\u00ff":3,)"
       R"("\ue000rwkv_reserved_7":7}}})");
  text("tokenizer_json/bpe",
       R"({"added_tokens":[],"normalizer":{"type":"NFC"},"model":{"type":"BPE","vocab":{"a":0},)"
       R"("merges":["a b"]}})");
  write(root / "ggmf/blocks", ggmf_of_blocks());
  write(root / "ggmf/f32", test::to_ggmf(model, 0));
  write(root / "ggmf/f16", ggmf);
  write(root / "checkpoint/official", official);
  write(root / "checkpoint/fla", fla);
  write(root / "checkpoint/web", web);
  write(root / "checkpoint/pth", pth);
  auto wrapped = test::with_rwkv_rs_names(model);
  for (auto& tensor : wrapped) tensor.name.insert(0, "module._orig_mod.");
  write(root / "checkpoint/wrapped", test::to_safetensors(wrapped, DType::f16));
  write(root / "checkpoint/linear",
        test::to_safetensors(test::with_linear_names(model, true), DType::f16));
  auto deep = model;
  const std::vector<float> of_deep{0.5f, -0.25f, 1, 0.125f, -1, 0.75f, 2, 0};
  const auto add_deep = [&](const std::string& name, std::vector<std::size_t> shape) {
    std::size_t size = 1;
    for (const std::size_t n : shape) size *= n;
    deep.push_back({"blocks.0.ffn." + name, shape, {of_deep.data(), of_deep.data() + size}});
  };
  add_deep("s_emb.weight", {4, 1});
  add_deep("s_emb_x.weight", {1, 2});
  add_deep("s1", {2, 1});
  add_deep("s2", {1, 2});
  add_deep("s0", {1, 1, 2});
  write(root / "checkpoint/deep_embed", test::to_safetensors(deep, DType::f16));
  write(root / "checkpoint/gguf", gguf_f16);
  write(root / "checkpoint/ggmf", ggmf);

  // Adapters, of the model that the target builds itself.
  const auto adapter = [](const std::string& settings, const std::vector<test::SampleTensor>& t) {
    test::Writer out;
    out.text(settings + "\n").raw(test::to_safetensors(t, DType::bf16));
    return out.bytes;
  };
  const std::vector<float> numbers(2 * 32, 0.5f);
  write(root / "adapter/lora",
        adapter(R"({"lora_alpha": 4, "use_rslora": true, "alpha_pattern": {"key": 8}})",
                {{"base_model.model.blocks.0.att.key.lora_A.weight", {2, 32}, numbers},
                 {"base_model.model.blocks.0.att.key.lora_B.weight", {32, 2}, numbers},
                 {"base_model.model.head.lora_embedding_A",
                  {2, 10},
                  {numbers.data(), numbers.data() + 20}},
                 {"base_model.model.head.lora_embedding_B", {32, 2}, numbers}}));
  write(root / "adapter/deep_embed",
        adapter("", {{"blocks.0.ffn.s_emb.lora_A", {2, 4}, {numbers.data(), numbers.data() + 8}},
                     {"blocks.0.ffn.s_emb.lora_B", {10, 2}, {numbers.data(), numbers.data() + 20}},
                     {"blocks.0.ffn.s_emb_x.weight", {4, 32}, std::vector<float>(128, 0.5f)}}));
  const std::vector<float> blocks(16 * 2 * 2, 0.25f);
  write(root / "adapter/miss",
        adapter("", {{"blocks.0.ffn.key.disha", {2, 32}, numbers},
                     {"blocks.0.ffn.value.bone", {16, 2, 2}, blocks},
                     {"blocks.0.att.value.miss_block.default", {16, 2, 2}, blocks},
                     {"blocks.0.att.output.init_lora_A", {2, 32}, numbers},
                     {"blocks.0.att.output.init_lora_B", {32, 2}, numbers},
                     {"blocks.0.ln1.weight", {32}, {numbers.data(), numbers.data() + 32}}}));
  return 0;
}
