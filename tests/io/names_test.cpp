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
  CHECK(test::difference(Stored(renamed({stored_a, stored_b}, "model.")).checkpoint,
                         renamed({a, b}, "model.")) == "");
}

namespace {

// What stands before names, in the wild and not.
const char* const prefixes[] = {"model.",
                                "module.",
                                "_orig_mod.",
                                "_forward_module.",
                                "_forward_module.model.",
                                "_forward_module.module._orig_mod.model.",
                                "rwkv7.",
                                "module.rwkv7.",
                                "base_model.model.",
                                "_fsdp_wrapped_module.",
                                "module._orig_mod.",
                                "backbone.",
                                "nobody.has.ever_seen.this.",
                                "layers.3.of.",
                                "blocks.1.of."};

SampleTensor* find_in(std::vector<SampleTensor>& model, const std::string& name) {
  for (SampleTensor& t : model)
    if (t.name == name) return &t;
  return nullptr;
}

}  // namespace

TEST_CASE("wrappers around the names are removed, known or not, also without the head's") {
  const auto model = test::sample_model();
  for (const std::string prefix : prefixes) {
    CAPTURE(prefix);
    CHECK(test::difference(Stored(renamed(model, prefix)).checkpoint, model) == "");
    for (const char* fewer : {"", "module.", "other."})
      for (const char* outside : {"head.weight", "emb.weight"}) {
        auto file = renamed(model, prefix);
        find_in(file, prefix + outside)->name = std::string(fewer) + outside;
        CHECK(test::difference(Stored(file).checkpoint, model) == "");
      }
    for (const bool fused : {false, true}) {
      auto fla = renamed(test::with_fla_names(model, fused, "model."), prefix);
      CHECK(test::difference(Stored(fla).checkpoint, model) == "");
      find_in(fla, prefix + "lm_head.weight")->name = "lm_head.weight";
      CHECK(test::difference(Stored(fla).checkpoint, model) == "");
    }
  }
  auto bare = model;
  find_in(bare, "head.weight")->name = "_orig_mod.head.weight";
  CHECK(test::difference(Stored(bare).checkpoint, model) == "");
}

TEST_CASE("wrappers in the middle of names are removed") {
  const auto model = test::sample_model();
  const auto inside = [&](const std::string& at, const std::string& wrapper) {
    auto file = model;
    for (SampleTensor& t : file)
      if (const auto found = t.name.find(at); found != std::string::npos)
        t.name.insert(found + at.size(), wrapper);
    return file;
  };
  for (const char* wrapper : {"_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.",
                              "module.", "some_wrapper.", "_fsdp_wrapped_module._orig_mod."})
    for (const char* at : {"blocks.0.", "blocks.1."})
      CHECK(test::difference(Stored(inside(at, wrapper)).checkpoint, model) == "");
  CHECK(test::difference(Stored(inside(".att.", "_fsdp_wrapped_module.")).checkpoint, model) == "");
  CHECK(test::difference(
            Stored(renamed(inside(".key.", "base_layer."), "base_model.model.")).checkpoint,
            model) == "");
}

TEST_CASE("the names of transformers' own RWKV-7") {
  const auto model = test::sample_model();
  for (const std::string prefix : {"rwkv7.", "model."}) {
    auto file = renamed(model, prefix);
    find_in(file, prefix + "head.weight")->name = "head.weight";
    CHECK(test::difference(Stored(file).checkpoint, model) == "");
    find_in(file, prefix + "emb.weight")->name = prefix + "embeddings.weight";
    CHECK(test::difference(Stored(file).checkpoint, model) == "");
  }
}

TEST_CASE("the names of rwkv-rs, whatever the orientation of the low-rank matrices") {
  const auto model = test::sample_model();
  for (const bool transposed : {false, true}) {
    auto file = test::with_rwkv_rs_names(model);
    if (transposed)
      for (SampleTensor& t : file)
        if (test::low_rank(t.name.substr(0, t.name.find("linear_attn.")) + ".att." +
                           t.name.substr(t.name.rfind('.') + 1)))
          t = test::transposed(t);
    CHECK(test::difference(Stored(file).checkpoint, model) == "");
  }
}

TEST_CASE("low-rank matrices of nn.Linear lie as their shapes say, or else as nn.Linear has them") {
  const test::SampleSizes square{.decay = 8, .icl = 8, .value = 8, .gate = 8};
  for (const auto& model : {test::sample_model(), test::sample_model(square)})
    for (const bool bias : {false, true}) {
      const auto file = test::with_linear_names(model, bias);
      CHECK(test::difference(Stored(file).checkpoint, model) == "");
    }
  const auto model = test::sample_model();
  auto untransposed = model;
  for (SampleTensor& t : untransposed)
    if (test::low_rank(t.name)) t.name += ".weight";
  CHECK(test::difference(Stored(untransposed).checkpoint, model) == "");
  const auto squares = test::sample_model(square);
  CHECK(test::difference(Stored(test::with_fla_names(squares, false)).checkpoint, squares) == "");
}

TEST_CASE("dimensions of 1 around matrices, and the six x_* in one tensor of any such shape") {
  const auto model = test::sample_model();
  for (const auto& [before, behind] : {std::pair(1, 0), std::pair(2, 0), std::pair(0, 2)}) {
    auto file = model;
    for (SampleTensor& t : file) {
      if (t.shape.size() != 2 || (behind > 0 && t.name.ends_with("r_k"))) continue;
      t.shape.insert(t.shape.begin(), static_cast<std::size_t>(before), 1);
      t.shape.insert(t.shape.end(), static_cast<std::size_t>(behind), 1);
    }
    CHECK(test::difference(Stored(file).checkpoint, model) == "");
  }
  for (const std::vector<std::size_t>& shape :
       {std::vector<std::size_t>{6, 8}, {6, 1, 8}, {1, 6, 8}, {1, 1, 6, 8}, {6, 1, 1, 8}})
    for (const char* name : {"x_x", "x_rwkvag"}) {
      std::vector<SampleTensor> file;
      for (const SampleTensor& t : model) {
        if (t.name.find("att.x_") == std::string::npos) {
          file.push_back(t);
          continue;
        }
        if (t.name.ends_with("x_r"))
          file.push_back({t.name.substr(0, t.name.size() - 3) + name, shape, {}});
        const auto& values = t.values;
        file.back().values.insert(file.back().values.end(), values.begin(), values.end());
      }
      CHECK(test::difference(Stored(file).checkpoint, model) == "");
    }
}

TEST_CASE("DeepEmbed behind wrappers, in every scheme of names, and in files that web-rwkv made") {
  auto model = test::sample_model();
  const std::size_t ffn = test::find(model, "blocks.0.ffn.key.weight").shape[0];
  for (const std::string block : {"blocks.0.ffn.", "blocks.1.ffn."}) {
    model.push_back(tensor(block + "s_emb.weight", {10, 4}));
    model.push_back(tensor(block + "s_emb_x.weight", {4, 8}));
    model.push_back(tensor(block + "s1", {8, 2}));
    model.push_back(tensor(block + "s2", {2, ffn}));
    model.push_back(tensor(block + "s0", {ffn}));
  }
  for (const char* prefix : prefixes)
    CHECK(test::difference(Stored(renamed(model, prefix)).checkpoint, model) == "");
  auto fla = test::with_fla_names(model, false);
  for (SampleTensor& t : fla)
    if (const auto at = t.name.find("s_embeddings"); at != std::string::npos)
      t.name.replace(at, 12, "s_emb");
  CHECK(find_in(fla, "model.layers.1.ffn.s_emb_x.weight") != nullptr);
  CHECK(test::difference(Stored(fla).checkpoint, model) == "");
  CHECK(test::difference(Stored(test::with_web_rwkv_layout(model)).checkpoint, model) == "");
  auto linear = test::with_linear_names(model, true);
  CHECK(test::difference(Stored(linear).checkpoint, model) == "");
  for (SampleTensor& t : linear)
    if (t.name.ends_with(".s1") || t.name.ends_with(".s2")) {
      t = test::transposed(t);
      t.name += ".weight";
    }
  CHECK(test::difference(Stored(linear).checkpoint, model) == "");
}

TEST_CASE("r_k without heads is divided as the file says, else into those of released models") {
  const auto flat = [](std::vector<SampleTensor> model, std::vector<std::size_t> before) {
    for (SampleTensor& t : model)
      if (t.name.ends_with("r_k")) {
        t.shape = before;
        t.shape.push_back(t.values.size());
      }
    return model;
  };
  const auto read = [](const std::vector<SampleTensor>& file, const char* key, const char* size) {
    const test::Bytes bytes = test::to_safetensors(file);
    Checkpoint checkpoint = rwkv::io::read_safetensors(bytes, "file");
    if (key != nullptr) checkpoint.metadata[key] = size;
    return test::difference(to_official_names(checkpoint), test::sample_model());
  };
  for (const std::vector<std::size_t>& before : {std::vector<std::size_t>{}, {1, 1}}) {
    const auto file = flat(test::sample_model(), before);
    CHECK(read(file, "config.head_dim", "4") == "");
    CHECK(read(file, "config.head_size", "4") == "");
    CHECK_THROWS_WITH_AS((void)read(file, nullptr, nullptr),
                         doctest::Contains("r_k\" has 8 elements, which are no heads of 64"),
                         Error);
    CHECK_THROWS_WITH_AS((void)read(file, "config.head_dim", "3"),
                         doctest::Contains("no heads of 3"), Error);
    CHECK_THROWS_AS((void)read(file, "config.head_dim", "0"), Error);
  }
  const auto released = test::sample_model({.embed = 128, .head_size = 64});
  CHECK(test::difference(Stored(flat(released, {})).checkpoint, released) == "");
}

TEST_CASE("what training keeps beside a model is left out") {
  const auto model = test::sample_model();
  auto file = renamed(model, "module.");
  const auto more = [&](const char* prefix) {
    for (const SampleTensor& t : renamed(model, prefix)) file.push_back(t);
  };
  more("first_moment.");
  more("optimizer.exp_avg.");
  more("ema.");
  for (SampleTensor& t : file)
    if (t.name.starts_with("ema.")) t.name.insert(0, "optimizer.");
  CHECK(test::difference(Stored(file).checkpoint, model) == "");
  for (const char* note : {"best_loss", "module.global_step", "version"})
    file.push_back(tensor(note, {1}));
  file.push_back(tensor("buffer", {0, 3}));
  CHECK(test::difference(Stored(file).checkpoint, model) == "");
  file.push_back(tensor("step", {2}));  // no single number
  CHECK(Stored(file).checkpoint.find("step") != nullptr);
}

TEST_CASE("two models in one file are refused, a running average beside one is not chosen") {
  const auto model = test::sample_model();
  auto file = renamed(model, "a.");
  for (const SampleTensor& t : renamed(model, "b.")) file.push_back(t);
  CHECK_THROWS_WITH_AS(Stored{file}, doctest::Contains("several models, behind \"a.\" and \"b.\""),
                       Error);
  CHECK(test::difference(Stored(renamed(model, "ema.")).checkpoint, model) == "");
}

TEST_CASE("gradients alone, and other kinds of models, keep their names") {
  for (const std::string prefix : {"grad.", "first_moment."}) {
    const auto file = renamed(test::sample_model(), prefix);
    CHECK(test::difference(Stored(file).checkpoint, file) == "");
  }
  const std::vector<SampleTensor> transformer{
      tensor("model.embed_tokens.weight", {10, 8}),
      tensor("model.layers.0.self_attn.q_proj.weight", {8, 8}),
      tensor("model.layers.0.mlp.up_proj.weight", {12, 8}),
      tensor("model.layers.0.input_layernorm.weight", {8}), tensor("model.norm.weight", {8})};
  CHECK(test::difference(Stored(transformer).checkpoint, transformer) == "");
}

TEST_CASE("states lose a prefix too") {
  const std::vector<SampleTensor> state{tensor("blocks.0.att.time_state", {2, 4, 4}),
                                        tensor("blocks.1.att.time_state", {2, 4, 4})};
  for (const std::string prefix : prefixes)
    CHECK(test::difference(Stored(renamed(state, prefix)).checkpoint, state) == "");
}

TEST_CASE("a head that is the table, and norms without biases, are filled in") {
  const auto model = test::sample_model();
  std::vector<SampleTensor> file;
  auto expected = model;
  for (const SampleTensor& t : model) {
    const bool layer_norm = t.name.ends_with(".bias") && t.name.find("ln_x") == std::string::npos;
    if (!layer_norm && t.name != "head.weight") file.push_back(t);
    if (layer_norm) std::fill_n(find_in(expected, t.name)->values.begin(), 8, 0.0f);
  }
  find_in(expected, "head.weight")->values = test::find(model, "emb.weight").values;
  CHECK(test::difference(Stored(file).checkpoint, expected) == "");
  const test::Bytes bytes = test::to_safetensors(file);
  Checkpoint cut = rwkv::io::read_safetensors(bytes, "file");
  cut.format = "ggmf";  // which only ends where the file does
  CHECK(to_official_names(cut).find("head.weight") == nullptr);
  file.push_back(test::find(model, "blocks.1.ln2.bias"));  // then the others are missing
  CHECK(Stored(file).checkpoint.find("ln_out.bias") == nullptr);
}

TEST_CASE("the RWKV-7 part of a hybrid model gets official names") {
  auto expected = test::sample_model();
  auto file = renamed(expected, "rwkv.");
  for (auto* model : {&expected, &file}) {
    model->push_back(tensor("moba.0.att.key.weight", {8, 8}));
    model->push_back(tensor("moba.0.ffn.x_k", {1, 1, 8}));
  }
  file[file.size() - 2].shape = {1, 8, 8};
  for (const char* wrapper : {"", "module.", "_forward_module.model."})
    CHECK(test::difference(Stored(renamed(file, wrapper)).checkpoint, expected) == "");
  file.back().name = "moba.0._fsdp_wrapped_module.ffn.x_k";
  CHECK(test::difference(Stored(file).checkpoint, expected) == "");
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
