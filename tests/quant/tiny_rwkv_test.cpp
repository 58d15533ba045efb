// SPDX-License-Identifier: Apache-2.0
// A published model whose matrices are blocks, against float64 goldens of the exactly decoded
// weights.
#include "../support/golden.hpp"
#include <rwkv/core/argmax.hpp>
#include <rwkv/io/ggmf.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstdio>

#ifdef RWKV_GOLDENS

TEST_CASE("a model of blocks computes the golden logits from inputs as they are") {
  const auto folder = std::filesystem::path(RWKV_GOLDENS) / "tiny-rwkv";
  const auto want = golden::read(folder / "golden.safetensors");
  const auto tokens = golden::tokens(want, "tokens");
  const auto positions = want.get("positions").values<std::size_t>();
  for (const std::string type : {"Q5_0", "Q5_1"}) {
    CAPTURE(type);
    const rwkv::io::MappedFile file(folder / ("tiny-rwkv-7v0-834K-" + type + ".bin"));
    const auto checkpoint = rwkv::io::read_ggmf(file.bytes(), type);
    CHECK(checkpoint.get("blocks.3.ffn.key.weight").dtype ==
          (type == "Q5_0" ? rwkv::DType::q5_0 : rwkv::DType::q5_1));
    const rwkv::Model<> model(checkpoint, {.inputs = rwkv::kernels::Inputs::exact});
    CHECK(model.weights().block(3).ffn.key.type == checkpoint.get("blocks.3.ffn.key.weight").dtype);
    const rwkv::Model<> fast(checkpoint);
    const std::size_t vocab = model.shape().vocab();
    rwkv::State state(model.shape());
    rwkv::Workspace work(model.shape(), 64);
    std::vector<float> logits(tokens.size() * vocab);
    const rwkv::Slot<> slot{&state, tokens};
    model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
    const auto logits64 = want.get(type + ".logits").values<double>();
    for (std::size_t p = 0; p < positions.size(); ++p)
      CHECK(golden::max_error(std::span(logits).subspan(positions[p] * vocab, vocab),
                              {logits64.begin() + static_cast<std::ptrdiff_t>(p * vocab),
                               logits64.begin() + static_cast<std::ptrdiff_t>((p + 1) * vocab)}) <=
            2e-5);

    // With 8-bit inputs: near, and for most positions the same token.
    rwkv::State fast_state(model.shape());
    std::vector<float> fast_logits(logits.size());
    const rwkv::Slot<> fast_slot{&fast_state, tokens};
    fast.forward(std::span(&fast_slot, 1), rwkv::Logits::all, fast_logits, work);
    std::size_t agree = 0;
    double squares = 0;
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const auto exact_row = std::span(logits).subspan(t * vocab, vocab);
      const auto fast_row = std::span(fast_logits).subspan(t * vocab, vocab);
      agree += rwkv::argmax(exact_row) == rwkv::argmax(fast_row);
      for (std::size_t i = 0; i < vocab; ++i)
        squares += static_cast<double>(exact_row[i] - fast_row[i]) * (exact_row[i] - fast_row[i]);
    }
    CHECK(agree * 100 >= 95 * tokens.size());
    CHECK(std::sqrt(squares / static_cast<double>(logits.size())) < 0.15);
  }
}

#else

// Before doctest's own output, for ctest.
[[maybe_unused]] const int told = std::puts("skipped: everything (no ../shared/goldens)");

#endif
