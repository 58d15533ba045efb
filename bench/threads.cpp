// SPDX-License-Identifier: Apache-2.0
// Tokens per second by the number of threads, beside busy neighbours that this program starts
// itself: a pool must not be slower with more threads than with fewer.
//
//   threads --model MODEL [--seconds 1] [--rounds 5] [--neighbours 2] [--csv FILE]
//
// Threads are 1, 2, ... up to the processors and 2 and 4 times as many. All are measured in turns;
// the numbers are medians of the rounds. plot_threads.py plots the CSV.
#include "options.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/model.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>
#include <thread>
#include <vector>

namespace {

/// Threads that do nothing but keep a processor busy.
class Neighbours {
 public:
  explicit Neighbours(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
      threads_.emplace_back([this] {
        volatile unsigned work = 0;
        while (!stop_.load(std::memory_order_relaxed))
          for (int k = 0; k < 1000; ++k) work = work + 1;
      });
  }
  Neighbours(const Neighbours&) = delete;
  Neighbours& operator=(const Neighbours&) = delete;
  ~Neighbours() {
    stop_ = true;
    for (std::thread& t : threads_) t.join();
  }

 private:
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

double tokens_per_second(const rwkv::Model<>& model, rwkv::ThreadPool& pool, double seconds) {
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 1);
  const rwkv::Token token = 1;
  for (int i = 0; i < 3; ++i) model.forward(state, {&token, 1}, work, pool);
  const auto begin = std::chrono::steady_clock::now();
  std::size_t tokens = 0;
  for (;;) {
    model.forward(state, {&token, 1}, work, pool);
    ++tokens;
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    if (spent.count() >= seconds) return static_cast<double>(tokens) / spent.count();
  }
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Options options(argc, argv,
                         "threads --model MODEL [--seconds 1] [--rounds 5] [--neighbours 2] "
                         "[--csv FILE]");
  const std::string path = options.text("model", "");
  const double seconds = options.number("seconds", 1.0);
  const auto rounds = options.number<std::size_t>("rounds", 5);
  const auto most = options.number<std::size_t>("neighbours", 2);
  const std::string csv = options.text("csv", "");
  options.finish();
  if (path.empty() || rounds == 0) {
    std::fputs("threads needs --model MODEL and a round at least\n", stderr);
    return 2;
  }
  const auto model = rwkv::load(path);
  std::vector<std::size_t> counts;
  const std::size_t processors = rwkv::available_processors();
  for (std::size_t t = 1; t < processors; t *= 2) counts.push_back(t);
  for (const std::size_t times : {1u, 2u, 4u}) counts.push_back(processors * times);

  std::FILE* const file = csv.empty() ? nullptr : std::fopen(csv.c_str(), "w");
  if (file != nullptr) std::fputs("neighbours,threads,tokens_per_second\n", file);
  std::printf("| busy neighbours |");
  for (const std::size_t t : counts) std::printf(" %zu thread%s |", t, t == 1 ? "" : "s");
  std::printf("\n|---|");
  for (std::size_t i = 0; i < counts.size(); ++i) std::printf("---|");
  for (std::size_t n = 0; n <= most; ++n) {
    const Neighbours neighbours(n);
    std::vector<std::vector<double>> speeds(counts.size());
    for (std::size_t round = 0; round < rounds; ++round)
      for (std::size_t i = 0; i < counts.size(); ++i) {
        rwkv::ThreadPool pool(counts[i]);
        speeds[i].push_back(tokens_per_second(model, pool, seconds));
      }
    std::printf("\n| %zu |", n);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      std::sort(speeds[i].begin(), speeds[i].end());
      const double median = speeds[i][rounds / 2];
      std::printf(" %.4g |", median);
      if (file != nullptr) std::fprintf(file, "%zu,%zu,%.6g\n", n, counts[i], median);
    }
    std::fflush(stdout);
  }
  std::puts("");
  if (file != nullptr && std::fclose(file) != 0) {
    std::fprintf(stderr, "error: %s: cannot be written\n", csv.c_str());
    return 1;
  }
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
