// SPDX-License-Identifier: Apache-2.0
// The `rwkv` command-line tool. Exit status: 0, 1 with one line "error: ..." on stderr, 2 for wrong
// usage.
#include "common.hpp"
#include <rwkv/core/version.hpp>
#include <rwkv/simd/level.hpp>
#include <rwkv/text/chat_template.hpp>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <functional>
#include <iostream>
#include <new>
#include <set>

namespace {

constexpr std::uint64_t whole_limit = std::uint64_t{1} << 31;
constexpr double real_limit = 1e30;

#ifdef RWKV_DEFAULT_MODEL
/// The story teller: installed with the tool, or in the sources that it was built from.
std::string default_model() {
  std::error_code none;
  const auto tool = std::filesystem::read_symlink("/proc/self/exe", none);
  const auto installed = (tool.parent_path() / RWKV_INSTALLED_MODEL).lexically_normal();
  return std::filesystem::exists(installed, none) ? installed.string() : RWKV_DEFAULT_MODEL;
}
#endif

template <class List>
std::string names_of(const List& list) {
  std::string names;
  for (const auto& entry : list) (names += names.empty() ? "" : ", ") += entry.name;
  return names;
}

std::vector<std::string> template_names(bool with_list) {
  std::vector<std::string> names;
  for (const auto& form : rwkv::chat::templates) names.emplace_back(form.name);
  if (with_list) names.emplace_back("list");
  return names;
}

std::function<void()> command;  // what the chosen subcommand will run

template <class Options>
CLI::App* add(CLI::App& app, const char* name, const char* description, Options& options) {
  CLI::App* sub = app.add_subcommand(name, description);
  sub->callback([&options] { command = [&options] { tool::run(options); }; });
  return sub;
}

/// A decimal number that is one from end to end: no sign, no fraction, nothing behind it.
CLI::Validator whole(std::uint64_t least, std::uint64_t most) {
  const std::string range = std::to_string(least) + " to " + std::to_string(most);
  return CLI::Validator(
      [=](const std::string& text) {
        std::uint64_t number = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, number);
        const bool good = error == std::errc{} && stop == end && number >= least && number <= most;
        return good ? std::string() : "\"" + text + "\" is no whole number from " + range;
      },
      most < whole_limit ? "from " + range : "from " + std::to_string(least), "whole");
}

/// The same for numbers with fractions; nor are there NaN and infinity.
CLI::Validator real(double least, double most) {
  const auto show = [](double x) {
    char text[32];
    return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
  };
  const std::string range = most < real_limit ? "from " + show(least) + " to " + show(most)
                                              : "from " + show(least) + " up";
  return CLI::Validator(
      [=](const std::string& text) {
        double number = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, number);
        const bool good = error == std::errc{} && stop == end && number >= least && number <= most;
        return good ? std::string() : "\"" + text + "\" is no number " + range;
      },
      range, "real");
}

void add_threads(CLI::App* app, std::size_t& threads) {
  app->add_option_function<std::string>(
         "--level",
         [](const std::string& name) {
           const auto level = rwkv::simd::level_named(name);
           if (!level)
             throw CLI::ValidationError("--level", name +
                                                       " is none of those that `rwkv levels` "
                                                       "lists");
           rwkv::simd::use_level(*level);
         },
         "instruction set of the kernels; default: the best one (see `rwkv levels`)")
      ->type_name("NAME");
  app->add_option("--threads", threads, "threads to work with; 0 = one per processor")
      ->check(whole(0, 1024));
}

void add_device(CLI::App* app, std::string& device) {
  app->add_option("--device", device, "what runs the model: cpu, or cuda where it was built in")
      ->check(CLI::IsMember({"cpu", "cuda"}))
      ->capture_default_str();
}

CLI::Option* add_adapters(CLI::App* app, std::vector<std::string>& adapters) {
  return app
      ->add_option(
          "--adapter", adapters,
          "LoRA, PiSSA, MiSS (DiSHA, Bone) or Bat for this model, as FILE or FILE:SCALE; a "
          "file of RWKV-PEFT does not state its alpha: there SCALE is alpha / rank "
          "(repeatable)")
      ->allow_extra_args(false);
}

void add_zeros(CLI::App* app, std::optional<double>& ffn_zeros, CLI::Option* shape) {
  app->add_option("--ffn-zeros", ffn_zeros,
                  "of a random model: this fraction of hidden units is zero, not half")
      ->check(CLI::Range(0.0, 1.0))
      ->needs(shape);
}

CLI::Option* add_quantise(CLI::App* app, std::string& quantise) {
  return app
      ->add_option("--quantise", quantise,
                   "hold the matrices in this type, as `rwkv convert --type` would write them")
      ->check(CLI::Validator(
          [](std::string& name) {
            const auto type = rwkv::type_named(name);
            return type && (is_block(*type) || (is_float(*type) && *type != rwkv::DType::f64))
                       ? ""
                       : name +
                             " is none of q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1, q4_0, "
                             "iq4_nl, q3_k, q2_k, f32, f16, bf16";
          },
          "TYPE"));
}

void add_inputs(CLI::App* app, rwkv::kernels::Inputs& inputs) {
  using rwkv::kernels::Inputs;
  auto* exact = app->add_flag_callback(
      "--exact-inputs", [&inputs] { inputs = Inputs::exact; },
      "multiply quantised matrices with the inputs as they are, not rounded to 8 bits: "
      "several times slower");
  app->add_flag_callback(
         "--bf16-inputs", [&inputs] { inputs = Inputs::fastest; },
         "multiply bf16 matrices with inputs rounded to bf16, where the processor can")
      ->excludes(exact);
}

void add_state_in(CLI::App* app, std::string& file, std::string& layout, const char* description) {
  auto* state = app->add_option("--state-in", file, description);
  app->add_option(
         "--state-layout", layout,
         "of a tuned state: official, or web-rwkv (transposed); default: web-rwkv for *.st")
      ->check(CLI::IsMember({"official", "web-rwkv"}))
      ->needs(state);
}

/// `defaults` are shown behind the descriptions, in the order of the options.
void add_sampling(CLI::App* app, tool::Sampling& s, const std::array<const char*, 7>& defaults) {
  auto described = [&, i = 0u](const char* what) mutable {
    return std::string(what) + "; default: " + defaults.at(i++);
  };
  app->add_option("--temperature", s.temperature, described("0 = always the likeliest token"))
      ->check(real(0, real_limit));
  app->add_option("--top-p", s.top_p,
                  described("keep the likeliest tokens that make up this probability"))
      ->check(real(0, 1));
  app->add_option("--top-k", s.top_k, described("keep this many of the likeliest tokens; 0 = all"))
      ->check(whole(0, whole_limit));
  app->add_option("--min-p", s.min_p,
                  described("drop tokens below this fraction of the likeliest one's probability"))
      ->check(real(0, 1));
  app->add_option("--presence-penalty", s.presence_penalty,
                  described("subtracted once from tokens already used"))
      ->check(real(0, real_limit));
  app->add_option("--frequency-penalty", s.frequency_penalty,
                  described("subtracted per (decayed) use of a token"))
      ->check(real(0, real_limit));
  app->add_option("--penalty-decay", s.penalty_decay,
                  described("how fast uses are forgotten, per token"))
      ->check(real(0, 1));
  app->add_option("--seed", s.seed, "for a reproducible text; default: a random one")
      ->check(whole(0, std::uint64_t(-1)));
}

void add_drafting(CLI::App* app, tool::Drafting& d) {
  auto* draft = app->add_option(
      "--draft", d.draft,
      "guess tokens ahead and check several in one pass, the text stays the same: ngram finds them "
      "in the text so far; or a smaller model file with the same vocabulary");
  app->add_option("--draft-tokens", d.draft_tokens,
                  "how many to guess at a time; default: as many as pay")
      ->check(whole(1, 1024))
      ->needs(draft);
}

void add_hybrid(CLI::App* app, tool::Hybrid& hybrid) {
  app->add_option("--hybrid-semantics", hybrid.semantics,
                  "of an RWKV-X model: paper, or package as the published package computes it")
      ->check(CLI::IsMember({"paper", "package"}));
  app->add_option("--hybrid-config", hybrid.config,
                  "hyper-parameters of an RWKV-X model as JSON: chunk, topk, max, min, window, "
                  "attn_mode, cache; default: the model file's");
}

/// Throws where the value of an option that names something is empty: the "$FILE" of a script that
/// has none would pass for an option that was not given.
void refuse_empty(const CLI::App& app) {
  const std::set<std::string> texts{"--prompt", "--regex", "--system", "--separator", "PATTERN"};
  for (const CLI::App* command_line : app.get_subcommands())
    for (const CLI::Option* option : command_line->get_options())
      for (const std::string& value : option->results())
        if (value.empty() && !texts.contains(option->get_name()))
          throw CLI::ValidationError(option->get_name(), "is given and empty");
}

int parse_and_run(int argc, char** argv) {
  CLI::App app("RWKV language models on the command line");
  app.name("rwkv");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::to_string(RWKV_VERSION_MAJOR) + "." +
                                        std::to_string(RWKV_VERSION_MINOR) + "." +
                                        std::to_string(RWKV_VERSION_PATCH));
  const auto type = CLI::IsMember({"f32", "f16", "bf16"});
  std::vector<std::string> types{"f32", "f16", "bf16"};
  for (const rwkv::DType block : rwkv::block_types) types.emplace_back(name_of(block));
  const auto any_type = CLI::IsMember(types);

  tool::Info info;
  CLI::App* sub = add(app, "info", "shape, types and sizes of a model file", info);
  sub->add_option("MODEL", info.model, "model file")->required();
  sub->add_flag("--json", info.json, "print JSON");

  tool::LogitsOptions logits;
  sub = add(app, "logits", "logits of given tokens, as a .npy file", logits);
  sub->add_option("MODEL", logits.model, "model file")->required();
  sub->add_option("--tokens", logits.tokens,
                  "file of whitespace-separated token ids; - = standard input")
      ->required();
  sub->add_option("--positions", logits.positions, "all, last, or positions i,j,...")
      ->capture_default_str();
  auto* chunk = sub->add_option("--chunk", logits.chunk, "tokens per call; 0 = all at once")
                    ->check(whole(0, 1 << 20))
                    ->capture_default_str();
  sub->add_option("--calls", logits.calls,
                  "how the tokens are fed: seq:N is a call of N tokens, one:N are N calls of one; "
                  "example seq:40,one:100")
      ->excludes(chunk);
  add_hybrid(sub, logits.hybrid);
  add_inputs(sub, logits.inputs);
  add_adapters(sub, logits.adapters);
  add_quantise(sub, logits.quantise);
  add_device(sub, logits.device);
  add_threads(sub, logits.threads);
  add_state_in(sub, logits.state_in, logits.state_layout, "start from this state file");
  sub->add_option("--state-out", logits.state_out, "write the final state to this file");
  sub->add_option("--out", logits.out, "result: float32 [positions, vocabulary]")->required();

  tool::Levels levels;
  add(app, "levels", "the instruction sets that kernels can be taken from", levels);

  tool::Generate generate;
  sub = add(app, "generate", "continue a text", generate);
  auto* generate_model = sub->add_option("MODEL", generate.model, "model file");
#ifdef RWKV_DEFAULT_MODEL
  generate.model = default_model();
  generate_model->description("model file; default: the story teller that comes with the library");
#else
  generate_model->required();
#endif
  sub->add_option("--vocab", generate.vocab,
                  "vocabulary file; default: in the model file or its folder");
  auto* prompt =
      sub->add_option("--prompt", generate.prompt, "text to continue")->capture_default_str();
  sub->add_option("--prompt-file", generate.prompt_file,
                  "file with the text to continue; - = standard input")
      ->excludes(prompt);
  sub->add_option("--tokens", generate.tokens, "how many tokens to generate at most")
      ->check(whole(0, whole_limit))
      ->capture_default_str();
  sub->add_option("--stop", generate.stop,
                  "stop when this text appears (repeatable); \\n \\t \\\\ and \\xNN are what they "
                  "are in C")
      ->allow_extra_args(false);
  auto* schema = sub->add_option("--json-schema", generate.json_schema,
                                 "file with a JSON Schema: the text is a valid instance, which "
                                 "alone is printed");
  auto* grammar = sub->add_option("--grammar", generate.grammar,
                                  "file with a grammar (GBNF) that the text must satisfy")
                      ->excludes(schema);
  sub->add_option("--regex", generate.regex,
                  "regular expression that the text must match as a whole")
      ->excludes(schema)
      ->excludes(grammar);
  add_state_in(sub, generate.state_in, generate.state_layout,
               "start from this state file (or tuned state)");
  sub->add_option("--state-out", generate.state_out, "write the final state to this file");
  add_sampling(sub, generate.sampling, {"1", "0.85", "0", "0", "0", "0", "0.996"});
  add_drafting(sub, generate.drafting);
  add_hybrid(sub, generate.hybrid);
  add_inputs(sub, generate.inputs);
  add_adapters(sub, generate.adapters);
  add_quantise(sub, generate.quantise);
  add_device(sub, generate.device);
  add_threads(sub, generate.threads);

  tool::Chat chat;
  sub = add(app, "chat", "talk with a model", chat);
  sub->footer(
      "/help lists what can be entered besides texts. The defaults of sampling are those that the "
      "models' makers recommend: the first if the model thinks, the second if it does not; "
      "function "
      "calls go without penalties.");
  auto* chat_model = sub->add_option("MODEL", chat.model, "model file");
  sub->add_option("--vocab", chat.vocab,
                  "vocabulary file; default: in the model file or its folder");
  sub->add_option("--system", chat.system, "text that the conversation begins with");
  sub->add_option("--template", chat.form,
                  "how turns are written: " + names_of(rwkv::chat::templates) +
                      "; list describes them; default: what the model's files say, else classic")
      ->check(CLI::IsMember(template_names(true)));
  std::set<std::string> modes;
  for (const auto& form : rwkv::chat::templates)
    for (const auto& mode : form.modes) modes.emplace(mode.name);
  sub->add_option(
         "--think", chat.think,
         "before answers: off, fast or fast-lines (empty thoughts), on, asked, a-bit or "
         "a-lot (which the user's turn asks for); not every template has all; default: off")
      ->check(CLI::IsMember(modes));
  sub->add_option(
      "--tools", chat.tools,
      "JSON file: a list of functions, {\"name\", \"description\", \"parameters\"} each; "
      "answers are calls of them, as JSON");
  add_state_in(sub, chat.state_in, chat.state_layout,
               "start from this state file (or tuned state)");
  sub->add_option("--tokens", chat.tokens, "how many tokens an answer has at most")
      ->check(whole(1, whole_limit))
      ->capture_default_str();
  add_sampling(sub, chat.sampling, {"0.96, 1", "0.76, 0.28", "32", "0", "1, 0", "0.1, 0", "0.988"});
  add_drafting(sub, chat.drafting);
  add_hybrid(sub, chat.hybrid);
  add_inputs(sub, chat.inputs);
  add_adapters(sub, chat.adapters);
  add_quantise(sub, chat.quantise);
  add_threads(sub, chat.threads);

  tool::Tokenize tokenize;
  sub = add(app, "tokenize", "standard input to token ids, or back", tokenize);
  auto* vocab = sub->add_option("--vocab", tokenize.vocab, "vocabulary file");
  sub->add_option("--model", tokenize.model, "model file that carries a vocabulary")
      ->excludes(vocab);
  sub->add_flag("--decode", tokenize.decode, "token ids to bytes");

  tool::Bench bench;
  sub = add(app, "bench", "speed, and how near it comes to the memory's", bench);
  auto* model = sub->add_option("MODEL", bench.model, "model file");
  auto* shape = sub->add_option("--shape", bench.shape, "a released shape with random weights")
                    ->check(CLI::IsMember({"0.1b", "0.4b", "1.5b", "2.9b"}))
                    ->excludes(model);
  model->excludes(shape);
  auto* bench_type =
      sub->add_option("--type", bench.type,
                      "convert the matrices to this type first; default: as they are, or f16")
          ->check(any_type);
  add_hybrid(sub, bench.hybrid);
  add_inputs(sub, bench.inputs);
  add_adapters(sub, bench.adapters);
  add_quantise(sub, bench.quantise)->excludes(bench_type);
  add_threads(sub, bench.threads);
  sub->add_option("--prompt", bench.prompt, "prompt tokens to read at once")
      ->check(whole(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--generate", bench.generate, "tokens to decode one by one")
      ->check(whole(1, 1 << 20))
      ->capture_default_str();
  sub->add_option("--batch", bench.batch, "sequences to decode together, besides a single one")
      ->check(whole(1, 1 << 12));
  add_zeros(sub, bench.ffn_zeros, shape);
  sub->add_flag("--dense", bench.dense,
                "also load the model to read all weights for every token, and decode with both in "
                "turns");
  sub->add_option_function<std::size_t>(
         "--bytes-ahead", [](const std::size_t& bytes) { rwkv::simd::use_bytes_ahead(bytes); },
         "how far ahead decoding asks for weights; default: what suits the processor")
      ->check(whole(0, std::size_t{1} << 20))
      ->type_name("BYTES");
  sub->add_flag("--json", bench.json, "print JSON");

  tool::Convert convert;
  sub = add(app, "convert", "a model in another format and type", convert);
  sub->add_option("IN", convert.model, "model file");
  sub->add_option("OUT", convert.out, "model to write");
  sub->add_option("--type", convert.type,
                  "of the matrices; GGUF takes all, safetensors the first three")
      ->check(any_type)
      ->capture_default_str();
  sub->add_option("--format", convert.format, "default: what OUT ends in")
      ->check(CLI::IsMember({"gguf", "safetensors"}));
  sub->add_option("--vocab", convert.vocab,
                  "vocabulary file; default: in the model file or its folder");
  auto* random = sub->add_option("--shape", convert.shape,
                                 "a released shape with random weights, instead of IN")
                     ->check(CLI::IsMember({"0.1b", "0.4b", "1.5b", "2.9b"}));
  add_zeros(sub, convert.ffn_zeros, random);
  sub->add_option("--calibrate", convert.calibrate,
                  "a text: round with least error where the model's activations are large on it");
  sub->add_option("--keep", convert.keep,
                  "official name of a matrix that stays 16 bits among blocks (repeatable)")
      ->allow_extra_args(false);
  sub->add_option(
         "--template", convert.form,
         "chat template to store: " + names_of(rwkv::chat::templates) +
             "; default: what IN's files say, else classic in GGUF with a World vocabulary")
      ->check(CLI::IsMember(template_names(false)));
  add_adapters(sub, convert.adapters);
  sub->add_flag("!--no-self-test", convert.self_test, "write no self-test for `rwkv verify`");
  add_threads(sub, convert.threads);

  tool::Verify verify;
  sub =
      add(app, "verify", "does this program compute what the one that wrote a model did?", verify);
  sub->add_option("MODEL", verify.model, "model file that `rwkv convert` wrote")->required();
  sub->add_flag("--json", verify.json, "print JSON");
  add_inputs(sub, verify.inputs);
  add_threads(sub, verify.threads);

  tool::Export exported;
  sub = add(app, "export", "a model as C++ source, for rwkv/static_model.hpp", exported);
  sub->add_option("MODEL", exported.model, "model file; none: only --vocab as --vocabulary");
  sub->add_option("--out", exported.out, "header to write, for a model");
  sub->add_option("--name", exported.name, "namespace of its contents")
      ->check([](const std::string& s) {
        const auto letter = [](char c) {
          return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        };
        const bool good = !s.empty() && letter(s[0]) &&
                          std::all_of(s.begin(), s.end(),
                                      [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
        return good ? std::string() : "not a C++ identifier: " + s;
      })
      ->capture_default_str();
  add_adapters(sub, exported.adapters);
  sub->add_option(
         "--type", exported.type,
         "type of matrices and table: f32, f16, bf16, and of a blob any that `rwkv convert` "
         "knows; default: as they are")
      ->check(any_type);
  sub->add_option("--format", exported.format,
                  "source: weights as numbers in the header; blob: in a file of their own, for "
                  "rwkv/static_blob.hpp, in any types")
      ->check(CLI::IsMember({"source", "blob"}))
      ->capture_default_str();
  sub->add_option("--blob", exported.blob, "that file; default: the header's name with .bin");
  sub->add_option("--tables", exported.tables,
                  "file for the embedding table, the tables of DeepEmbed and the head, if they "
                  "are to lie elsewhere");
  sub->add_option("--vocabulary", exported.vocabulary,
                  "file for the vocabulary, for rwkv/static_tokenizer.hpp");
  sub->add_option("--vocab", exported.vocab,
                  "vocabulary file to write there; default: the model's");
  sub->add_option(
         "--order", exported.order,
         "of matrices in a blob: panels, for processors with vectors; quads, for those without "
         "(Cortex-M4, M7, M33, RISC-V), which are faster with them in q8_0, and need less "
         "memory for floats of few outputs")
      ->check(CLI::IsMember({"panels", "quads"}))
      ->capture_default_str();

  tool::Gradients gradients;
  sub = add(app, "gradients", "loss and exact gradients of given tokens", gradients);
  sub->add_option("MODEL", gradients.model, "model file")->required();
  sub->add_option("--tokens", gradients.tokens,
                  "file of whitespace-separated token ids; - = standard input")
      ->required();
  sub->add_option("--rows", gradients.rows,
                  "sequences of equal length that the tokens are cut into")
      ->check(whole(1, 1 << 20))
      ->capture_default_str();
  add_adapters(sub, gradients.adapters);
  add_state_in(sub, gradients.state_in, gradients.state_layout, "initial state of every row");
  sub->add_flag("--l2wrap", gradients.l2wrap, "add the official guard's gradient");
  sub->add_option("--out", gradients.out, "safetensors file with loss, grad.* and grad_state0.*")
      ->required();
  add_threads(sub, gradients.threads);

  tool::Perplexity perplexity;
  sub = add(app, "perplexity", "how well a model predicts a text", perplexity);
  sub->add_option("MODEL", perplexity.model, "model file")->required();
  sub->add_option("FILE", perplexity.file, "text; - = standard input")->required();
  sub->add_option("--vocab", perplexity.vocab,
                  "vocabulary file; default: in the model file or its folder");
  sub->add_option("--separator", perplexity.separator,
                  "a line like this begins a new text, with an empty state");
  sub->add_flag("--json", perplexity.json, "print JSON");
  add_hybrid(sub, perplexity.hybrid);
  add_inputs(sub, perplexity.inputs);
  add_adapters(sub, perplexity.adapters);
  add_quantise(sub, perplexity.quantise);
  add_threads(sub, perplexity.threads);

  tool::CompileRegex regex;
  sub = add(app, "compile-regex", "a regular expression as a one-layer model", regex);
  sub->add_option("PATTERN", regex.pattern, "what a whole text must look like")->required();
  sub->add_option("--out", regex.out, "model to write")->required();

  tool::Match match;
  sub = add(app, "match", "the lines of a text that a compiled automaton accepts", match);
  sub->add_option("MODEL", match.model, "what `rwkv compile-regex` wrote")->required();
  sub->add_option("FILE", match.file, "text; - = standard input")->capture_default_str();

  tool::Train train;
  sub = add(app, "train", "train a model, its LoRA or only its initial state", train);
  auto* text = sub->add_option("--text", train.text, "train on this text");
  auto* samples = sub->add_option("--samples", train.samples,
                                  "train on JSON lines: {\"text\"} or {\"prompt\", \"completion\"}")
                      ->excludes(text);
  auto* validation = sub->add_option("--validation", train.validation,
                                     "held-out file of the same kind; the best model is kept");
  sub->add_option("--vocab", train.vocab, "vocabulary file; default: bytes");
  auto* init =
      sub->add_option("--init", train.init, "start from this model instead of a random one");
  add_adapters(sub, train.adapters)->needs(init);
  sub->add_option("--out", train.out, "the trained model (or state)")->required();
  sub->add_option("--lora-out", train.lora_out,
                  "with --mode lora: the adapters alone, for --adapter; --out has them merged in");
  auto* checkpoint =
      sub->add_option("--checkpoint", train.checkpoint, "file to save the run to, and resume from");
  auto* resume = sub->add_flag("--resume", train.resume, "continue the run in --checkpoint")
                     ->needs(checkpoint);
  sub->add_flag("--other-options", train.other_options,
                "resume although schedule, data or optimizer differ")
      ->needs(resume);
  sub->add_option("--log", train.log, "one JSON line per step");
  sub->add_option("--mode", train.mode, "full, lora, or state: only the initial state")
      ->check(CLI::IsMember({"full", "lora", "state"}))
      ->capture_default_str();
  sub->add_option("--type", train.type, "type of the written model")
      ->check(type)
      ->capture_default_str();
  sub->add_option("--eigenvalues", train.eigenvalues,
                  "of a new model: standard, or extended to (-1, 1)")
      ->check(CLI::IsMember({"standard", "extended"}))
      ->capture_default_str();
  const auto positive = whole(1, whole_limit);
  for (auto& [name, number, description] :
       {std::tuple{"--layers", &train.layers, "of a new model"},
        std::tuple{"--embed", &train.embed, "channels of a new model"},
        std::tuple{"--head-size", &train.head_size, "of a new model"},
        std::tuple{"--steps", &train.steps, "updates"},
        std::tuple{"--batch", &train.batch, "samples per update"},
        std::tuple{"--length", &train.length, "tokens per sample of a text"},
        std::tuple{"--lora-rank", &train.lora_rank, "of the adapters"},
        std::tuple{"--validate-every", &train.validate_every, "updates"},
        std::tuple{"--save-every", &train.save_every, "updates"}})
    sub->add_option(name, *number, description)->check(positive)->capture_default_str();
  sub->add_option("--ffn", train.ffn, "width of the channel mix of a new model; default: 4 embed")
      ->check(whole(1, whole_limit));
  sub->add_option("--ranks", train.ranks,
                  "low ranks of decay, rate, value residual, gate; default: 16 each")
      ->delimiter(',')
      ->check(positive)
      ->expected(4);
  sub->add_option("--deep-embed", train.deep_embed,
                  "DeepEmbed (RWKV-7a) of a new model: a table of matrices with so many rows per "
                  "token and layer; 0: none")
      ->check(whole(0, 1024))
      ->capture_default_str();
  sub->add_option("--warm-up", train.warm_up, "updates")
      ->check(whole(0, whole_limit))
      ->capture_default_str();
  for (auto& [name, number, description] :
       {std::tuple{"--rate", &train.rate, "initial learning rate; default: 0.45 / channels"},
        std::tuple{"--final-rate", &train.final_rate,
                   "final learning rate; default: 0.04 / channels"},
        std::tuple{"--weight-decay", &train.weight_decay, "of the large matrices"},
        std::tuple{"--clip", &train.clip, "largest gradient norm; 0 = no limit"},
        std::tuple{"--lora-alpha", &train.lora_alpha, "scale of the adapters, over the rank"}})
    sub->add_option(name, *number, description)->check(real(0, real_limit))->capture_default_str();
  sub->add_flag("--l2wrap", train.l2wrap, "the official guard against drifting logits");
  sub->add_flag("--int8", train.int8, "minimise the loss of the model as converted to q8_0");
  sub->add_option("--seed", train.seed, "of weights and order")
      ->check(whole(0, std::uint64_t(-1)))
      ->capture_default_str();
  add_threads(sub, train.threads);
  // What would be ignored is refused.
  for (const char* of_a_new_model :
       {"--layers", "--embed", "--head-size", "--ffn", "--ranks", "--deep-embed", "--eigenvalues"})
    sub->get_option(of_a_new_model)->excludes(init);
  sub->get_option("--length")->excludes(samples);
  sub->get_option("--validate-every")->needs(validation);
  const auto train_has = [sub](const char* option) { return sub->count(option) > 0; };

  try {
    if (argc > 1 && argv[1][0] != '-' &&
        app.get_subcommands([&](CLI::App* known) { return known->get_name() == argv[1]; }).empty())
      throw CLI::ValidationError("\"" + std::string(argv[1]) + "\" is no command");
    app.parse(argc, argv);
    refuse_empty(app);
    if (app.got_subcommand("train") && train.text.empty() && train.samples.empty())
      throw CLI::RequiredError("--text or --samples");
    if (app.got_subcommand("train") && train.mode != "full" && train.init.empty())
      throw CLI::RequiredError("--init, for --mode " + train.mode + ",");
    for (const auto& [option, mode] :
         {std::pair{"--lora-out", "lora"}, std::pair{"--lora-rank", "lora"},
          std::pair{"--lora-alpha", "lora"}, std::pair{"--weight-decay", "full"}})
      if (train_has(option) && train.mode != mode)
        throw CLI::ValidationError(option, std::string("is for --mode ") + mode + " alone");
    if (train_has("--type") && train.mode == "state")
      throw CLI::ValidationError("--type", "is for models, and states are written as f32");
    if (app.got_subcommand("convert")) {
      if (!convert.shape.empty()) std::swap(convert.model, convert.out);  // OUT stands alone
      if (convert.out.empty()) throw CLI::RequiredError("OUT");
      if (convert.model.empty() == convert.shape.empty()) throw CLI::RequiredError("IN or --shape");
    }
    if (app.got_subcommand("bench") && bench.model.empty() && bench.shape.empty())
      throw CLI::RequiredError("MODEL or --shape");
    if (app.got_subcommand("chat") && chat.model.empty() && chat.form != "list")
      throw CLI::RequiredError(chat_model->get_name());
    if (app.got_subcommand("tokenize") && tokenize.model.empty() && tokenize.vocab.empty())
      throw CLI::RequiredError("--vocab or --model");
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  command();
  return 0;
}

volatile std::sig_atomic_t pipe_closed = 0;

/// Whether all that was written to standard output has arrived; otherwise says so, unless whoever
/// read it has gone.
bool output_arrived() {
  errno = 0;
  const bool arrived = std::cout.flush().good() && std::fflush(stdout) == 0 && !std::ferror(stdout);
  if (arrived || pipe_closed) return arrived;
  std::fputs("error: standard output: cannot be written\n", stderr);
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  // A write to a pipe that nobody reads any more fails like others.
  struct sigaction note = {};
  note.sa_flags = SA_RESTART;
  note.sa_handler = [](int) { pipe_closed = 1; };
  sigaction(SIGPIPE, &note, nullptr);
  int status = 1;
  try {
    status = parse_and_run(argc, argv);
  } catch (const tool::Interrupted&) {
    tool::Interrupt::end_program();
  } catch (const std::bad_alloc&) {
    std::fputs("error: out of memory\n", stderr);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
  }
  return output_arrived() ? status : std::max(status, 1);
}
