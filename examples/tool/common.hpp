// SPDX-License-Identifier: Apache-2.0
// What several commands of the tool need: loading with a progress display, threads, tokens,
// tokenizers.
#pragma once

#include "tool.hpp"
#include <rwkv/adapter.hpp>
#include <rwkv/any_model.hpp>
#if defined(RWKV_TOOL_CUDA)
#include <rwkv/cuda.hpp>
#endif
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/io/atomic_file.hpp>
#include <rwkv/io/vocabulary.hpp>
#include <rwkv/model.hpp>
#include <rwkv/sampler.hpp>
#include <rwkv/tokenizer.hpp>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

namespace tool {

/// A line on stderr that says how far a long job is; silent when stderr is not a terminal.
class Progress {
 public:
  explicit Progress(std::string label)
      : label_(std::move(label)), visible_(isatty(STDERR_FILENO) == 1) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() {
    if (shown_ >= 0) std::fputs("\r\033[K", stderr);
  }
  void operator()(double done) {
    const int percent = static_cast<int>(done * 100);
    if (!visible_ || percent == shown_) return;
    shown_ = percent;
    std::fprintf(stderr, "\r%s %3d %%", label_.c_str(), percent);
  }

 private:
  std::string label_;
  bool visible_;
  int shown_ = -1;
};

inline rwkv::Model<> load(const rwkv::io::Checkpoint& checkpoint, rwkv::ThreadPool& pool,
                          rwkv::LoadOptions options = {}) {
  Progress progress("loading");
  options.progress = std::ref(progress);
  return rwkv::Model<>(checkpoint, options, pool);
}

/// What --adapter FILE[:SCALE] names. Throws Error.
std::vector<rwkv::Adapter> read_adapters(const std::vector<std::string>& named);

/// How models are held for a command that has the flags --exact-inputs and --bf16-inputs,
/// --adapter and perhaps --quantise.
template <class Options>
rwkv::LoadOptions load_options(const Options& options) {
  rwkv::LoadOptions result;
  result.inputs = options.inputs;
  result.adapters = read_adapters(options.adapters);
  if constexpr (requires { options.quantise; })
    if (!options.quantise.empty()) result.matrix_type = rwkv::type_named(options.quantise);
  return result;
}

/// The hyper-parameters that the user gave on top of what the model file says. Throws Error
/// (argument) for JSON that is no object of known keys, and for any at all if the model is not
/// RWKV-X.
rwkv::HybridConfig hybrid_config(const rwkv::io::Checkpoint& checkpoint, const Hybrid& given);

/// What the user said about a state file.
inline rwkv::io::StateOptions state_options(const std::string& layout) {
  rwkv::io::StateOptions options;
  if (!layout.empty()) options.transposed = layout == "web-rwkv";
  return options;
}

/// Calls f(model, state, make_workspace) with the model of either architecture, its state before
/// the first token, and a function that makes a workspace of `rows` rows, or more if calls as long
/// as `longest_call` must not be cut.
template <class F>
void with_model(const rwkv::io::Checkpoint& checkpoint, const Hybrid& given, rwkv::ThreadPool& pool,
                rwkv::LoadOptions options, F&& f) {
  const rwkv::HybridConfig config = hybrid_config(checkpoint, given);
  std::optional<rwkv::AnyModel> model;
  {
    Progress progress("loading");
    options.progress = std::ref(progress);
    model.emplace(
        checkpoint, options, pool,
        rwkv::io::sparse_blocks_of(checkpoint) > 0 ? std::optional(config) : std::nullopt);
  }
  f(std::as_const(*model), model->initial_state(), [&](std::size_t rows, std::size_t longest_call) {
    return model->workspace(rows, longest_call);
  });
}

/// The same on a device, cpu or cuda: a model of a type of its own.
template <class F>
void with_model(const rwkv::io::Checkpoint& checkpoint, const Hybrid& given, rwkv::ThreadPool& pool,
                rwkv::LoadOptions options, std::string_view device, F&& f) {
  if (device != "cuda") {
    with_model(checkpoint, given, pool, std::move(options), std::forward<F>(f));
    return;
  }
#if defined(RWKV_TOOL_CUDA)
  (void)hybrid_config(checkpoint, given);  // refuses what is said of other models
  const rwkv::CudaModel model(load(checkpoint, pool, std::move(options)));
  f(model, model.initial_state(),
    [&](std::size_t rows, std::size_t) { return rwkv::CudaWorkspace(model, rows); });
#else
  rwkv::fail(rwkv::ErrorCategory::unsupported,
             "this program was built without CUDA; configure it with -DRWKV_CUDA=ON");
#endif
}

/// The vocabulary file if one is named, with a warning if it does not seem to be the model's; else
/// what the model file carries or what lies beside it (see Tokenizer::from_checkpoint).
inline rwkv::Tokenizer tokenizer_for(const std::string& vocab,
                                     const rwkv::io::Checkpoint& checkpoint,
                                     std::size_t model_vocab) {
  if (vocab.empty()) return rwkv::Tokenizer::from_checkpoint(checkpoint);
  auto tokenizer = rwkv::Tokenizer::from_vocab_file(vocab);
  if (const std::string problem = rwkv::io::vocabulary_misfit(tokenizer.ids_in_use(), model_vocab);
      !problem.empty())
    std::fprintf(stderr, "warning: %s: %s\n", vocab.c_str(), problem.c_str());
  return tokenizer;
}

inline std::ifstream open_file(const std::string& path) {
  if (std::filesystem::is_directory(path))
    rwkv::fail_with(rwkv::ErrorCategory::io, path, ": this is a folder, not a file");
  std::ifstream in(path, std::ios::binary);
  if (!in)
    rwkv::fail_with(rwkv::ErrorCategory::io, path,
                    ": cannot be opened: ", std::generic_category().message(errno));
  return in;
}

/// Throws Error (argument) if the files are one and the same: each would be written over the other.
inline void require_apart(const std::vector<std::pair<const char*, std::filesystem::path>>& files) {
  for (std::size_t i = 0; i < files.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) {
      std::error_code none;
      const auto absolute = [&](const std::filesystem::path& path) {
        const auto followed =
            std::filesystem::weakly_canonical(std::filesystem::absolute(path), none);
        return none ? path.lexically_normal() : followed;
      };
      if (files[i].second.empty() || files[j].second.empty() ||
          absolute(files[i].second) != absolute(files[j].second))
        continue;
      rwkv::fail_with(rwkv::ErrorCategory::argument, files[j].first, " and ", files[i].first,
                      " are the same file: ", files[i].second.string());
    }
}

/// Throws Error (argument) if a file would be written over one that is read.
inline void require_not_over(
    const std::pair<const char*, std::filesystem::path>& written,
    const std::vector<std::pair<const char*, std::filesystem::path>>& read) {
  for (const auto& file : read) require_apart({file, written});
}

/// Throws Error (io) now if a file could not be written there after long work. "" is no file.
inline void check_writable(const std::string& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  // Opening a pipe would wait for its reader.
  if (path.empty() || (exists(status) && !is_regular_file(status) && !is_directory(status))) return;
  const rwkv::io::AtomicFile probe(path);
}

/// Everything in a file, or on standard input for "-".
inline std::string read_all(const std::string& path) {
  if (path == "-") {
    static bool read = false;
    if (std::exchange(read, true))
      rwkv::fail(rwkv::ErrorCategory::argument,
                 "standard input (-) can be read for one thing only");
    return {std::istreambuf_iterator<char>(std::cin), {}};
  }
  std::ifstream in = open_file(path);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (in.bad()) rwkv::fail_with(rwkv::ErrorCategory::io, path, ": cannot be read");
  return text;
}

/// Whitespace-separated token ids.
inline std::vector<rwkv::Token> parse_tokens(const std::string& text, const std::string& source) {
  std::vector<rwkv::Token> tokens;
  const char* at = text.data();
  const char* const end = at + text.size();
  constexpr std::string_view space = " \t\r\n\f\v";
  while (true) {
    while (at != end && space.find(*at) != std::string_view::npos) ++at;
    if (at == end) return tokens;
    rwkv::Token token = 0;
    const auto [after, error] = std::from_chars(at, end, token);
    if (error != std::errc{} || (after != end && space.find(*after) == std::string_view::npos)) {
      const char* word = at;
      while (word != end && word - at < 20 && space.find(*word) == std::string_view::npos) ++word;
      rwkv::fail_with(rwkv::ErrorCategory::argument, source, ": \"", std::string(at, word),
                      "\" at byte ", at - text.data(), " is not a token id");
    }
    tokens.push_back(token);
    at = after;
  }
}

/// The options given over `otherwise`, checked; a random seed if none is given.
rwkv::SamplerOptions sampler_options(const Sampling& sampling, rwkv::SamplerOptions otherwise);

/// Writes to standard output at once; false when nobody listens any more.
bool print(std::string_view text);

/// Thrown when Ctrl-C ended the work.
struct Interrupted {};

/// As long as it lives, Ctrl-C (SIGINT, or SIGTERM) is a wish that work may end for; the second one
/// ends the program as ever. Only one at a time.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  [[nodiscard]] static bool requested() noexcept;
  /// It was SIGTERM: not a person who goes on afterwards.
  [[nodiscard]] static bool termination() noexcept;
  /// Ends the program by the signal that came, so that whoever started it knows.
  [[noreturn]] static void end_program();
};

}  // namespace tool
