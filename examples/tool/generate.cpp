// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include "drafting.hpp"
#include <rwkv/generate.hpp>
#include <rwkv/grammar.hpp>

#include <charconv>
#include <csignal>
#include <cstdlib>
#include <random>

namespace tool {

namespace {

volatile std::sig_atomic_t interrupted = 0;
struct sigaction former[2];
constexpr int signals[] = {SIGINT, SIGTERM};

/// "\\n" to a line end: \n \r \t \\ \0 \" \' \xNN.
std::string without_escapes(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    constexpr std::string_view letters = "nrt0\\\"'";
    constexpr std::string_view meanings{"\n\r\t\0\\\"'", 7};
    const char letter = ++i < text.size() ? text[i] : ' ';
    unsigned char byte = 0;
    const char* const digits = text.data() + i + 1;
    if (const std::size_t at = letters.find(letter); at != letters.npos) {
      out += meanings[at];
    } else if (letter == 'x' && i + 2 < text.size() &&
               std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      rwkv::fail_with(rwkv::ErrorCategory::argument, "--stop: \"", text,
                      "\" has a \\ that begins none of \\n \\r \\t \\0 \\\\ \\\" \\' \\xNN");
    }
  }
  return out;
}

/// What the text must look like, if anything.
std::optional<rwkv::Grammar> grammar_of(const Generate& o) {
  if (!o.json_schema.empty())
    return rwkv::Grammar::from_json_schema(read_all(o.json_schema), rwkv::JsonOptions::compact(),
                                           o.json_schema);
  if (!o.grammar.empty()) return rwkv::Grammar::from_gbnf(read_all(o.grammar), o.grammar);
  if (o.regex) return rwkv::Grammar::from_regex(*o.regex, "--regex");
  return std::nullopt;
}

}  // namespace

Interrupt::Interrupt() {
  interrupted = 0;
  struct sigaction action = {};
  action.sa_handler = [](int signal) { interrupted = signal; };
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  for (std::size_t i = 0; i < 2; ++i) {
    sigaction(signals[i], nullptr, &former[i]);
    // Who started the program in the background ignores these for it.
    if (former[i].sa_handler != SIG_IGN) sigaction(signals[i], &action, nullptr);
  }
}

Interrupt::~Interrupt() {
  for (std::size_t i = 0; i < 2; ++i) sigaction(signals[i], &former[i], nullptr);
}

bool Interrupt::requested() noexcept { return interrupted != 0; }

bool Interrupt::termination() noexcept { return interrupted == SIGTERM; }

void Interrupt::end_program() {
  std::signal(interrupted, SIG_DFL);
  std::raise(interrupted);
  std::_Exit(128 + interrupted);
}

rwkv::SamplerOptions sampler_options(const Sampling& s, rwkv::SamplerOptions o) {
  const auto set = [](float& to, const std::optional<double>& from) {
    if (from) to = static_cast<float>(*from);
  };
  set(o.temperature, s.temperature);
  set(o.top_p, s.top_p);
  set(o.min_p, s.min_p);
  set(o.presence_penalty, s.presence_penalty);
  set(o.frequency_penalty, s.frequency_penalty);
  set(o.penalty_decay, s.penalty_decay);
  if (s.top_k) o.top_k = *s.top_k;
  o.seed = s.seed ? *s.seed : std::random_device{}();
  o.validate();
  return o;
}

bool print(std::string_view text) {
  std::cout.write(text.data(), static_cast<std::streamsize>(text.size())).flush();
  return std::cout.good();
}

void run(const Generate& options) {
  check_writable(options.state_out);
  const auto grammar = grammar_of(options);  // before anything that takes time
  rwkv::ThreadPool pool(options.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  require_not_over({"--state-out", options.state_out}, {{"the model", options.model},
                                                        {"the model", checkpoint.source},
                                                        {"--vocab", options.vocab},
                                                        {"--prompt-file", options.prompt_file}});
  with_model(checkpoint, options.hybrid, pool, load_options(options), options.device,
             [&](const auto& model, auto state, const auto& make_workspace) {
               const auto tokenizer =
                   tokenizer_for(options.vocab, checkpoint, model.shape().vocab());
               const std::string prompt =
                   options.prompt_file.empty() ? options.prompt : read_all(options.prompt_file);
               const auto tokens = tokenizer.encode(prompt);

               if (!options.state_in.empty())
                 state = model.load_state(options.state_in, state_options(options.state_layout));
               auto work = make_workspace(128, tokens.size());
               rwkv::GenerateOptions generate;
               generate.max_tokens = options.tokens;
               generate.any_vocabulary = !options.vocab.empty();  // there was a warning
               generate.sampler = sampler_options(options.sampling,
                                                  {.presence_penalty = 0, .frequency_penalty = 0});
               for (const std::string& stop : options.stop)
                 generate.stop_strings.push_back(without_escapes(stop));
               const Interrupt interrupt;
               generate.cancelled = Interrupt::requested;
               // In a vocabulary of bytes, 0 is a byte like any other.
               const bool bytes = model.shape().vocab() == 256;
               if (bytes) generate.stop_tokens.clear();
               // Nothing else begins a text of bytes.
               if (bytes && tokens.empty()) generate.leading_token = '\n';

               if (grammar) generate.constraint = grammar->constraint(tokenizer);

               Feeding feeding(options.drafting, model, tokenizer, pool, false);
               generate.feeder = feeding.feeder();

               if (!grammar) print(prompt);
               const auto result =
                   rwkv::generate(model, state, work, tokenizer,
                                  std::span<const rwkv::Token>(tokens), generate, print, pool);
               print("\n");
               if (result.reason == rwkv::StopReason::max_tokens && !result.satisfied)
                 rwkv::fail_with(rwkv::ErrorCategory::argument, "the text is not finished after ",
                                 options.tokens, " tokens; --tokens allows more");
               if (!options.state_out.empty()) model.save_state(options.state_out, state);
               if (isatty(STDERR_FILENO) == 1)
                 std::fprintf(stderr, "[prompt: %zu tokens, %.1f/s; text: %zu tokens, %.1f/s%s]\n",
                              result.prompt_tokens,
                              static_cast<double>(result.prompt_tokens) / result.prompt_seconds,
                              result.tokens.size(),
                              static_cast<double>(result.tokens.size()) / result.generate_seconds,
                              feeding.report().c_str());
               if (Interrupt::requested()) Interrupt::end_program();
             });
}

}  // namespace tool
