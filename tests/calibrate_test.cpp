// SPDX-License-Identifier: Apache-2.0
#include "support/executors.hpp"
#include "support/golden.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/calibrate.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/quantised.hpp>

#include <doctest/doctest.h>

#include <numeric>

using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::Token;

namespace {

std::filesystem::path golden_model(const char* name) {
  return std::filesystem::path(RWKV_TEST_DATA) / (std::string(name) + ".model.safetensors");
}

/// Checks E[x^2] against inputs that are known from elsewhere, of one token or of several.
void check_squares(const std::vector<float>& got,
                   const std::vector<std::vector<double>>& inputs_of_tokens) {
  REQUIRE(got.size() == inputs_of_tokens[0].size());
  for (std::size_t c = 0; c < got.size(); ++c) {
    double mean = 0;
    for (const auto& inputs : inputs_of_tokens) mean += inputs[c] * inputs[c];
    mean /= static_cast<double>(inputs_of_tokens.size());
    CHECK(std::abs(got[c] - mean) <= 1e-4 * mean + 1e-7);
  }
}

std::vector<Token> some_text(std::size_t n, std::size_t vocab) {
  std::vector<Token> text(n);
  for (std::size_t i = 0; i < n; ++i)
    text[i] = static_cast<Token>((i * i * 31 + i * 7 + 3) % vocab);
  return text;
}

}  // namespace

TEST_CASE("what the state and the weights say about a first token's inputs") {
  for (const char* name : {"golden_l2_c32_f32", "golden_l2_c32_extended_f16"}) {
    CAPTURE(name);
    const auto checkpoint = rwkv::io::read_checkpoint(golden_model(name));
    const rwkv::Model<> model(checkpoint);
    const Token first = 5;
    const auto importance = rwkv::calibrate(model, std::span(&first, 1));
    rwkv::State<> state(model.shape());
    rwkv::Workspace<> work(model.shape(), 1);
    model.forward(state, std::span(&first, 1), work);

    std::size_t checked = 0;
    for (std::size_t i = 0; i < model.shape().layers(); ++i) {
      const std::string block = "blocks." + std::to_string(i) + '.';
      // The token shift of a first token: x = u - u mu.
      const auto shifted = [&](std::span<const float> u, const std::string& mu) {
        const auto values = checkpoint.get(block + mu).values();
        std::vector<double> x;
        for (std::size_t c = 0; c < u.size(); ++c) x.push_back(double{u[c]} * (1.0 - values[c]));
        return x;
      };
      const auto check = [&](const std::string& matrix, const std::vector<double>& inputs) {
        CAPTURE(matrix);
        check_squares(importance.at(block + matrix), {inputs});
        ++checked;
      };
      const std::span<const float> u = state.att_x_prev(i);
      check("att.receptance.weight", shifted(u, "att.x_r"));
      check("att.key.weight", shifted(u, "att.x_k"));
      check("att.value.weight", shifted(u, "att.x_v"));
      const auto xk = shifted(state.ffn_x_prev(i), "ffn.x_k");
      check("ffn.key.weight", xk);
      const auto key = checkpoint.get(block + "ffn.key.weight").values();
      std::vector<double> hidden(model.shape().ffn());
      for (std::size_t f = 0; f < hidden.size(); ++f) {
        double sum = 0;
        for (std::size_t c = 0; c < xk.size(); ++c) sum += xk[c] * key[f * xk.size() + c];
        hidden[f] = sum > 0 ? sum * sum : 0;
      }
      check("ffn.value.weight", hidden);
      CHECK(importance.at(block + "att.output.weight").size() == model.shape().embed());
    }
    // All matrices that conversions round, and no others.
    CHECK(importance.size() == checked + model.shape().layers() + 1);
  }
}

TEST_CASE("a head that shows its inputs") {
  auto checkpoint = test::sample_checkpoint({.embed = 32, .head_size = 16, .vocab = 32});
  std::vector<float> identity(32 * 32);
  for (std::size_t i = 0; i < 32; ++i) identity[i * 32 + i] = 1;
  test::replace(checkpoint, "head.weight", {32, 32}, identity);
  const rwkv::Model<> model(checkpoint);
  const auto text = some_text(300, 32);  // in several passes
  rwkv::State<> state(model.shape());
  rwkv::Workspace<> work(model.shape(), 1);
  std::vector<std::vector<double>> logits;
  for (const Token& token : text) {
    const auto row = model.forward(state, std::span(&token, 1), work);
    logits.emplace_back(row.begin(), row.end());
  }
  check_squares(rwkv::calibrate(model, text).at("head.weight"), logits);
}

#ifdef RWKV_GOLDENS
TEST_CASE("the inputs that the official implementation has") {
  const auto folder = std::filesystem::path(RWKV_GOLDENS) / "rwkv7" / "r7_l2_c64";
  const auto trace = golden::read(folder / "trace.safetensors");
  const rwkv::Model<> model = rwkv::load(folder / "model.safetensors");
  const auto text = golden::tokens(golden::read(folder / "golden.safetensors"), "tokens");
  for (const std::size_t tokens : {1u, 2u}) {
    const auto importance = rwkv::calibrate(model, std::span(text).first(tokens));
    const auto inputs = [&](auto&& of_token) {
      std::vector<std::vector<double>> all;
      for (std::size_t t = 0; t < tokens; ++t) all.push_back(of_token("t" + std::to_string(t)));
      return all;
    };
    const auto traced = [&](const std::string& name) {
      return inputs([&](const std::string& t) { return trace.get(t + name).values<double>(); });
    };
    check_squares(importance.at("head.weight"), traced(".ln_out"));
    for (std::size_t i = 0; i < 2; ++i) {
      const std::string layer = '.' + std::to_string(i) + '.';
      const std::string block = "blocks" + layer;
      check_squares(importance.at(block + "att.receptance.weight"), traced(layer + "xr"));
      check_squares(importance.at(block + "att.key.weight"), traced(layer + "xk"));
      check_squares(importance.at(block + "att.value.weight"), traced(layer + "xv"));
      check_squares(importance.at(block + "att.output.weight"), inputs([&](const std::string& t) {
                      auto z = trace.get(t + layer + "y_lnx").values<double>();
                      const auto bonus = trace.get(t + layer + "bonus").values<double>();
                      const auto g = trace.get(t + layer + "g").values<double>();
                      for (std::size_t c = 0; c < z.size(); ++c) z[c] = (z[c] + bonus[c]) * g[c];
                      return z;
                    }));
    }
  }
}
#endif

TEST_CASE("the same bits for every executor and every type of weights held in blocks") {
  const test::TemporaryDirectory directory;
  const auto checkpoint = test::sample_checkpoint(
      {.layers = 2, .embed = 256, .head_size = 64, .ffn = 512, .vocab = 40});
  rwkv::convert(checkpoint, directory / "blocks.gguf", {.type = rwkv::DType::q4_0});
  const auto text = some_text(test::sanitized ? 60 : 200, 40);
  // q8_0: the values of the channel mix have an order whose parts are larger.
  for (const auto& model : {rwkv::Model<>(checkpoint), rwkv::load(directory / "blocks.gguf"),
                            rwkv::Model<>(checkpoint, rwkv::quantised(rwkv::DType::q8_0))}) {
    const auto once = rwkv::calibrate(model, text);
    rwkv::ThreadPool pool(3);
    CHECK(rwkv::calibrate(model, text, pool) == once);
    test::Backwards backwards(5);
    CHECK(rwkv::calibrate(model, text, backwards) == once);
  }
}

TEST_CASE("weighted conversion puts the error where the inputs are small") {
  const test::TemporaryDirectory directory;
  auto checkpoint = rwkv::io::read_checkpoint(golden_model("golden_l2_c32_f32"));
  const rwkv::Model<> model(checkpoint);
  rwkv::ConvertOptions options{.type = rwkv::DType::q4_0};
  rwkv::convert(checkpoint, directory / "equal.gguf", options);
  options.importance = rwkv::calibrate(model, some_text(500, model.shape().vocab()));
  rwkv::convert(checkpoint, directory / "weighted.gguf", options);
  const auto equal = rwkv::io::read_checkpoint(directory / "equal.gguf");
  const auto weighted = rwkv::io::read_checkpoint(directory / "weighted.gguf");
  for (const auto& entry : options.importance) {
    const std::string& name = entry.first;
    const std::vector<float>& weights = entry.second;
    if (!rwkv::is_block(equal.get(name).dtype)) continue;
    CAPTURE(name);
    const auto want = checkpoint.get(name).values();
    const auto error = [&](const rwkv::io::Checkpoint& converted) {
      const auto got = converted.get(name).values();
      double sum = 0;
      for (std::size_t i = 0; i < got.size(); ++i)
        sum += weights[i % weights.size()] * std::pow(double{got[i]} - want[i], 2);
      return sum;
    };
    CHECK(error(weighted) < error(equal));
  }
}

TEST_CASE("progress goes from some to all") {
  const rwkv::Model<> model(test::sample_checkpoint());
  std::vector<double> seen;
  (void)rwkv::calibrate(model, some_text(300, model.shape().vocab()), rwkv::Serial{},
                        [&](double done) { seen.push_back(done); });
  CHECK(seen.size() == 3);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.back() == 1.0);
}

TEST_CASE("what is no text for a model is refused") {
  const auto refusal = [](const rwkv::Model<>& model, std::vector<Token> text, const char* part) {
    try {
      (void)rwkv::calibrate(model, text);
    } catch (const Error& error) {
      CAPTURE(error.what());
      CHECK(std::string(error.what()).find(part) != std::string::npos);
      return error.category();
    }
    FAIL("calibrated");
    return ErrorCategory::io;
  };
  auto checkpoint = test::sample_checkpoint();
  const rwkv::Model<> model(checkpoint);
  const auto vocab = static_cast<Token>(model.shape().vocab());
  CHECK(refusal(model, {}, "no text") == ErrorCategory::argument);
  CHECK(refusal(model, {1, vocab}, std::to_string(vocab).c_str()) == ErrorCategory::argument);
  auto late = some_text(200, vocab);  // in the second pass
  late.back() = vocab;
  CHECK(refusal(model, late, std::to_string(vocab).c_str()) == ErrorCategory::argument);

  test::replace(checkpoint, "blocks.0.att.x_r", {1, 1, model.shape().embed()},
                std::vector<float>(model.shape().embed(), 1e38f));
  CHECK(refusal(rwkv::Model<>(checkpoint), {1, 2, 3}, "not finite") == ErrorCategory::numeric);
}
