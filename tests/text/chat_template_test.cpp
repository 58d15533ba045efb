// SPDX-License-Identifier: Apache-2.0
#include "../support/temporary_directory.hpp"
#include "support.hpp"
#include <rwkv/chat.hpp>

#include <fstream>

namespace chat = rwkv::chat;
using rwkv::ChatSettings;
using rwkv::ChatTurn;
using rwkv::ErrorCategory;

namespace {

std::vector<ChatTurn> said(std::initializer_list<const char*> texts) {
  std::vector<ChatTurn> turns;
  for (const char* text : texts)
    turns.push_back({.said = text, .result = false, .begun = "", .answer = ""});
  return turns;
}

std::string prompt(const ChatSettings& settings, std::vector<ChatTurn> turns) {
  return chat::prompt_of(settings, turns);
}

void spit(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

TEST_CASE("classic texts are cleaned of blank lines") {
  const auto clean = [](std::string_view text) { return chat::clean(chat::classic, text); };
  CHECK(clean("") == "");
  CHECK(clean(" \n\t\n ") == "");
  CHECK(clean("  hi there\n") == "hi there");
  CHECK(clean("a\n\n\nb\nc") == "a\nb\nc");
  CHECK(clean("a\r\n\r\nb\r\nc") == "a\nb\nc");
  CHECK(clean("a\rb\r") == "a\rb");  // a lone carriage return inside is kept
  CHECK(clean("a\n \nb") == "a\n \nb");
  CHECK(clean("\r\r\na") == "a");
  CHECK(clean("a ✿ b") == "a ✿ b");
}

TEST_CASE("native texts lose blanks at the ends of lines, and what would end a turn") {
  const auto clean = [](std::string_view text) { return chat::clean(chat::native, text); };
  CHECK(clean("a  \nb\t\n\nc") == "a\nb\nc");
  CHECK(clean("a \r\nb\r\n \r\nc ") == "a\nb\nc");
  CHECK(clean("  a b") == "a b");
  CHECK(clean("a✿\nUser✿b") == "a\nUserb");
  CHECK(clean("\xe2\xe2\x9c\xbf\x9c\xbf") == "");  // not by two halves either
}

TEST_CASE("cleaning twice is cleaning once, and nothing can forge a turn") {
  test::Random random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    constexpr std::string_view parts[] = {"a",    " ",     "\t",   "\n",       "\r",
                                          "\r\n", "✿",     "\xe2", "\x9c\xbf", "\xe2\x9c",
                                          "\xbf", "User:", "\n\n"};
    for (std::size_t n = random.below(20); n > 0; --n)
      text += parts[random.below(std::size(parts))];
    for (const chat::Template& form : chat::templates) {
      const std::string once = chat::clean(form, text);
      REQUIRE(chat::clean(form, once) == once);
      for (const auto stop : form.stops)
        if (!stop.empty()) REQUIRE(once.find(stop) == std::string::npos);
    }
  }
}

TEST_CASE("the classic template") {
  const auto begins = [](chat::Think think) {
    return prompt({.think = think}, said({" hi\n\nthere "}));
  };
  using chat::Think;
  CHECK(begins(Think::unsaid) == "User: hi\nthere\n\nAssistant:");
  CHECK(begins(Think::open) == "User: hi\nthere\n\nAssistant: <think");
  CHECK(begins(Think::skip) == "User: hi\nthere\n\nAssistant: <think></think");
  CHECK(begins(Think::skip_lines) == "User: hi\nthere\n\nAssistant: <think>\n</think");
  CHECK(begins(Think::asked) == "User: hi\nthere (think)\n\nAssistant: <think");
  CHECK(begins(Think::a_bit) == "User: hi\nthere (think a bit)\n\nAssistant: <think");
  CHECK(begins(Think::a_lot) == "User: hi\nthere (think a lot)\n\nAssistant: <think");
  CHECK(prompt({.system = " Be\r\n\r\nbrief.\n"}, said({"hi"})) ==
        "System: Be\nbrief.\n\nUser: hi\n\nAssistant:");
  auto turns = said({"hi", "who?", "why?"});
  turns[0].answer = "Hello.";
  turns[1].begun = " <think></think";
  turns[1].answer = ">\nI.\n";
  turns[1].reason = rwkv::StopReason::stop_token;
  CHECK(prompt({.system = "S"}, turns) ==
        "System: S\n\nUser: hi\n\nAssistant: Hello.\n\nUser: who?\n\nAssistant: "
        "<think></think>\nI.\n\nUser: why?\n\nAssistant:");
}

TEST_CASE("the native template") {
  const ChatSettings plain{.form = &chat::native};
  CHECK(prompt(plain, said({"hi  \n\nthere"})) == "User✿hi\nthere✿\nBot✿<think></think>");
  const ChatSettings thinking{.form = &chat::native, .think = chat::Think::open, .system = "S \n"};
  CHECK(prompt(thinking, said({"hi"})) == "System✿S✿\nUser✿hi✿\nBot✿<think");
  auto turns = said({"hi", "who?", "why?", "so"});
  turns[0].answer = "Hello.";  // from elsewhere
  turns[1].begun = "<think></think>";
  turns[1].answer = "I.";
  turns[1].reason = rwkv::StopReason::stop_token;
  turns[2].begun = "<think";
  turns[2].answer = ">Hm.\nHm.\n</think>\n\nBecause.";
  turns[2].reason = rwkv::StopReason::stop_token;
  CHECK(prompt(thinking, turns) ==
        "System✿S✿\nUser✿hi✿\nBot✿<think></think>Hello.✿\nUser✿who?✿\nBot✿<think></think>I.✿\n"
        "User✿why?✿\nBot✿<think></think>Because.✿\nUser✿so✿\nBot✿<think");
  test::check_error(ErrorCategory::argument, "there is off, fast, on", [&] {
    (void)prompt({.form = &chat::native, .think = chat::Think::a_bit}, said({"hi"}));
  });
}

TEST_CASE("the template with sections") {
  auto turns = said({"hi", "who?"});
  turns[0].answer = "Hello.";
  CHECK(prompt({.form = &chat::sections, .system = "S"}, turns) ==
        "### System\nS\n\n### User\nhi\n\n### Assistant\nHello.\n\n### User\nwho?\n\n### "
        "Assistant\n");
}

TEST_CASE("functions are offered in the system text, and the answer begins with a fence") {
  const std::string tools = R"([{"name":"add","parameters":{"type":"object"}}])";
  auto turns = said({"1 + 1?", "{\"sum\":2}"});
  turns[0].begun = " ```json\n";
  turns[0].answer = "{\"name\":\"add\",\"arguments\":{}}\n";
  turns[0].reason = rwkv::StopReason::stop_string;
  CHECK(prompt({.system = "S", .tools = tools}, turns) ==
        "System: S\nTools: " + tools +
            "\nReturn only a JSON function call.\n\nUser: 1 + 1?\n\nAssistant: ```json\n"
            "{\"name\":\"add\",\"arguments\":{}}\n```\n\nUser: {\"sum\":2}\n\nAssistant: "
            "```json\n");
  CHECK(prompt({.form = &chat::native, .tools = tools}, said({"a"})) ==
        "System✿Tools: " + tools +
            "\nReturn only a JSON function call.✿\nUser✿a✿\nBot✿<think></think>```json\n");
  CHECK(prompt({.think = chat::Think::skip, .tools = tools}, said({"a"}))
            .ends_with("Assistant: <think></think>\n```json\n"));
  test::check_error(ErrorCategory::argument, "\"on\" would think first", [&] {
    (void)prompt({.think = chat::Think::open, .tools = tools}, said({"a"}));
  });
}

TEST_CASE("templates and modes have names") {
  for (const chat::Template& form : chat::templates) {
    CHECK(&chat::template_named(form.name) == &form);
    CHECK(&chat::mode_of(form, chat::Think::unsaid) == &form.modes.front());
    for (const chat::Mode& mode : form.modes) {
      CHECK(&chat::mode_named(form, mode.name) == &mode);
      CHECK(mode.thinks == mode.opening.ends_with("<think"));
      CHECK(mode.thinks == mode.fence.empty());
    }
  }
  test::check_error(ErrorCategory::argument,
                    "no chat template is called \"clasic\": there is classic, native, sections",
                    [] { (void)chat::template_named("clasic"); });
  test::check_error(ErrorCategory::argument, "classic cannot think \"hard\": there is off, fast,",
                    [] { (void)chat::mode_named(chat::classic, "hard"); });
}

TEST_CASE("sampling as recommended") {
  const auto off = chat::recommended_sampling(chat::mode_of(chat::native, chat::Think::unsaid));
  CHECK(off.temperature == 1.0f);
  CHECK(off.top_p == 0.28f);
  CHECK(off.top_k == 32);
  CHECK(off.presence_penalty == 0);
  const auto on = chat::recommended_sampling(chat::mode_of(chat::classic, chat::Think::a_lot));
  CHECK(on.temperature == 0.96f);
  CHECK(on.top_p == 0.76f);
  CHECK(on.top_k == 32);
  CHECK(on.presence_penalty == 1.0f);
  CHECK(on.frequency_penalty == 0.1f);
  CHECK(on.penalty_decay == 0.988f);
  const auto call =
      chat::recommended_sampling(chat::mode_of(chat::classic, chat::Think::open), true);
  CHECK(call.presence_penalty == 0);
  CHECK(call.frequency_penalty == 0);
}

TEST_CASE("templates in jinja are recognised") {
  const auto name = [](std::string_view jinja) -> std::string {
    const auto* form = chat::recognise(jinja);
    return form == nullptr ? "none" : std::string(form->name);
  };
  CHECK(name("rwkv-world") == "classic");
  CHECK(name("{{- 'User: ' + message['content']|trim + '\\n\\n' -}}...{{- 'Assistant:' -}}") ==
        "classic");
  CHECK(name("{{ 'User✿' + message.content + '✿\\n' }}{{ 'Bot✿<think' }}") == "native");
  CHECK(name("{{ 'User\\u273f' + message.content }}{{ 'Bot\\u273f<think' }}") == "native");
  CHECK(name("{{ 'User\\u273F' + message.content }}{{ 'Bot\\u273F<think' }}") == "native");
  CHECK(name("{{ '### User\\n' }} {{ '### Assistant\\n' }}") == "sections");
  CHECK(name("{{ '<|im_start|>' + role }}") == "none");
  CHECK(name("") == "none");
}

TEST_CASE("a template in jinja notation is the one that it was made from") {
  for (const chat::Template& form : chat::templates)
    CHECK(chat::recognise(chat::jinja_of(form)) == &form);
  // What llama.cpp looks for.
  CHECK(
      chat::jinja_of(chat::classic).find("{{- 'User: ' + message['content']|trim + '\\n\\n' -}}") !=
      std::string::npos);
  CHECK(chat::jinja_of(chat::classic).find("{{- 'Assistant: ' + ") != std::string::npos);
  CHECK(chat::jinja_of(chat::native).find("{{- 'Bot✿<think></think>' -}}") != std::string::npos);
}

TEST_CASE("tokenizer_config.json") {
  const auto in = [](std::string_view json) {
    return chat::template_in_tokenizer_config(json, "file");
  };
  CHECK(in("{}") == "");
  CHECK(in(R"({"a":[1,-2,3.5,{"chat_template":"no"}],"chat_template":"yes","b":null})") == "yes");
  CHECK(in(R"({"chat_template":null})") == "");
  CHECK(
      in(R"({"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]})") ==
      "d");
  CHECK(in(R"({"chat_template":[{"template":"t","name":"a"},{"name":"b","template":"u"}]})") ==
        "t");
  CHECK(in(R"({"b":[{"name":"default","template":"x"}]})") == "");
  CHECK(in(R"({"chat_template":[[{"name":"default"}]]})") == "");
  for (const char* bad : {"", "[", "[]", "{", "{\"chat_template\":}", "nonsense", "7",
                          "\"chat_template\"", R"({"chat_template":"a","chat_template":"b"})"}) {
    CAPTURE(bad);
    test::check_error(ErrorCategory::format, "file: the tokenizer's configuration",
                      [&] { (void)in(bad); });
  }
}

TEST_CASE("a model file says how to talk with it") {
  const test::TemporaryDirectory folder;
  const auto model = folder.path() / "model.pth";
  const auto choice = [&](const rwkv::io::Metadata& metadata, bool by_folder = false) {
    return chat::chat_template_of(by_folder ? folder.path() : model, metadata);
  };
  const rwkv::io::Metadata native{{"tokenizer.chat_template", "Bot✿"}};
  CHECK(choice({}).form == &chat::classic);
  CHECK(choice({}).from == "");
  CHECK(choice({}).recognised);

  spit(folder.path() / "tokenizer_config.json", R"({"chat_template":"### User ### Assistant"})");
  CHECK(choice({}).form == &chat::sections);
  CHECK(choice({}, true).from == (folder.path() / "tokenizer_config.json").string());
  spit(folder.path() / "chat_template.json", R"({"chat_template":"User✿ Bot✿"})");
  CHECK(choice({}).form == &chat::native);
  std::filesystem::remove(folder.path() / "chat_template.json");
  spit(folder.path() / "chat_template.jinja", "");  // says nothing
  CHECK(choice({}).form == &chat::sections);
  spit(folder.path() / "chat_template.jinja", "User✿ Bot✿");
  CHECK(choice({}).form == &chat::native);
  CHECK(choice({{"tokenizer.chat_template", "rwkv-world"}}).form == &chat::classic);
  CHECK(choice(native).form == &chat::native);
  CHECK(choice(native).from == "metadata tokenizer.chat_template");
  spit(folder.path() / "chat_template.jinja", "<|im_start|>");
  CHECK(choice({}).form == &chat::classic);
  CHECK_FALSE(choice({}).recognised);
  CHECK(choice({}).from == (folder.path() / "chat_template.jinja").string());

  std::filesystem::remove(folder.path() / "chat_template.jinja");
  spit(folder.path() / "tokenizer_config.json", "{");
  test::check_error(ErrorCategory::format, "tokenizer_config.json: ", [&] { (void)choice({}); });
  CHECK(choice(native).form == &chat::native);
}
