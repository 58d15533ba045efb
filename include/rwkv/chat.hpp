// SPDX-License-Identifier: Apache-2.0
// Conversations: messages in, tokens out, a state per turn.
//
//   rwkv::Conversation talk(model, rwkv::State(model.shape()), tokenizer,
//                           {.form = &rwkv::chat::native, .system = "Be brief."});
//   rwkv::Answer answer = talk.ask("Who are you?", work, {}, print, pool);
//   talk.undo(work, pool);                        // as if it had never been said
//   talk.save("talk.safetensors");
//
// A state has room for any past: there is no context to run out of, and nothing is ever cut from a
// conversation. What was said is not read again either, unless a template wants earlier answers
// without their thoughts (rwkv/text/chat_template.hpp).
//
// Works with every model that `generate` accepts. A server that runs many conversations in one
// batch has `chat::prompt_of` for the text, and a `TokenStream` per sequence.
#pragma once

#include <rwkv/generate.hpp>
#include <rwkv/shape_difference.hpp>
#include <rwkv/text/chat_template.hpp>

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
#include <rwkv/io/read.hpp>
#endif

namespace rwkv::inline RWKV_ABI {

/// A function that a model wants called.
struct ToolCall {
  std::string name;
  std::string arguments;  ///< a JSON object, as the model wrote it
  friend bool operator==(const ToolCall&, const ToolCall&) = default;
};

/// How a conversation is held; fixed for its life.
struct ChatSettings {
  const chat::Template* form = &chat::classic;
  chat::Think think = chat::Think::unsaid;
  std::string system{};  ///< before the first turn; empty: nothing
  /// JSON that describes functions (see Grammar::from_tools); answers are then calls of one of
  /// them, with arguments that are valid for its schema, unless a call's options have a constraint
  /// of their own. Needs a way of thinking that leaves no thoughts open.
  std::string tools{};
  /// Turns whose state is kept, the newest ones. Older ones can be taken back too, but what was
  /// said before them is then read once more.
  std::size_t kept_states = 32;
};

/// What was said, and what the model answered.
struct ChatTurn {
  std::string said;     ///< cleaned
  bool result = false;  ///< it is what a function returned
  std::string begun;    ///< of the answer, by the template
  std::string answer;   ///< as the model went on, without what ended it
  StopReason reason = StopReason::none;

  friend bool operator==(const ChatTurn&, const ChatTurn&) = default;
};

/// An answer taken apart.
struct Answer {
  std::string text;      ///< without thoughts and fences; no white space at its ends
  std::string thoughts;  ///< likewise; text is empty if they were not finished
  std::optional<ToolCall> call{};
  StopReason reason = StopReason::none;
  std::size_t prompt_tokens = 0;  ///< read for this answer
  std::size_t tokens = 0;         ///< of the answer
  double prompt_seconds = 0;
  double generate_seconds = 0;
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA {

/// Everything that a model is given to read before it answers for the last of `turns` (whose
/// `answer` is not looked at): what an unbroken conversation has read. Answers with the reason none
/// come from elsewhere; they are plain texts.
[[nodiscard]] RWKV_FUNCTION std::string prompt_of(const ChatSettings& settings,
                                                  std::span<const ChatTurn> turns);

/// `options` with what ends an answer besides: strings, or tokens where the vocabulary has them.
[[nodiscard]] RWKV_FUNCTION GenerateOptions with_stops(GenerateOptions options,
                                                       const ChatSettings& settings,
                                                       const Tokenizer& tokenizer);

/// Takes an answer apart: thoughts, text, and, if there are tools, the call.
[[nodiscard]] RWKV_FUNCTION Answer answer_in(const ChatTurn& turn, bool has_tools);

#if !defined(RWKV_NO_IO)
/// The call in `text`: a JSON object with the members "name", a string, and "arguments", an object
/// (or none), perhaps in a ```json fence; other members are skipped. Nothing if it is none.
[[nodiscard]] RWKV_FUNCTION std::optional<ToolCall> tool_call_in(std::string_view text);

/// The names of the functions in a list of {"name", ...} or {"type": "function", "function":
/// {"name", ...}}. Throws `Error` (format) naming `source` if it is none, or empty.
[[nodiscard]] RWKV_FUNCTION std::vector<std::string> tool_names(std::string_view tools,
                                                                const std::string& source);
#endif

namespace detail {

/// What stands between a state and the beginning of the next user's turn. At most one of these is
/// not empty.
struct Border {
  std::string owed;   // the state has yet to read it
  std::string ahead;  // the state has read it, though it belongs to the turn

  friend bool operator==(const Border&, const Border&) = default;
};

/// What a turn does to a state. How to get from one state to the next again: by tokens.
struct TurnRecord {
  ChatTurn turn;
  Border before;
  std::vector<Token> read;  // between the state before this turn and the one before the next
};

/// The text of a turn for a state at a border.
struct TurnText {
  std::string user;     // up to what an answer begins with
  std::string begun;    // what the answer begins with
  bool thoughts_leave;  // later they are not part of the text
};

[[nodiscard]] RWKV_FUNCTION Border first_border(const ChatSettings& settings);
[[nodiscard]] RWKV_FUNCTION TurnText turn_text(const ChatSettings& settings, const Border& before,
                                               const ChatTurn& turn);
[[nodiscard]] RWKV_FUNCTION std::string begun_by(const ChatSettings& settings);

/// Behind an answer: either the state may go on from what it has read (nothing is returned, and
/// `after` is set), or it must go back to the beginning of the answer and read what is returned.
[[nodiscard]] RWKV_FUNCTION std::optional<std::string> settle(const ChatSettings& settings,
                                                              const TurnText& text,
                                                              const ChatTurn& turn,
                                                              std::string_view overrun,
                                                              Border& after);

RWKV_FUNCTION void check(const ChatSettings& settings);

/// That an answer is a call of one of the tools, valid for its schema; none without tools.
[[nodiscard]] RWKV_FUNCTION Constraint constraint_for(const ChatSettings& settings,
                                                      const Tokenizer& tokenizer);

#if !defined(RWKV_NO_IO)
/// A conversation as text: JSON with all texts and tokens.
struct Script {
  ChatSettings settings;
  std::vector<TurnRecord> turns;
  Border after;
  std::uint64_t start = 0;  // a checksum of the state that it began with
};
[[nodiscard]] RWKV_FUNCTION std::string to_json(const Script& script);
[[nodiscard]] RWKV_FUNCTION Script script_in(std::string_view json, const std::string& source);
#endif

inline constexpr const char* script_key = "rwkv.conversation";

RWKV_FUNCTION std::uint64_t checksum(std::span<const float> values) noexcept;

/// Enough to tell a tuned state from another, or from none.
template <class State>
[[nodiscard]] std::uint64_t checksum_of(const State& state) {
  if constexpr (requires { state.values(); })
    return checksum(state.values());
  else if constexpr (requires { state.rwkv().values(); })
    return checksum(state.rwkv().values());
  else
    return 0;
}

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// A conversation with a model. A regular value type: a copy goes on by itself. One thread at a
/// time; several conversations may share a model, each with a workspace. Memory: one state more
/// than `kept_states`, and the texts.
template <class Model, class State>
class Conversation {
 public:
  /// Begins with `start`, a fresh or a tuned state. Throws `Error` (argument) for a mode that the
  /// template does not have, (shape) for a state of another model, and as `Grammar::from_tools`.
  Conversation(Model model, State start, Tokenizer tokenizer, ChatSettings settings = {})
      : model_(std::move(model)),
        tokenizer_(std::move(tokenizer)),
        settings_(std::move(settings)),
        start_(std::move(start)),
        state_(start_) {
    chat::detail::check(settings_);
    if constexpr (requires { state_.intact(); })
      internal::check_state(model_.shape(), state_, "the state that a conversation begins with");
    constraint_ = chat::detail::constraint_for(settings_, tokenizer_);
    after_ = chat::detail::first_border(settings_);
  }

  [[nodiscard]] const ChatSettings& settings() const noexcept { return settings_; }
  [[nodiscard]] std::size_t size() const noexcept { return turns_.size(); }
  /// Throws `Error` (argument) if there is no such turn.
  [[nodiscard]] const ChatTurn& turn(std::size_t i) const {
    if (i >= turns_.size()) fail_with(ErrorCategory::argument, "turn ", i, " of ", turns_.size());
    return turns_[i].record.turn;
  }
  /// After everything that was said.
  [[nodiscard]] const State& state() const noexcept { return state_; }
  /// What the next answer begins with, before the model says anything.
  [[nodiscard]] std::string begun() const { return chat::detail::begun_by(settings_); }

  /// Says `text` and returns the answer. `options`, `on_text` and `exec` are those of `generate`;
  /// a leading token is read before the first turn only. If the call is cancelled before the model
  /// has read everything, or throws, nothing was said. Throws as `generate`.
  template <class Work, class OnText = NoCallback>
  Answer ask(std::string_view text, Work& work, const GenerateOptions& options = {},
             OnText&& on_text = {}, ExecutorRef exec = {}) {
    return say(text, false, work, options, on_text, exec);
  }

  /// The same with the JSON that a called function returned.
  template <class Work, class OnText = NoCallback>
  Answer give_result(std::string_view json, Work& work, const GenerateOptions& options = {},
                     OnText&& on_text = {}, ExecutorRef exec = {}) {
    return say(json, true, work, options, on_text, exec);
  }

  /// Takes the last turn back: the conversation, bit for bit, before it. False if there is none.
  /// The workspace is used when the state before it is not kept.
  template <class Work>
  bool undo(Work& work, ExecutorRef exec = {}) {
    if (turns_.empty()) return false;
    state_ = before_last(work, exec);
    after_ = std::move(turns_.back().record.before);
    turns_.pop_back();
    return true;
  }

  /// Takes the last `tokens` of the last answer back, as if the model had not said them, and white
  /// space that would stand at its end then, which templates do not want. Returns how many it were:
  /// at most the whole answer. Where `history` (history.hpp), which the answers' feeder records
  /// into, has them, the state comes from there without a pass; otherwise the turn is read again up
  /// to there. Of an answer that was loaded, or whose thoughts have left, nothing is taken back.
  template <class History, class Work>
  std::size_t rewind(std::size_t tokens, History* history, Work& work, ExecutorRef exec = {}) {
    if (turns_.empty() || turns_.back().said == 0 || tokens == 0) return 0;
    Kept& last = turns_.back();
    chat::detail::TurnRecord record;
    chat::detail::Border after;
    for (tokens = (std::min)(tokens, last.said);; ++tokens) {
      record = last.record;
      record.read.resize(record.read.size() - tokens);
      const std::string text =
          tokenizer_.decode(std::span<const Token>(record.read).last(last.said - tokens));
      const std::size_t shown = (std::min)(text.size(), record.turn.answer.size());
      record.turn.answer.resize(shown);
      record.turn.reason = StopReason::max_tokens;
      const auto words = chat::detail::turn_text(settings_, record.before, record.turn);
      const auto again = chat::detail::settle(settings_, words, record.turn,
                                              std::string_view(text).substr(shown), after);
      if (!again || tokens == last.said) break;
    }
    State state = state_;
    bool back = false;
    if (auto* const recurrent = rwkv::detail::recurrent_state(state);
        recurrent != nullptr && history != nullptr) {
      back = history->ends_with(*recurrent) && history->size() >= tokens;
      if (back) history->rewind(*recurrent, tokens, exec);
    }
    if (!back) {
      state = before_last(work, exec);
      read(state, record.read, work, exec);
    }
    last.record = std::move(record);
    last.said -= tokens;
    state_ = std::move(state);
    after_ = std::move(after);
    return tokens;
  }

  /// The tokens that were read in the first `turns` turns (or in all), the model's own among them.
  [[nodiscard]] std::vector<Token> tokens_of(std::size_t turns) const {
    std::vector<Token> tokens;
    for (std::size_t i = 0; i < (std::min)(turns, turns_.size()); ++i)
      tokens.insert(tokens.end(), turns_[i].record.read.begin(), turns_[i].record.read.end());
    return tokens;
  }

  /// Another answer to what was said last. With the same options it would be the same: give another
  /// seed. If the call throws or is cancelled early, the old answer stays. Throws `Error`
  /// (argument) if nothing was said.
  template <class Work, class OnText = NoCallback>
  Answer regenerate(Work& work, const GenerateOptions& options = {}, OnText&& on_text = {},
                    ExecutorRef exec = {}) {
    if (turns_.empty()) fail(ErrorCategory::argument, "nothing was said that could be answered");
    // Back to before the turn, and forward again if there is no other answer.
    struct Old {
      Conversation& talk;
      Kept turn;
      State state;
      chat::detail::Border after;
      std::size_t size;
      ~Old() {
        if (talk.size() >= size) return;
        talk.turns_.push_back(std::move(turn));
        talk.state_ = std::move(state);
        talk.after_ = std::move(after);
      }
    } old{*this, turns_.back(), state_, after_, size()};
    undo(work, exec);
    Answer answer =
        say(old.turn.record.turn.said, old.turn.record.turn.result, work, options, on_text, exec);
    return answer;
  }

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
  /// Writes everything that was said, and the state, to `path`, as a whole or not at all. The file
  /// is a state file too. Throws `Error` (io).
  void save(const std::filesystem::path& path) const {
    chat::detail::Script script{settings_, {}, after_, chat::detail::checksum_of(start_)};
    for (const Kept& kept : turns_) script.turns.push_back(kept.record);
    model_.save_state(path, state_, {{chat::detail::script_key, chat::detail::to_json(script)}});
  }

  /// Goes on from what `save` wrote, with its settings (but `kept_states`). Throws `Error`, with
  /// nothing changed: (format) the file is damaged or holds no conversation, (argument) another
  /// model's, or one that began with another state, (unsupported) a later version.
  void load(const std::filesystem::path& path) {
    const io::Checkpoint file = io::read_checkpoint(path);
    const auto json = file.metadata.find(chat::detail::script_key);
    if (json == file.metadata.end())
      fail_with(ErrorCategory::format, path.string(), ": this file holds no conversation");
    chat::detail::Script script = chat::detail::script_in(json->second, path.string());
    State state = model_.load_state(path);
    if (script.start != chat::detail::checksum_of(start_))
      fail_with(ErrorCategory::argument, path.string(),
                ": this conversation began with another (tuned) state");
    for (const auto& turn : script.turns)
      for (const Token token : turn.read)
        if (token >= model_.shape().vocab())
          fail_with(ErrorCategory::format, path.string(), ": token ", token,
                    " is outside the model's vocabulary of ", model_.shape().vocab());
    std::vector<Kept> turns;
    for (auto& turn : script.turns) turns.push_back({std::move(turn), std::nullopt, 0});
    constraint_ = chat::detail::constraint_for(script.settings, tokenizer_);
    script.settings.kept_states = settings_.kept_states;
    settings_ = std::move(script.settings);
    state_ = std::move(state);
    after_ = std::move(script.after);
    turns_ = std::move(turns);
  }
#endif

 private:
  struct Kept {
    chat::detail::TurnRecord record;
    std::optional<State> before;
    std::size_t said = 0;  // tokens of the answer, the last that were read; 0: not known
  };

  template <class Work>
  [[nodiscard]] State before_last(Work& work, ExecutorRef exec) const {
    if (turns_.back().before) return *turns_.back().before;
    State state = start_;
    for (std::size_t i = 0; i + 1 < turns_.size(); ++i)
      read(state, turns_[i].record.read, work, exec);
    return state;
  }

  template <class Work>
  void read(State& state, std::span<const Token> tokens, Work& work, ExecutorRef exec) const {
    while (!tokens.empty()) {
      const auto some = tokens.first((std::min)(work.rows(), tokens.size()));
      (void)model_.forward(state, some, work, exec);
      rwkv::detail::require_whole_pass(exec);
      tokens = tokens.subspan(some.size());
    }
  }

  [[nodiscard]] static Answer unanswered() {
    Answer answer;
    answer.reason = StopReason::cancelled;
    return answer;
  }

  template <class Work, class OnText>
  Answer say(std::string_view text, bool result, Work& work, const GenerateOptions& options,
             OnText& on_text, ExecutorRef exec) {
    chat::detail::TurnRecord record;
    record.turn.said = chat::clean(*settings_.form, text);
    record.turn.result = result;
    record.before = after_;
    const auto words = chat::detail::turn_text(settings_, after_, record.turn);
    record.turn.begun = words.begun;
    GenerateOptions all = chat::with_stops(options, settings_, tokenizer_);
    if (!turns_.empty()) all.leading_token.reset();
    if (!all.constraint) all.constraint = constraint_;

    // On a copy: whatever happens, nothing was said until it has been answered.
    State state = state_;
    std::optional<State> middle;  // where the answer begins, if it will be read again from there
    std::vector<Token> prompt;
    std::size_t read_before = 0;
    if (words.thoughts_leave) {
      if (all.leading_token) record.read.push_back(*all.leading_token);
      all.leading_token.reset();
      tokenizer_.encode(words.user, record.read);
      for (std::span<const Token> rest = record.read; !rest.empty();) {
        const auto some = rest.first((std::min)(work.rows(), rest.size()));
        Cancellable stoppable(exec, [&] { return all.cancelled && all.cancelled(); });
        if (!stoppable.proceed()) return unanswered();
        (void)model_.forward(state, some, work, stoppable);
        if (stoppable.stopped()) return unanswered();
        rest = rest.subspan(some.size());
      }
      read_before = record.read.size();
      middle = state;
      prompt = tokenizer_.encode(words.begun);
    } else {
      prompt = tokenizer_.encode(words.user + words.begun);
    }
    const GenerateResult generated = generate(model_, state, work, tokenizer_,
                                              std::span<const Token>(prompt), all, on_text, exec);
    const std::size_t leading = all.leading_token ? 1 : 0;
    if (generated.prompt_tokens < prompt.size() + leading) return unanswered();
    record.turn.answer = generated.text;
    record.turn.reason = generated.reason;

    chat::detail::Border after;
    const auto again =
        chat::detail::settle(settings_, words, record.turn, generated.overrun, after);
    if (again) {
      state = middle ? std::move(*middle) : state_;
      std::vector<Token> tokens;
      if (!middle && all.leading_token) tokens.push_back(*all.leading_token);
      tokenizer_.encode(middle ? *again : words.user + *again, tokens);
      read(state, tokens, work, exec);
      record.read.insert(record.read.end(), tokens.begin(), tokens.end());
    } else {
      if (all.leading_token) record.read.push_back(*all.leading_token);
      record.read.insert(record.read.end(), prompt.begin(), prompt.end());
      record.read.insert(record.read.end(), generated.tokens.begin(), generated.tokens.end());
    }

    Answer answer = chat::answer_in(record.turn, !settings_.tools.empty());
    answer.prompt_tokens = generated.prompt_tokens + read_before;
    answer.tokens = generated.tokens.size();
    answer.prompt_seconds = generated.prompt_seconds;
    answer.generate_seconds = generated.generate_seconds;
    turns_.push_back({std::move(record), std::nullopt, again ? 0 : generated.tokens.size()});
    std::swap(state, state_);  // from here on nothing throws
    after_ = std::move(after);
    if (settings_.kept_states > 0) turns_.back().before = std::move(state);
    if (turns_.size() > settings_.kept_states)
      turns_[turns_.size() - 1 - settings_.kept_states].before.reset();
    return answer;
  }

  Model model_;
  Tokenizer tokenizer_;
  ChatSettings settings_;
  Constraint constraint_;  // that answers are calls of the tools, if there are any
  State start_;
  State state_;
  chat::detail::Border after_;
  std::vector<Kept> turns_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/chat.ipp>
#endif
