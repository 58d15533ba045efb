// SPDX-License-Identifier: Apache-2.0
// Models whose files are in memory, and how much memory a model takes.
#include "support/format_writers.hpp"
#include "support/sample_hybrid.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/convert.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/memory.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
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
  const test::SampleSizes sizes{.layers = 2, .embed = 256, .head_size = 64, .ffn = 512};
  const auto sample = test::sample_checkpoint(sizes);
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
  for (const char* name : {"f32", "f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k",
                           "q4_1", "q4_0", "iq4_nl", "q3_k", "q2_k"}) {
    CAPTURE(name);
    const auto path = directory / (std::string(name) + ".gguf");
    rwkv::convert(sample, path, {.type = rwkv::type_named(name).value(), .self_test = false});
    const auto checkpoint = rwkv::io::read_checkpoint(path);
    const rwkv::io::Tensor& table = checkpoint.get("emb.weight");
    CHECK(check(checkpoint, {}, 128) == table.bytes.size());
    CHECK(check(checkpoint, {.matrix_type = DType::bf16}, 1) == table.bytes.size());
    CHECK(check(checkpoint, {.table_type = DType::f16}, 0) ==
          (table.dtype == DType::f16 ? table.bytes.size() : 0));
  }
  const Bytes bytes = test::to_safetensors(test::sample_model(), DType::f64);
  CHECK(check(rwkv::io::read_checkpoint(bytes, "m"), {}, 3) == 0);

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
  CHECK_THROWS_AS((void)memory_needed(checkpoint, {.matrix_type = DType::q4_0}), rwkv::Error);
  checkpoint.tensors.erase("blocks.1.ffn.key.weight");
  CHECK_THROWS_WITH_AS((void)memory_needed(checkpoint),
                       doctest::Contains("blocks.1.ffn.key.weight is missing"), rwkv::Error);
}
