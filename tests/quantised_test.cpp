// SPDX-License-Identifier: Apache-2.0
// A model quantised as it is loaded is the one that was converted first; loading can be watched and
// cancelled.
#include "support/executors.hpp"
#include "support/golden.hpp"
#include "support/sample_hybrid.hpp"
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/adapter.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/memory.hpp>
#include <rwkv/quantised.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#if defined(__GLIBC__)
#include <malloc.h>
#endif

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::LoadOptions;
using rwkv::Model;
using rwkv::Token;

namespace {

constexpr DType block_types[] = {DType::q4_0, DType::q4_1, DType::q5_0,  DType::q5_1,
                                 DType::q8_0, DType::q2_k, DType::q3_k,  DType::q4_k,
                                 DType::q5_k, DType::q6_k, DType::iq4_nl};

struct Run {
  std::vector<float> logits;
  rwkv::State<> state;
  bool operator==(const Run&) const = default;
};

Run run(const Model<>& model) {
  Run r{{}, model.initial_state()};
  rwkv::Workspace work(model.shape());
  std::vector<Token> tokens;
  for (Token t = 0; t < 20; ++t)
    tokens.push_back(t * 7 % static_cast<Token>(model.shape().vocab()));
  r.logits.resize(tokens.size() * model.shape().vocab());
  const rwkv::Slot<> slot{&r.state, tokens};
  model.forward(std::span(&slot, 1), rwkv::Logits::all, r.logits, work);
  return r;
}

/// The model as convert and a GGUF file make it.
Model<> converted(const rwkv::io::Checkpoint& checkpoint, const rwkv::ConvertOptions& options) {
  const test::TemporaryDirectory directory;
  rwkv::convert(checkpoint, directory / "m.gguf", options);
  return Model<>::load(directory / "m.gguf");
}

void check_same(const Model<>& loaded, const Model<>& file) {
  CHECK(run(loaded) == run(file));
  CHECK(loaded.weights().bytes() == file.weights().bytes());
  CHECK(loaded.weights().bytes_per_token() == file.weights().bytes_per_token());
  CHECK(loaded.weights().fingerprint() == file.weights().fingerprint());
  CHECK(loaded.weights().emb().type == file.weights().emb().type);
  CHECK(loaded.weights().head().type == file.weights().head().type);
}

/// Bytes that the program has asked for and not given back, where the system says.
std::size_t memory_in_use() {
#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 33)
  const auto info = mallinfo2();
  return info.uordblks + info.hblkhd;
#endif
#endif
  return 0;
}

// Rows of whole blocks of every type; of some, with outputs for orders by input; and of none for the
// channel mix.
constexpr test::SampleSizes sizes[] = {
    {.layers = 1, .embed = 256, .head_size = 64, .ffn = 512, .vocab = 40},
    {.layers = 2, .embed = 128, .head_size = 64, .ffn = 96, .vocab = 40},
    {.layers = 2, .embed = 32, .head_size = 16, .ffn = 40, .vocab = 40}};

}  // namespace

TEST_CASE("quantised at load: the same bits as from a file of that type") {
  test::Backwards three(3);
  test::Thinned combinations(7);
  for (const DType type : block_types)
    for (const test::SampleSizes& size : sizes) {
      if (rwkv::block_elements(type) == 32 && size.embed == 256) continue;  // as 128
      if (combinations.leaves_out()) continue;
      CAPTURE(rwkv::name_of(type));
      CAPTURE(size.ffn);
      const auto checkpoint = test::sample_checkpoint<rwkv::bfloat16>(size);
      const Model<> file = converted(checkpoint, {.type = type, .self_test = false});
      if (type == DType::q8_0 || type == DType::iq4_nl)
        CHECK(file.weights().block(0).ffn.value.by_input == (size.embed == 128));
      check_same(Model<>(checkpoint, rwkv::quantised(type)), file);
      check_same(Model<>(checkpoint, {.matrix_type = type}, three), file);
    }
  for (const auto& c : golden::cases()) {  // weights that make sense, in f32, bf16 and f16
    CAPTURE(c.name);
    const auto checkpoint = rwkv::io::read_checkpoint(c.model);
    for (const DType type : {DType::q8_0, DType::q4_k})
      check_same(Model<>(checkpoint, {.matrix_type = type}),
                 converted(checkpoint, {.type = type, .self_test = false}));
  }
}

TEST_CASE("what a model wants to keep, adapters and other blocks are as in a conversion") {
  auto checkpoint = test::sample_checkpoint(sizes[0]);
  checkpoint.metadata["rwkv.keep"] = "blocks.0.ffn.key.weight,head.weight";
  const Model<> kept(checkpoint, {.matrix_type = DType::q4_k});
  CHECK(kept.weights().block(0).ffn.key.type == DType::f16);
  CHECK(kept.weights().block(0).ffn.value.type == DType::q4_k);
  CHECK(kept.weights().head().type == DType::f16);
  check_same(kept, converted(checkpoint, {.type = DType::q4_k, .self_test = false}));
  checkpoint.metadata["rwkv.keep"] = "blocks.0.ffn.x_k";
  CHECK_THROWS_WITH_AS(
      Model<>(checkpoint, {.matrix_type = DType::q4_k}),
      "sample: metadata rwkv.keep names \"blocks.0.ffn.x_k\", which is no matrix of "
      "this model",
      Error);
  checkpoint.metadata.clear();

  rwkv::io::Checkpoint lora;
  lora.source = "lora";
  test::replace<float>(lora, "blocks.0.att.key.lora_A", {2, 256}, std::vector<float>(512, 0.25f));
  test::replace<float>(lora, "blocks.0.att.key.lora_B", {256, 2}, std::vector<float>(512, 0.5f));
  const std::vector<rwkv::Adapter> adapters{rwkv::make_adapter(lora, 0.5f)};
  LoadOptions options{.matrix_type = DType::q8_0};
  options.adapters = adapters;
  check_same(
      Model<>(checkpoint, options),
      converted(checkpoint, {.type = DType::q8_0, .adapters = adapters, .self_test = false}));

  const test::TemporaryDirectory directory;
  rwkv::convert(checkpoint, directory / "q8_0.gguf", {.type = DType::q8_0, .self_test = false});
  const auto q8_0 = rwkv::io::read_checkpoint(directory / "q8_0.gguf");
  check_same(Model<>(q8_0, {.matrix_type = DType::q8_0}), Model<>(q8_0));
  check_same(Model<>(q8_0, {.matrix_type = DType::q4_k}),
             converted(q8_0, {.type = DType::q4_k, .self_test = false}));
}

TEST_CASE("the table may have a type of its own, and sizes are known before") {
  const auto checkpoint = test::sample_checkpoint(sizes[0]);
  for (const auto& options : {LoadOptions{.matrix_type = DType::q4_k},
                              LoadOptions{.matrix_type = DType::q4_k, .table_type = DType::f16},
                              LoadOptions{.table_type = DType::q8_0}}) {
    const Model<> model(checkpoint, options);
    const auto needed = rwkv::memory_needed(checkpoint, options);
    CHECK(needed.weights == model.weights().bytes());
    CHECK(needed.in_place == 0);
    CHECK(model.weights().emb().type == options.table_type.value_or(DType::q6_k));
    CHECK(run(model).logits.size() == 800);
  }
  CHECK_THROWS_WITH_AS(Model<>(checkpoint, {.matrix_type = DType::i32}),
                       "weights cannot be stored as i32", Error);
}

TEST_CASE("numbers that no block holds are refused by name") {
  auto checkpoint = test::sample_checkpoint(sizes[0]);
  std::vector<float> values(256 * 256);
  values[300] = 1e6f;
  test::replace(checkpoint, "blocks.0.att.key.weight", {256, 256}, values);
  CHECK_THROWS_WITH_AS(
      Model<>(checkpoint, {.matrix_type = DType::q4_k}),
      "sample: tensor \"blocks.0.att.key.weight\": the number at row 1, column 44 is "
      "1e+06, which q4_k cannot hold",
      Error);
}

TEST_CASE("hybrid models are quantised too") {
  const auto checkpoint = test::sample_hybrid();
  const rwkv::HybridModel floats(checkpoint);
  const rwkv::HybridModel q8_0(checkpoint, {}, {.matrix_type = DType::q8_0});
  CHECK(q8_0.weights().sparse_block(0).att.key.type == DType::q8_0);
  CHECK(q8_0.weights().bytes() < floats.weights().bytes() / 2);
  rwkv::HybridState a(floats.shape()), b(q8_0.shape());
  rwkv::HybridWorkspace work(floats.shape());
  const std::vector<Token> tokens{1, 2, 3, 4};
  const std::span<const float> logits = floats.forward(a, tokens, work);
  const std::vector<float> right(logits.begin(), logits.end());
  const auto got = q8_0.forward(b, tokens, work);
  double error = 0, size = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    error += std::pow(double{right[i]} - double{got[i]}, 2);
    size += std::pow(double{right[i]}, 2);
  }
  CHECK(error < 0.01 * size);
}

TEST_CASE("loading says how far it is, and stops when asked to, with nothing left behind") {
  for (const auto type : {std::optional<DType>(), std::optional(DType::q4_k)}) {
    const auto checkpoint = test::sample_checkpoint(sizes[1]);
    std::vector<double> seen;
    LoadOptions options{.matrix_type = type};
    options.progress = [&](double done) { seen.push_back(done); };
    int asked = 0;
    options.cancelled = [&] { return ++asked < 0; };
    { const Model<> model(checkpoint, options); }
    CHECK(std::is_sorted(seen.begin(), seen.end()));
    CHECK(seen.size() > 60);
    CHECK(seen.back() == 1.0);
    const int all = asked;
    CHECK(all > 60);

    std::size_t in_use = 0;
    for (int allowed = 0; allowed < all; allowed += allowed < 8 ? 1 : 3) {
      if (allowed == 2) in_use = memory_in_use();  // what unwinding keeps is there
      auto copy = checkpoint;
      asked = 0;
      options.progress = {};
      options.cancelled = [&] { return asked++ == allowed; };
      try {
        const Model<> model(copy, options);
        FAIL("loaded");
      } catch (const Error& error) {
        REQUIRE(error.category() == ErrorCategory::cancelled);
        REQUIRE(std::string(error.what()) == "sample: loading was cancelled");
      }
      for (const auto& storage : copy.storage) REQUIRE(storage.use_count() == 2);
    }
    CHECK(memory_in_use() == in_use);

    options.cancelled = {};
    options.progress = [](double done) {
      if (done > 0.5) throw std::logic_error("enough");
    };
    CHECK_THROWS_AS(Model<>(checkpoint, options), std::logic_error);
  }
}

namespace {

/// A model most of whose hidden units are zero, or all; `spoilt` is among the weights of a value.
rwkv::io::Checkpoint with_zeros(float key_bias, float spoilt) {
  constexpr test::SampleSizes size{
      .layers = 2, .embed = 128, .head_size = 64, .ffn = 512, .vocab = 40};
  auto checkpoint = test::sample_checkpoint(size);
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    const auto change = [&](const std::string& name, auto&& f) {
      const rwkv::io::Tensor& t = checkpoint.get(block + name);
      auto values = t.values<float>();
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = f(values[i], i);
      const auto shape = t.shape;
      test::replace<float>(checkpoint, block + name, shape, values);
    };
    change("ln2.weight", [](float, std::size_t) { return 1.0f; });
    change("ln2.bias", [](float, std::size_t) { return 0.5f; });
    change("ffn.x_k", [](float v, std::size_t) { return v / 4; });
    change("ffn.key.weight",
           [&](float v, std::size_t i) { return i / 128 == 7 ? v + 1 : v / 4 + key_bias; });
    change("ffn.value.weight",
           [&](float v, std::size_t i) { return i == 300 && block == "blocks.1." ? spoilt : v; });
  }
  return checkpoint;
}

/// Logits and state, for every number of rows and several threads: all the same.
void check_without_zeros(const Model<>& all, const Model<>& skipping) {
  std::vector<Token> tokens;
  for (Token t = 0; t < 12; ++t) tokens.push_back(t * 7 % 40);
  const auto logits_of = [&](const Model<>& model, std::size_t rows, rwkv::ExecutorRef exec) {
    Run r{std::vector<float>(tokens.size() * 40), model.initial_state()};
    rwkv::Workspace work(model.shape(), rows);
    work.hidden_units().counted = true;
    const rwkv::Slot<> slot{&r.state, tokens};
    model.forward(std::span(&slot, 1), rwkv::Logits::all, r.logits, work, exec);
    CHECK(work.hidden_units().all == 12 * 2 * 512);
    CHECK(work.hidden_units().zero > 12 * 2 * 512 * 3 / 4);
    return r;
  };
  const auto same = [](const Run& a, const Run& b) {
    return test::same_bits(a.logits, b.logits) && test::same_bits(a.state.wkv(1), b.state.wkv(1)) &&
           test::same_bits(a.state.ffn_x_prev(1), b.state.ffn_x_prev(1));
  };
  const Run expected = logits_of(all, 12, {});
  test::Backwards three(3);
  test::Thinned numbers(2);
  for (const std::size_t rows : {1u, 2u, 3u, 4u, 5u, 12u}) {
    if (numbers.leaves_out()) continue;
    CAPTURE(rows);
    CHECK(same(logits_of(skipping, rows, {}), expected));
    CHECK(same(logits_of(skipping, rows, three), expected));
  }
}

}  // namespace

TEST_CASE("weights that meet zeros are left out, and nothing changes") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  struct Case {
    float key_bias, spoilt;
  };
  test::Thinned combinations(8);
  for (const Case c : {Case{-0.125f, 1},
                       {-8.0f, 1},
                       {-0.125f, inf},
                       {-0.125f, -inf},
                       {-0.125f, std::numeric_limits<float>::quiet_NaN()}}) {
    CAPTURE(c.key_bias);
    CAPTURE(c.spoilt);
    const bool finite = std::isfinite(c.spoilt);
    const auto checkpoint = with_zeros(c.key_bias, c.spoilt);
    const auto check = [&](LoadOptions options) {
      if (combinations.leaves_out()) return;
      const Model<> skipping(checkpoint, options);
      CHECK(skipping.weights().block(0).ffn.value.skips_zeros);
      CHECK(skipping.weights().block(1).ffn.value.skips_zeros == finite);
      CHECK_FALSE(skipping.weights().block(1).ffn.key.skips_zeros);
      options.skip_zeros = false;
      const Model<> all(checkpoint, options);
      CHECK_FALSE(all.weights().block(0).ffn.value.skips_zeros);
      check_without_zeros(all, skipping);
    };
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      CAPTURE(rwkv::name_of(type));
      check({.matrix_type = type});
    }
    if (!finite) continue;  // quantising refuses what is not
    for (const DType type : {DType::q8_0, DType::iq4_nl}) {
      CAPTURE(rwkv::name_of(type));
      check({.matrix_type = type});
      check({.matrix_type = type, .inputs = rwkv::kernels::Inputs::exact});
    }
  }
}
