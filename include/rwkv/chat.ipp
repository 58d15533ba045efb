// SPDX-License-Identifier: Apache-2.0
// The definitions of chat.hpp.
#pragma once

#include <rwkv/chat.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/grammar.hpp>
#include <rwkv/io/json_events.hpp>
#include <rwkv/io/untrusted.hpp>
#endif

#include <algorithm>
#include <charconv>

namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA {

namespace detail {

inline constexpr std::string_view white_space = " \t\n\v\f\r";

[[nodiscard]] inline std::string_view without_end(std::string_view text) noexcept {
  return text.substr(0, text.find_last_not_of(white_space) + 1);
}
[[nodiscard]] inline std::string_view trimmed(std::string_view text) noexcept {
  text = without_end(text);
  return text.substr((std::min)(text.find_first_not_of(white_space), text.size()));
}

[[nodiscard]] inline std::string framed(const Frame& frame, std::string_view text) {
  return std::string(frame.before).append(text).append(frame.after);
}

/// `text` without the fence around it, if there is one.
[[nodiscard]] inline std::string_view without_fence(std::string_view text) noexcept {
  constexpr std::string_view fence = "```";
  text = trimmed(text);
  if (text.starts_with(fence)) text.remove_prefix((std::min)(text.find('\n'), text.size()));
  if (text.ends_with(fence)) text.remove_suffix(fence.size());
  return trimmed(text);
}

/// An answer as a conversation that goes on has it.
[[nodiscard]] inline std::string past_answer(const ChatSettings& settings, const ChatTurn& turn) {
  const Template& form = *settings.form;
  if (form.forgets_thoughts && !turn.begun.starts_with(form.past))
    return std::string(form.past) + answer_in(turn, false).text;
  std::string text = turn.begun;
  text += without_end(turn.answer);
  if (!settings.tools.empty()) text += fence_end;
  return text;
}

RWKV_FUNCTION Border first_border(const ChatSettings& settings) {
  const std::string text =
      clean(*settings.form, system_with_tools(settings.system, settings.tools));
  return {text.empty() ? std::string() : framed(settings.form->system, text), {}};
}

RWKV_FUNCTION std::string begun_by(const ChatSettings& settings) {
  const Mode& mode = mode_of(*settings.form, settings.think);
  return std::string(mode.opening).append(settings.tools.empty() ? "" : mode.fence);
}

RWKV_FUNCTION TurnText turn_text(const ChatSettings& settings, const Border& before,
                                 const ChatTurn& turn) {
  const Template& form = *settings.form;
  const Mode& mode = mode_of(form, settings.think);
  std::string said = clean(form, turn.said);
  if (!turn.result) said += mode.hint;
  std::string text = before.owed;
  text += framed(form.user, said).substr(before.ahead.size());
  text += form.answer.before;
  return {std::move(text), begun_by(settings), form.forgets_thoughts && mode.thinks};
}

RWKV_FUNCTION std::optional<std::string> settle(const ChatSettings& settings, const TurnText& text,
                                                const ChatTurn& turn, std::string_view overrun,
                                                Border& after) {
  const Template& form = *settings.form;
  const std::string whole = past_answer(settings, turn).append(form.answer.after);
  const std::string consumed = (text.begun + turn.answer).append(overrun);
  if ((whole + std::string(form.user.before)).starts_with(consumed)) {
    const std::size_t common = (std::min)(consumed.size(), whole.size());
    after = {whole.substr(common), consumed.substr(common)};
    return std::nullopt;
  }
  after = {};
  return whole;
}

inline void require_form(const ChatSettings& settings) {
  if (settings.form == nullptr)
    fail(ErrorCategory::argument, "these settings have no chat template");
}

RWKV_FUNCTION void check(const ChatSettings& settings) {
  require_form(settings);
  const Mode& mode = mode_of(*settings.form, settings.think);
  if (settings.tools.empty()) return;
  if (mode.fence.empty())
    fail_with(ErrorCategory::argument, "answers that are function calls begin with the call: \"",
              std::string(mode.name), "\" would think first");
#if !defined(RWKV_NO_IO)
  (void)tool_names(settings.tools, "tools");
#endif
}

RWKV_FUNCTION Constraint constraint_for([[maybe_unused]] const ChatSettings& settings,
                                        [[maybe_unused]] const Tokenizer& tokenizer) {
#if !defined(RWKV_NO_IO)
  if (!settings.tools.empty()) return Grammar::from_tools(settings.tools).constraint(tokenizer);
#endif
  return {};
}

RWKV_FUNCTION std::uint64_t checksum(std::span<const float> values) noexcept {
  std::uint64_t sum = 0xcbf29ce484222325u;
  for (const float value : values) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof bits);
    sum = (sum ^ bits) * 0x100000001b3u;
  }
  return sum;
}

}  // namespace detail

RWKV_FUNCTION std::string prompt_of(const ChatSettings& settings, std::span<const ChatTurn> turns) {
  detail::check(settings);
  detail::Border border = detail::first_border(settings);
  std::string prompt;
  for (std::size_t i = 0; i < turns.size(); ++i) {
    const auto text = detail::turn_text(settings, border, turns[i]);
    prompt += text.user;
    if (i + 1 == turns.size()) return prompt += text.begun;
    const ChatTurn& turn = turns[i];
    const bool elsewhere = turn.reason == StopReason::none;
    prompt += elsewhere ? std::string(settings.form->past).append(detail::trimmed(turn.answer))
                        : detail::past_answer(settings, turn);
    border.owed = settings.form->answer.after;
  }
  return prompt;
}

RWKV_FUNCTION GenerateOptions with_stops(GenerateOptions options, const ChatSettings& settings,
                                         const Tokenizer& tokenizer) {
  detail::require_form(settings);
  for (const std::string_view stop : settings.form->stops) {
    if (stop.empty()) continue;
    options.stop_strings.emplace_back(stop);
    for (Token token = 0; token < tokenizer.vocab_size(); ++token)
      if (tokenizer.token_bytes(token) == stop) options.stop_tokens.push_back(token);
  }
  if (!settings.tools.empty()) options.stop_strings.emplace_back(fence_end);
  return options;
}

RWKV_FUNCTION Answer answer_in(const ChatTurn& turn, bool has_tools) {
  constexpr std::string_view open = "<think";
  constexpr std::string_view close = "</think";
  Answer answer;
  answer.reason = turn.reason;
  const std::string whole = turn.begun + turn.answer;
  std::string_view text = detail::trimmed(whole);
  if (text.starts_with(open)) {
    text.remove_prefix(open.size());
    if (text.starts_with('>')) text.remove_prefix(1);
    const std::size_t end = (std::min)(text.find(close), text.size());
    answer.thoughts = detail::trimmed(text.substr(0, end));
    text.remove_prefix((std::min)(end + close.size(), text.size()));
    if (text.starts_with('>')) text.remove_prefix(1);
  }
  answer.text = detail::trimmed(text);
  if (!has_tools) return answer;
  answer.text = detail::without_fence(answer.text);
#if !defined(RWKV_NO_IO)
  answer.call = tool_call_in(answer.text);
#endif
  return answer;
}

#if !defined(RWKV_NO_IO)

namespace detail {

/// Lets everything within an object or array pass; what is interesting is overridden.
class AnyJson : public io::detail::JsonEvents {
 public:
  bool null() override { return within(); }
  bool boolean(bool) override { return within(); }
  bool number_integer(std::int64_t) override { return within(); }
  bool number_unsigned(std::uint64_t) override { return within(); }
  bool number_float(double) override { return within(); }
  bool string(std::string&) override { return within(); }
  bool start_object() override {
    ++depth_;
    return true;
  }
  bool key(std::string&) override { return true; }
  bool end_object() override {
    --depth_;
    return true;
  }
  bool start_array() override {
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

 protected:
  ~AnyJson() = default;
  // An object or array that everything else is in.
  bool within() { return depth_ > 0 || refuse("a single value"); }

  std::size_t depth_ = 0;
};

class CallEvents final : public AnyJson {
 public:
  std::optional<std::string> name;
  std::optional<std::size_t> arguments;  // which member of the object they are

  bool boolean(bool) override { return no_arguments(); }
  bool number_integer(std::int64_t) override { return no_arguments(); }
  bool number_unsigned(std::uint64_t) override { return no_arguments(); }
  bool number_float(double) override { return no_arguments(); }
  bool string(std::string& value) override {
    if (depth_ == 1 && key_ == "name") name = std::move(value);
    return no_arguments();
  }
  bool start_object() override {
    if (depth_ == 1 && key_ == "arguments") arguments = members_ - 1;
    return AnyJson::start_object();
  }
  bool start_array() override { return no_arguments() && AnyJson::start_array(); }
  bool key(std::string& name_of) override {
    if (depth_ != 1) return true;
    ++members_;
    key_ = std::move(name_of);
    return (key_ != "name" || !name) && (key_ != "arguments" || !arguments);
  }

 private:
  // What stands here, and not as the arguments, which are an object or null.
  bool no_arguments() { return within() && (depth_ > 1 || key_ != "arguments"); }

  std::string key_;
  std::size_t members_ = 0;
};

/// The value of a member of the JSON object `text`, which is known to be one.
[[nodiscard]] inline std::string_view member_value(std::string_view text, std::size_t member) {
  std::size_t depth = 0;
  std::size_t begin = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (depth == 1 && c == ':') {
      begin = i + 1;
    } else if (depth == 1 && (c == ',' || c == '}')) {
      if (member-- == 0) return trimmed(text.substr(begin, i - begin));
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return {};
}

class ToolEvents final : public AnyJson {
 public:
  std::vector<std::string> names;

  bool string(std::string& value) override {
    const bool plain = depth_ == 2 && key_ == "name";
    const bool wrapped = depth_ == 3 && key_ == "function" && inner_ == "name";
    if ((plain || wrapped) && names.size() < tools_) names.push_back(std::move(value));
    return within();
  }
  bool start_object() override {
    if (depth_ == 0) return refuse("an object");
    if (depth_ == 1) {
      if (names.size() < tools_) return stop("has a function without a name");
      ++tools_;
    }
    return AnyJson::start_object();
  }
  bool key(std::string& name) override {
    if (depth_ == 2) key_ = std::move(name);
    if (depth_ == 3) inner_ = std::move(name);
    return true;
  }
  bool end_array() override {
    if (depth_ == 1 && names.size() < tools_) return stop("has a function without a name");
    if (depth_ == 1 && tools_ == 0) return stop("names no function");
    return AnyJson::end_array();
  }

 private:
  std::string key_;
  std::string inner_;
  std::size_t tools_ = 0;
};

}  // namespace detail

RWKV_FUNCTION std::optional<ToolCall> tool_call_in(std::string_view text) {
  text = detail::without_fence(text);
  detail::CallEvents events;
  if (!io::detail::parse_json(text, events) || !events.name || events.name->empty())
    return std::nullopt;
  return ToolCall{std::move(*events.name),
                  events.arguments ? std::string(detail::member_value(text, *events.arguments))
                                   : std::string("{}")};
}

RWKV_FUNCTION std::vector<std::string> tool_names(std::string_view tools,
                                                  const std::string& source) {
  detail::ToolEvents events;
  io::detail::parse_json(tools, events, source, "the list of functions");
  return std::move(events.names);
}

namespace detail {

/// Conversations as text. A text is a string, or an array of byte values where the bytes are no
/// UTF-8.
class ScriptWriter {
 public:
  std::string json = "{";

  void begin(std::string_view key) {
    if (json.back() != '{' && json.back() != '[') json += ',';
    if (!key.empty()) quote(key), json += ':';
  }
  void number(std::string_view key, std::uint64_t value) {
    begin(key), json += std::to_string(value);
  }
  void text(std::string_view key, std::string_view value) {
    begin(key);
    if (io::detail::is_utf8(value)) return quote(value);
    json += '[';
    for (const char c : value) number("", static_cast<unsigned char>(c));
    json += ']';
  }
  void border(const Border& b) {
    text("owed", b.owed);
    text("ahead", b.ahead);
  }

 private:
  void quote(std::string_view text) {
    json += '"';
    for (const char c : text) {
      const auto code = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        (json += '\\') += c;
      } else if (code < 0x20) {
        constexpr std::string_view digits = "0123456789abcdef";
        ((json += "\\u00") += digits[code >> 4]) += digits[code & 15];
      } else {
        json += c;
      }
    }
    json += '"';
  }
};

class ScriptEvents final : public AnyJson {
 public:
  Script script;
  std::uint64_t version = 0;
  std::string form, think;

  bool null() override { return refuse("null"); }
  bool number_integer(std::int64_t) override { return refuse("a negative number"); }
  bool number_float(double) override { return refuse("a fraction"); }
  bool boolean(bool value) override {
    if (depth_ != 3 || key_ != "result") return refuse("a truth value");
    script.turns.back().turn.result = value;
    return true;
  }
  bool number_unsigned(std::uint64_t number) override {
    if (bytes_ != nullptr) {
      if (number > 255) return refuse("the number " + std::to_string(number));
      *bytes_ += static_cast<char>(number);
    } else if (in_tokens_) {
      if (number > 0xffffffffu) return refuse("the number " + std::to_string(number));
      script.turns.back().read.push_back(static_cast<Token>(number));
    } else if (depth_ == 1 && key_ == "version") {
      version = number;
    } else if (depth_ == 1 && key_ == "start") {
      script.start = number;
    } else if (depth_ == 3 && key_ == "reason" &&
               number <= static_cast<std::uint64_t>(StopReason::complete)) {
      script.turns.back().turn.reason = static_cast<StopReason>(number);
    } else {
      return refuse("the number " + std::to_string(number));
    }
    return true;
  }
  bool string(std::string& value) override {
    std::string* const to = bytes_ == nullptr && !in_tokens_ ? text_called(key_) : nullptr;
    if (to == nullptr) return refuse("a string");
    *to = std::move(value);
    return true;
  }
  bool start_object() override {
    if (depth_ != 0 && !(depth_ == 2 && in_turns_)) return refuse("an object");
    if (depth_ == 2) script.turns.emplace_back();
    key_.clear();
    return AnyJson::start_object();
  }
  bool key(std::string& name) override {
    key_ = std::move(name);
    return true;
  }
  bool start_array() override {
    if (bytes_ != nullptr || in_tokens_) return refuse("an array");
    if (depth_ == 1 && key_ == "turns") {
      in_turns_ = true;
    } else if (depth_ == 3 && key_ == "read") {
      in_tokens_ = true;
    } else if ((bytes_ = text_called(key_)) != nullptr) {
      bytes_->clear();
    } else {
      return refuse("an array");
    }
    return AnyJson::start_array();
  }
  bool end_array() override {
    bytes_ = nullptr;
    in_tokens_ = false;
    if (depth_ == 2) in_turns_ = false;
    return AnyJson::end_array();
  }

 private:
  [[nodiscard]] std::string* text_called(std::string_view name) {
    struct Place {
      std::string_view name;
      std::string* text;
    };
    if (depth_ == 1) {
      for (const Place& p :
           {Place{"template", &form}, Place{"think", &think},
            Place{"system", &script.settings.system}, Place{"tools", &script.settings.tools},
            Place{"owed", &script.after.owed}, Place{"ahead", &script.after.ahead}})
        if (p.name == name) return p.text;
    } else if (depth_ == 3) {
      TurnRecord& r = script.turns.back();
      for (const Place& p : {Place{"said", &r.turn.said}, Place{"begun", &r.turn.begun},
                             Place{"answer", &r.turn.answer}, Place{"owed", &r.before.owed},
                             Place{"ahead", &r.before.ahead}})
        if (p.name == name) return p.text;
    }
    return nullptr;
  }

  std::string key_;
  std::string* bytes_ = nullptr;
  bool in_turns_ = false;
  bool in_tokens_ = false;
};

inline constexpr std::uint64_t script_version = 1;

RWKV_FUNCTION std::string to_json(const Script& script) {
  ScriptWriter out;
  out.number("version", script_version);
  out.text("template", script.settings.form->name);
  out.text("think", mode_of(*script.settings.form, script.settings.think).name);
  out.text("system", script.settings.system);
  out.text("tools", script.settings.tools);
  out.number("start", script.start);
  out.border(script.after);
  out.begin("turns");
  out.json += '[';
  for (const TurnRecord& r : script.turns) {
    out.begin("");
    out.json += '{';
    out.text("said", r.turn.said);
    out.begin("result");
    out.json += r.turn.result ? "true" : "false";
    out.text("begun", r.turn.begun);
    out.text("answer", r.turn.answer);
    out.number("reason", static_cast<std::uint64_t>(r.turn.reason));
    out.border(r.before);
    out.begin("read");
    out.json += '[';
    for (const Token token : r.read) out.number("", token);
    out.json += "]}";
  }
  out.json += "]}";
  return std::move(out.json);
}

RWKV_FUNCTION Script script_in(std::string_view json, const std::string& source) {
  ScriptEvents events;
  io::detail::parse_json(json, events, source, "the conversation");
  if (events.version != script_version)
    fail_with(ErrorCategory::unsupported, source, ": conversation version ", events.version,
              " (this library reads version ", script_version, ")");
  Script& script = events.script;
  const auto damaged = [&](const char* what) {
    fail_with(ErrorCategory::format, source, ": the conversation has ", what);
  };
  const auto* form = std::find_if(std::begin(templates), std::end(templates),
                                  [&](const Template& t) { return t.name == events.form; });
  if (form == std::end(templates)) damaged("a chat template that this library does not know");
  script.settings.form = form;
  const auto mode = std::find_if(form->modes.begin(), form->modes.end(),
                                 [&](const Mode& m) { return m.name == events.think; });
  if (mode == form->modes.end()) damaged("a way of thinking that its chat template does not have");
  script.settings.think = mode->think;
  check(script.settings);
  const auto check_border = [&](const Border& b) {
    if (!form->user.before.starts_with(b.ahead)) damaged("a turn that begins like none");
  };
  check_border(script.after);
  for (const TurnRecord& r : script.turns) check_border(r.before);
  return std::move(script);
}

}  // namespace detail

#endif

}  // namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA
