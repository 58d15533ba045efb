// SPDX-License-Identifier: Apache-2.0
// How fast a tokenizer is: megabytes of text per second on one core, to ids and back. The file is
// read again and again in turns of both directions; the medians shrug off the neighbours' bursts.
//
//   tokenizer_speed VOCABULARY TEXT [SECONDS]
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/tokenizer.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> x) {
  const auto middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return *middle;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 3) {
    std::fputs("usage: tokenizer_speed VOCABULARY TEXT [SECONDS]\n", stderr);
    return 2;
  }
  const double seconds = argc > 3 ? std::stod(argv[3]) : 5.0;
  const auto tokenizer = rwkv::Tokenizer::from_vocab_file(argv[1]);
  const rwkv::io::MappedFile file(argv[2]);
  const std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  const auto megabytes = static_cast<double>(text.size()) * 1e-6;

  std::vector<rwkv::Token> tokens;
  std::vector<double> encode, decode;
  const auto begin = Clock::now();
  do {
    tokens.clear();
    auto start = Clock::now();
    tokenizer.encode(text, tokens);
    encode.push_back(megabytes / seconds_since(start));
    start = Clock::now();
    const std::string back = tokenizer.decode(tokens);
    decode.push_back(megabytes / seconds_since(start));
    if (back != text)
      rwkv::fail_with(rwkv::ErrorCategory::format, argv[2], ": decodes to another text");
  } while (seconds_since(begin) < seconds);
  std::printf("%.2f MB, %.2f bytes per token, %zu rounds: encode %.1f MB/s, decode %.1f MB/s\n",
              megabytes, static_cast<double>(text.size()) / static_cast<double>(tokens.size()),
              encode.size(), median(encode), median(decode));
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
