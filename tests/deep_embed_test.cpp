// SPDX-License-Identifier: Apache-2.0
// DeepEmbed (RWKV-7a) against float64, and the same bits from every form that such a model has.
#include "support/format_writers.hpp"
#include "support/golden.hpp"
#include "support/numbers.hpp"
#include "support/refusal.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/static_cases.hpp"
#include "support/static_weights.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/adapter.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/io/names.hpp>
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/io/static_source.hpp>
#include <rwkv/model.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/static_blob.hpp>
#include <rwkv/static_model.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

namespace {

using rwkv::DType;
using rwkv::ErrorCategory;
using Shape = test::Deep::Shape;

rwkv::io::Checkpoint official() { return test::checkpoint_of<test::Deep>(); }

/// Logits after every token, in pieces of `at_once`.
std::vector<float> run(const rwkv::Model<>& model, std::span<const rwkv::Token> tokens,
                       std::size_t at_once, rwkv::ExecutorRef exec = {}) {
  rwkv::State<> state(model.shape());
  rwkv::Workspace work(model.shape(), at_once);
  std::vector<float> out(tokens.size() * model.shape().vocab());
  const rwkv::Slot<> slot{&state, tokens};
  model.forward(std::span(&slot, 1), rwkv::Logits::all, out, work, exec);
  return out;
}

/// Bytes at a multiple of 64.
struct Aligned {
  explicit Aligned(const std::vector<std::byte>& bytes) : lines(bytes.size() / 64 + 1) {
    if (!bytes.empty()) std::memcpy(lines.data(), bytes.data(), bytes.size());
    span = {lines[0].bytes, bytes.size()};
  }
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines;
  std::span<const std::byte> span;
};

std::vector<std::byte> bytes_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Asks for one piece at a time, and moves it.
struct Fetcher : rwkv::Serial {
  static constexpr std::size_t piece = 4096;
  std::vector<Aligned> buffers;
  std::span<const std::byte> coming;
  std::size_t rows = 0;

  void ahead(std::span<const std::byte> weights) {
    CHECK(coming.empty());
    coming = weights;
  }
  const std::byte* here(std::span<const std::byte> weights) {
    CHECK(coming.data() == weights.data());
    coming = {};
    rows += weights.size() == 8 * 8 * sizeof(float);
    buffers.emplace_back(std::vector(weights.begin(), weights.end()));
    return buffers.back().span.data();
  }
};

}  // namespace

TEST_CASE("DeepEmbed computes what float64 computes, however a text is cut") {
  const auto golden = golden::read(golden::deep_case().golden);
  const rwkv::Model<> model(official());
  CHECK(model.shape().deep_rank() == 8);
  const auto tokens = test::tokens_of<test::Deep>();
  const auto want = golden.get("logits").values<double>();
  const auto whole = run(model, tokens, 64);
  const double error = golden::max_error(whole, want);
  MESSAGE("largest error " << error);
  CHECK(error <= 1e-4);
  rwkv::ThreadPool pool(3);
  for (const std::size_t at_once : {std::size_t{1}, std::size_t{3}, std::size_t{17}}) {
    CHECK(test::same_bits(run(model, tokens, at_once), whole));
    CHECK(test::same_bits(run(model, tokens, at_once, pool), whole));
  }

  // Of two sequences in one pass, each row has its own token.
  rwkv::State<> states[2] = {rwkv::State<>(model.shape()), rwkv::State<>(model.shape())};
  rwkv::Workspace work(model.shape(), 64);
  const auto text = std::span<const rwkv::Token>(tokens);
  const rwkv::Slot<> slots[] = {{&states[0], text.first(7)}, {&states[1], text}};
  std::vector<float> both(2 * model.shape().vocab());
  model.forward(slots, rwkv::Logits::last, both, work);
  const auto last = std::span(whole).last(model.shape().vocab());
  CHECK(test::same_bits(std::span(both).last(model.shape().vocab()), last));
  CHECK(golden::state_error(states[1], golden::state(golden, "final.", model.shape())).wkv <= 1e-4);
}

namespace {

/// A model of 64 channels most of whose hidden units are zero.
rwkv::io::Checkpoint mostly_zeros(std::size_t rank = 4) {
  constexpr std::size_t c = 64, f = 256, vocab = 40;
  auto checkpoint =
      test::sample_checkpoint({.layers = 2, .embed = c, .head_size = 32, .ffn = f, .vocab = vocab});
  test::Random random(7);
  for (const std::string block : {"blocks.0.", "blocks.1."}) {
    const auto set = [&](const std::string& name, std::vector<std::size_t> shape, float low,
                         float high) {
      std::size_t size = 1;
      for (const std::size_t n : shape) size *= n;
      std::vector<float> values(size);
      for (float& v : values) v = random(low, high);
      test::replace<float>(checkpoint, block + name, shape, values);
    };
    set("ln2.weight", {c}, 1, 1);
    set("ln2.bias", {c}, 0.5f, 0.5f);
    set("ffn.x_k", {1, 1, c}, 0, 0);
    set("ffn.key.weight", {f, c}, -0.25f, 0.175f);
    set("ffn.s_emb.weight", {vocab, rank * rank}, -1, 1);
    set("ffn.s1", {c, rank}, -0.5f, 0.5f);
    set("ffn.s2", {rank, f}, -0.5f, 0.5f);
    set("ffn.s0", {f}, -1, 1);
  }
  return checkpoint;
}

}  // namespace

TEST_CASE("hidden units that are zero are skipped with DeepEmbed, too") {
  const auto checkpoint = mostly_zeros();
  const auto logits_of = [](const rwkv::Model<>& model, std::size_t rows) {
    rwkv::State<> state(model.shape());
    rwkv::Workspace work(model.shape(), rows);
    work.hidden_units().counted = true;
    const std::vector<rwkv::Token> tokens{0, 7, 14, 21, 28, 35, 2, 9, 16};
    std::vector<float> out(tokens.size() * model.shape().vocab());
    const rwkv::Slot<> slot{&state, tokens};
    model.forward(std::span(&slot, 1), rwkv::Logits::all, out, work);
    CHECK(work.hidden_units().zero * 4 > work.hidden_units().all * 3);  // or none is skipped
    CHECK(work.hidden_units().zero < work.hidden_units().all);
    return out;
  };
  for (const DType type : {DType::f32, DType::f16, DType::q8_0}) {
    CAPTURE(rwkv::name_of(type));
    auto options = is_block(type) ? rwkv::quantised(type) : rwkv::LoadOptions{.matrix_type = type};
    const rwkv::Model<> skipping(checkpoint, options);
    CHECK(skipping.weights().block(1).ffn.value.skips_zeros);
    options.skip_zeros = false;
    const auto all = logits_of(rwkv::Model<>(checkpoint, options), 9);
    for (const std::size_t rows : {1u, 2u, 4u, 9u})
      CHECK(test::same_bits(logits_of(skipping, rows), all));
  }
}

TEST_CASE(
    "a rank may be as large as the channels: no low-rank matrix is taken for a transposed one") {
  const auto checkpoint = rwkv::io::to_official_names(mostly_zeros(64));
  CHECK(rwkv::Model<>(checkpoint).shape().deep_rank() == 64);
  const auto as_it_was = mostly_zeros(64);
  CHECK(checkpoint.get("blocks.1.ffn.s2").values<float>() ==
        as_it_was.get("blocks.1.ffn.s2").values<float>());
}

TEST_CASE("tables in two parts become one in conversions, at the same bits") {
  const test::TemporaryDirectory directory;
  const auto tokens = test::tokens_of<test::Deep>();
  const auto convert = [&](const char* name, const rwkv::ConvertOptions& options) {
    rwkv::convert(official(), directory / name, options);
    return rwkv::io::read_checkpoint(directory / name);
  };
  const auto want = run(rwkv::Model<>(official()), tokens, 64);

  const auto plain = convert("m.st", {.format = rwkv::FileFormat::safetensors, .type = DType::f32});
  CHECK(plain.find("blocks.0.ffn.s_emb_x.weight") == nullptr);
  const rwkv::Model<> whole(plain);
  CHECK(whole.shape().deep_rank() == 8);
  CHECK(whole.weights().fingerprint() == rwkv::Model<>(official()).weights().fingerprint());
  CHECK(test::same_bits(run(whole, tokens, 64), want));

  const auto gguf = convert("m.gguf", {.type = DType::f32});
  CHECK(gguf.metadata.at("general.architecture") == "rwkv7-extended");  // others must not read it
  CHECK(gguf.get("blocks.1.ffn.s2").shape == std::vector<std::size_t>{8, 64});
  CHECK(test::same_bits(run(rwkv::Model<>(gguf), tokens, 64), want));

  for (const DType type : {DType::q8_0, DType::q4_0}) {
    const auto blocks = convert("q.gguf", {.type = type});
    CHECK(blocks.get("blocks.1.ffn.s_emb.weight").dtype == DType::q8_0);
    CHECK(blocks.get("blocks.1.ffn.s1").dtype == DType::f16);
    CHECK(test::same_bits(run(rwkv::Model<>(blocks), tokens, 5),
                          run(rwkv::Model<>(official(), rwkv::quantised(type)), tokens, 5)));
  }
}

TEST_CASE("tables are used where they lie, and a token reads one row of each") {
  const test::TemporaryDirectory directory;
  rwkv::convert(official(), directory / "m.st",
                {.format = rwkv::FileFormat::safetensors, .type = DType::f32});
  const Aligned one_part(bytes_of_file(directory / "m.st"));
  const Aligned two_parts(bytes_of_file(golden::deep_case().model));
  const auto checkpoint = rwkv::io::read_checkpoint(rwkv::io::View{one_part.span}, "one part");
  constexpr std::size_t row = (32 + 2 * 64) * sizeof(float);
  const auto sizes = rwkv::io::StoredWeights::sizes(checkpoint);
  CHECK(sizes.in_place == 20 * row);
  CHECK(sizes.bytes == sizes.in_place + sizes.allocated);
  const auto copied = rwkv::io::StoredWeights::sizes(
      rwkv::io::read_checkpoint(rwkv::io::View{two_parts.span}, "two parts"));
  CHECK(copied.in_place == 20 * 32 * sizeof(float));
  CHECK(copied.bytes == sizes.bytes);
  CHECK(sizes.bytes - sizes.bytes_per_token == 19 * row);
  const rwkv::io::StoredWeights weights(checkpoint);
  CHECK(weights.bytes_per_token() == sizes.bytes_per_token);
  CHECK(weights.parameters() == sizes.parameters);
}

TEST_CASE("static models with DeepEmbed have the bits of the dynamic one") {
  const auto tokens = test::tokens_of<test::Deep>();
  const auto text = std::span<const rwkv::Token>(tokens);
  const auto last = [&](const auto& model, auto& work, auto&&... exec) {
    rwkv::State<Shape> state;
    (void)model.forward(state, text.first(20), work, exec...);
    const auto logits = model.forward(state, text.subspan(20), work, exec...);
    return std::vector(logits.begin(), logits.end());
  };
  rwkv::Workspace<Shape, 3> work;
  {
    const rwkv::io::StoredWeights stored(official());
    const auto weights = test::static_weights<Shape, float>(stored);
    using Weights = std::remove_reference_t<decltype(*weights)>;
    const auto want = run(rwkv::Model<>(official()), tokens, 64);
    CHECK(test::same_bits(last(rwkv::StaticModel<Weights, rwkv::simd::Chosen>(*weights), work),
                          std::span(want).last(20)));
    const std::string source = rwkv::io::static_source(stored, "deep");
    CHECK(source.find("rwkv::Shape<2, 32, 16, 64, 20, 8, 6, 3, 10, 8>") != std::string::npos);
  }
  using Blob = rwkv::StaticBlob<Shape, DType::f32, DType::f16, DType::q8_0>;
  for (const DType type : {DType::f32, DType::f16, DType::q8_0})
    for (const bool apart : {false, true}) {
      CAPTURE(apart);
      auto options =
          is_block(type) ? rwkv::quantised(type) : rwkv::LoadOptions{.matrix_type = type};
      options.table_type = type;
      const rwkv::Model<> model(official(), options);
      const auto blobs = rwkv::io::static_blob(model.weights(), {.tables_apart = apart});
      if (apart) CHECK(blobs.tables.size() >= bytes_of(type, 20 * (32 + 32 + 2 * 64)));
      Aligned core(blobs.core), tables(blobs.tables);
      const char* why = "";
      const auto weights = Blob::from(core.span, tables.span, &why);
      REQUIRE_MESSAGE(weights.has_value(), std::string(why));
      CHECK(weights->intact());
      const auto want = run(model, tokens, 64);
      CHECK(test::same_bits(last(rwkv::StaticModel<Blob, rwkv::simd::Chosen>(*weights), work),
                            std::span(want).last(20)));
      const auto scalar = last(rwkv::StaticModel(*weights), work);
      Fetcher fetcher;
      CHECK(test::same_bits(last(rwkv::StaticModel(*weights), work, fetcher), scalar));
      if (type == DType::f32) CHECK(fetcher.rows >= 2 * tokens.size());
      const std::string header = rwkv::io::static_blob_header(model.weights(), blobs, "deep");
      CHECK(header.find("3, 10, 8>") != std::string::npos);

      using Plain = rwkv::StaticBlob<rwkv::Shape<2, 32, 16, 64, 20, 8, 6, 3, 10>, DType::f32,
                                     DType::f16, DType::q8_0>;
      CHECK_FALSE(Plain::from(core.span, tables.span, &why).has_value());
      CHECK(test::contains(why, "another DeepEmbed"));
    }
}

TEST_CASE("tables in two parts are made of embedding tables of any type and order") {
  const auto tokens = test::tokens_of<test::Deep>();
  auto turned = official();
  const auto rows = turned.get("emb.weight").values<float>();
  std::vector<float> columns;
  for (std::size_t i = 0; i < rows.size(); ++i) columns.push_back(rows[i % 20 * 32 + i / 20]);
  test::replace(turned, "emb.weight", {32, 20}, columns);
  turned.tensors["emb.weight"] = turned.get("emb.weight").transposed();
  CHECK(test::same_bits(run(rwkv::Model<>(turned), tokens, 64),
                        run(rwkv::Model<>(official()), tokens, 64)));

  auto blocks = official(), decoded = official();
  const auto bytes = test::encode(rows, DType::q8_0);
  blocks.tensors["emb.weight"] = {DType::q8_0, {20, 32}, {32, 1}, bytes};
  test::replace(decoded, "emb.weight", {20, 32}, blocks.get("emb.weight").values<float>());
  CHECK(test::same_bits(run(rwkv::Model<>(blocks), tokens, 64),
                        run(rwkv::Model<>(decoded), tokens, 64)));

  // What a mapped file is asked to forget.
  auto mapped = official();
  std::vector<const std::byte*> released;
  mapped.release = [&](std::span<const std::byte> part) { released.push_back(part.data()); };
  (void)rwkv::Model<>(mapped);
  for (const char* name : {"blocks.1.ffn.s_emb.weight", "blocks.1.ffn.s_emb_x.weight"})
    CHECK(std::count(released.begin(), released.end(), mapped.get(name).bytes.data()) == 1);
}

TEST_CASE("adapters of what two parts are made of are refused, loading and converting") {
  const test::TemporaryDirectory directory;
  const std::string emb = "emb.weight", second = "blocks.1.ffn.s_emb_x.weight";
  const auto refused = [&](const std::string& name, float scale, bool whole) {
    CAPTURE(name);
    const auto model = official();
    const auto shape = model.get(name).shape;
    rwkv::io::Checkpoint c;
    c.source = "adapter";
    const auto add = [&](const std::string& to, std::vector<std::size_t> s) {
      test::replace(c, to, s, std::vector<float>(s[0] * s[1], 0.25f));
    };
    const std::string at = whole ? "blocks.0.att.key" : name.substr(0, name.size() - 7);
    add(at + ".lora_A", {2, whole ? 32 : shape[1]});
    add(at + ".lora_B", {whole ? 32 : shape[0], 2});
    if (whole) add(name, shape);
    const std::vector<rwkv::Adapter> adapters{rwkv::make_adapter(c, scale)};
    const auto says = [&](auto f) {
      const auto sentence = test::refusal(ErrorCategory::unsupported, f);
      CHECK(test::contains(sentence, "an adapter changes " + name));
      CHECK(sentence.ends_with("convert the model without it first"));
    };
    says([&] { (void)rwkv::Model<>(model, {.adapters = adapters}); });
    says([&] { (void)rwkv::io::StoredWeights::sizes(model, {.adapters = adapters}); });
    says([&] {
      rwkv::convert(
          model, directory / "m.st",
          {.format = rwkv::FileFormat::safetensors, .type = DType::f32, .adapters = adapters});
    });
    CHECK(directory.entries().empty());

    // Of tables in one part, the embedding's may change.
    if (name != emb) return;
    rwkv::convert(model, directory / "one.st",
                  {.format = rwkv::FileFormat::safetensors, .type = DType::f32});
    CHECK_NOTHROW((void)rwkv::Model<>(rwkv::io::read_checkpoint(directory / "one.st"),
                                      {.adapters = adapters}));
    std::filesystem::remove(directory / "one.st");
  };
  for (const std::string& name : {emb, second}) {
    refused(name, 1, true);
    refused(name, 0.5f, true);
    refused(name, 1, false);
  }
}

TEST_CASE("half of DeepEmbed, or other shapes, are refused with names and numbers") {
  const auto refused = [&](auto spoil) {
    auto checkpoint = official();
    spoil(checkpoint);
    return test::refusal(ErrorCategory::format, [&] { (void)rwkv::Model<>(checkpoint); });
  };
  const auto without = [&](std::string name) {
    return refused([&](auto& c) { c.tensors.erase(name); });
  };
  for (const char* name : {"ffn.s_emb.weight", "ffn.s1", "ffn.s2", "ffn.s0", "ffn.s_emb_x.weight"})
    for (const char* block : {"blocks.0.", "blocks.1."}) {
      const std::string full = std::string(block) + name;
      if (full != "blocks.0.ffn.s1" && full != "blocks.0.ffn.s_emb_x.weight")
        CHECK(test::contains(without(full), "tensor " + full + " is missing"));
    }
  const auto as = [&](const std::string& name, std::vector<std::size_t> shape) {
    return refused([&](rwkv::io::Checkpoint& c) {
      auto& tensor = c.tensors.at(name);
      tensor.shape = shape;
      tensor.stride = rwkv::io::c_order(shape);
    });
  };
  CHECK(test::contains(as("blocks.0.ffn.s1", {64, 4}),
                       "blocks.0.ffn.s_emb.weight has shape [20, 64] where [20, 16] was expected"));
  CHECK(test::contains(as("blocks.1.ffn.s_emb.weight", {40, 32}),
                       "blocks.1.ffn.s_emb.weight has shape [40, 32] where [20, 64] was expected"));
  CHECK(test::contains(as("blocks.1.ffn.s2", {64, 8}), "blocks.1.ffn.s2 has shape [64, 8]"));
  CHECK(test::contains(as("blocks.0.ffn.s_emb_x.weight", {32, 64}),
                       "s_emb_x.weight has shape [32, 64] where [64, 32] was expected"));
  CHECK(test::contains(as("blocks.1.ffn.s0", {32}), "blocks.1.ffn.s0"));

  // Measuring and converting refuse what loading does.
  const test::TemporaryDirectory directory;
  const auto everywhere = [&](ErrorCategory category, auto spoil, const std::string& part) {
    auto checkpoint = official();
    spoil(checkpoint);
    const auto says = [&](auto f) { CHECK(test::contains(test::refusal(category, f), part)); };
    says([&] { (void)rwkv::Model<>(checkpoint); });
    says([&] { (void)rwkv::io::StoredWeights::sizes(checkpoint); });
    says([&] {
      rwkv::convert(checkpoint, directory / "m.st",
                    {.format = rwkv::FileFormat::safetensors, .type = DType::f32});
    });
    CHECK(directory.entries().empty());
  };
  everywhere(
      ErrorCategory::format,
      [](auto& c) {
        auto& tensor = c.tensors.at("blocks.1.ffn.s_emb_x.weight");
        tensor = tensor.transposed();
      },
      "blocks.1.ffn.s_emb_x.weight has shape [32, 64] where [64, 32] was expected");
  everywhere(
      ErrorCategory::unsupported,
      [](auto& c) { c.tensors.at("blocks.1.ffn.s_emb_x.weight").dtype = DType::i32; },
      "blocks.1.ffn.s_emb_x.weight has elements of type i32");
  everywhere(
      ErrorCategory::unsupported, [](auto& c) { c.tensors.erase("blocks.0.ffn.s_emb_x.weight"); },
      "blocks.1.ffn.s_emb_x.weight\" [64, 32] is the second part of a table of DeepEmbed "
      "(RWKV-7a), which block 0 lacks");
  const auto extra = [&](const std::string& name, const std::string& what) {
    everywhere(
        ErrorCategory::unsupported,
        [&](auto& c) { c.tensors[name] = c.get("blocks.0.ffn.s_emb_x.weight"); }, what);
  };
  for (const char* name :
       {"x.ffn.s_emb_x.weight", "blocks.01.ffn.s_emb_x.weight", "blocks.0.ffn.s_emb.bias"})
    extra(name, std::string(name) + "\" [64, 32] is not a part of this model's DeepEmbed");
  extra("blocks.0.ffn.s1.lora_A", "is that of a LoRA adapter, saved together with a model");

  const auto unknown = [&](std::initializer_list<const char*> missing) {
    auto checkpoint = official();
    for (const std::string name : missing) checkpoint.tensors.erase("blocks.0.ffn." + name);
    return test::refusal(ErrorCategory::unsupported, [&] { (void)rwkv::Model<>(checkpoint); });
  };
  CHECK(test::contains(unknown({"s1"}), "blocks.0.ffn.s1 is missing"));
  CHECK(test::contains(unknown({"s_emb.weight", "s_emb_x.weight", "s1", "s2", "s0"}),
                       "blocks.0.ffn.s1 is missing"));
  CHECK(test::contains(unknown({"s_emb_x.weight"}),
                       "blocks.1.ffn.s_emb_x.weight\" [64, 32] is the second part of a table"));
}
