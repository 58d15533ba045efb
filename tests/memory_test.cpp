// SPDX-License-Identifier: Apache-2.0
// Models whose files are in memory, how much memory a model takes, and whose; files that change.
#include "support/format_writers.hpp"
#include "support/refusal.hpp"
#include "support/sample_hybrid.hpp"
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/memory.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <memory_resource>

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

using rwkv::DType;
using rwkv::ErrorCategory;
using rwkv::memory_needed;
using test::Bytes;

namespace {

std::vector<float> logits(const rwkv::Model<>& model) {
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 4);
  const rwkv::Token tokens[] = {1, 7, 3};
  const auto row = model.forward(state, tokens, work);
  return {row.begin(), row.end()};
}

Bytes hybrid_bytes() {
  std::vector<test::SampleTensor> tensors = test::sample_model(test::hybrid_sizes);
  for (auto& tensor : tensors) tensor.name = "rwkv." + tensor.name;
  for (auto& tensor : test::sample_sparse_blocks(1, 128, 160)) tensors.push_back(tensor);
  return test::to_safetensors(tensors, DType::f16);
}

using test::contains;
using test::refusal;

bool lies_in(const void* p, std::span<const std::byte> bytes) {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  return at >= begin && at < begin + bytes.size();
}

/// Files in several formats, and the sample model in blocks.
std::vector<Bytes> some_files() {
  const test::TemporaryDirectory directory;
  const auto sample = test::sample_model();
  std::vector<Bytes> files{test::to_safetensors(sample, DType::f16),
                           test::to_pth(sample, DType::bf16),
                           test::gguf_of(sample, DType::f16, 4).finish(), test::to_ggmf(sample, 1),
                           test::to_safetensors(test::with_fla_names(sample, false))};
  const auto wide = test::sample_checkpoint({.layers = 2, .embed = 64, .head_size = 32, .ffn = 96});
  rwkv::convert(wide, directory / "q", {.type = DType::q8_0, .self_test = false});
  const std::string quantised = test::read_file(directory / "q");
  const auto bytes = std::as_bytes(std::span(quantised));
  files.emplace_back(bytes.begin(), bytes.end());
  return files;
}

/// Counts, and refuses on request.
class Memory : public std::pmr::memory_resource {
 public:
  std::size_t bytes = 0, blocks = 0, ever = 0;
  bool full = false;
  bool broken = false;  // throws what is no std::bad_alloc

 private:
  void* do_allocate(std::size_t n, std::size_t align) override {
    if (full) throw std::bad_alloc();
    if (broken) throw std::runtime_error("broken");
    void* const p = ::operator new (n, std::align_val_t{align});
    std::fill_n(static_cast<std::byte*>(p), n, std::byte{0xff});
    CHECK(align >= rwkv::alignment);
    bytes += n, ever += n, ++blocks;
    return p;
  }
  void do_deallocate(void* p, std::size_t n, std::size_t align) override {
    bytes -= n, --blocks;
    ::operator delete (p, std::align_val_t{align});
  }
  [[nodiscard]] bool do_is_equal(const memory_resource& other) const noexcept override {
    return this == &other;
  }
};

}  // namespace

TEST_CASE("a model of any format is read from memory") {
  const test::TemporaryDirectory directory;
  const auto sample = test::sample_model();
  for (const Bytes& bytes :
       {test::to_safetensors(sample, DType::f16), test::to_pth(sample, DType::bf16),
        test::gguf_of(sample, DType::f16, 4).finish(), test::to_ggmf(sample, 1),
        test::to_safetensors(test::with_fla_names(sample, false))}) {
    test::write_file(directory / "m", bytes);
    const auto expected = logits(rwkv::load(directory / "m"));
    CHECK(logits(rwkv::Model(std::span<const std::byte>(bytes))) == expected);
    Bytes shifted(bytes.size() + 1);  // no element is aligned for its type
    std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
    CHECK(logits(rwkv::Model(std::span<const std::byte>(shifted).subspan(1))) == expected);

    rwkv::Model<> kept = [&] {
      Bytes copy = bytes;
      return rwkv::Model(std::move(copy));
    }();
    const rwkv::Model<> another = kept;
    CHECK(logits(another) == expected);
  }
  CHECK_THROWS_WITH_AS(rwkv::Model(Bytes(20)), doctest::Contains("the model in memory: "),
                       rwkv::Error);
}

TEST_CASE("a hybrid model is read from memory") {
  const Bytes bytes = hybrid_bytes();
  const rwkv::HybridModel view{std::span<const std::byte>(bytes)};
  const rwkv::HybridModel owner{Bytes(bytes)};
  CHECK(view.shape().sparse_blocks() == 1);
  rwkv::HybridState a(view.shape());
  rwkv::HybridState b(owner.shape());
  rwkv::HybridWorkspace work(view.shape(), 4);
  const rwkv::Token tokens[] = {1, 7, 3};
  const auto row = view.forward(a, tokens, work);
  const std::vector<float> first(row.begin(), row.end());
  const auto again = owner.forward(b, tokens, work);
  CHECK(std::equal(first.begin(), first.end(), again.begin(), again.end()));
}

TEST_CASE("what a model needs is what it takes") {
  const test::TemporaryDirectory directory;
  const test::SampleSizes sizes{
      .layers = 1, .embed = 256, .head_size = 64, .ffn = 512, .vocab = 2048};
  auto few = sizes;
  few.vocab = 40;
  const auto many_tokens = test::sample_checkpoint(sizes),
             few_tokens = test::sample_checkpoint(few);
  const auto check = [](const rwkv::io::Checkpoint& checkpoint, const rwkv::LoadOptions& options,
                        std::size_t rows) {
    const auto needed = memory_needed(checkpoint, options, rows);
    const rwkv::Model<> model(checkpoint, options);
    CHECK(needed.weights == model.weights().bytes());
    CHECK(needed.bytes_per_token == model.weights().bytes_per_token());
    CHECK(needed.parameters == model.weights().parameters());
    CHECK(needed.state == rwkv::State(model.shape()).bytes());
    CHECK(needed.workspace == rwkv::Workspace(model.shape(), rows).bytes());
    CHECK(needed.total() == needed.weights - needed.in_place + needed.state + needed.workspace);
    return needed.in_place;
  };
  struct Case {
    const char* type;
    bool large;  // a table that is read where it lies in the file
  };
  test::Thinned types(4);
  for (const Case& c :
       {Case{"f32", true}, Case{"f16", true}, Case{"bf16", true}, Case{"q8_0", true},
        Case{"q6_k", false}, Case{"q5_k", false}, Case{"q5_1", false}, Case{"q5_0", false},
        Case{"q4_k", true}, Case{"q4_1", false}, Case{"q4_0", false}, Case{"iq4_nl", false},
        Case{"q3_k", false}, Case{"q2_k", false}}) {
    if (types.leaves_out()) continue;
    CAPTURE(c.type);
    const auto path = directory / (std::string(c.type) + ".gguf");
    rwkv::convert(c.large ? many_tokens : few_tokens, path,
                  {.type = rwkv::type_named(c.type).value(), .self_test = false});
    const auto checkpoint = rwkv::io::read_checkpoint(path);
    const rwkv::io::Tensor& table = checkpoint.get("emb.weight");
    const std::size_t in_place = c.large ? table.bytes.size() : 0;
    CHECK(check(checkpoint, {}, 128) == in_place);
    CHECK(check(checkpoint, {.matrix_type = DType::bf16}, 1) == in_place);
    CHECK(check(checkpoint, {.table_type = DType::f16}, 0) ==
          (table.dtype == DType::f16 ? in_place : 0));
  }
  const Bytes bytes = test::to_safetensors(test::sample_model(), DType::f64);
  CHECK(check(rwkv::io::read_checkpoint(bytes, "m"), {}, 3) == 0);
  test::write_file(directory / "small", test::to_safetensors(test::sample_model(), DType::f32));
  CHECK(check(rwkv::io::read_checkpoint(directory / "small"), {}, 3) == 0);

  const Bytes hybrid = hybrid_bytes();
  const auto checkpoint = rwkv::io::read_checkpoint(hybrid, "h");
  const auto needed = memory_needed(checkpoint, {}, 5);
  const rwkv::HybridModel model(checkpoint);
  CHECK(needed.weights == model.weights().bytes());
  CHECK(needed.state == rwkv::HybridState(model.shape()).bytes());
  CHECK(needed.workspace == rwkv::HybridWorkspace(model.shape(), 5).bytes());
}

TEST_CASE("a model that cannot be loaded needs nothing but a sentence") {
  auto checkpoint = test::sample_checkpoint();
  bool told = false;
  (void)memory_needed(checkpoint, {.progress = [&](double) { told = true; }});
  CHECK_FALSE(told);
  CHECK_THROWS_AS((void)memory_needed(checkpoint, {.matrix_type = DType::i8}), rwkv::Error);
  CHECK_THROWS_WITH_AS((void)memory_needed(checkpoint, {.matrix_type = static_cast<DType>(77)}),
                       doctest::Contains("type number 77"), rwkv::Error);
  checkpoint.tensors.erase("blocks.1.ffn.key.weight");
  CHECK_THROWS_WITH_AS((void)memory_needed(checkpoint),
                       doctest::Contains("blocks.1.ffn.key.weight is missing"), rwkv::Error);
}

TEST_CASE("nothing that is made of a span needs its bytes") {
  for (const Bytes& file : some_files()) {
    const auto expected = logits(rwkv::Model(rwkv::io::View{file}));
    Bytes bytes = file;
    const rwkv::Model<> model{std::span<const std::byte>(bytes)};
    const auto checkpoint = rwkv::io::read_checkpoint(std::span<const std::byte>(bytes), "span");
    std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
    CHECK(logits(model) == expected);
    CHECK(logits(rwkv::Model(checkpoint)) == expected);
    CHECK(!lies_in(model.weights().emb().data, bytes));
    // A table that is copied keeps its type: it takes as much memory as it did in the file.
    CHECK(model.weights().bytes() == rwkv::Model(rwkv::io::View{file}).weights().bytes());
  }
}

TEST_CASE("nor does a hybrid model") {
  Bytes bytes = hybrid_bytes();
  const rwkv::HybridModel model{std::span<const std::byte>(bytes)};
  const rwkv::HybridModel view{rwkv::io::View{bytes}};
  CHECK(lies_in(view.weights().emb().data, bytes));
  const auto run = [](const rwkv::HybridModel& m) {
    rwkv::HybridState state(m.shape());
    rwkv::HybridWorkspace work(m.shape(), 4);
    const rwkv::Token tokens[] = {1, 7, 3};
    const auto row = m.forward(state, tokens, work);
    return std::vector<float>(row.begin(), row.end());
  };
  const auto expected = run(view);
  std::fill(bytes.begin(), bytes.end(), std::byte{0xff});
  CHECK(run(model) == expected);
}

TEST_CASE("a view stays where it is, and says so in its type") {
  const Bytes bytes = test::to_safetensors(test::sample_model(), DType::f16);
  const rwkv::Model<> model{rwkv::io::View{bytes}};
  CHECK(lies_in(model.weights().emb().data, bytes));
  const auto checkpoint = rwkv::io::read_checkpoint(rwkv::io::View{bytes}, "view");
  CHECK(checkpoint.in_place);
  CHECK(memory_needed(checkpoint).in_place > 0);
  CHECK(memory_needed(rwkv::io::read_checkpoint(bytes, "copy")).in_place == 0);
}

TEST_CASE("a file that is read, not mapped, is not needed afterwards") {
  const test::TemporaryDirectory directory;
  for (const Bytes& file : some_files()) {
    test::write_file(directory / "m", file);
    const auto expected = logits(rwkv::load(directory / "m"));
    const rwkv::Model<> model = rwkv::load(directory / "m", {.map = false});
    const auto checkpoint = rwkv::io::read_checkpoint(directory / "m", rwkv::io::FileAccess::read);
    CHECK(memory_needed(checkpoint).in_place == 0);
    CHECK(memory_needed(checkpoint).weights == model.weights().bytes());
    test::write_file(directory / "m", Bytes(10));
    CHECK(logits(model) == expected);
    CHECK(logits(rwkv::Model(checkpoint)) == expected);
  }
}

#if __has_include(<unistd.h>)
TEST_CASE("a mapped file that becomes shorter is an error, not a signal") {
  const test::TemporaryDirectory directory;
  const auto path = directory / "m";
  // Pages beyond the end of a file kill who reads them: several of them, and the table at the end.
  const auto sample =
      test::sample_model({.layers = 2, .embed = 64, .head_size = 32, .vocab = 1100});
  const Bytes file = test::to_safetensors(sample, DType::f32);
  const auto cut = [&] { REQUIRE(::truncate(path.c_str(), 4096) == 0); };
  const auto says = [](auto&& f) {
    return contains(refusal(ErrorCategory::io, f), "cut to 4096 bytes");
  };

  test::write_file(path, file);
  const auto checkpoint = rwkv::io::read_checkpoint(path);
  cut();
  CHECK(says([&] { rwkv::Model<> model(checkpoint); }));
  CHECK(says([&] { (void)checkpoint.get("head.weight"); }));
  CHECK(says([&] { (void)memory_needed(checkpoint); }));

  test::write_file(directory / "n", file);  // another file: the first one is still open
  std::filesystem::rename(directory / "n", path);
  int told = 0;
  CHECK(says([&] {
    (void)rwkv::load(path, {.progress = [&](double) {
                       if (++told == 5) cut();
                     }});
  }));
  CHECK(told == 5);

  test::write_file(directory / "n", file);
  std::filesystem::rename(directory / "n", path);
  const auto model = rwkv::load(path);
  const auto expected = logits(model);
  rwkv::State state = model.initial_state();
  const rwkv::State<> before = state;
  rwkv::Workspace work(model.shape(), 4);
  const std::vector<rwkv::Token> tokens{1099, 450};
  cut();
  CHECK(says([&] { model.forward(state, tokens, work); }));
  CHECK(state == before);
  std::filesystem::rename(path, directory / "o");  // the same file, whole again
  {
    std::FILE* const out = std::fopen((directory / "o").c_str(), "r+b");
    REQUIRE(out != nullptr);
    CHECK(std::fwrite(file.data(), 1, file.size(), out) == file.size());
    std::fclose(out);
  }
  CHECK(logits(model) == expected);
}
#endif

TEST_CASE("weights are where the program wants them, in one block as large as foretold") {
  for (const Bytes& file : some_files()) {
    for (const bool in_place : {false, true}) {
      Memory memory;
      const rwkv::LoadOptions options{.memory = &memory};
      auto checkpoint = rwkv::io::read_checkpoint(rwkv::io::View{file}, "file");
      checkpoint.in_place = in_place;
      const auto needed = memory_needed(checkpoint, options);
      CHECK(memory.ever == 0);
      const auto expected = logits(rwkv::Model(checkpoint));
      {
        std::optional<rwkv::Model<>> model(std::in_place, checkpoint, options);
        CHECK(memory.blocks == 1);
        CHECK(memory.bytes == needed.allocated);
        CHECK(needed.allocated >= needed.weights - needed.in_place);
        CHECK(needed.allocated < needed.weights - needed.in_place + 64 * 100);
        const rwkv::Model<> copy = *model;
        model.reset();
        CHECK(memory.blocks == 1);
        CHECK(logits(copy) == expected);
      }
      CHECK(memory.blocks == 0);
      CHECK(memory.bytes == 0);
    }
  }
}

TEST_CASE("memory that refuses, and models that turn out to be none") {
  auto checkpoint = test::sample_checkpoint();
  Memory memory;
  memory.full = true;
  CHECK(contains(
      refusal(ErrorCategory::memory, [&] { rwkv::Model<> m(checkpoint, {.memory = &memory}); }),
      std::to_string(memory_needed(checkpoint).allocated) + " bytes of weights"));
  memory.full = false;
  memory.broken = true;
  CHECK_THROWS_AS(rwkv::Model<>(checkpoint, {.memory = &memory}), std::runtime_error);
  memory.broken = false;
  CHECK_THROWS_AS(
      rwkv::Model<>(checkpoint, {.progress = [](double) { throw std::runtime_error("enough"); },
                                 .memory = &memory}),
      std::runtime_error);
  CHECK(memory.ever > 0);
  CHECK(memory.bytes == 0);
  const rwkv::HybridModel hybrid(test::sample_hybrid(), {}, {.memory = &memory});
  CHECK(memory.bytes == memory_needed(test::sample_hybrid()).allocated);
}

TEST_CASE("what many sequences and threads need, and caches with room for their tokens") {
  const auto checkpoint = test::sample_checkpoint();
  const auto one = memory_needed(checkpoint, {}, 16);
  const auto many =
      memory_needed(checkpoint, {}, {.rows = 16, .workspaces = 3, .sequences = 50, .tokens = 1000});
  CHECK(many.state == one.state);
  CHECK(many.workspace == one.workspace);
  CHECK(many.total() == one.weights - one.in_place + 50 * one.state + 3 * one.workspace);

  for (const std::size_t max_cache : {0u, 100u, 700u})
    for (const auto semantics : {rwkv::HybridSemantics::paper, rwkv::HybridSemantics::package})
      for (const auto type : {rwkv::CacheType::f32, rwkv::CacheType::f16, rwkv::CacheType::int8}) {
        rwkv::HybridConfig config{.semantics = semantics, .chunk = 3, .cache_type = type};
        config.max_cache = max_cache;
        config.min_cache = 60;
        config.window = 7;
        auto file = test::sample_hybrid();
        for (const auto& [key, value] : config.items()) file.metadata["rwkv.hybrid." + key] = value;
        const rwkv::HybridModel model(file);
        REQUIRE(model.config() == config);
        for (const std::size_t tokens : {0u, 1u, 64u, 93u, 94u, 500u, 5000u}) {
          rwkv::HybridState state(model.shape());
          state.reserve(tokens);
          CHECK(memory_needed(file, {}, {.tokens = tokens}).state == state.bytes());
        }
      }
}

TEST_CASE("what no memory holds is not made small by an overflow") {
  constexpr std::size_t huge[] = {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 8 + 1};
  for (const auto& checkpoint : {test::sample_checkpoint(), test::sample_hybrid()})
    for (const std::size_t n : huge) {
      CHECK(memory_needed(checkpoint, {}, {.rows = n}).workspace == SIZE_MAX);
      CHECK(memory_needed(checkpoint, {}, {.rows = n}).total() == SIZE_MAX);
      CHECK(memory_needed(checkpoint, {}, {.sequences = n}).total() == SIZE_MAX);
      CHECK(memory_needed(checkpoint, {}, {.workspaces = n}).total() == SIZE_MAX);
    }
  auto uncapped = test::sample_hybrid();
  uncapped.metadata["rwkv.hybrid.max"] = "0";
  for (const std::size_t n : huge) {
    CHECK(memory_needed(uncapped, {}, {.tokens = n}).state == SIZE_MAX);
    rwkv::HybridState state(rwkv::HybridModel(uncapped).shape());
    const rwkv::HybridState before = state;
    CHECK_THROWS_AS(state.reserve(n), std::bad_alloc);
    CHECK(state.bytes() == before.bytes());
  }
}
