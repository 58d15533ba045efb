// SPDX-License-Identifier: Apache-2.0
// What files say about the mathematics besides the tensors: it is computed, converted and exported,
// to within float rounding of float64, or refused.
#include "support/format_writers.hpp"
#include "support/golden.hpp"
#include "support/static_weights.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/io/describe.hpp>
#include <rwkv/io/names.hpp>
#include <rwkv/io/static_source.hpp>
#include <rwkv/static_model.hpp>
#include <rwkv/train/model_file.hpp>

#include <doctest/doctest.h>

namespace {

const std::filesystem::path data = RWKV_TEST_DATA;

using rwkv::io::Checkpoint;
using rwkv::io::Metadata;

/// The model of the golden data as named tensors, to be changed.
std::vector<test::SampleTensor> golden_tensors() {
  const auto checkpoint = golden::read(data / "golden_l2_c32_f32.model.safetensors");
  std::vector<test::SampleTensor> tensors;
  for (const auto& [name, tensor] : checkpoint.tensors)
    tensors.push_back({name, tensor.shape, tensor.values()});
  return tensors;
}

/// A file of these tensors, as it is after reading, with metadata besides.
Checkpoint file_of(const std::vector<test::SampleTensor>& tensors, const Metadata& metadata) {
  auto bytes = std::make_shared<const test::Bytes>(test::to_safetensors(tensors));
  auto checkpoint = rwkv::io::read_safetensors(*bytes, "file");
  checkpoint.storage.push_back(bytes);
  checkpoint.metadata.insert(metadata.begin(), metadata.end());
  return rwkv::io::to_official_names(std::move(checkpoint));
}

void without(std::vector<test::SampleTensor>& tensors, const std::string& part) {
  std::erase_if(tensors, [&](const auto& t) { return t.name.find(part) != std::string::npos; });
}

/// Normalised by ln0, in place, which is removed.
void normalise_table(std::vector<test::SampleTensor>& tensors) {
  const auto weight = test::find(tensors, "blocks.0.ln0.weight").values;
  const auto bias = test::find(tensors, "blocks.0.ln0.bias").values;
  without(tensors, "ln0");
  for (auto& t : tensors) {
    if (t.name != "emb.weight") continue;
    const std::size_t c = weight.size();
    for (std::size_t row = 0; row < t.values.size(); row += c) {
      double mean = 0, variance = 0;
      for (std::size_t i = 0; i < c; ++i) mean += t.values[row + i] / static_cast<double>(c);
      for (std::size_t i = 0; i < c; ++i)
        variance += std::pow(t.values[row + i] - mean, 2) / static_cast<double>(c);
      for (std::size_t i = 0; i < c; ++i)
        t.values[row + i] = static_cast<float>(
            (t.values[row + i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i]);
    }
  }
}

struct Variant {
  std::string golden;  ///< the name of the logits
  Checkpoint file;
  bool exact = true;  ///< official mathematics, in another form
};

std::vector<Variant> variants() {
  const auto tensors = golden_tensors();
  auto no_norm = tensors;
  normalise_table(no_norm);
  auto tied = tensors;
  without(tied, "head.weight");
  auto no_biases = tensors;
  std::erase_if(no_biases, [](const auto& t) {
    return t.name.ends_with(".bias") && t.name.find("ln_x") == std::string::npos;
  });
  const auto fla = test::with_fla_names(tensors, false);
  const auto rs = test::with_rwkv_rs_names(tensors);
  std::vector<Variant> all{
      {"layer_norm", file_of(tensors, {{"config.norm_eps", "0.01"}}), false},
      {"layer_norm", file_of(tensors, {{"config.layer_norm_epsilon", "1e-2"}}), false},
      {"layer_norm", file_of(tensors, {{"layer_norm_epsilon", "1e-2"}}), false},
      {"layer_norm", file_of(rs, {{"config.norm_eps", "0.01"}}), false},
      {"layer_norm",
       file_of(tensors, {{"rwkv7.attention.layer_norm_epsilon", "0.01"}, {"norm_eps", "0.01"}}),
       false},
      {"group_norm", file_of(tensors, {{"config.group_norm_epsilon", "0.1"}}), false},
      {"group_norm", file_of(fla, {{"config.norm_eps", "1e-05"}, {"config.group_norm_eps", "0.1"}}),
       false},
      {"fla", file_of(fla, {{"config.norm_eps", "0.001"}, {"config.head_dim", "16"}}), false},
      {"normalised_table", file_of(no_norm, {{"config.embedding_layer_norm_fused", "true"}}),
       false},
      {"normalised_table", file_of(no_norm, {}), false},
      {"tied", file_of(tied, {{"config.tie_word_embeddings", "true"}})},
      {"tied", file_of(tied, {})},
      {"no_biases", file_of(no_biases, {{"config.norm_bias", "false"}})},
  };
  return all;
}

std::vector<float> last_logits(const rwkv::Model<>& model, std::span<const rwkv::Token> tokens) {
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 4);
  const rwkv::Slot<> before{&state, tokens.first(tokens.size() - 2)};
  std::vector<float> logits;
  model.forward(std::span(&before, 1), rwkv::Logits::none, logits, work);
  for (const rwkv::Token token : tokens.last(2)) {
    const auto row = model.forward(state, std::span(&token, 1), work);
    logits.insert(logits.end(), row.begin(), row.end());
  }
  return logits;
}

std::string refused(const std::function<void()>& f) {
  try {
    f();
  } catch (const rwkv::Error& e) {
    return e.what();
  }
  return "";
}

std::string refused(const Metadata& metadata, std::vector<test::SampleTensor> tensors = {}) {
  if (tensors.empty()) tensors = golden_tensors();
  return refused([&] { (void)rwkv::io::dimensions_of(file_of(tensors, metadata)); });
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

using Shape = rwkv::Shape<2, 32, 16, 56, 40, 8, 6, 3, 10>;

}  // namespace

TEST_CASE("settings of the norms are computed, also after conversion and in static models") {
  const auto golden = golden::read(data / "settings.golden.safetensors");
  const auto tokens = golden::tokens(golden, "tokens");
  const rwkv::Model<> official(golden::read(data / "golden_l2_c32_f32.model.safetensors"));
  const test::TemporaryDirectory directory;
  int number = 0;
  for (const Variant& variant : variants()) {
    CAPTURE(number);
    ++number;
    CAPTURE(variant.golden);
    const auto expected = golden.get(variant.golden + ".logits").values<double>();
    const rwkv::Model<> model(variant.file);
    const auto logits = last_logits(model, tokens);
    CHECK(golden::max_error(logits, expected) < 1e-5);
    // A table that is normalised already is only another form of the same model.
    const bool same = variant.golden == "normalised_table";
    CHECK((golden::max_error(last_logits(official, tokens), expected) < 1e-3) == same);

    for (const auto format : {rwkv::FileFormat::gguf, rwkv::FileFormat::safetensors}) {
      const auto path = directory / "converted";
      rwkv::convert(variant.file, path, {.format = format, .type = rwkv::DType::f32});
      const auto converted = rwkv::io::read_checkpoint(path);
      const rwkv::Model<> again(converted);
      CHECK(last_logits(again, tokens) == logits);
      CHECK(again.weights().fingerprint() == model.weights().fingerprint());
      CHECK(again.weights().norms() == model.weights().norms());
      if (format == rwkv::FileFormat::gguf) {
        // Other programs know the epsilon of layer norms, and nothing else.
        const bool known = variant.exact || variant.golden == "layer_norm";
        CHECK(converted.metadata.at("general.architecture") ==
              (known ? "rwkv7" : "rwkv7-extended"));
      }
    }

    const auto weights = test::static_weights<Shape, float>(model.weights());
    const rwkv::StaticModel fixed(*weights);
    rwkv::State<Shape> state;
    rwkv::Workspace<Shape, 4> work;
    const auto last = fixed.forward(state, tokens, work);
    CHECK(golden::max_error(last, std::vector<double>(expected.end() - 40, expected.end())) < 1e-5);
    const std::string source = rwkv::io::static_source(model.weights(), "tiny");
    CHECK(contains(source, "Eigenvalues::standard};") == variant.exact);
    CHECK((variant.golden == "normalised_table") == contains(source, ",true};"));

    const bool trainable = refused([&] { (void)rwkv::train::read_parameters(variant.file); }) == "";
    CHECK(trainable == variant.exact);
  }
}

#ifdef RWKV_GOLDENS
TEST_CASE("files as other programs write them compute what their model does") {
  const std::filesystem::path cases = std::filesystem::path(RWKV_GOLDENS).parent_path() / "cases";
  const auto golden =
      golden::read(std::filesystem::path(RWKV_GOLDENS) / "rwkv7/r7_l2_c32/golden.safetensors");
  for (const char* file : {"hf_rwkv7_prefix/model.safetensors", "fla_wrapped/module.safetensors",
                           "pth_tensor_beside/checkpoint.pt"}) {
    if (!std::filesystem::exists(cases / file)) continue;
    CAPTURE(file);
    const rwkv::Model<> model(rwkv::io::read_checkpoint(cases / file));
    rwkv::State state(model.shape());
    rwkv::Workspace work(model.shape());
    const auto tokens = golden::tokens(golden, "tokens");
    std::vector<float> all(tokens.size() * model.shape().vocab());
    const rwkv::Slot<> slot{&state, tokens};
    model.forward(std::span(&slot, 1), rwkv::Logits::all, all, work);
    const auto positions = golden.get("positions").values<std::size_t>();
    std::vector<float> asked;
    for (const std::size_t at : positions)
      asked.insert(asked.end(),
                   all.begin() + static_cast<std::ptrdiff_t>(at * model.shape().vocab()),
                   all.begin() + static_cast<std::ptrdiff_t>((at + 1) * model.shape().vocab()));
    CHECK(golden::max_error(asked, golden.get("logits").values<double>()) < 1e-4);
  }
  if (std::filesystem::exists(cases / "lora_adapters/state_behind_model.pth")) {
    const auto state = rwkv::io::read_checkpoint(cases / "lora_adapters/state_behind_model.pth");
    CHECK(state.find("blocks.0.att.time_state") != nullptr);
  }
}
#endif

TEST_CASE("states belong to the settings too, and usual ones change nothing") {
  const auto tensors = golden_tensors();
  const auto fingerprint = [&](const Metadata& metadata) {
    return rwkv::io::StoredWeights(file_of(tensors, metadata)).fingerprint();
  };
  const auto usual = fingerprint({});
  CHECK(fingerprint({{"config.norm_eps", "1e-05"}, {"config.head_dim", "16"}}) == usual);
  CHECK(fingerprint({{"config.norm_eps", "2e-05"}}) != usual);
  CHECK(fingerprint({{"config.head_size_divisor", "8"}}) == usual);
  CHECK(rwkv::io::norm_settings_of(file_of(tensors, {{"head_size_divisor", "10"}}))
            .group_norm_epsilon == 1e-3f);
  const auto fla = test::with_fla_names(tensors, false);
  CHECK(file_of(fla, {}).metadata.empty());  // the official 64e-5
  CHECK(rwkv::io::norm_settings_of(file_of(fla, {{"config.norm_eps", "4e-05"}})) ==
        rwkv::io::NormSettings{4e-5f, 64e-5f, false});
}

TEST_CASE("numbers that contradict each other or the tensors are refused with both") {
  const struct {
    Metadata metadata;
    std::string_view first, second;
  } cases[] = {
      {{{"config.hidden_size", "64"}}, "hidden_size = 64", "have 32"},
      {{{"config.num_hidden_layers", "3"}}, "num_hidden_layers = 3", "have 2"},
      {{{"config.vocab_size", "65536"}}, "vocab_size = 65536", "have 40"},
      {{{"config.intermediate_size", "128"}}, "intermediate_size = 128", "have 56"},
      {{{"config.head_dim", "64"}}, "head_dim = 64", "have 16"},
      {{{"config.head_size", "64"}}, "head_size = 64", "have 16"},
      {{{"config.num_heads", "12"}}, "num_heads = 12", "have 2"},
      {{{"config.decay_low_rank_dim", "64"}}, "decay_low_rank_dim = 64", "have 8"},
      {{{"config.a_low_rank_dim", "64"}}, "a_low_rank_dim = 64", "have 6"},
      {{{"config.v_low_rank_dim", "64"}}, "v_low_rank_dim = 64", "have 3"},
      {{{"config.gate_low_rank_dim", "64"}}, "gate_low_rank_dim = 64", "have 10"},
      {{{"config.value_dim", "64"}}, "value_dim = 64", "have 32"},
      {{{"rwkv7.wkv.head_size", "64"}}, "rwkv7.wkv.head_size = 64", "have 16"},
      {{{"rwkv7.block_count", "1"}}, "rwkv7.block_count = 1", "have 2"},
      {{{"hidden_size", "31"}}, "metadata says hidden_size = 31", "have 32"},
      {{{"config.norm_eps", "0.01"}, {"config.layer_norm_epsilon", "1e-5"}},
       "norm_eps = 0.01",
       "layer_norm_epsilon = 1e-5"},
      {{{"config.hidden_size", "many"}}, "hidden_size = \"many\"", "not a number"},
      {{{"config.norm_eps", "-1"}}, "norm_eps = \"-1\"", "no epsilon"},
      {{{"config.norm_eps", "nan"}}, "norm_eps", "no epsilon"},
      {{{"config.norm_eps", "0"}}, "norm_eps", "no epsilon"},
      {{{"config.norm_eps", "1e-5x"}}, "norm_eps", "not a number"},
      {{{"config.embedding_layer_norm_fused", "true"}}, "normalised already", "ln0"},
      {{{"config.tie_word_embeddings", "true"}}, "tie_word_embeddings", "another head.weight"},
      {{{"rwkv.embedding_norm", "none"}}, "normalised already", "ln0"},
  };
  for (const auto& [metadata, first, second] : cases) {
    const std::string sentence = refused(metadata);
    CAPTURE(sentence);
    CHECK(sentence.starts_with("file: "));
    CHECK(contains(sentence, first));
    CHECK(contains(sentence, second));
  }
  CHECK(refused({{"config.hidden_size", "32"},
                 {"config.num_hidden_layers", "2"},
                 {"config.vocab_size", "40"},
                 {"config.head_dim", "16"},
                 {"config.num_heads", "2"},
                 {"config.value_dim", "[...]"},
                 {"config.intermediate_size", "56"}}) == "");
}

TEST_CASE("settings that make another model of it are refused by name") {
  for (const auto& [key, value] :
       std::initializer_list<std::pair<const char*, const char*>>{{"model_type", "rwkv6"},
                                                                  {"model_type", "rwkv6_qwen2"},
                                                                  {"model_type", "rwkv7_hybrid"},
                                                                  {"model_type", "llama"},
                                                                  {"use_deep_embed", "true"},
                                                                  {"attn", "{...}"},
                                                                  {"hidden_act", "silu"},
                                                                  {"wkv_mode", "wkv6"},
                                                                  {"use_rms_norm", "true"},
                                                                  {"logit_scale", "0.5"}}) {
    const std::string sentence = refused({{std::string("config.") + key, value}});
    CAPTURE(sentence);
    CHECK(contains(sentence, std::string("config.json says ") + key + " = "));
    CHECK(contains(sentence, value));
  }
  CHECK(refused({{"config.model_type", "rwkv7"},
                 {"config.hidden_act", "sqrelu"},
                 {"config.use_deep_embed", "false"},
                 {"config.wkv_mode", "chunk"},
                 {"config.fuse_norm", "true"},
                 {"config.rescale_every", "6"},
                 {"config.torch_dtype", "bfloat16"}}) == "");
}

TEST_CASE("what is left out without meaning anything is missing") {
  auto tensors = golden_tensors();
  normalise_table(tensors);
  CHECK(contains(refused([&] {
                   const rwkv::Model<> model(
                       file_of(tensors, {{"config.embedding_layer_norm_fused", "false"}}));
                 }),
                 "blocks.0.ln0.weight is missing"));
  without(tensors, "head.weight");
  CHECK(contains(refused({}, tensors), "cannot serve as the head"));
  tensors = golden_tensors();
  without(tensors, "head.weight");
  CHECK(contains(
      refused([&] {
        const rwkv::Model<> model(file_of(tensors, {{"config.tie_word_embeddings", "false"}}));
      }),
      "head.weight is missing"));
  tensors = golden_tensors();
  without(tensors, "blocks.1.ln1.bias");
  CHECK(contains(refused([&] { const rwkv::Model<> model(file_of(tensors, {})); }),
                 "blocks.1.ln1.bias is missing"));
}

TEST_CASE("weights in floats of 8 bits, with scales and without") {
  const auto tensors = golden_tensors();
  for (const rwkv::DType type : {rwkv::DType::f8_e4m3, rwkv::DType::f8_e5m2})
    for (const char* scale : {"", "weight_scale", "scale_weight", "per row"}) {
      CAPTURE(scale);
      // Every second byte is a finite number of either type.
      std::vector<test::Bytes> storage;
      std::vector<rwkv::io::NamedTensor> entries;
      std::map<std::string, std::vector<float>> expected;
      storage.reserve(3 * tensors.size());
      const bool per_row = scale == std::string("per row");
      for (const auto& t : tensors) {
        if (!t.name.ends_with("key.weight") && !t.name.ends_with("att.w1")) {
          storage.push_back(test::encode(t.values, rwkv::DType::f32));
          entries.push_back({t.name, rwkv::DType::f32, t.shape, storage.back()});
          continue;
        }
        test::Bytes bytes;
        auto& values = expected[t.name];
        const bool scaled = *scale != '\0' && t.name.ends_with(".weight");
        for (std::size_t i = 0; i < t.values.size(); ++i) {
          const auto byte = static_cast<std::uint8_t>(i * 7 % 0x78 + (i % 2) * 0x80);
          bytes.push_back(std::byte{byte});
          const float row = per_row ? static_cast<float>(1 + i / t.shape[1]) : 0.25f;
          values.push_back((type == rwkv::DType::f8_e4m3 ? rwkv::float_from_e4m3(byte)
                                                         : rwkv::float_from_e5m2(byte)) *
                           (scaled ? row : 1.0f));
        }
        storage.push_back(std::move(bytes));
        entries.push_back({t.name, type, t.shape, storage.back()});
        if (!scaled) continue;
        std::vector<float> scales{0.25f};
        if (per_row) {
          scales.clear();
          for (std::size_t r = 0; r < t.shape[0]; ++r) scales.push_back(static_cast<float>(1 + r));
        }
        storage.push_back(test::encode({3.0f}, rwkv::DType::f32));  // of what goes in: no matter
        entries.push_back({t.name.substr(0, t.name.size() - 6) + "input_scale",
                           rwkv::DType::f32,
                           {},
                           storage.back()});
        storage.push_back(test::encode(scales, rwkv::DType::f32));
        const std::string stem = t.name.substr(0, t.name.size() - 6);
        entries.push_back({stem + (per_row ? "weight_scale" : scale),
                           rwkv::DType::f32,
                           {scales.size()},
                           storage.back()});
      }
      const test::Bytes bytes = rwkv::io::serialize_safetensors(entries, {});
      const auto checkpoint = rwkv::io::read_checkpoint(bytes, "file");
      for (const auto& [name, values] : expected) CHECK(checkpoint.get(name).values() == values);
      CHECK(checkpoint.tensors.size() == tensors.size());
      CHECK_NOTHROW(rwkv::Model<>{checkpoint});
    }
}

TEST_CASE("what is no RWKV-7 model is called what it is") {
  const auto says = [](const std::vector<test::SampleTensor>& tensors, std::string_view part) {
    const std::string sentence = refused({}, tensors);
    CAPTURE(sentence);
    CHECK(contains(sentence, "file: not an RWKV-7 model: "));
    CHECK(contains(sentence, part));
  };
  const auto one = [](const std::string& name, std::vector<std::size_t> shape = {1}) {
    std::size_t size = 1;
    for (const std::size_t d : shape) size *= d;
    return std::vector<test::SampleTensor>{{name, std::move(shape), std::vector<float>(size)}};
  };
  says(one("base_model.model.blocks.0.att.key.lora_A.default.weight"), "a LoRA adapter");
  says(one("blocks.0.att.key.lora_A"), "--adapter");
  says(one("blocks.0.att.key.lora.0", {1, 1}), "a LoRA adapter");
  says(one("blocks.0.att.key.bone"), "a Bone adapter");
  says(one("blocks.0.att.key.disha"), "a DiSHA adapter");
  says(one("model.blocks.0.att.time_state", {1, 2, 2}), "a tuned state");
  says(one("optimizer.exp_avg.blocks.0.att.key.weight"), "an optimiser keeps");
  says(one("blocks.0.att.x_prev", {4}), "the state of a sequence");
  says(one("blocks.0.att.time_maa_x", {1, 1, 4}), "an RWKV-6 model");
  says(one("model.blocks.0.att.time_decay", {2, 2}), "an RWKV-5 model");
  says(one("rwkv.blocks.0.attention.time_decay", {4}), "an RWKV-4 model");
  says(one("model.layers.0.self_attn.q_proj.weight", {1, 1}), "a transformer");
  says(one("backbone.layers.0.mixer.A_log", {1}), "a Mamba model");
  says(one("blocks.0.att.k_a", {4}), "a part of an RWKV-7 model");
  says(one("something", {4}), "the first is \"something\"");
  CHECK(contains(rwkv::io::describe({}), "no tensors"));

  const auto extra = [&](const std::string& name, std::string_view part) {
    auto tensors = golden_tensors();
    tensors.push_back(one(name, {1, 1})[0]);
    const std::string model = refused([&] { const rwkv::Model<> refused(file_of(tensors, {})); });
    CAPTURE(model);
    CHECK(contains(model, name));
    CHECK(contains(model, part));
    const test::TemporaryDirectory directory;
    CHECK(refused([&] { rwkv::convert(file_of(tensors, {}), directory / "x"); }) == model);
    CHECK(refused([&] { (void)rwkv::train::read_parameters(file_of(tensors, {})); }) == model);
  };
  extra("blocks.1.ffn.s_emb.weight", "DeepEmbed (RWKV-7a), and blocks.0.ffn.s1 is");
  extra("blocks.0.qkv.qq.weight", "RWKV-7b");
  extra("blocks.0.rosa.q.weight", "ROSA");
  extra("blocks.0.att.key.lora_A", "saved together with a model");
  extra("blocks.0.att.x_extra", "is this a variant of it?");
}
