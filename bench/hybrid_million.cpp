// SPDX-License-Identifier: Apache-2.0
// A hybrid model (RWKV-X) with a capped cache, shown to take constant time and memory: decodes a
// million tokens and prints, per twentieth of the way, the time of a token, the bytes of the state
// and the resident memory of the process. The weights are random; their size is what matters.
//
//   hybrid_million [--tokens N] [--chunk N] [--topk K] [--max N] [--min N] [--window N]
//                  [--cache f32|f16|int8] [--csv FILE]
#include "options.hpp"
#include <rwkv/core/argmax.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/train/initialise.hpp>
#include <rwkv/train/model_file.hpp>
#include <rwkv/train/random.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

constexpr const char* usage =
    "hybrid_million [--tokens N] [--chunk N] [--topk K] [--max N] [--min N] [--window N]\n"
    "                      [--cache f32|f16|int8] [--csv FILE]";

std::size_t resident_bytes() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

/// Two RWKV-7 blocks and a sparse one, with weights that are nowhere zero.
rwkv::HybridModel random_model(const rwkv::HybridConfig& config) {
  namespace train = rwkv::train;
  const train::SparseLayout sparse{.blocks = 1, .ffn = 128, .config = config};
  const auto layout =
      std::make_shared<const train::Layout>(rwkv::Dimensions{.layers = 2,
                                                             .embed = 64,
                                                             .head_size = 32,
                                                             .ffn = 128,
                                                             .vocab = 64,
                                                             .decay_rank = 8,
                                                             .icl_rank = 8,
                                                             .value_rank = 8,
                                                             .gate_rank = 8},
                                            rwkv::Eigenvalues::standard, false, sparse);
  train::Parameters p = train::initialise(layout, 1);
  train::Random random(2);
  for (const train::TensorInfo& t : layout->tensors())
    if (t.group == train::Group::matrix)
      for (float& x : p.values(t)) x += static_cast<float>(0.1 * random.normal());
  const auto path = std::filesystem::temp_directory_path() /
                    ("hybrid_million-" + std::to_string(getpid()) + ".safetensors");
  train::write_model(path, p);
  const auto model = rwkv::HybridModel::load(path);
  std::filesystem::remove(path);  // what is mapped stays readable
  return model;
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Options options(argc, argv, usage);
  const auto size = [&](const char* name, std::size_t otherwise) {
    return options.number<std::size_t>(name, otherwise);
  };
  const std::size_t tokens = size("tokens", 1'000'000);
  rwkv::HybridConfig config;
  config.chunk = size("chunk", 128);
  config.top_k = size("topk", 3);
  config.max_cache = size("max", 4096);
  config.min_cache = size("min", 3072);
  config.window = size("window", 256);
  config.set("cache", options.text("cache", "f16"), "--cache");
  const std::string csv_path = options.text("csv", "");
  options.finish();
  const rwkv::HybridModel model = random_model(config);
  rwkv::HybridState state(model.shape());
  rwkv::HybridWorkspace work(model.shape(), 1);
  std::FILE* csv = csv_path.empty() ? nullptr : std::fopen(csv_path.c_str(), "w");
  if (csv == nullptr && !csv_path.empty())
    rwkv::fail_with(rwkv::ErrorCategory::io, csv_path, ": cannot be written");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> close_csv(csv, std::fclose);
  if (csv) std::fputs("tokens,microseconds,state_bytes,resident_bytes\n", csv);

  constexpr std::size_t parts = 100;  // with the defaults a part thins the cache out ten times
  const std::size_t steps = std::max<std::size_t>(1, tokens / parts);
  std::vector<double> times;
  std::vector<std::size_t> residents;
  std::printf("%12s %14s %12s %14s\n", "tokens", "us/token", "state bytes", "resident bytes");
  rwkv::Token token = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < steps; ++i) {
      // A fixed, aperiodic stream of tokens: greedy text would soon repeat itself.
      const auto logits = model.forward(state, std::span(&token, 1), work);
      token = static_cast<rwkv::Token>((rwkv::argmax(logits) + token * 31 + i) % logits.size());
    }
    const std::chrono::duration<double, std::micro> spent =
        std::chrono::steady_clock::now() - start;
    times.push_back(spent.count() / static_cast<double>(steps));
    residents.push_back(resident_bytes());
    const std::size_t done = (part + 1) * steps;
    if ((part + 1) % 5 == 0) {
      std::printf("%12zu %14.2f %12zu %14zu\n", done, times.back(), state.bytes(),
                  residents.back());
      std::fflush(stdout);
    }
    if (csv)
      std::fprintf(csv, "%zu,%.3f,%zu,%zu\n", done, times.back(), state.bytes(), residents.back());
  }
  // The fastest parts, which the neighbours disturbed least.
  const auto fastest = [&](std::size_t begin, std::size_t end) {
    return *std::min_element(times.begin() + static_cast<std::ptrdiff_t>(begin),
                             times.begin() + static_cast<std::ptrdiff_t>(end));
  };
  std::printf("last tenth / second tenth: time %.3f, resident memory %.3f\n",
              fastest(parts - parts / 10, parts) / fastest(parts / 10, parts / 5),
              static_cast<double>(residents.back()) / static_cast<double>(residents[parts / 5]));
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
