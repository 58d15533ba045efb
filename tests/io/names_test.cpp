// SPDX-License-Identifier: Apache-2.0
#include "../support/format_writers.hpp"
#include <rwkv/io/names.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::Error;
using rwkv::io::Checkpoint;
using rwkv::io::to_official_names;
using test::SampleTensor;

namespace {

// A model whose tensors live in `bytes`.
struct Stored {
  test::Bytes bytes;
  Checkpoint checkpoint;

  explicit Stored(const std::vector<SampleTensor>& model)
      : bytes(test::to_safetensors(model)),
        checkpoint(to_official_names(rwkv::io::read_safetensors(bytes, "file"))) {}
};

SampleTensor tensor(const std::string& name, std::vector<std::size_t> shape) {
  SampleTensor out{name, std::move(shape), {}};
  std::size_t count = 1;
  for (const std::size_t d : out.shape) count *= d;
  for (std::size_t i = 0; i < count; ++i) out.values.push_back(static_cast<float>(i));
  return out;
}

std::vector<SampleTensor> renamed(std::vector<SampleTensor> model, const std::string& prefix) {
  for (SampleTensor& t : model) t.name = prefix + t.name;
  return model;
}

}  // namespace

TEST_CASE("official names stay, and vectors get their official shape") {
  const auto model = test::sample_model();
  CHECK(test::difference(Stored(model).checkpoint, model) == "");
  auto flat = model;
  for (SampleTensor& t : flat)
    if (t.shape.size() == 3) t.shape = {t.shape[2]};
  CHECK(test::difference(Stored(flat).checkpoint, model) == "");
}

TEST_CASE("the names of fla") {
  const auto model = test::sample_model();
  for (const bool fused : {false, true})
    for (const char* prefix : {"model.", ""})
      CHECK(test::difference(Stored(test::with_fla_names(model, fused, prefix)).checkpoint,
                             model) == "");
  auto with_attention = test::with_fla_names(model, false);
  with_attention.push_back(tensor("model.layers.1.attn.q_proj.weight", {1}));
  CHECK_THROWS_WITH_AS(Stored{with_attention}, doctest::Contains("q_proj.weight\" is not part of"),
                       Error);
  for (const char* name :
       {"model.layers.x.attn.k_k", "model.layers.0", "model.layers.0.attn.x_q",
        "model.layers.0.attn.q_lora.lora.0.weight_", "model.layers.0.attn.w_lora.lora.1.weight"}) {
    auto strange = test::with_fla_names(model, false);
    strange.push_back(tensor(name, {1}));
    CHECK_THROWS_AS(Stored{strange}, Error);
  }
}

TEST_CASE("fla's low-rank matrices are no copies") {
  const Stored stored(test::with_fla_names(test::sample_model(), false));
  const auto& w1 = stored.checkpoint.get("blocks.1.att.w1");
  CHECK(!w1.contiguous());
  CHECK(w1.bytes.data() >= stored.bytes.data());
  CHECK(w1.bytes.data() < stored.bytes.data() + stored.bytes.size());
}

TEST_CASE("web-rwkv's transposed matrices are recognised by their shape") {
  auto model = test::sample_model();
  model.push_back(tensor("blocks.0.att.time_state", {2, 4, 4}));
  CHECK(test::difference(Stored(test::with_web_rwkv_layout(model)).checkpoint, model) == "");

  SUBCASE("also when some ranks equal the width") {
    const auto square = test::sample_model({.decay = 8, .icl = 8, .value = 8});
    CHECK(test::difference(Stored(test::with_web_rwkv_layout(square)).checkpoint, square) == "");
  }
  SUBCASE("when all do, the file counts as official") {
    const auto square = test::sample_model({.decay = 8, .icl = 8, .value = 8, .gate = 8});
    CHECK(test::difference(Stored(square).checkpoint, square) == "");
  }
  SUBCASE("a mixture is refused") {
    auto mixed = model;
    for (SampleTensor& t : mixed)
      if (t.name == "blocks.1.att.g2") t = test::transposed(t);
    CHECK_THROWS_WITH_AS(Stored{mixed}, doctest::Contains("\"blocks.1.att.g2\" is transposed, but"),
                         Error);
  }
}

TEST_CASE("web-rwkv's adapters get the names and orientation of lora_A and lora_B") {
  const auto a = tensor("blocks.0.att.key.weight.lora_A", {2, 8});
  const auto b = tensor("blocks.0.att.key.weight.lora_B", {8, 2});
  auto stored_a = test::transposed(a);
  stored_a.name = "blocks.0.att.key.weight.lora.0";
  auto stored_b = b;
  stored_b.name = "blocks.0.att.key.weight.lora.1";
  CHECK(test::difference(Stored({stored_a, stored_b}).checkpoint, {a, b}) == "");
}

TEST_CASE("wrappers around the names are removed") {
  const auto model = test::sample_model();
  for (const char* prefix : {"model.", "module.", "_orig_mod.", "_forward_module.",
                             "_forward_module.model.", "_forward_module.module._orig_mod.model."})
    CHECK(test::difference(Stored(renamed(model, prefix)).checkpoint, model) == "");
}

TEST_CASE("the RWKV-7 part of a hybrid model gets official names") {
  auto expected = test::sample_model();
  auto file = renamed(expected, "rwkv.");
  for (auto* model : {&expected, &file}) {
    model->push_back(tensor("moba.0.att.key.weight", {8, 8}));
    model->push_back(tensor("moba.0.ffn.x_k", {1, 1, 8}));
  }
  for (const char* wrapper : {"", "module.", "_forward_module.model."})
    CHECK(test::difference(Stored(renamed(file, wrapper)).checkpoint, expected) == "");
  file.push_back(tensor("emb.weight", {10, 8}));
  CHECK_THROWS_WITH_AS(Stored{file}, doctest::Contains("\"emb.weight\" occurs twice"), Error);
}

TEST_CASE("states and everything else pass through") {
  const std::vector<std::vector<SampleTensor>> files{
      {tensor("blocks.0.att.time_state", {2, 4, 4}), tensor("blocks.1.att.time_state", {2, 4, 4})},
      {tensor("blocks.0.att.x_prev", {8}), tensor("moba.0.k_cache", {5, 8}),
       tensor("moba.0.v_cache", {5, 8}), tensor("moba.0.ffn.x_prev", {8})},
      {tensor("grad.blocks.0.att.x_r", {8}), tensor("loss", {}), tensor("step", {1})},
      {tensor("blocks.0.att.x_prev", {8}), tensor("blocks.0.att.wkv", {2, 4, 4})},
      {tensor("blocks.x.att.x_r", {8}), tensor("blocks..att.x_r", {8}), tensor("blocks.", {8}),
       tensor("blocks.0", {8}), tensor("model.x", {8}), tensor("", {8})},
  };
  for (const auto& file : files) CHECK(test::difference(Stored(file).checkpoint, file) == "");
}

TEST_CASE("names that collide are refused") {
  CHECK_THROWS_WITH_AS(
      Stored({tensor("blocks.0.lora.0", {2, 2}), tensor("blocks.0.lora_A", {2, 2})}),
      doctest::Contains("occurs twice"), Error);
  auto both = test::with_fla_names(test::sample_model(), true);
  both.push_back(tensor("model.layers.0.attn.x_r", {8}));
  CHECK_THROWS_WITH_AS(Stored{both}, doctest::Contains("\"blocks.0.att.x_r\" occurs twice"), Error);
  CHECK_THROWS_WITH_AS(Stored({tensor("blocks.0.x.lora.0", {2})}), doctest::Contains("no matrix"),
                       Error);
}
