// SPDX-License-Identifier: Apache-2.0
// Shows what rwkv/chat.hpp does: reads lines, prints answers.
#include "common.hpp"
#include "drafting.hpp"
#include <rwkv/chat.hpp>

#include <algorithm>
#include <charconv>

namespace tool {

namespace {

namespace chat = rwkv::chat;

constexpr const char* help =
    "/undo          take the last turn back, as if it had never been said\n"
    "/rewind N      take the last N tokens of the last answer back\n"
    "/regenerate    another answer to what was said last\n"
    "/system TEXT   begin anew with this system text; without TEXT: with none\n"
    "/reset         begin anew\n"
    "/save FILE     write the conversation and its state\n"
    "/load FILE     go on with a conversation that was saved\n"
    "/result JSON   what a called function returned (--tools)\n"
    "/help          this\n"
    "/exit          end (so does the end of the input; Ctrl-C ends an answer, then the program)\n"
    "Anything else is said to the model. Several lines stand between two \"\"\".\n";

std::string trimmed(const std::string& text) {
  constexpr const char* white = " \t\r\n\v\f";
  const std::size_t begin = text.find_first_not_of(white);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(white) + 1 - begin);
}

/// What the user enters: a line, or several between two """.
std::optional<std::string> read_entry(bool terminal) {
  constexpr std::string_view fence = "\"\"\"";
  if (terminal) print("\nUser: ");
  std::string line;
  if (!std::getline(std::cin, line)) return std::nullopt;
  line = trimmed(line);
  if (!line.starts_with(fence)) return line;
  std::string text = line.substr(fence.size());
  while (!text.ends_with(fence)) {
    if (terminal) print("... ");
    if (!std::getline(std::cin, line)) return text;
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!text.empty()) text += '\n';
    text += line;
  }
  text.resize(text.size() - fence.size());
  return ' ' + text;  // no command, whatever it begins with
}

/// "/name rest" in two; no name if it is none.
std::pair<std::string, std::string> command_in(const std::string& entry) {
  if (!entry.starts_with('/')) return {};
  const std::size_t end = std::min(entry.find_first_of(" \t"), entry.size());
  return {entry.substr(0, end), trimmed(entry.substr(end))};
}

/// The conversation on standard input and output.
template <class Model, class State, class Work>
class Session {
 public:
  Session(const Model& model, const State& start, Work& work, const rwkv::Tokenizer& tokenizer,
          const rwkv::ChatSettings& settings, const rwkv::GenerateOptions& options,
          rwkv::ThreadPool& pool, Feeding& feeding, std::string source)
      : model_(model),
        start_(start),
        work_(work),
        tokenizer_(tokenizer),
        options_(options),
        pool_(pool),
        feeding_(feeding),
        source_(std::move(source)),
        talk_(model, start, tokenizer, settings) {}

  /// Until the end of the input.
  void run() {
    while (const auto entry = read_entry(terminal_)) {
      try {
        if (!obey(*entry)) return;
      } catch (const rwkv::Error& error) {
        // Somebody can do something about it; a script would go on with what it did not mean.
        if (!terminal_) throw;
        std::fprintf(stderr, "error: %s\n", error.what());
      }
      if (!std::cout) return;  // main says so
    }
    if (terminal_) print("\n");
  }

 private:
  /// False at the end.
  bool obey(const std::string& entry) {
    const auto [command, rest] = command_in(entry);
    if (command == "/exit" || command == "/quit") return false;
    if (command.empty()) {
      if (!chat::clean(*talk_.settings().form, entry).empty())
        answer([&](auto&&... a) { return talk_.ask(entry, a...); }, talk_.size());
    } else if (command == "/help") {
      print(help);
    } else if (command == "/undo") {
      if (!talk_.undo(work_, pool_)) std::fputs("there is no turn to go back to\n", stderr);
      drafts_follow_ = false;
    } else if (command == "/rewind") {
      rewind(rest);
    } else if (command == "/regenerate") {
      if (talk_.size() == 0)
        std::fputs("there is no turn to go back to\n", stderr);
      else
        answer([&](auto&&... a) { return talk_.regenerate(a...); }, talk_.size() - 1);
    } else if (command == "/reset" || command == "/system") {
      rwkv::ChatSettings settings = talk_.settings();
      if (command == "/system") settings.system = rest;
      talk_ = rwkv::Conversation<Model, State>(model_, start_, tokenizer_, std::move(settings));
      drafts_follow_ = false;
    } else if (command == "/save") {
      require_not_over({"/save", file_named(rest)}, {{"the model", source_}});
      talk_.save(rest);
    } else if (command == "/load") {
      talk_.load(file_named(rest));
      drafts_follow_ = false;
      std::fprintf(stderr, "%zu turns\n", talk_.size());
    } else if (command == "/result") {
      if (talk_.settings().tools.empty())
        rwkv::fail(rwkv::ErrorCategory::argument,
                   "/result is for functions, of which --tools names none");
      answer([&, json = rest](auto&&... a) { return talk_.give_result(json, a...); }, talk_.size());
    } else {
      rwkv::fail_with(rwkv::ErrorCategory::argument, "there is no command ", command.substr(0, 40),
                      "; /help lists them. A text that begins with / stands between two \"\"\"");
    }
    return true;
  }

  static const std::string& file_named(const std::string& rest) {
    if (rest.empty()) rwkv::fail(rwkv::ErrorCategory::argument, "a file must be named");
    return rest;
  }

  void rewind(const std::string& rest) {
    std::size_t tokens = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), tokens);
    if (error != std::errc{} || end != rest.data() + rest.size() || tokens == 0)
      rwkv::fail_with(rwkv::ErrorCategory::argument, "/rewind wants a number of tokens, not \"",
                      rest.substr(0, 40), "\"");
    const std::size_t taken = talk_.rewind(tokens, feeding_.history(), work_, pool_);
    if (taken == 0) {
      std::fputs(
          "there are no tokens of an answer to take back (those of an answer that was "
          "loaded are not known)\n",
          stderr);
      return;
    }
    drafts_follow_ = false;
    print(talk_.turn(talk_.size() - 1).answer + '\n');
  }

  /// `turns` of the conversation stay as they are.
  template <class Say>
  void answer(Say&& say, std::size_t turns) {
    if (feeding_.draft() != nullptr && (!drafts_follow_ || turns < talk_.size())) {
      feeding_.draft()->reset();
      feeding_.draft()->append(talk_.tokens_of(turns));
      drafts_follow_ = true;
    }
    const Interrupt interrupt;
    options_.cancelled = [] { return Interrupt::requested() || !std::cout; };
    const auto& settings = talk_.settings();
    // What the template began in the model's name belongs to the answer; calls are bare JSON.
    if (settings.tools.empty()) print(talk_.begun());
    const rwkv::Answer answer = say(work_, std::as_const(options_), print, pool_);
    options_.sampler.seed += 1;  // another answer for another turn, the same for the same seed
    print("\n");
    if (!settings.tools.empty() && !answer.call && answer.reason == rwkv::StopReason::max_tokens)
      std::fputs("the call is cut short; --tokens allows longer ones\n", stderr);
    // Who sees a prompt again can say what next.
    if (Interrupt::requested() && (!terminal_ || Interrupt::termination()))
      Interrupt::end_program();
  }

  const Model& model_;
  const State& start_;
  Work& work_;
  const rwkv::Tokenizer& tokenizer_;
  rwkv::GenerateOptions options_;
  rwkv::ThreadPool& pool_;
  Feeding& feeding_;
  std::string source_;         // the model's file
  bool drafts_follow_ = true;  // the draft has read what the conversation has
  rwkv::Conversation<Model, State> talk_;
  const bool terminal_ = isatty(STDIN_FILENO) == 1;
};

/// What --template says, else the model's files.
const chat::Template& template_for(const Chat& options, const rwkv::io::Checkpoint& checkpoint) {
  if (!options.form.empty()) return chat::template_named(options.form);
  const chat::Choice choice = chat::chat_template_of(options.model, checkpoint.metadata);
  if (!choice.recognised)
    std::fprintf(stderr,
                 "warning: %s: this chat template is none that is known here; taking %s "
                 "(--template chooses)\n",
                 choice.from.c_str(), std::string(choice.form->name).c_str());
  return *choice.form;
}

}  // namespace

void run(const Chat& options) {
  if (options.form == "list") {
    for (const chat::Template& form : chat::templates) {
      std::string modes;
      for (const chat::Mode& mode : form.modes) (modes += ' ') += mode.name;
      std::printf("%-10s%s; --think%s\n", std::string(form.name).c_str(),
                  std::string(form.about).c_str(), modes.c_str());
    }
    return;
  }
  rwkv::ThreadPool pool(options.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  rwkv::ChatSettings settings;
  settings.form = &template_for(options, checkpoint);
  const chat::Mode& mode = options.think.empty() ? settings.form->modes.front()
                                                 : chat::mode_named(*settings.form, options.think);
  settings.think = mode.think;
  settings.system = options.system;
  if (options.tools == "-")
    rwkv::fail(rwkv::ErrorCategory::argument, "--tools -: standard input is the conversation");
  if (!options.tools.empty()) {
    settings.tools = trimmed(read_all(options.tools));
    (void)chat::tool_names(settings.tools, options.tools);
  }
  rwkv::GenerateOptions generate;
  generate.max_tokens = options.tokens;
  generate.any_vocabulary = !options.vocab.empty();  // there was a warning
  generate.sampler =
      sampler_options(options.sampling, chat::recommended_sampling(mode, !settings.tools.empty()));
  with_model(
      checkpoint, options.hybrid, pool, load_options(options),
      [&](const auto& model, auto state, const auto& make_workspace) {
        const auto tokenizer = tokenizer_for(options.vocab, checkpoint, model.shape().vocab());
        if (model.shape().vocab() == 256) generate.stop_tokens.clear();  // 0 is a byte
        if (!options.state_in.empty())
          state = model.load_state(options.state_in, state_options(options.state_layout));
        auto work = make_workspace(128, 128);
        Feeding feeding(options.drafting, model, tokenizer, pool, true);
        generate.feeder = feeding.feeder();
        Session(model, state, work, tokenizer, settings, generate, pool, feeding, checkpoint.source)
            .run();
      });
}

}  // namespace tool
