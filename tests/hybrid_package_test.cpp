// SPDX-License-Identifier: Apache-2.0
// The package's semantics against goldens of the published package: logits after every token, final
// caches (their order shows what was kept) and states.
#include "support/golden.hpp"
#include <rwkv/hybrid.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <fstream>

#ifdef RWKV_GOLDENS

namespace {

using nlohmann::json;
using rwkv::HybridConfig;
using rwkv::Token;

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

}  // namespace

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
      const std::size_t vocab = model.shape().vocab();
      rwkv::HybridState state(model.shape());
      rwkv::HybridWorkspace work(model.shape(), 128);
      std::vector<float> logits(tokens.size() * vocab);
      std::size_t done = 0;
      const auto call = [&](std::size_t n) {
        const rwkv::HybridSlot slot{&state, std::span(tokens).subspan(done, n)};
        model.forward(std::span(&slot, 1), rwkv::Logits::all,
                      std::span(logits).subspan(done * vocab, n * vocab), work);
        done += n;
      };
      for (const auto& op : about["ops"]) {
        const auto n = op[1].get<std::size_t>();
        if (op[0] == "seq") call(n);
        if (op[0] == "one")
          for (std::size_t i = 0; i < n; ++i) call(1);
      }
      REQUIRE(done == tokens.size());
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
