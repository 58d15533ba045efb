// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/core/parse.hpp>
#include <rwkv/io/vocabulary_file.hpp>
#include <rwkv/io/vocabulary_text.hpp>
#include <rwkv/train.hpp>

#include <nlohmann/json.hpp>

#include <charconv>
#include <chrono>
#include <cmath>
#include <filesystem>

namespace tool {

namespace {

namespace train = rwkv::train;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Lines of {"text": ...}, learnt as a whole, or {"prompt": ..., "completion": ...}, of which only
/// the completion is learnt. Empty lines are skipped.
std::vector<train::SampleList::Item> read_samples(const std::string& path,
                                                  const rwkv::Tokenizer& tokenizer) {
  std::vector<train::SampleList::Item> items;
  std::istringstream lines(read_all(path));
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    const auto wrong = [&](const char* why) {
      rwkv::fail_with(rwkv::ErrorCategory::format, path, ": line ", number, ": ", why);
    };
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) wrong("not a JSON object");
    const auto text = [&](const char* key) {
      if (!json.at(key).is_string()) wrong("the values must be strings");
      return json.at(key).get<std::string>();
    };
    train::SampleList::Item item;
    if (json.contains("text")) {
      item.tokens = tokenizer.encode(text("text"));
    } else if (json.contains("prompt") && json.contains("completion")) {
      item.tokens = tokenizer.encode(text("prompt"));
      const std::size_t prompt = item.tokens.size();
      tokenizer.encode(text("completion"), item.tokens);
      if (prompt == 0 || prompt == item.tokens.size())
        wrong("neither prompt nor completion may be empty");
      item.weights.assign(item.tokens.size() - 1, 1.0f);
      std::fill_n(item.weights.begin(), prompt - 1, 0.0f);
    } else {
      wrong("there is neither \"text\" nor \"prompt\" and \"completion\"");
    }
    if (item.tokens.size() < 2) wrong("fewer than two tokens");
    items.push_back(std::move(item));
  }
  return items;
}

/// What the model is judged by: samples, and how many bytes of text a prediction stands for.
struct Validation {
  std::vector<train::SampleList::Item> items;
  std::vector<rwkv::Token> text;
  std::vector<train::Sample> samples;
  double bytes_per_prediction = 0;
};

Validation read_validation(const Train& o, const rwkv::Tokenizer& tokenizer, std::size_t vocab) {
  Validation v;
  double predictions = 0;
  double bytes = 0;
  if (!o.samples.empty()) {
    v.items = read_samples(o.validation, tokenizer);
    for (const auto& item : v.items) {
      v.samples.push_back({item.tokens, item.weights});
      for (std::size_t t = 0; t + 1 < item.tokens.size(); ++t) {
        if (!item.weights.empty() && item.weights[t] == 0.0f) continue;
        ++predictions;
        bytes += static_cast<double>(tokenizer.token_bytes(item.tokens[t + 1]).size());
      }
    }
  } else {
    const std::string text = read_all(o.validation);
    v.text = tokenizer.encode(text);
    v.samples = train::cut(v.text, o.length);
    predictions = static_cast<double>(v.text.size());
    bytes = static_cast<double>(text.size());
  }
  if (v.samples.empty())
    rwkv::fail_with(rwkv::ErrorCategory::argument, o.validation, ": nothing to validate on");
  for (const train::Sample& s : v.samples)
    for (const rwkv::Token t : s.tokens)
      if (t >= vocab)
        rwkv::fail_with(rwkv::ErrorCategory::argument, o.validation, ": contains token ", t,
                        ", but the model's vocabulary has ", vocab, " entries");
  v.bytes_per_prediction = bytes / predictions;
  return v;
}

train::Parameters starting_point(const Train& o, const rwkv::Tokenizer& tokenizer) {
  if (!o.init.empty())
    return train::read_parameters(
        rwkv::with_adapters(rwkv::io::read_checkpoint(o.init), read_adapters(o.adapters)));
  const auto rank = [&](std::size_t i, std::size_t otherwise) {
    return o.ranks.empty() ? otherwise : o.ranks[i];
  };
  const rwkv::Dimensions d{.layers = o.layers,
                           .embed = o.embed,
                           .head_size = o.head_size,
                           .ffn = o.ffn == 0 ? 4 * o.embed : o.ffn,
                           .vocab = tokenizer.vocab_size(),
                           .decay_rank = rank(0, 16),
                           .icl_rank = rank(1, 16),
                           .value_rank = rank(2, 16),
                           .gate_rank = rank(3, 16),
                           .deep_rank = o.deep_embed};
  const auto eigenvalues =
      o.eigenvalues == "extended" ? rwkv::Eigenvalues::extended : rwkv::Eigenvalues::standard;
  return train::initialise(std::make_shared<const train::Layout>(d, eigenvalues), o.seed);
}

/// One JSON line per step. A resumed run goes on from the checkpoint's step, so that the file ends
/// up with every step once.
class Log {
 public:
  Log(std::string path, std::uint64_t steps_done, bool resumed) : path_(std::move(path)) {
    if (path_.empty()) return;
    std::string kept;
    if (resumed && std::filesystem::exists(path_)) {
      std::istringstream lines(read_all(path_));
      for (std::string line; std::getline(lines, line);) {
        const auto json = nlohmann::json::parse(line, nullptr, false);
        if (!json.is_object() || json.value("step", steps_done + 1) > steps_done) break;
        kept += line + "\n";
      }
    }
    file_.reset(std::fopen(path_.c_str(), "w"));
    write(kept);
  }

  void add(const nlohmann::ordered_json& line) {
    if (file_) write(line.dump() + "\n");
  }

 private:
  void write(const std::string& text) {
    if (!file_ || std::fputs(text.c_str(), file_.get()) < 0 || std::fflush(file_.get()) != 0)
      rwkv::fail_with(rwkv::ErrorCategory::io, path_, ": cannot be written");
  }

  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, std::fclose};
};

/// The vocabulary as the file of a model carries it; empty for bytes, which need none.
std::string vocabulary_text(const rwkv::Tokenizer& tokenizer) {
  rwkv::io::Vocabulary vocabulary(tokenizer.vocab_size());
  for (std::size_t id = 0; id < vocabulary.size(); ++id)
    vocabulary[id] = tokenizer.token_bytes(static_cast<rwkv::Token>(id));
  return rwkv::io::vocabulary_text(vocabulary);
}

std::string exact(double x) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}

/// One line on a terminal, rewritten; a line per validation elsewhere.
void show(const train::StepReport& r, std::size_t steps, double loss, double tokens_per_second) {
  const double left =
      static_cast<double>(steps - r.step) * static_cast<double>(r.tokens) / tokens_per_second;
  std::fprintf(stderr, "\r\033[Kstep %llu/%zu  loss %.4f  %.0f tokens/s  %.0f:%02d left",
               static_cast<unsigned long long>(r.step), steps, loss, tokens_per_second,
               std::floor(left / 60), static_cast<int>(std::fmod(left, 60)));
}

template <class Source>
void run_training(const Train& o, train::Parameters start, Source source,
                  const rwkv::Tokenizer& tokenizer, const std::string& vocabulary) {
  rwkv::ThreadPool pool(o.threads);
  std::optional<Validation> validation;
  if (!o.validation.empty()) validation = read_validation(o, tokenizer, start.shape().vocab());

  const auto width = static_cast<double>(start.shape().embed());
  train::TrainerOptions options;
  options.mode = o.mode == "state"  ? train::Mode::state
                 : o.mode == "lora" ? train::Mode::lora
                                    : train::Mode::full;
  options.batch = o.batch;
  options.schedule = {.initial = o.rate > 0 ? o.rate : 0.45 / width,
                      .final = o.final_rate > 0 ? o.final_rate : 0.04 / width,
                      .steps = o.steps,
                      .warm_up = o.warm_up};
  options.optimizer.weight_decay = o.weight_decay;
  options.optimizer.clip = o.clip;
  options.objective.l2wrap = o.l2wrap;
  if (o.int8) options.objective.precision = train::Precision::int8;
  options.lora = {.rank = o.lora_rank, .alpha = static_cast<float>(o.lora_alpha)};
  options.seed = o.seed;
  train::Trainer<Source> trainer(std::move(start), std::move(source), options);
  constexpr const char* best_note = "tool.best_validation_loss";
  double best = HUGE_VAL;
  if (o.resume) {
    const auto notes = trainer.resume(o.checkpoint, o.other_options);
    if (const auto it = notes.find(best_note); it != notes.end())
      best = rwkv::internal::parse<double>(it->second).value_or(best);
  }
  const std::uint64_t begun_with = trainer.steps();
  Log log(o.log, begun_with, o.resume);
  const bool terminal = isatty(STDERR_FILENO) == 1;

  rwkv::io::Metadata metadata;
  if (!vocabulary.empty()) metadata["rwkv.vocabulary"] = vocabulary;
  const auto type = o.type == "f32"    ? rwkv::DType::f32
                    : o.type == "bf16" ? rwkv::DType::bf16
                                       : rwkv::DType::f16;
  const auto write = [&] {
    if (options.mode == train::Mode::state)
      trainer.write_state(o.out);
    else
      train::write_model(o.out, trainer.model(), type, metadata);
    if (!o.lora_out.empty()) trainer.lora().write(o.lora_out);
  };

  double smooth = 0;
  double weight = 0;
  auto since = Clock::now();
  std::size_t tokens = 0;
  const auto begin = Clock::now();
  while (trainer.steps() < o.steps) {
    const train::StepReport report = trainer.step(pool);
    tokens += report.tokens;
    smooth = 0.98 * smooth + 0.02 * report.loss;
    weight = 0.98 * weight + 0.02;
    const bool last = report.step == o.steps;
    const bool validate = validation && (report.step % o.validate_every == 0 || last);
    const double rate = static_cast<double>(tokens) / seconds_since(since);
    if (terminal) show(report, o.steps, smooth / weight, rate);
    nlohmann::ordered_json line = {{"step", report.step},
                                   {"loss", report.loss},
                                   {"gradient_norm", report.gradient_norm},
                                   {"learning_rate", report.learning_rate},
                                   {"tokens", report.tokens},
                                   {"tokens_per_second", rate},
                                   {"seconds", seconds_since(begin)}};
    if (validate) {
      const double loss = trainer.evaluate(validation->samples, pool);
      const double bits = loss / std::log(2.0) / validation->bytes_per_prediction;
      line["validation_loss"] = loss;
      line["validation_bits_per_byte"] = bits;
      std::fprintf(
          stderr,
          "%sstep %llu  loss %.4f  validation: loss %.4f, %.4f bits per byte%s  (%.0f tokens/s)\n",
          terminal ? "\r\033[K" : "", static_cast<unsigned long long>(report.step), smooth / weight,
          loss, bits, loss < best ? ", the best yet" : "", rate);
      if (loss < best) {
        best = loss;
        write();
      }
      since = Clock::now();
      tokens = 0;
    }
    if (!validation && (report.step % o.save_every == 0 || last)) {
      if (!terminal)
        std::fprintf(stderr, "step %llu  loss %.4f  (%.0f tokens/s)\n",
                     static_cast<unsigned long long>(report.step), smooth / weight, rate);
      write();
    }
    if (!o.checkpoint.empty() && (report.step % o.save_every == 0 || last))
      trainer.save(o.checkpoint, {{best_note, exact(best)}});
    log.add(line);
  }
  if (terminal) std::fputs("\r\033[K", stderr);
  if (o.resume && begun_with == trainer.steps()) {  // there was nothing to do
    if (!validation)
      write();
    else if (!std::filesystem::exists(o.out))
      rwkv::fail_with(rwkv::ErrorCategory::argument, o.checkpoint, ": this run is finished, and ",
                      o.out, " is not there: the best model is not kept in a checkpoint");
  }
}

/// What is written must be writable, and nothing that is read but the model to start from.
void check_paths(const Train& o) {
  const std::pair<const char*, const std::string&> written[] = {{"--out", o.out},
                                                                {"--lora-out", o.lora_out},
                                                                {"--checkpoint", o.checkpoint},
                                                                {"--log", o.log}};
  const std::pair<const char*, const std::string&> read[] = {{"--text", o.text},
                                                             {"--samples", o.samples},
                                                             {"--validation", o.validation},
                                                             {"--vocab", o.vocab}};
  const auto refuse_same = [](const auto& a, const auto& b) {
    std::error_code ignored;
    if (a.second.empty() || b.second.empty()) return;
    const auto place = [&](const std::filesystem::path& path) {
      return std::filesystem::weakly_canonical(std::filesystem::absolute(path), ignored);
    };
    if (place(a.second) == place(b.second) ||
        (std::filesystem::is_regular_file(a.second, ignored) &&
         std::filesystem::equivalent(a.second, b.second, ignored)))
      rwkv::fail_with(rwkv::ErrorCategory::argument, a.first, " and ", b.first, " are one file, ",
                      a.second);
  };
  for (const auto& out : written) {
    for (const auto& in : read) refuse_same(out, in);
    for (const auto& other : written)
      if (&other != &out) refuse_same(out, other);
    check_writable(out.second);
  }
}

}  // namespace

void run(const Train& o) {
  check_paths(o);
  const rwkv::io::Checkpoint base =
      o.init.empty() ? rwkv::io::Checkpoint{} : rwkv::io::read_checkpoint(o.init);
  const rwkv::Tokenizer tokenizer = !o.vocab.empty() ? rwkv::Tokenizer::from_vocab_file(o.vocab)
                                    : o.init.empty() ? rwkv::Tokenizer::bytes()
                                                     : rwkv::Tokenizer::from_checkpoint(base);
  // A model of bytes needs no vocabulary; any other carries its own, so that it can be used without
  // further files.
  const bool bytes =
      o.vocab.empty() && (o.init.empty() || rwkv::io::vocabulary_of(base)->source == "bytes");
  const std::string vocabulary = bytes ? "" : vocabulary_text(tokenizer);

  train::Parameters start = starting_point(o, tokenizer);
  if (!o.samples.empty())
    return run_training(o, std::move(start),
                        train::SampleList(read_samples(o.samples, tokenizer), o.seed), tokenizer,
                        vocabulary);
  return run_training(o, std::move(start),
                      train::TextWindows(tokenizer.encode(read_all(o.text)), o.length, o.seed),
                      tokenizer, vocabulary);
}

}  // namespace tool
