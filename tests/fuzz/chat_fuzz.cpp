// SPDX-License-Identifier: Apache-2.0
// What chat reads from elsewhere: tokenizer_config.json, a list of functions, a conversation that
// was saved, and what a model says. Each is refused with a sentence or keeps its promises.
#include <rwkv/chat.hpp>

#include <stdexcept>

namespace {

void require(bool promise, const char* what) {
  if (!promise) throw std::logic_error(what);
}

template <class Read>
void read(Read&& what) {
  try {
    what();
  } catch (const rwkv::Error& error) {
    require(std::string_view(error.what()).starts_with("file: "), "a sentence without the file");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  namespace chat = rwkv::chat;
  const std::string input(reinterpret_cast<const char*>(data), size);
  read([&] {
    const std::string jinja = chat::template_in_tokenizer_config(input, "file");
    require(jinja.size() <= input.size(), "a template out of nothing");
    (void)chat::recognise(jinja);
  });
  read([&] { require(!chat::tool_names(input, "file").empty(), "no function"); });
  read([&] {
    const auto script = chat::detail::script_in(input, "file");
    const std::string json = chat::detail::to_json(script);
    const auto again = chat::detail::script_in(json, "file");
    require(chat::detail::to_json(again) == json, "a conversation that is not what was written");
    for (const auto& record : script.turns)
      (void)chat::detail::turn_text(script.settings, record.before, record.turn);
  });
  if (const auto call = chat::tool_call_in(input)) {
    require(!call->name.empty(), "a call of nothing");
    const std::string wrapped = "{\"name\":\"f\",\"arguments\":" + call->arguments + "}";
    require(chat::tool_call_in(wrapped) == rwkv::ToolCall{"f", call->arguments},
            "arguments that are no object");
  }
  for (const chat::Template& form : chat::templates) {
    const std::string clean = chat::clean(form, input);
    require(chat::clean(form, clean) == clean, "a text that is not clean yet");
    for (const std::string_view stop : form.stops)
      require(stop.empty() || clean.find(stop) == clean.npos, "a text that ends its turn");
  }
  return 0;
}
