// SPDX-License-Identifier: Apache-2.0
// Models whose matrices are blocks, against float64 goldens of the exactly decoded weights: our own
// (tests/data/make_blocks.py), and a published model.
#include "../support/golden.hpp"
#include <rwkv/core/argmax.hpp>
#include <rwkv/io/ggmf.hpp>

#include <doctest/doctest.h>

#include <cmath>

namespace {

std::vector<float> logits_of(const rwkv::Model<>& model, std::span<const rwkv::Token> tokens) {
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 64);
  std::vector<float> logits(tokens.size() * model.shape().vocab());
  const rwkv::Slot<> slot{&state, tokens};
  model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
  return logits;
}

/// The model of `type` in `file` from exact inputs: `want` has its logits at `positions`. From
/// 8-bit inputs: near, and for most positions the same token.
void check_model(const std::filesystem::path& path, const std::string& type,
                 const rwkv::io::Checkpoint& want, const std::vector<std::size_t>& positions,
                 double largest_rms) {
  CAPTURE(type);
  const rwkv::io::MappedFile file(path);
  const auto checkpoint = rwkv::io::read_ggmf(file.bytes(), type);
  const auto dtype = type == "Q5_0" ? rwkv::DType::q5_0 : rwkv::DType::q5_1;
  CHECK(checkpoint.get("blocks.1.ffn.key.weight").dtype == dtype);
  const auto tokens = golden::tokens(want, "tokens");
  const rwkv::Model<> model(checkpoint, {.inputs = rwkv::kernels::Inputs::exact});
  CHECK(model.weights().block(1).ffn.key.type == dtype);
  const std::size_t vocab = model.shape().vocab();
  const auto logits = logits_of(model, tokens);
  const auto logits64 = want.get(type + ".logits").values<double>();
  REQUIRE(logits64.size() == positions.size() * vocab);
  for (std::size_t p = 0; p < positions.size(); ++p)
    CHECK(golden::max_error(std::span(logits).subspan(positions[p] * vocab, vocab),
                            {logits64.begin() + static_cast<std::ptrdiff_t>(p * vocab),
                             logits64.begin() + static_cast<std::ptrdiff_t>((p + 1) * vocab)}) <=
          2e-5);

  const auto fast = logits_of(rwkv::Model<>(checkpoint), tokens);
  std::size_t agree = 0;
  double squares = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const auto exact_row = std::span(logits).subspan(t * vocab, vocab);
    const auto fast_row = std::span(fast).subspan(t * vocab, vocab);
    agree += rwkv::argmax(exact_row) == rwkv::argmax(fast_row);
    for (std::size_t i = 0; i < vocab; ++i)
      squares += static_cast<double>(exact_row[i] - fast_row[i]) * (exact_row[i] - fast_row[i]);
  }
  CHECK(agree * 100 >= 95 * tokens.size());
  CHECK(std::sqrt(squares / static_cast<double>(logits.size())) < largest_rms);
}

}  // namespace

TEST_CASE("a small model of blocks computes what a float64 model does") {
  const std::filesystem::path folder = RWKV_TEST_DATA;
  const auto want = golden::read(folder / "blocks.golden.safetensors");
  std::vector<std::size_t> every(golden::tokens(want, "tokens").size());
  for (std::size_t t = 0; t < every.size(); ++t) every[t] = t;
  for (const std::string type : {"Q5_0", "Q5_1"})
    check_model(folder / ("blocks." + type + ".bin"), type, want, every, 0.05);
}

#ifdef RWKV_GOLDENS
TEST_CASE("a model of blocks computes the golden logits from inputs as they are") {
  const auto folder = std::filesystem::path(RWKV_GOLDENS) / "tiny-rwkv";
  const auto want = golden::read(folder / "golden.safetensors");
  const auto positions = want.get("positions").values<std::size_t>();
  for (const std::string type : {"Q5_0", "Q5_1"})
    check_model(folder / ("tiny-rwkv-7v0-834K-" + type + ".bin"), type, want, positions, 0.15);
}
#endif
