// SPDX-License-Identifier: Apache-2.0
// Speed as a fraction of what the memory can do: reading speed is measured in the same run, on the
// same threads, in turns with the decoding, because on a shared machine it changes from second to
// second.
#include "common.hpp"
#include "random_model.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <random>
#include <sys/resource.h>

namespace tool {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Bytes per second that the pool's threads read from a buffer far larger than any cache, in the
/// way that suits the memory best: huge pages, several streams per thread, asked for ahead of time.
class ReadBandwidth {
 public:
  explicit ReadBandwidth(rwkv::ThreadPool& pool) : pool_(pool), memory_(floats * sizeof(float)) {
    std::memset(memory_.data(), 0, floats * sizeof(float));
  }

  double measure() {
    using L = rwkv::simd::Native;
    const auto* const data = static_cast<const float*>(memory_.data());
    const std::size_t workers = pool_.concurrency();
    sums_.assign(workers, 0.0f);
    const auto start = Clock::now();
    pool_.parallel(workers, [&](std::size_t w) {
      constexpr std::size_t streams = 8;
      constexpr std::size_t line = rwkv::alignment / sizeof(float);
      const auto mine = rwkv::share(floats, workers, w, streams * line);
      const std::size_t length = (mine.end - mine.begin) / streams;
      const float* const first = data + mine.begin;
      L sum[streams];
      for (L& s : sum) s = L::broadcast(0.0f);
      for (std::size_t i = 0; i < length; i += line) {
        for (std::size_t s = 0; s < streams; ++s) {
          const float* at = first + s * length + i;
          __builtin_prefetch(at + 1024, 0, 2);
          for (std::size_t k = 0; k < line; k += L::width) sum[s] = sum[s] + L::load(at + k);
        }
      }
      for (const L& s : sum) {
        alignas(rwkv::alignment) float lanes[16];
        s.store(lanes);
        sums_[w] += lanes[0];
      }
    });
    const double seconds = seconds_since(start);
    if (sums_[0] != 0.0f) rwkv::fail(rwkv::ErrorCategory::numeric, "zeros do not add up to zero");
    return static_cast<double>(floats * sizeof(float)) / seconds;
  }

 private:
  static constexpr std::size_t floats = std::size_t{64} << 20;
  rwkv::ThreadPool& pool_;
  rwkv::io::detail::WeightMemory memory_;
  std::vector<float> sums_;
};

template <class Model, class State, class Work>
void measure(const Bench& options, const Model& model, State& state, Work& work,
             rwkv::ThreadPool& pool, double load_seconds) {
  std::mt19937 random_token(2);
  std::vector<rwkv::Token> prompt(std::max<std::size_t>(options.prompt, 1));
  for (rwkv::Token& t : prompt)
    t = static_cast<rwkv::Token>(random_token() % model.shape().vocab());

  // Rounds of: reading, decoding, reading; prefill.
  constexpr std::size_t rounds = 5;
  ReadBandwidth bandwidth(pool);
  bandwidth.measure();
  std::vector<double> reads;
  std::vector<double> decodes;
  std::vector<double> prefills;
  std::vector<double> fractions;
  const auto bytes = static_cast<double>(model.weights().bytes_per_token());
  const std::size_t steps = std::max<std::size_t>(1, options.generate / rounds);
  Progress progress("measuring");
  for (std::size_t round = 0; round < rounds; ++round) {
    progress(static_cast<double>(round) / rounds);
    const double before = bandwidth.measure();
    auto t = Clock::now();
    for (std::size_t i = 0; i < steps; ++i)
      model.forward(state, std::span(prompt).subspan(i % prompt.size(), 1), work, pool);
    const double decode = static_cast<double>(steps) / seconds_since(t);
    const double read = (before + bandwidth.measure()) / 2;
    t = Clock::now();
    model.forward(state, prompt, work, pool);
    prefills.push_back(static_cast<double>(prompt.size()) / seconds_since(t));
    reads.push_back(read);
    decodes.push_back(decode);
    fractions.push_back(decode * bytes / read);
  }

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  nlohmann::ordered_json j;
  j["model"] = options.shape.empty() ? options.model : options.shape;
  j["type"] = std::string(name_of(model.weights().block(0).ffn.key.type));
  j["threads"] = pool.concurrency();
  j["decode_tokens_per_second"] = median(decodes);
  j["prefill_tokens_per_second"] = median(prefills);
  j["prompt_tokens"] = prompt.size();
  j["generated_tokens"] = steps * rounds;
  j["weight_bytes_per_token"] = model.weights().bytes_per_token();
  j["read_bandwidth_bytes_per_second"] = median(reads);
  j["decode_bandwidth_fraction"] = median(fractions);
  j["state_bytes"] = state.bytes();
  j["workspace_bytes"] = work.bytes();
  j["load_seconds"] = load_seconds;
  j["peak_rss_bytes"] = static_cast<std::size_t>(usage.ru_maxrss) * 1024;
  if (options.json) {
    std::cout << j.dump(2) << '\n';
    return;
  }
  for (const auto& [key, value] : j.items())
    std::printf(
        "%-34s%s\n", key.c_str(),
        value.is_string() ? value.template get<std::string>().c_str() : value.dump().c_str());
}

}  // namespace

void run(const Bench& options) {
  const auto type = options.type == "f32"    ? std::optional(rwkv::DType::f32)
                    : options.type == "f16"  ? std::optional(rwkv::DType::f16)
                    : options.type == "bf16" ? std::optional(rwkv::DType::bf16)
                                             : std::nullopt;
  rwkv::ThreadPool pool(options.threads);
  rwkv::LoadOptions load_options;
  load_options.matrix_type = type;

  std::optional<rwkv::io::Checkpoint> random;
  if (!options.shape.empty())
    random = random_checkpoint(options.shape, type.value_or(rwkv::DType::f16));
  const auto start = Clock::now();
  auto checkpoint = random ? *std::move(random) : rwkv::io::read_checkpoint(options.model);
  with_model(checkpoint, options.hybrid, pool, load_options,
             [&](const auto& model, auto state, const auto& make_workspace) {
               const double load_seconds = seconds_since(start);
               checkpoint = {};
               auto work = make_workspace(256, options.prompt);
               measure(options, model, state, work, pool, load_seconds);
             });
}

}  // namespace tool
