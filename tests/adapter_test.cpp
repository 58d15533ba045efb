// SPDX-License-Identifier: Apache-2.0
// Adapters against dense merging in float64, under every name they come with, in matrices of floats
// and beside matrices of blocks.
#include "support/executors.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/adapter.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/memory.hpp>
#include <rwkv/model.hpp>
#include <rwkv/quant/quantise.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace {

using rwkv::Adapter;
using rwkv::DType;
using rwkv::ErrorCategory;
using rwkv::LoadOptions;
using rwkv::make_adapter;
using rwkv::io::Checkpoint;

using Numbers = std::vector<float>;
using Shape = std::vector<std::size_t>;

constexpr test::SampleSizes sizes{.layers = 2,
                                  .embed = 64,
                                  .head_size = 32,
                                  .ffn = 96,
                                  .vocab = 50,
                                  .decay = 8,
                                  .icl = 6,
                                  .value = 5,
                                  .gate = 7};

Numbers numbers(std::size_t n, unsigned seed, float scale = 0.1f) {
  std::mt19937 random(seed);
  Numbers out(n);
  for (float& x : out) x = scale * (static_cast<float>(random() % 2001) / 1000.0f - 1.0f);
  return out;
}

/// The sample model with numbers of the size that models have.
Checkpoint base_model() {
  Checkpoint c = test::sample_checkpoint(sizes);
  unsigned seed = 100;
  for (auto& [name, t] : c.tensors)
    if (t.shape.size() == 2 && name.ends_with(".weight"))
      test::replace(c, name, t.shape, numbers(t.size(), ++seed, 0.3f));
  return c;
}

void add(Checkpoint& c, const std::string& name, Shape shape, const Numbers& values) {
  test::replace(c, name, std::move(shape), values);
}

Checkpoint adapter_file() {
  Checkpoint c;
  c.source = "adapter";
  return c;
}

constexpr std::size_t rank = 4;

/// W += factor B A, in float64.
void merge(Checkpoint& model, const std::string& name, const Numbers& b, const Numbers& a,
           double factor, std::size_t r = rank) {
  const auto& t = model.get(name);
  const std::size_t in = t.shape[1];
  auto w = t.values<double>();
  for (std::size_t o = 0; o < t.shape[0]; ++o)
    for (std::size_t i = 0; i < in; ++i)
      for (std::size_t k = 0; k < r; ++k)
        w[o * in + i] += factor * double{b[o * r + k]} * double{a[k * in + i]};
  test::replace(model, name, t.shape, w);
}

Numbers logits(const Checkpoint& c, const LoadOptions& options = {}, rwkv::ExecutorRef exec = {},
               bool token_by_token = false) {
  const rwkv::Model<> model(c, options, exec);
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape());
  const std::vector<rwkv::Token> tokens{1, 7, 33, 3, 49, 12, 12, 40};
  std::span<const float> last;
  if (token_by_token)
    for (const rwkv::Token token : tokens) last = model.forward(state, {&token, 1}, work, exec);
  else
    last = model.forward(state, tokens, work, exec);
  return {last.begin(), last.end()};
}

LoadOptions with(std::vector<Adapter> adapters) {
  LoadOptions options;
  options.adapters = std::move(adapters);
  return options;
}

double distance(const Numbers& a, const Numbers& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    largest = std::max(largest, std::abs(double{a[i]} - b[i]));
  return largest;
}

/// A LoRA of key and output in block 1 and of the channel mix of block 0.
struct Lora {
  Checkpoint file = adapter_file();
  Checkpoint merged = base_model();

  explicit Lora(double factor,
                const std::function<void(Checkpoint&, const std::string&, const Numbers&,
                                         const Numbers&, Shape, Shape)>& write) {
    unsigned seed = 7;
    for (const char* name : {"blocks.1.att.key", "blocks.1.att.output", "blocks.0.ffn.key",
                             "blocks.0.ffn.value", "head"}) {
      const Shape w = merged.get(std::string(name) + ".weight").shape;
      const Numbers a = numbers(rank * w[1], ++seed);
      const Numbers b = numbers(w[0] * rank, ++seed);
      merge(merged, std::string(name) + ".weight", b, a, factor);
      write(file, name, a, b, {rank, w[1]}, {w[0], rank});
    }
  }
};

void write_official(Checkpoint& c, const std::string& module, const Numbers& a, const Numbers& b,
                    Shape sa, Shape sb) {
  add(c, module + ".lora_A", std::move(sa), a);
  add(c, module + ".lora_B", std::move(sb), b);
}

Checkpoint quantised(const Checkpoint& model, DType type) {
  Checkpoint c = model;
  rwkv::Serial serial;
  for (auto& [name, t] : c.tensors) {
    if (t.shape.size() != 2 || !name.starts_with("blocks.") || !name.ends_with(".weight")) continue;
    auto blocks = std::make_shared<std::vector<std::byte>>(
        rwkv::quant::quantise(t.values<float>(), t.shape[0], t.shape[1], type, {}, serial));
    t.dtype = type;
    t.bytes = *blocks;
    c.storage.push_back(std::move(blocks));
  }
  return c;
}

/// The message of the refusal.
std::string refusal(const Checkpoint& model, std::vector<Adapter> adapters,
                    ErrorCategory category) {
  try {
    const rwkv::io::StoredWeights weights(model, with(std::move(adapters)));
  } catch (const rwkv::Error& e) {
    CHECK(e.category() == category);
    return e.what();
  }
  return "nothing was refused";
}

bool mentions(const std::string& text, const std::string& part) {
  CAPTURE(text);
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a LoRA is W + f B A, whatever its tensors are called") {
  const Checkpoint base = base_model();
  const Numbers plain = logits(base);
  constexpr double factor = 1.7;
  const auto check = [&](const Lora& lora, float scale = 1.7f) {
    const Numbers right = logits(lora.merged);
    CHECK(distance(right, plain) > 0.05);
    CHECK(distance(logits(base, with({make_adapter(lora.file, scale)})), right) < 1e-4);
  };
  SUBCASE("RWKV-PEFT") { check(Lora(factor, write_official)); }
  SUBCASE("Hugging Face, official modules behind a wrapper") {
    check(Lora(factor, [](auto& c, auto& module, auto& a, auto& b, auto sa, auto sb) {
      add(c, "base_model.model.rwkv7." + module + ".lora_A.weight", sa, a);
      add(c, "base_model.model.rwkv7." + module + ".lora_B.weight", sb, b);
    }));
  }
  SUBCASE("Hugging Face, named adapters of fla's modules") {
    check(Lora(factor, [](auto& c, const std::string& module, auto& a, auto& b, auto sa, auto sb) {
      std::string fla = module == "head" ? "lm_head" : "model.layers." + module.substr(7);
      for (const auto& [from, to] :
           {std::pair("att.key", "attn.k_proj"), std::pair("att.output", "attn.o_proj")})
        if (const auto at = fla.find(from); at != std::string::npos)
          fla.replace(at, std::string_view(from).size(), to);
      add(c, "base_model.model." + fla + ".lora_A.default.weight", sa, a);
      add(c, "base_model.model." + fla + ".lora_B.default.weight", sb, b);
    }));
  }
  SUBCASE("this library's training: alpha is in the metadata") {
    Lora lora(factor, write_official);
    lora.file.metadata["rwkv.lora_alpha"] = "6.8";
    check(lora, 1.0f);
  }
  SUBCASE("an alpha beside every pair") {
    Lora lora(factor, write_official);
    for (const char* name : {"blocks.1.att.key", "blocks.1.att.output", "blocks.0.ffn.key",
                             "blocks.0.ffn.value", "head"})
      add(lora.file, std::string(name) + ".alpha", {}, {6.8f});
    check(lora, 1.0f);
  }
  SUBCASE("an alpha that is an integer, and factors with dimensions of 1 around them") {
    Lora lora(4.0, [](auto& c, auto& module, auto& a, auto& b, auto sa, auto sb) {
      sa.insert(sa.end(), {1, 1});
      sb.insert(sb.end(), {1, 1});
      write_official(c, module, a, b, sa, sb);
    });
    auto sixteen = std::make_shared<const std::int64_t>(16);
    for (const char* name : {"blocks.1.att.key", "blocks.1.att.output", "blocks.0.ffn.key",
                             "blocks.0.ffn.value", "head"})
      lora.file.tensors[std::string(name) + ".alpha"] = {
          DType::i64, {}, {}, std::as_bytes(std::span(sixteen.get(), 1))};
    lora.file.storage.push_back(std::move(sixteen));
    check(lora, 1.0f);
  }
  SUBCASE("PEFT's settings: alpha, its patterns, and the stabilised root") {
    Lora lora(factor, write_official);
    lora.file.metadata = {{"peft.lora_alpha", "6.8"}, {"peft.use_rslora", "false"}};
    check(lora, 1.0f);
    lora.file.metadata = {{"peft.lora_alpha", "3.4"}, {"peft.use_rslora", "true"}};
    check(lora, 1.0f);
    lora.file.metadata = {{"peft.lora_alpha", "99"},
                          {"peft.alpha_pattern.key", "6.8"},
                          {"peft.alpha_pattern.blocks.0.ffn.value", "6.8"},
                          {"peft.alpha_pattern.output", "6.8"},
                          {"peft.alpha_pattern.head", "6.8"}};
    check(lora, 1.0f);
    lora.file.metadata["peft.alpha_pattern.ffn.key"] = "6.8";
    check(lora, 1.0f);
    lora.file.metadata["peft.alpha_pattern.ffn.key"] = "3";
    CHECK(mentions(refusal(base, {make_adapter(lora.file)}, ErrorCategory::format),
                   "blocks.0.ffn.key.lora_A\" has several alphas"));
  }
}

TEST_CASE("low-rank maps and the table can be adapted") {
  Checkpoint merged = base_model();
  Checkpoint file = adapter_file();
  const Numbers a = numbers(rank * 64, 1);
  const Numbers b = numbers(8 * rank, 2);
  // fla holds w1 as a layer [rank of the decay, channels], the official file as its transpose.
  add(file, "model.layers.1.attn.w_lora.lora.0.lora_A.weight", {rank, 64}, a);
  add(file, "model.layers.1.attn.w_lora.lora.0.lora_B.weight", {8, rank}, b);
  auto& w1 = merged.tensors["blocks.1.att.w1"];
  w1 = w1.transposed();
  merge(merged, "blocks.1.att.w1", b, a, 1.0);
  merged.tensors["blocks.1.att.w1"] = merged.tensors["blocks.1.att.w1"].transposed();
  // The table is [V, C]; PEFT's factors make its transpose.
  const Numbers ea = numbers(rank * 50, 3);
  const Numbers eb = numbers(64 * rank, 4);
  add(file, "model.embeddings.lora_embedding_A", {rank, 50}, ea);
  add(file, "model.embeddings.lora_embedding_B", {64, rank}, eb);
  merged.tensors["emb.weight"] = merged.tensors["emb.weight"].transposed();
  merge(merged, "emb.weight", eb, ea, 1.0);
  merged.tensors["emb.weight"] = merged.tensors["emb.weight"].transposed();
  const Checkpoint base = base_model();
  const Numbers got = logits(base, with({make_adapter(file)}));
  CHECK(distance(got, logits(base)) > 1e-3);
  CHECK(distance(got, logits(merged)) < 1e-4);
}

TEST_CASE("low-rank maps are adapted and replaced as they are stored too, if the shapes say so") {
  const Checkpoint base = base_model();
  Checkpoint merged = base;
  Checkpoint file = adapter_file();
  const Numbers a = numbers(rank * 8, 1);
  const Numbers b = numbers(64 * rank, 2);
  write_official(file, "blocks.1.att.w1", a, b, {rank, 8}, {64, rank});
  merge(merged, "blocks.1.att.w1", b, a, 1.0);
  const Numbers g1 = numbers(64 * 7, 3);
  add(file, "blocks.0.att.g1", {7, 64}, g1);  // as nn.Linear has it
  add(merged, "blocks.0.att.g1", {7, 64}, g1);
  auto& turned = merged.tensors["blocks.0.att.g1"];
  turned = turned.transposed();
  add(file, "best_loss", {}, {0.5f});  // what training noted down
  const Numbers got = logits(base, with({make_adapter(file)}));
  CHECK(distance(got, logits(base)) > 1e-3);
  CHECK(distance(got, logits(merged)) < 1e-4);
}

TEST_CASE("the factors of a LoRA of rank 1 may have one dimension") {
  const Checkpoint base = base_model();
  Checkpoint merged = base;
  Checkpoint file = adapter_file();
  const Numbers a = numbers(64, 1);
  const Numbers b = numbers(96, 2);
  write_official(file, "blocks.0.ffn.key", a, b, {64}, {96});
  file.metadata["rwkv.lora_alpha"] = "3";
  merge(merged, "blocks.0.ffn.key.weight", b, a, 3.0, 1);
  CHECK(distance(logits(base, with({make_adapter(file)})), logits(merged)) < 1e-4);
}

TEST_CASE("several adapters add up, each with its scale; PiSSA takes out what it began with") {
  const Checkpoint base = base_model();
  Checkpoint merged = base_model();
  const std::string name = "blocks.0.att.value";
  std::vector<Adapter> adapters;
  for (const auto& [seed, scale] :
       {std::pair(1u, 0.5f), std::pair(2u, -2.0f), std::pair(3u, 0.0f)}) {
    const Numbers a = numbers(rank * 64, seed);
    const Numbers b = numbers(64 * rank, seed + 10);
    Checkpoint file = adapter_file();
    write_official(file, name, a, b, {rank, 64}, {64, rank});
    adapters.push_back(make_adapter(file, scale));
    merge(merged, name + ".weight", b, a, scale);
  }
  Checkpoint initial = adapter_file();
  const Numbers a0 = numbers(rank * 64, 21);
  const Numbers b0 = numbers(64 * rank, 22);
  add(initial, "model." + name + ".init_lora_A", {rank, 64}, a0);
  add(initial, "model." + name + ".init_lora_B", {64, rank}, b0);
  adapters.push_back(make_adapter(initial));
  merge(merged, name + ".weight", b0, a0, -1.0);
  CHECK(distance(logits(base, with(adapters)), logits(merged)) < 1e-4);
  SUBCASE("and the order of the pieces changes no bits for another executor or cut") {
    test::Backwards backwards(3);
    CHECK(logits(base, with(adapters), backwards) == logits(base, with(adapters)));
  }
}

TEST_CASE("MiSS adds a row of numbers to every r-th input, also where r does not divide them") {
  for (const std::size_t r : {std::size_t{8}, std::size_t{10}}) {
    const Checkpoint base = base_model();
    Checkpoint merged = base_model();
    Checkpoint file = adapter_file();
    const Numbers d = numbers(r * 96, 5);
    auto w = merged.get("blocks.1.ffn.key.weight").values<double>();
    for (std::size_t o = 0; o < 96; ++o)
      for (std::size_t i = 0; i < 64; ++i) w[o * 64 + i] += 0.75 * double{d[i % r * 96 + o]};
    test::replace(merged, "blocks.1.ffn.key.weight", {96, 64}, w);
    for (const char* word : {"disha", "bone", "miss_block", "bone_block.default"}) {
      CAPTURE(word);
      file.tensors.clear();
      add(file, std::string("blocks.1.ffn.key.") + word, {r, 96}, d);
      CHECK(distance(logits(base, with({make_adapter(file, 0.75f)})), logits(merged)) < 1e-4);
    }
    const Checkpoint coded = quantised(base, DType::q8_0);
    Checkpoint dense = coded;  // what the blocks mean, merged
    auto v = coded.get("blocks.1.ffn.key.weight").values<double>();
    for (std::size_t o = 0; o < 96; ++o)
      for (std::size_t i = 0; i < 64; ++i) v[o * 64 + i] += 0.75 * double{d[i % r * 96 + o]};
    test::replace(dense, "blocks.1.ffn.key.weight", {96, 64}, v);
    LoadOptions beside = with({make_adapter(file, 0.75f)});
    beside.inputs = rwkv::kernels::Inputs::exact;
    LoadOptions exact;
    exact.inputs = rwkv::kernels::Inputs::exact;
    CHECK(distance(logits(coded, beside), logits(dense, exact)) < 1e-4);
  }
}

TEST_CASE("Bat multiplies blocks of the matrix") {
  constexpr std::size_t r = 16;
  const Checkpoint base = base_model();
  const auto w = base.get("blocks.1.ffn.key.weight").values<double>();  // [96, 64]
  const auto merged_by = [&](const Numbers& d, bool by_output) {
    Checkpoint merged = base_model();
    auto sum = w;
    for (std::size_t o = 0; o < 96; ++o)
      for (std::size_t i = 0; i < 64; ++i) {
        const float* m = d.data() + (by_output ? o / r : i / r) * r * r;
        double change = double{m[o % r * r + i % r]};
        for (std::size_t k = 0; k < r; ++k)
          change += w[o * 64 + i / r * r + k] * double{m[k * r + i % r]};
        sum[o * 64 + i] += 0.5 * change;
      }
    test::replace(merged, "blocks.1.ffn.key.weight", {96, 64}, sum);
    return logits(merged);
  };
  Checkpoint file = adapter_file();
  const Numbers by_input = numbers(64 / r * r * r, 6);
  add(file, "blocks.1.ffn.key.disha", {64 / r, r, r}, by_input);
  CHECK(distance(logits(base, with({make_adapter(file, 0.5f)})), merged_by(by_input, false)) <
        1e-4);
  CHECK(mentions(
      refusal(quantised(base, DType::q8_0), {make_adapter(file)}, ErrorCategory::unsupported),
      "blocks.1.ffn.key.weight"));
  const Numbers by_output = numbers(96 / r * r * r, 7);
  file = adapter_file();
  add(file, "base_model.model.blocks.1.ffn.key.miss_block.default", {96 / r, r, r}, by_output);
  CHECK(distance(logits(base, with({make_adapter(file, 0.5f)})), merged_by(by_output, true)) <
        1e-4);
}

TEST_CASE("whole tensors replace the model's, or move towards themselves") {
  const Checkpoint base = base_model();
  Checkpoint file = adapter_file();
  const Numbers a = numbers(rank * 64, 1);
  const Numbers b = numbers(64 * rank, 2);
  write_official(file, "blocks.0.att.key", a, b, {rank, 64}, {64, rank});
  const Numbers norm = numbers(64, 3, 1.0f);
  const Numbers mu = numbers(64, 4, 1.0f);
  const Numbers head = numbers(50 * 64, 5);
  add(file, "blocks.1.ln2.weight", {64}, norm);
  add(file, "base_model.model.blocks.0.att.x_k", {64}, mu);
  add(file, "base_model.model.head.modules_to_save.style.weight", {50, 64}, head);
  add(file, "base_model.model.head.original_module.weight", {50, 64}, numbers(50 * 64, 6));
  for (const float scale : {1.0f, 0.25f}) {
    Checkpoint merged = base_model();
    merge(merged, "blocks.0.att.key.weight", b, a, double{scale});
    for (const auto& [name, values] :
         {std::pair("blocks.1.ln2.weight", norm), std::pair("blocks.0.att.x_k", mu),
          std::pair("head.weight", head)}) {
      auto now = merged.get(name).values<double>();
      for (std::size_t i = 0; i < now.size(); ++i)
        now[i] += double{scale} * (double{values[i]} - now[i]);
      test::replace(merged, name, merged.get(name).shape, now);
    }
    CHECK(distance(logits(base, with({make_adapter(file, scale)})), logits(merged)) < 1e-4);
  }
}

TEST_CASE("beside blocks an adapter stays as it is") {
  const Checkpoint base = base_model();
  const Lora lora(1.0, write_official);
  LoadOptions exact;
  exact.inputs = rwkv::kernels::Inputs::exact;
  for (const DType type : {DType::q8_0, DType::q4_0}) {
    CAPTURE(rwkv::name_of(type));
    const Checkpoint coded = quantised(base, type);
    Checkpoint dense = coded;  // what the blocks mean, with the change merged in float64
    for (const auto& [name, t] : lora.merged.tensors) {
      if (lora.file.find(name.substr(0, name.rfind('.')) + ".lora_A") == nullptr) continue;
      const auto was = base.get(name).values<double>();
      const auto now = t.values<double>();
      auto v = coded.get(name).values<double>();
      for (std::size_t i = 0; i < v.size(); ++i) v[i] += now[i] - was[i];
      test::replace(dense, name, t.shape, v);
    }
    LoadOptions options = with({make_adapter(lora.file)});
    options.inputs = exact.inputs;
    const Numbers got = logits(coded, options);
    CHECK(distance(got, logits(coded, exact)) > 0.01);
    CHECK(distance(got, logits(dense, exact)) < 1e-4);
    options.inputs = rwkv::kernels::Inputs::rounded;
    const Numbers rounded = logits(coded, options);
    test::Backwards backwards(5);
    CHECK(logits(coded, options, backwards) == rounded);
    CHECK(logits(coded, options, {}, true) == rounded);
    const rwkv::io::StoredWeights weights(coded, options);
    CHECK(rwkv::memory_needed(coded, options).weights == weights.bytes());
    options.matrix_type = DType::f32;  // as floats they take it up
    CHECK(distance(logits(coded, options), got) < 1e-4);
  }
}

TEST_CASE("ranks that the workspace has no room for are refused") {
  Checkpoint file = adapter_file();
  constexpr std::size_t most = 64;
  write_official(file, "blocks.1.att.output", numbers((most + 1) * 64, 1),
                 numbers(64 * (most + 1), 2), {most + 1, 64}, {64, most + 1});
  const Checkpoint coded = quantised(base_model(), DType::q8_0);
  CHECK(mentions(refusal(coded, {make_adapter(file)}, ErrorCategory::unsupported),
                 "a rank of 65 together, and 64 is the most"));
  LoadOptions floats = with({make_adapter(file)});
  floats.matrix_type = DType::f32;
  CHECK_NOTHROW(rwkv::io::StoredWeights(coded, floats));
}

TEST_CASE("a conversion takes adapters up") {
  const test::TemporaryDirectory folder;
  const Checkpoint base = base_model();
  Lora lora(1.0, write_official);
  add(lora.file, "blocks.1.ln2.weight", {64}, numbers(64, 3, 1.0f));
  add(lora.file, "blocks.0.att.x_k", {64}, numbers(64, 4, 1.0f));
  const Numbers right = logits(base, with({make_adapter(lora.file)}));
  for (const char* name : {"out.gguf", "out.safetensors"}) {
    rwkv::ConvertOptions options;
    options.type = DType::f32;
    options.format =
        std::string(name) == "out.gguf" ? rwkv::FileFormat::gguf : rwkv::FileFormat::safetensors;
    options.adapters = {make_adapter(lora.file)};
    rwkv::convert(base, folder.path() / name, options);
    CHECK(logits(rwkv::io::read_checkpoint(folder.path() / name)) == right);
  }
  CHECK(logits(rwkv::with_adapters(base, std::vector{make_adapter(lora.file)})) == right);
}

TEST_CASE("a folder of Hugging Face PEFT is an adapter") {
  const test::TemporaryDirectory folder;
  const Lora lora(0.5, [](auto& c, auto& module, auto& a, auto& b, auto sa, auto sb) {
    add(c, "base_model.model." + module + ".lora_A.weight", sa, a);
    add(c, "base_model.model." + module + ".lora_B.weight", sb, b);
  });
  std::vector<rwkv::io::NamedTensor> tensors;
  for (const auto& [name, t] : lora.file.tensors)
    tensors.push_back(rwkv::io::named_tensor<float>(
        name, t.shape, {reinterpret_cast<const float*>(t.bytes.data()), t.size()}));
  rwkv::io::write_safetensors(folder.path() / "adapter_model.safetensors", tensors, {});
  const auto configure = [&](const std::string& text) {
    std::ofstream(folder.path() / "adapter_config.json") << text;
  };
  configure(R"({"peft_type": "LORA", "r": 4, "lora_alpha": 2, "use_dora": false,
                "init_lora_weights": true, "target_modules": ["key", {"a": 1}], "bias": "none",
                "rank_pattern": {}, "alpha_pattern": {}, "task_type": null})");
  const Checkpoint base = base_model();
  for (const auto& path : {folder.path(), folder.path() / "adapter_model.safetensors"})
    CHECK(distance(logits(base, with({rwkv::read_adapter(path)})), logits(lora.merged)) < 1e-4);
  const auto refused = [&](const std::string& text, const std::string& part) {
    configure(text);
    std::string message;
    try {
      message = refusal(base, {rwkv::read_adapter(folder.path())}, ErrorCategory::unsupported);
    } catch (const rwkv::Error& e) {
      message = e.what();
    }
    return mentions(message, part);
  };
  CHECK(refused(R"({"use_dora": true})", "DoRA"));
  CHECK(refused(R"({"peft_type": "IA3"})", "IA3"));
  CHECK(refused(R"({"init_lora_weights": "pissa_niter_4"})", "pissa_niter_4"));
  CHECK(refused(R"({"fan_in_fan_out": true})", "fan_in_fan_out"));
  CHECK(refused(R"({"alpha_pattern": {"blocks.[01].att": 2}})", "regular expression"));
  CHECK(refused("[1]", "adapter_config.json"));
  CHECK(refused("{\"lora_alpha\": ", "adapter_config.json"));
  CHECK_THROWS_WITH_AS((void)rwkv::read_adapter(folder.path() / "no"), doctest::Contains("no"),
                       rwkv::Error);
}

TEST_CASE("what is no adapter, or not this model's, is refused by name") {
  const Checkpoint base = base_model();
  const auto one = [&](const std::string& name, Shape shape, ErrorCategory category) {
    Checkpoint file = adapter_file();
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    add(file, name, std::move(shape), numbers(n, 1));
    return refusal(base, {make_adapter(file)}, category);
  };
  CHECK(mentions(one("blocks.0.att.key.lora_A", {4, 64}, ErrorCategory::format),
                 "other half (lora_B)"));
  CHECK(mentions(one("blocks.0.att.key.lora_magnitude_vector", {64}, ErrorCategory::unsupported),
                 "DoRA"));
  CHECK(mentions(one("blocks.0.att.key.hada_w1_a", {64, 4}, ErrorCategory::unsupported), "LoHa"));
  CHECK(mentions(one("blocks.0.att.key.lora_B.bias", {64}, ErrorCategory::unsupported), "biases"));
  CHECK(mentions(one("blocks.0.att.key.weight", {64, 64}, ErrorCategory::format),
                 "this is no adapter"));
  CHECK(
      mentions(one("blocks.7.att.key.disha", {8, 64}, ErrorCategory::format), "blocks.7.att.key"));
  CHECK(mentions(one("blocks.0.att.key.disha", {8, 60}, ErrorCategory::shape), "[8, 60]"));
  CHECK(mentions(one("blocks.0.att.key.bone", {64, 8, 8}, ErrorCategory::shape), "[64, 8, 8]"));
  CHECK(mentions(one("blocks.0.att.key.alpha", {}, ErrorCategory::format), "alpha"));
  CHECK(mentions(one("self_attn.q_proj.lora_A", {8, 64}, ErrorCategory::format), "q_proj"));

  Lora lora(1.0, write_official);
  CHECK(mentions(refusal(base, {make_adapter(lora.file, NAN)}, ErrorCategory::argument), "scale"));
  CHECK(mentions(refusal(base, {Adapter{lora.file}}, ErrorCategory::argument), "make_adapter"));
  Checkpoint bad = lora.file;
  add(bad, "blocks.9.ln1.weight", {64}, numbers(64, 1));
  CHECK(mentions(refusal(base, {make_adapter(bad)}, ErrorCategory::format), "blocks.9.ln1"));
  bad = lora.file;
  add(bad, "head.lora_A", {4, 63}, numbers(252, 1));
  CHECK(mentions(refusal(base, {make_adapter(bad)}, ErrorCategory::shape), "[4, 63]"));
  bad = lora.file;
  auto infinite = numbers(4 * 64, 1);
  infinite[9] = INFINITY;
  add(bad, "head.lora_A", {4, 64}, infinite);
  CHECK(mentions(refusal(base, {make_adapter(bad)}, ErrorCategory::numeric), "head.weight"));
}
