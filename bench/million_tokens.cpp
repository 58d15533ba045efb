// SPDX-License-Identifier: Apache-2.0
// Constant memory and time per token, shown: decodes a million tokens and prints, per tenth of the
// way, the time of a token, the bytes of the state and the resident memory of the process.
//
//   million_tokens MODEL [TOKENS]
#include <rwkv/core/argmax.hpp>
#include <rwkv/model.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

std::size_t resident_bytes() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fputs("usage: million_tokens MODEL [TOKENS]\n", stderr);
    return 2;
  }
  const std::size_t tokens = argc > 2 ? std::stoul(argv[2]) : 1'000'000;
  const auto model = rwkv::load(argv[1]);
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 1);
  constexpr std::size_t parts = 10;
  constexpr std::size_t samples = 100;  // per part; their median shrugs off the neighbours' bursts
  const std::size_t steps = std::max<std::size_t>(1, tokens / parts / samples);

  std::printf("%12s %14s %12s %14s\n", "tokens", "ns/token", "state bytes", "resident bytes");
  std::vector<double> medians;
  std::vector<std::size_t> residents;
  rwkv::Token token = 0;
  for (std::size_t part = 0; part < parts; ++part) {
    std::vector<double> times;
    for (std::size_t s = 0; s < samples; ++s) {
      const auto start = std::chrono::steady_clock::now();
      for (std::size_t i = 0; i < steps; ++i) {
        // A fixed, aperiodic stream of tokens: greedy text would soon repeat itself.
        const auto logits = model.forward(state, std::span(&token, 1), work);
        token = static_cast<rwkv::Token>((rwkv::argmax(logits) + token * 31 + i) % logits.size());
      }
      const std::chrono::duration<double, std::nano> spent =
          std::chrono::steady_clock::now() - start;
      times.push_back(spent.count() / static_cast<double>(steps));
    }
    std::nth_element(times.begin(), times.begin() + samples / 2, times.end());
    medians.push_back(times[samples / 2]);
    residents.push_back(resident_bytes());
    std::printf("%12zu %14.1f %12zu %14zu\n", (part + 1) * samples * steps, medians.back(),
                state.bytes(), residents.back());
    std::fflush(stdout);
  }
  std::printf("last tenth / first tenth: time %.3f, resident memory %.3f\n",
              medians.back() / medians.front(),
              static_cast<double>(residents.back()) / static_cast<double>(residents.front()));
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
