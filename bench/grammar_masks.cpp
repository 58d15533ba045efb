// SPDX-License-Identifier: Apache-2.0
// How long the masks of a constraint take. Reads JSON Schemas, one a line, from standard input;
// writes a text for each by tokens drawn at random among those allowed (of at most eight bytes),
// and a line for it: microseconds for compiling, for the first mask (with nothing known of the
// vocabulary yet), for every later mask; and the tokens. grammar_masks.py runs it beside
// llguidance.
//
//   grammar_masks VOCABULARY [TOKENS [compact|flexible]]
#include <rwkv/grammar.hpp>
#include <rwkv/text/random.hpp>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

void run(const std::string& schema, const rwkv::Tokenizer& tokenizer, std::size_t most,
         const rwkv::JsonOptions& options) {
  const rwkv::TokenTrie trie(tokenizer);  // fresh: it learns from every grammar
  auto start = Clock::now();
  const auto grammar = rwkv::Grammar::from_json_schema(schema, options);
  std::printf("%.2f", microseconds_since(start));
  start = Clock::now();
  rwkv::Constraint constraint = grammar.constraint(trie);
  rwkv::TokenMask mask;
  constraint.allowed(mask);
  std::printf(" %.2f", microseconds_since(start));
  rwkv::SplitMix64 random(1);
  for (std::size_t i = 0; i < most; ++i) {
    std::vector<rwkv::Token> fitting;
    for (rwkv::Token token = 0; token < tokenizer.vocab_size(); ++token)
      if (mask[token] && tokenizer.token_bytes(token).size() <= 8) fitting.push_back(token);
    if (fitting.empty()) break;
    const rwkv::Token token = fitting[random.below(fitting.size())];
    constraint.accept(token);
    start = Clock::now();
    constraint.allowed(mask);
    std::printf(" %u:%.2f", token, microseconds_since(start));
  }
  std::puts("");
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::fputs("usage: grammar_masks VOCABULARY [TOKENS [compact|flexible]] < SCHEMAS\n", stderr);
    return 2;
  }
  const auto tokenizer = rwkv::Tokenizer::from_vocab_file(argv[1]);
  const std::size_t most = argc > 2 ? std::stoul(argv[2]) : 200;
  rwkv::JsonOptions options = rwkv::JsonOptions::compact();
  options.formats = false;
  if (argc > 3 && std::string_view(argv[3]) == "flexible")
    options.whitespace = static_cast<std::size_t>(-1);
  for (std::string schema; std::getline(std::cin, schema);) run(schema, tokenizer, most, options);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
