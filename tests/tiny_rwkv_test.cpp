// SPDX-License-Identifier: Apache-2.0
// A model that others published, from its own files: the logits they expect, and float64 goldens of
// a longer text.
#include "support/golden.hpp"
#include <rwkv/core/argmax.hpp>

#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

#ifdef RWKV_GOLDENS

namespace {

const auto folder = std::filesystem::path(RWKV_GOLDENS) / "tiny-rwkv";

rwkv::Model<> published(const std::string& type) {
  return rwkv::load(folder / ("tiny-rwkv-7v0-834K-" + type + ".bin"));
}

}  // namespace

TEST_CASE("the published logits, from the file in f32 and in f16") {
  std::ifstream file(folder / "expected-logits-7v0-834K.bin", std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> expected(256);
  REQUIRE(bytes.size() == expected.size() * sizeof(float));
  std::memcpy(expected.data(), bytes.data(), bytes.size());
  const std::vector<rwkv::Token> prompt{34, 105, 110};  // "in
  for (const char* type : {"FP32", "FP16"}) {
    CAPTURE(type);
    const auto model = published(type);
    rwkv::State state(model.shape());
    rwkv::Workspace work(model.shape());
    const auto logits = model.forward(state, prompt, work);
    double worst = 0, sum = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const double error = double{logits[i]} - double{expected[i]};
      worst = std::max(worst, std::abs(error));
      sum += error;
    }
    MESSAGE(type << ": largest error " << worst << ", sum of errors " << sum);
    // What was published is of the f32 weights; for f16 its authors allow this sum.
    if (std::string(type) == "FP32") CHECK(worst <= 2e-5);
    CHECK(std::abs(sum) <= (std::string(type) == "FP32" ? 0.001 : 0.005766));
  }
}

TEST_CASE("a longer text agrees with the float64 goldens, and so do the states") {
  const auto want = golden::read(folder / "golden.safetensors");
  const auto tokens = golden::tokens(want, "tokens");
  const auto positions = want.get("positions").values<std::size_t>();
  for (const std::string type : {"FP32", "FP16"}) {
    CAPTURE(type);
    const auto model = published(type);
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
    const auto best = want.get(type + ".argmax").values<rwkv::Token>();
    REQUIRE(best.size() == tokens.size());
    for (std::size_t t = 0; t < tokens.size(); ++t)
      CHECK(rwkv::argmax(std::span(logits).subspan(t * vocab, vocab)) == best[t]);
    if (type != "FP32") continue;
    const auto error =
        golden::state_error(state, golden::state(want, "FP32.final.", model.shape()));
    CHECK(error.shift <= 2e-5);
    CHECK(error.wkv <= 1e-5);
  }
}

#else

// Before doctest's own output, for ctest.
[[maybe_unused]] const int told = std::puts("skipped: everything (no ../shared/goldens)");

#endif
