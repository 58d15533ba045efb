// SPDX-License-Identifier: Apache-2.0
// Training speed: tokens per second of whole steps (forward, backward, AdamW), and the arithmetic
// they do against what this machine can do at most, measured in between.
//
//   train_speed --layers 6 --embed 256 --head-size 64 --batch 8 --length 256 --threads 2
#include "arithmetic.hpp"
#include "options.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/kernels/on_floats.hpp>
#include <rwkv/train.hpp>

#include <algorithm>
#include <chrono>
#include <vector>

namespace tool {

namespace simd = rwkv::simd;

/// Steps of every chain of multiply-adds, on the best level's registers of `width` floats.
float multiply_floats(std::size_t rounds) { RWKV_ON_FLOATS(multiply_floats, rounds); }
std::size_t width() {
  const simd::Level level = simd::level();
  const bool x86 = level >= simd::Level::avx2 && level <= simd::Level::amx_int8;
  return !x86 ? simd::Native::width : level >= simd::Level::avx512 ? 16 : 8;
}

}  // namespace tool

namespace {

namespace train = rwkv::train;

constexpr const char* usage =
    "train_speed [--layers L] [--embed C] [--head-size N] [--ffn F] [--vocab V] [--rank D]\n"
    "                   [--batch B] [--length T] [--threads N: largest] [--seconds S] [--json]";

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> x) {
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return *middle;
}

/// GFLOP/s of fused multiply-adds on registers, on all threads of the pool at once.
double peak_gflops(rwkv::ThreadPool& pool) {
  constexpr std::size_t rounds = 500'000;
  const std::size_t workers = pool.concurrency();
  std::vector<float> zeros(workers);
  const auto start = std::chrono::steady_clock::now();
  pool.parallel(workers, [&](std::size_t w) { zeros[w] = tool::multiply_floats(rounds); });
  const double seconds = seconds_since(start);
  return 2e-9 * static_cast<double>(tool::compiled::chains * rounds * tool::width() * workers) /
         seconds;
}

/// Operations per token: every matrix once forward and twice backward, and the recurrence.
double flops_per_token(const train::Layout& layout) {
  double matrices = 0.0;
  for (const train::TensorInfo& t : layout.tensors())
    if (t.shape.size() == 2 && t.name != "emb.weight" && !t.name.ends_with(".r_k"))
      matrices += static_cast<double>(t.size);
  const rwkv::DynamicShape& s = layout.shape();
  const auto state = static_cast<double>(s.layers() * s.embed() * s.head_size());
  return 6.0 * matrices + (10.0 + 32.0) * state;  // see train/recurrence.hpp
}

struct Result {
  double tokens_per_second, gflops, peak;
};

Result measure(const train::Parameters& model, std::size_t batch, std::size_t length,
               std::size_t threads, double seconds) {
  rwkv::ThreadPool pool(threads);
  train::Random random(1);
  std::vector<rwkv::Token> text(batch * length * 4 + 1);
  for (rwkv::Token& t : text) t = static_cast<rwkv::Token>(random.below(model.shape().vocab()));
  train::TrainerOptions options;
  options.batch = batch;
  train::Trainer trainer(model, train::TextWindows(text, length, 1), options);
  trainer.step(pool);  // allocates

  // Interleaved, so that what else the machine does falls on both; medians, so that bursts do not
  // count.
  std::vector<double> rates, peaks;
  const auto begin = std::chrono::steady_clock::now();
  do {
    peaks.push_back(peak_gflops(pool));
    const auto start = std::chrono::steady_clock::now();
    const std::size_t tokens = trainer.step(pool).tokens;
    rates.push_back(static_cast<double>(tokens) / seconds_since(start));
  } while (seconds_since(begin) < seconds);
  const double rate = median(rates);
  return {rate, rate * flops_per_token(model.layout()) * 1e-9, median(peaks)};
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Options options(argc, argv, usage);
  const auto size = [&](const char* name, std::size_t otherwise) {
    return options.number<std::size_t>(name, otherwise);
  };
  const std::size_t embed = size("embed", 256), rank = size("rank", 32);
  const rwkv::Dimensions d{.layers = size("layers", 6),
                           .embed = embed,
                           .head_size = size("head-size", 64),
                           .ffn = size("ffn", 4 * embed),
                           .vocab = size("vocab", 256),
                           .decay_rank = rank,
                           .icl_rank = rank,
                           .value_rank = rank,
                           .gate_rank = rank};
  const std::size_t batch = size("batch", 8), length = size("length", 256);
  const std::size_t most = size("threads", std::max(1u, std::thread::hardware_concurrency()));
  const auto seconds = options.number("seconds", 5.0);
  const bool json = options.flag("json");
  options.finish();

  const train::Parameters model = train::initialise(std::make_shared<const train::Layout>(d), 1);
  if (!json)
    std::printf("%zu parameters, %.1f MFLOP per token, batch %zu x %zu\n%8s %12s %10s %10s %10s\n",
                model.layout().parameters(), flops_per_token(model.layout()) * 1e-6, batch, length,
                "threads", "tokens/s", "GFLOP/s", "peak", "of peak");
  for (std::size_t threads = json ? most : 1; threads <= most; ++threads) {
    const Result r = measure(model, batch, length, threads, seconds);
    if (json)
      std::printf(
          "{\"threads\": %zu, \"tokens_per_second\": %.1f, \"gflops\": %.2f, "
          "\"peak_gflops\": %.2f}\n",
          threads, r.tokens_per_second, r.gflops, r.peak);
    else
      std::printf("%8zu %12.0f %10.1f %10.1f %9.1f%%\n", threads, r.tokens_per_second, r.gflops,
                  r.peak, 100.0 * r.gflops / r.peak);
    std::fflush(stdout);
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
