// SPDX-License-Identifier: Apache-2.0
// Both semantics against a float64 model (tests/data/make_hybrid.py), and the package's against
// goldens of the published package: logits after every token, final caches (their order shows what
// was kept) and states.
#include "support/golden.hpp"
#include "support/sample_checkpoint.hpp"
#include <rwkv/hybrid.hpp>
#include <rwkv/io/hybrid_state_file.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <fstream>

namespace {

using nlohmann::json;
using rwkv::HybridConfig;
using rwkv::Token;

/// Published configurations do not name the semantics.
HybridConfig config_of(const json& given) {
  HybridConfig config;
  config.semantics = rwkv::HybridSemantics::package;
  for (const auto& [key, value] : given.items())
    config.set(key, value.is_string() ? value.get<std::string>() : value.dump(), "golden");
  return config;
}

/// [rows][C] of a cache.
std::pair<std::vector<float>, std::vector<float>> contents(const rwkv::KvCache& cache) {
  return rwkv::io::detail::cache_values(cache);
}

/// The weights that the golden file describes.
rwkv::io::Checkpoint described(const std::string& tensors) {
  rwkv::io::Checkpoint checkpoint;
  checkpoint.source = "described";
  std::uint32_t k = 0;
  for (const json& entry : json::parse(tensors)) {
    const auto shape = entry[1].get<std::vector<std::size_t>>();
    const auto middle = entry[2].get<float>(), spread = entry[3].get<float>();
    std::size_t count = 1;
    for (const std::size_t d : shape) count *= d;
    std::vector<float> values(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      std::uint32_t u = i * 0x9e3779b1u + k * 0x85ebca77u + 1;
      u = (u ^ u >> 15) * 0x2c1b3c6du;
      u = (u ^ u >> 12) * 0x297a2d39u;
      values[i] = middle + spread * ((static_cast<float>(u >> 21) - 1024) / 1024);
    }
    checkpoint.tensors[entry[0].get<std::string>()] =
        test::tensor(shape, values, checkpoint.storage);
    ++k;
  }
  return checkpoint;
}

/// Feeds `tokens` in calls of these sizes.
std::vector<float> run(const rwkv::HybridModel& model, rwkv::HybridState& state,
                       std::span<const Token> tokens, const std::vector<std::size_t>& calls) {
  const std::size_t vocab = model.shape().vocab();
  rwkv::HybridWorkspace work(model.shape(), 128);
  std::vector<float> logits(tokens.size() * vocab);
  std::size_t done = 0;
  for (const std::size_t n : calls) {
    const rwkv::HybridSlot slot{&state, tokens.subspan(done, n)};
    model.forward(std::span(&slot, 1), rwkv::Logits::all,
                  std::span(logits).subspan(done * vocab, n * vocab), work);
    done += n;
  }
  REQUIRE(done == tokens.size());
  return logits;
}

/// Every eighth channel.
std::vector<float> thinned(const std::vector<float>& values) {
  std::vector<float> out;
  for (std::size_t i = 0; i < values.size(); i += 8) out.push_back(values[i]);
  return out;
}

}  // namespace

TEST_CASE("both semantics agree with a float64 model") {
  const auto golden =
      golden::read(std::filesystem::path(RWKV_TEST_DATA) / "hybrid.golden.safetensors");
  const auto checkpoint = described(golden.metadata.at("tensors"));
  const json scenarios = json::parse(golden.metadata.at("scenarios"));
  CHECK(scenarios.size() == 5);
  for (const auto& item : scenarios.items()) {
    const std::string prefix = item.key() + ".";
    CAPTURE(prefix);
    const rwkv::HybridModel model(checkpoint, config_of(item.value()["config"]));
    const auto calls = item.value()["calls"].get<std::vector<std::size_t>>();
    const auto tokens = golden::tokens(golden, prefix + "tokens");
    rwkv::HybridState state(model.shape());
    const auto logits = run(model, state, tokens, calls);
    const auto want = [&](const std::string& name) {
      return golden.get(prefix + name).values<double>();
    };
    CHECK(golden::max_error(logits, want("logits")) <= 1e-4);
    REQUIRE(model.shape().sparse_blocks() == 2);
    for (std::size_t j = 0; j < 2; ++j) {
      CAPTURE(j);
      const std::string block = std::to_string(j) + ".";
      const auto [keys, values] = contents(state.cache(j));
      CHECK(golden::max_error(thinned(keys), want(block + "k_cache")) <= 5e-5);
      CHECK(golden::max_error(thinned(values), want(block + "v_cache")) <= 5e-5);
      CHECK(golden::max_error(state.sparse_ffn_x_prev(j), want(block + "ffn_x_prev")) <= 2e-5);
    }
    const std::size_t c = model.shape().embed();
    for (const bool attention : {true, false}) {
      const auto rows = want(attention ? "att_x_prev" : "ffn_x_prev");
      for (std::size_t l = 0; l < model.shape().layers(); ++l)
        CHECK(golden::max_error(attention ? state.rwkv().att_x_prev(l) : state.rwkv().ffn_x_prev(l),
                                {rows.begin() + static_cast<std::ptrdiff_t>(l * c),
                                 rows.begin() + static_cast<std::ptrdiff_t>((l + 1) * c)}) <= 2e-5);
    }
  }
}

#ifdef RWKV_GOLDENS

TEST_CASE("package semantics agree with the published package") {
  for (const char* name : {"rx_c128_r2m1", "rx_c64_r5m2"}) {
    const auto folder = std::filesystem::path(RWKV_GOLDENS) / "rwkvx" / name;
    const auto golden = golden::read(folder / "golden.safetensors");
    std::ifstream in(folder / "info.json");
    const json info = json::parse(in);
    const auto checkpoint = rwkv::io::read_checkpoint(folder / "model.pth");
    for (const auto& item : info["scenarios"].items()) {
      const std::string scenario = item.key();
      const json& about = item.value();
      CAPTURE(name);
      CAPTURE(scenario);
      const rwkv::HybridModel model(checkpoint, config_of(about["config"]));
      const auto tokens = golden::tokens(golden, scenario + ".tokens");
      rwkv::HybridState state(model.shape());
      std::vector<std::size_t> calls;
      for (const auto& op : about["ops"]) {
        const auto n = op[1].get<std::size_t>();
        if (op[0] == "seq")
          calls.push_back(n);
        else
          calls.insert(calls.end(), n, 1);
      }
      const auto logits = run(model, state, tokens, calls);
      CHECK(golden::max_error(logits, golden.get(scenario + ".logits").values<double>()) <= 2e-4);
      for (std::size_t j = 0; j < model.shape().sparse_blocks(); ++j) {
        CAPTURE(j);
        const std::string prefix = scenario + ".final.moba." + std::to_string(j) + ".";
        const auto [keys, values] = contents(state.cache(j));
        CHECK(state.cache(j).size() == about["final_cache_len"][j].get<std::size_t>());
        CHECK(golden::max_error(keys, golden.get(prefix + "k_cache").values<double>()) <= 2e-4);
        CHECK(golden::max_error(values, golden.get(prefix + "v_cache").values<double>()) <= 2e-4);
        CHECK(golden::max_error(state.sparse_ffn_x_prev(j),
                                golden.get(prefix + "ffn_x_prev").values<double>()) <= 2e-5);
      }
      const rwkv::DynamicShape& rwkv7 = model.shape();
      const auto error =
          golden::state_error(state.rwkv(), golden::state(golden, scenario + ".final.", rwkv7));
      CHECK(error.shift <= 2e-4);
      CHECK(error.wkv <= 2e-5);
    }
  }
}

#endif
