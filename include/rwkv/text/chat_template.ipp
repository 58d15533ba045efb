// SPDX-License-Identifier: Apache-2.0
// The definitions of text/chat_template.hpp.
#pragma once

#include <rwkv/text/chat_template.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/io/json_events.hpp>
#include <rwkv/io/untrusted.hpp>
#if !defined(RWKV_NO_FILES)
#include <rwkv/io/mapped_file.hpp>
#endif
#endif

namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA {

namespace detail {

/// "a, b, c"
template <class List>
[[nodiscard]] std::string names_of(const List& list) {
  std::string names;
  for (const auto& entry : list) (names += names.empty() ? "" : ", ") += entry.name;
  return names;
}

template <class List, class Is>
[[nodiscard]] auto find_or_refuse(const List& list, Is&& is, const std::string& what)
    -> decltype(*std::begin(list)) {
  const auto found = std::find_if(std::begin(list), std::end(list), is);
  if (found != std::end(list)) return *found;
  fail(ErrorCategory::argument, what + ": there is " + names_of(list));
}

}  // namespace detail

RWKV_FUNCTION const Template& template_named(std::string_view name) {
  return detail::find_or_refuse(
      templates, [&](const Template& t) { return t.name == name; },
      "no chat template is called \"" + std::string(name.substr(0, 40)) + "\"");
}

RWKV_FUNCTION const Mode& mode_of(const Template& form, Think think) {
  return detail::find_or_refuse(
      form.modes, [&](const Mode& m) { return m.think == think; },
      "models with the chat template " + std::string(form.name) +
          " do not know this way of thinking");
}

RWKV_FUNCTION const Mode& mode_named(const Template& form, std::string_view name) {
  return detail::find_or_refuse(
      form.modes, [&](const Mode& m) { return m.name == name; },
      "models with the chat template " + std::string(form.name) + " cannot think \"" +
          std::string(name.substr(0, 40)) + "\"");
}

RWKV_FUNCTION std::string clean(const Template& form, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const std::string_view cut = form.cuts_line_ends ? " \t\r" : "\r";
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') {
      out.resize(out.find_last_not_of(cut) + 1);
      if (out.ends_with('\n')) continue;
    }
    out += text[i];
    // Also what only comes together because something was removed.
    if (!form.reserved.empty() && out.ends_with(form.reserved))
      out.resize(out.size() - form.reserved.size());
  }
  constexpr std::string_view white = " \t\n\v\f\r";
  out.erase((std::min)(out.find_last_not_of(white) + 1, out.size()));
  out.erase(0, (std::min)(out.find_first_not_of(white), out.size()));
  return out;
}

RWKV_FUNCTION SamplerOptions recommended_sampling(const Mode& mode, bool function_calls) {
  SamplerOptions o;
  o.temperature = mode.thinks ? 0.96f : 1.0f;
  o.top_p = mode.thinks ? 0.76f : 0.28f;
  o.top_k = 32;
  const bool penalties = mode.thinks && !function_calls;
  o.presence_penalty = penalties ? 1.0f : 0.0f;
  o.frequency_penalty = penalties ? 0.1f : 0.0f;
  o.penalty_decay = 0.988f;
  return o;
}

RWKV_FUNCTION std::string system_with_tools(std::string_view system, std::string_view tools) {
  std::string text(system);
  if (tools.starts_with("\xef\xbb\xbf")) tools.remove_prefix(3);  // a byte order mark
  if (tools.empty()) return text;
  if (!text.empty()) text += '\n';
  return text.append("Tools: ").append(tools).append("\nReturn only a JSON function call.");
}

RWKV_FUNCTION const Template* recognise(std::string_view jinja) noexcept {
  // The classic one last: its words are the plainest.
  for (const Template* form : {&native, &sections, &classic})
    for (const auto& [first, second] : form->known_by)
      if (!first.empty() && jinja.find(first) != jinja.npos && jinja.find(second) != jinja.npos)
        return form;
  return nullptr;
}

RWKV_FUNCTION std::string jinja_of(const Template& form) {
  const auto quoted = [](const std::string& text) {
    std::string out = "'";
    for (const char c : text) c == '\n' ? out += "\\n" : out += c;
    return out + "'";
  };
  std::string jinja = "{%- for message in messages -%}\n";
  const auto role = [&](const char* condition, const std::string& before, std::string_view after) {
    jinja += std::string("{%- ") + condition + " -%}\n{{- " + quoted(before) +
             " + message['content']|trim + " + quoted(std::string(after)) + " -}}\n";
  };
  role("if message['role'] == 'user' or message['role'] == 'tool'", std::string(form.user.before),
       form.user.after);
  role("elif message['role'] == 'system'", std::string(form.system.before), form.system.after);
  role("else", std::string(form.answer.before) + std::string(form.past), form.answer.after);
  return jinja + "{%- endif -%}\n{%- endfor -%}\n{%- if add_generation_prompt -%}{{- " +
         quoted(std::string(form.answer.before) + std::string(form.modes.front().opening)) +
         " -}}{%- endif -%}\n";
}

#if !defined(RWKV_NO_IO)

namespace detail {

/// Finds "chat_template" among whatever else a tokenizer_config.json holds.
class TokenizerConfigEvents final : public io::detail::JsonEvents {
 public:
  std::string text;

  bool null() override { return within(); }
  bool boolean(bool) override { return within(); }
  bool number_integer(std::int64_t) override { return within(); }
  bool number_unsigned(std::uint64_t) override { return within(); }
  bool number_float(double) override { return within(); }
  bool string(std::string& value) override {
    if (!wanted_) return within();
    if (depth_ == 1) text = std::move(value);
    if (depth_ == 3 && key_ == "name") name_ = std::move(value);
    if (depth_ == 3 && key_ == "template") template_ = std::move(value);
    return true;
  }
  bool start_object() override {
    if (++depth_ == 3) {
      name_.clear();
      template_.clear();
    }
    return true;
  }
  bool key(std::string& name) override {
    if (depth_ == 1) {
      wanted_ = name == "chat_template";
      if (wanted_ && std::exchange(seen_, true)) return stop("names chat_template twice");
    }
    if (depth_ == 3) key_ = std::move(name);
    return true;
  }
  bool end_object() override {
    if (depth_ == 3 && wanted_ && (text.empty() || name_ == "default")) text = std::move(template_);
    return close();
  }
  bool start_array() override {
    if (depth_ == 0) return refuse("an array");
    ++depth_;
    return true;
  }
  bool end_array() override { return close(); }

 private:
  bool within() { return depth_ > 0 || refuse("a single value"); }
  bool close() {
    --depth_;
    return true;
  }

  std::size_t depth_ = 0;
  bool wanted_ = false;
  bool seen_ = false;
  std::string key_;
  std::string name_;
  std::string template_;
};

}  // namespace detail

RWKV_FUNCTION std::string template_in_tokenizer_config(std::string_view json,
                                                       const std::string& source) {
  detail::TokenizerConfigEvents events;
  io::detail::parse_json(json, events, source, "the tokenizer's configuration");
  return std::move(events.text);
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION Found find_template(const std::filesystem::path& path, const io::Metadata& metadata) {
  constexpr const char* key = "tokenizer.chat_template";
  if (const auto it = metadata.find(key); it != metadata.end() && !it->second.empty())
    return {it->second, std::string("metadata ") + key};
  if (path.empty()) return {};
  std::error_code ignored;
  const auto folder = std::filesystem::is_directory(path, ignored) ? path : path.parent_path();
  for (const char* name : {"chat_template.jinja", "chat_template.json", "tokenizer_config.json"}) {
    const auto file = folder / name;
    if (!std::filesystem::is_regular_file(file, ignored)) continue;
    if (std::filesystem::file_size(file, ignored) == 0) continue;
    const io::MappedFile mapped(file);
    std::string text(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
    if (file.extension() == ".json") text = template_in_tokenizer_config(text, file.string());
    if (!text.empty()) return {std::move(text), file.string()};
  }
  return {};
}

RWKV_FUNCTION Choice chat_template_of(const std::filesystem::path& path,
                                      const io::Metadata& metadata) {
  Found found = find_template(path, metadata);
  if (found.jinja.empty()) return {};
  const Template* form = recognise(found.jinja);
  return {form == nullptr ? &classic : form, std::move(found.from), form != nullptr};
}
#endif

#endif

}  // namespace rwkv::inline RWKV_ABI::chat::inline RWKV_ISA
