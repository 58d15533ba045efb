// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/generate.hpp>

#include <csignal>
#include <random>

namespace tool {

namespace {

volatile std::sig_atomic_t interrupted = 0;

}  // namespace

rwkv::SamplerOptions sampler_options(const Sampling& s) {
  rwkv::SamplerOptions o;
  o.temperature = static_cast<float>(s.temperature);
  o.top_p = static_cast<float>(s.top_p);
  o.top_k = s.top_k;
  o.min_p = static_cast<float>(s.min_p);
  o.presence_penalty = static_cast<float>(s.presence_penalty);
  o.frequency_penalty = static_cast<float>(s.frequency_penalty);
  o.penalty_decay = static_cast<float>(s.penalty_decay);
  o.seed = s.seed ? *s.seed : std::random_device{}();
  o.validate();
  return o;
}

bool print(std::string_view text) {
  std::cout.write(text.data(), static_cast<std::streamsize>(text.size())).flush();
  return std::cout.good();
}

std::function<bool()> cancelled_by_interrupt() {
  interrupted = 0;
  std::signal(SIGINT, [](int) { interrupted = 1; });
  return [] { return interrupted != 0; };
}

void run(const Generate& options) {
  rwkv::ThreadPool pool(options.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  with_model(checkpoint, options.hybrid, pool, load_options(options),
             [&](const auto& model, auto state, const auto& make_workspace) {
               const auto tokenizer =
                   tokenizer_for(options.vocab, checkpoint, model.shape().vocab());
               const std::string prompt =
                   options.prompt_file.empty() ? options.prompt : read_all(options.prompt_file);
               const auto tokens = tokenizer.encode(prompt);

               if (!options.state_in.empty()) state = model.load_state(options.state_in);
               auto work = make_workspace(128, tokens.size());
               rwkv::GenerateOptions generate;
               generate.max_tokens = options.tokens;
               generate.any_vocabulary = !options.vocab.empty();  // there was a warning
               generate.sampler = sampler_options(options.sampling);
               generate.stop_strings = options.stop;
               generate.cancelled = cancelled_by_interrupt();
               // In a vocabulary of bytes, 0 is a byte like any other.
               if (model.shape().vocab() == 256) generate.stop_tokens.clear();

               print(prompt);
               const auto result =
                   rwkv::generate(model, state, work, tokenizer,
                                  std::span<const rwkv::Token>(tokens), generate, print, pool);
               print("\n");
               if (!std::cout)
                 rwkv::fail(rwkv::ErrorCategory::io, "standard output: cannot be written");
               if (!options.state_out.empty()) model.save_state(options.state_out, state);
               if (isatty(STDERR_FILENO) == 1)
                 std::fprintf(stderr, "[prompt: %zu tokens, %.1f/s; text: %zu tokens, %.1f/s]\n",
                              result.prompt_tokens,
                              static_cast<double>(result.prompt_tokens) / result.prompt_seconds,
                              result.tokens.size(),
                              static_cast<double>(result.tokens.size()) / result.generate_seconds);
             });
}

}  // namespace tool
