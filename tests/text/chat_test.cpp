// SPDX-License-Identifier: Apache-2.0
#include "../support/golden.hpp"
#include "../support/sample_hybrid.hpp"
#include "../support/temporary_directory.hpp"
#include "support.hpp"
#include <rwkv/chat.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/model.hpp>
#include <rwkv/speculate.hpp>

namespace chat = rwkv::chat;
using rwkv::Answer;
using rwkv::ChatSettings;
using rwkv::ErrorCategory;
using rwkv::GenerateOptions;
using rwkv::StopReason;
using rwkv::Token;
using rwkv::Tokenizer;

namespace {

// A model that looks at all it has read and says a character, or that it has finished (token 0).
struct Oracle {
  struct Shape {
    [[nodiscard]] std::size_t vocab() const { return 300; }
  };
  using State = std::vector<Token>;
  struct Workspace {
    std::vector<float> logits;
    std::size_t fed = 0;
    [[nodiscard]] std::size_t rows() const { return 7; }
  };
  std::function<std::string(const std::string& read)> answer;  // what follows this text, if any

  [[nodiscard]] Shape shape() const { return {}; }
  template <class Exec>
  std::span<const float> forward(State& state, std::span<const Token> tokens, Workspace& work,
                                 Exec&&) const;
};

// Bytes as ids 1 to 256, and a few longer tokens; 0 ends.
Tokenizer tokenizer() {
  rwkv::io::Vocabulary v(1);
  for (int byte = 0; byte < 256; ++byte) v.emplace_back(1, static_cast<char>(byte));
  for (const char* token : {"\n\n", "User:", "✿", "User: x"}) v.emplace_back(token);
  return Tokenizer(v);
}

template <class Exec>
std::span<const float> Oracle::forward(State& state, std::span<const Token> tokens, Workspace& work,
                                       Exec&&) const {
  REQUIRE(!tokens.empty());
  REQUIRE(tokens.size() <= work.rows());
  state.insert(state.end(), tokens.begin(), tokens.end());
  work.fed += tokens.size();
  const std::string next = answer(tokenizer().decode(state));
  work.logits.assign(300, 0.0f);
  work.logits[next.empty() ? 0 : tokenizer().encode(next).front()] = 50;
  return work.logits;
}

/// Answers every turn with the script's next text: the part of it that is not in what was read yet.
Oracle reciting(std::string header, std::vector<std::string> script) {
  return {[=](const std::string& read) {
    std::size_t turn = 0;
    std::size_t at = 0;
    for (std::size_t next = 0; (next = read.find(header, next)) != read.npos;
         next += header.size()) {
      at = next + header.size();
      ++turn;
    }
    if (turn == 0) return std::string();
    const std::string& text = script[std::min(turn, script.size()) - 1];
    const std::string said = read.substr(at);
    return text.starts_with(said) ? text.substr(said.size()) : std::string();
  }};
}

const GenerateOptions greedy{
    .max_tokens = 200,
    .sampler = {.temperature = 0, .presence_penalty = 0, .frequency_penalty = 0}};

std::string read_by(const rwkv::Conversation<Oracle, Oracle::State>& talk) {
  return tokenizer().decode(talk.state());
}

}  // namespace

TEST_CASE("a classic conversation reads every text once") {
  Oracle::Workspace work;
  // The first answer ends with a stop string, the second with token 0, the third with both a stop
  // string and what the template does not have there.
  const Oracle model =
      reciting("Assistant:", {" Hello.\n\nUser:", " I am.\n", " Yes.\n\nUser: x", " End."});
  rwkv::Conversation talk(model, Oracle::State{}, tokenizer(), {.system = "S"});
  std::string shown;
  const Answer first = talk.ask(" hi\n", work, greedy, [&](std::string_view s) { shown += s; });
  CHECK(first.text == "Hello.");
  CHECK(first.thoughts == "");
  CHECK(first.reason == StopReason::stop_string);
  CHECK(shown == " Hello.");
  CHECK(talk.turn(0).said == "hi");
  CHECK(read_by(talk) == "System: S\n\nUser: hi\n\nAssistant: Hello.\n\nUser:");
  const auto after_first = talk.state();

  CHECK(talk.ask("who", work, greedy).text == "I am.");
  CHECK(read_by(talk) ==
        "System: S\n\nUser: hi\n\nAssistant: Hello.\n\nUser: who\n\nAssistant: I am.\n");
  CHECK(work.fed == talk.state().size());

  // What the model has read too much is not read by a conversation that goes on.
  CHECK(talk.ask("so", work, greedy).text == "Yes.");
  const std::string whole =
      "System: S\n\nUser: hi\n\nAssistant: Hello.\n\nUser: who\n\nAssistant: I am.\n\nUser: "
      "so\n\nAssistant: Yes.\n\n";
  CHECK(read_by(talk) == whole);
  CHECK(talk.ask("bye", work, greedy).text == "End.");
  CHECK(read_by(talk) == whole + "User: bye\n\nAssistant: End.");

  CHECK(talk.size() == 4);
  while (talk.size() > 1) CHECK(talk.undo(work));
  CHECK(talk.state() == after_first);
  CHECK(talk.ask("who", work, greedy).text == "I am.");
  CHECK(read_by(talk) ==
        "System: S\n\nUser: hi\n\nAssistant: Hello.\n\nUser: who\n\nAssistant: I am.\n");
}

TEST_CASE("what was read is what the template says") {
  for (const chat::Template& form : chat::templates)
    for (const chat::Mode& mode : form.modes) {
      CAPTURE(form.name);
      CAPTURE(mode.name);
      const std::string closed = mode.thinks                         ? ">Hm.</think>\n"
                                 : mode.opening.ends_with("</think") ? ">\n"
                                                                     : "";
      const Oracle model = reciting(std::string(form.answer.before) + std::string(mode.opening),
                                    {closed + "One.", closed + "Two."});
      const ChatSettings settings{.form = &form, .think = mode.think, .system = "S"};
      rwkv::Conversation talk(model, Oracle::State{}, tokenizer(), settings);
      Oracle::Workspace work;
      std::vector<rwkv::ChatTurn> turns;
      for (const char* text : {"a", "b", "c"}) {
        turns.push_back({.said = text, .result = false, .begun = "", .answer = ""});
        const std::string prompt = chat::prompt_of(settings, turns);
        const auto before = talk.state();
        const Answer answer = talk.ask(text, work, greedy);
        CHECK(answer.text == (turns.size() == 1 ? "One." : "Two."));
        CHECK(answer.thoughts == (mode.thinks ? "Hm." : ""));
        turns.back() = talk.turn(turns.size() - 1);
        // Without the thoughts, if they leave.
        if (form.forgets_thoughts && mode.thinks)
          CHECK(read_by(talk) == prompt.substr(0, prompt.size() - mode.opening.size()) +
                                     "<think></think>" + answer.text + "✿\n");
        else
          CHECK(read_by(talk) == prompt + turns.back().answer);
        const auto state = talk.state();
        CHECK(talk.undo(work));
        CHECK(talk.state() == before);
        (void)talk.ask(text, work, greedy);
        CHECK(talk.state() == state);
      }
    }
}

TEST_CASE("an answer that is cut or cancelled can be gone on from") {
  const Oracle model = reciting("Assistant:", {" One\n\nUs and them", " Two"});
  rwkv::Conversation talk(model, Oracle::State{}, tokenizer(), {});
  Oracle::Workspace work;
  GenerateOptions options = greedy;
  options.max_tokens = 5;  // " One" and the blank line
  CHECK(talk.ask("a", work, options).text == "One");
  CHECK(read_by(talk) == "User: a\n\nAssistant: One\n\n");
  CHECK(talk.ask("b", work, greedy).text == "Two");
  CHECK(read_by(talk) == "User: a\n\nAssistant: One\n\nUser: b\n\nAssistant: Two");
  CHECK(talk.undo(work));
  CHECK(talk.undo(work));
  CHECK_FALSE(talk.undo(work));

  // By the callback, with text that was held back.
  std::string shown;
  const Answer cancelled = talk.ask("a", work, greedy, [&](std::string_view piece) {
    shown += piece;
    return shown.size() < 7;
  });
  CHECK(cancelled.reason == StopReason::cancelled);
  CHECK(cancelled.text == "One\n\nUs");
  (void)talk.ask("b", work, greedy);
  CHECK(read_by(talk) == "User: a\n\nAssistant: One\n\nUs\n\nUser: b\n\nAssistant: Two");

  // While the prompt is read: nothing was said.
  const auto state = talk.state();
  int asked = 0;
  options.cancelled = [&] { return ++asked > 1; };
  CHECK(talk.ask("a long one", work, options).reason == StopReason::cancelled);
  CHECK(talk.size() == 2);
  CHECK(talk.state() == state);
}

TEST_CASE("another answer, or the old one") {
  std::string says = " One";
  const Oracle model{[&](const std::string& read) {
    const std::string said = read.substr(read.rfind("Assistant:") + 10);
    if (says == "throw") throw rwkv::Error(ErrorCategory::numeric, "none");
    return says.starts_with(said) ? says.substr(said.size()) : std::string();
  }};
  rwkv::Conversation talk(model, Oracle::State{}, tokenizer(), {});
  Oracle::Workspace work;
  test::check_error(ErrorCategory::argument, "nothing was said",
                    [&] { (void)talk.regenerate(work, greedy); });
  (void)talk.ask("a", work, greedy);
  says = " Two";
  CHECK(talk.regenerate(work, greedy).text == "Two");
  CHECK(talk.size() == 1);
  CHECK(read_by(talk) == "User: a\n\nAssistant: Two");
  says = "throw";
  CHECK_THROWS_AS((void)talk.regenerate(work, greedy), rwkv::Error);
  CHECK_THROWS_AS((void)talk.ask("b", work, greedy), rwkv::Error);
  GenerateOptions stopped = greedy;
  stopped.cancelled = [] { return true; };
  CHECK(talk.regenerate(work, stopped).reason == StopReason::cancelled);
  CHECK(talk.size() == 1);
  CHECK(talk.turn(0).answer == " Two");
  CHECK(read_by(talk) == "User: a\n\nAssistant: Two");
}

TEST_CASE("states that are not kept are read again") {
  const Oracle model = reciting("Bot✿<think", {">Hm.</think>One.", "></think>Two.", ">Three."});
  for (const std::size_t kept : {0u, 1u, 2u, 32u}) {
    CAPTURE(kept);
    GenerateOptions options = greedy;
    options.leading_token = Token{1};
    rwkv::Conversation talk(
        model, Oracle::State{}, tokenizer(),
        {.form = &chat::native, .think = chat::Think::open, .kept_states = kept});
    Oracle::Workspace work;
    std::vector<Oracle::State> states{talk.state()};
    for (const char* text : {"a", "b", "c", "d"}) {
      (void)talk.ask(text, work, options);
      states.push_back(talk.state());
    }
    CHECK(std::count(states.back().begin(), states.back().end(), Token{1}) == 1);
    for (states.pop_back(); !states.empty(); states.pop_back()) {
      CHECK(talk.undo(work));
      CHECK(talk.state() == states.back());
    }
  }
}

TEST_CASE("function calls, whatever the model would rather say") {
  const std::string tools = R"([{"type":"function","function":{"name":"add","parameters":{
      "type":"object","properties":{"a":{"type":"array","items":{"type":"boolean"},"maxItems":2}},
      "required":["a"],"additionalProperties":false}}}])";
  const Oracle model =
      reciting("Assistant: ```json\n",
               {"{\"name\":\"add\",\"arguments\":{\"a\":[true,false]}}\n```\n\nUser:",
                "Let me think about it: ]} 3"});
  rwkv::Conversation talk(model, Oracle::State{}, tokenizer(), {.tools = tools});
  CHECK(talk.begun() == " ```json\n");
  Oracle::Workspace work;
  const Answer first = talk.ask("1 + 2?", work, greedy);
  CHECK(first.call == rwkv::ToolCall{"add", "{\"a\":[true,false]}"});
  CHECK(first.reason == StopReason::complete);
  const Answer second = talk.give_result("{\"sum\": 3}", work, greedy);
  CAPTURE(second.text);
  REQUIRE(second.call.has_value());
  CHECK(second.call->name == "add");
  CHECK(second.call->arguments.starts_with("{\"a\":["));
  CHECK(talk.turn(1).result);
  const std::string begin = chat::system_with_tools("", chat::clean(chat::classic, tools));
  CHECK(read_by(talk) ==
        "System: " + begin +
            "\n\nUser: 1 + 2?\n\nAssistant: ```json\n{\"name\":\"add\",\"arguments\":{\"a\":[true,"
            "false]}}\n```\n\nUser: {\"sum\": 3}\n\nAssistant: ```json\n" +
            second.text);
  test::check_error(ErrorCategory::format, "tools", [&] {
    (void)rwkv::Conversation(model, Oracle::State{}, tokenizer(), {.tools = "[{}]"});
  });
  GenerateOptions options = greedy;
  options.max_tokens = 3;
  CHECK_FALSE(talk.ask("x", work, options).call.has_value());  // cut
}

namespace {

// Exactly this text.
class Only final : public rwkv::Constraint::Rules {
 public:
  explicit Only(std::string text) : left_(std::move(text)) {}
  [[nodiscard]] std::unique_ptr<Rules> clone() const override {
    return std::make_unique<Only>(*this);
  }
  void allowed(rwkv::TokenMask& mask) override {
    mask.clear(tokenizer().vocab_size());
    if (!left_.empty()) mask.set(tokenizer().encode(left_).front());
  }
  void accept(Token token) override { left_.erase(0, tokenizer().token_bytes(token).size()); }
  [[nodiscard]] std::string forced() override { return left_; }
  [[nodiscard]] std::vector<Token> forced_tokens(std::size_t most) override {
    auto tokens = tokenizer().encode(left_);
    tokens.resize(std::min(most, tokens.size()));
    return tokens;
  }
  [[nodiscard]] bool complete() const override { return left_.empty(); }

 private:
  std::string left_;
};

}  // namespace

TEST_CASE("a constrained call ends where it is complete, and the fence after it is read") {
  const Oracle model = reciting("Assistant:", {" I would rather not."});
  rwkv::Conversation talk(model, Oracle::State{}, tokenizer(), {.tools = R"([{"name":"f"}])"});
  Oracle::Workspace work;
  GenerateOptions options = greedy;
  const std::string call = R"({"name":"f","arguments":{"a":"```\n"}})";
  options.constraint = rwkv::Constraint(std::make_unique<Only>(call));
  for (const char* text : {"a", "b"}) {
    const Answer answer = talk.ask(text, work, options);
    CHECK(answer.reason == StopReason::complete);
    CHECK(answer.text == call);
    CHECK(answer.call == rwkv::ToolCall{"f", R"({"a":"```\n"})"});
  }
  CHECK(read_by(talk).find("Assistant: ```json\n" + call +
                           "\n```\n\nUser: b\n\nAssistant: ```json") != std::string::npos);
  const auto state = talk.state();
  (void)talk.ask("c", work, options);
  CHECK(talk.undo(work));
  CHECK(talk.state() == state);
}

TEST_CASE("calls in text") {
  using rwkv::ToolCall;
  CHECK(chat::tool_call_in(R"({"name":"f","arguments":{"a":"}","b":{"arguments":[]}}})") ==
        ToolCall{"f", R"({"a":"}","b":{"arguments":[]}})"});
  CHECK(chat::tool_call_in(
            "```json\n{\"arguments\" : { } , \"name\":\"f\\u0041\", \"id\": 1.5}\n```") ==
        ToolCall{"fA", "{ }"});
  CHECK(chat::tool_call_in(R"({"name":"f","arguments":{"n":123456789012345678901234567890}})") ==
        ToolCall{"f", R"({"n":123456789012345678901234567890})"});
  CHECK(
      chat::tool_call_in(R"({"x":[{"name":"g"},"\"}"],"name":"f","argum\u0065nts":{"y":"\\"}})") ==
      ToolCall{"f", R"({"y":"\\"})"});
  for (const char* none :
       {"", "[]", "{}", "\"name\"", "{\"name\":1}", "{\"name\":\"\"}",
        "{\"name\":\"f\",\"arguments\":\"{}\"}", "{\"name\":\"f\",\"arguments\":[]}",
        "{\"name\":\"f\",\"arguments\":5}", "{\"name\":\"f\",\"arguments\":false}",
        "{\"name\":\"f\",\"name\":\"g\"}", "{\"name\":\"f\"", "{\"name\":\"f\"} and more",
        "[{\"name\":\"f\"}]", "I call f."}) {
    CAPTURE(none);
    CHECK_FALSE(chat::tool_call_in(none).has_value());
  }
  using Names = std::vector<std::string>;
  CHECK(chat::tool_names(R"([{"name":"a","parameters":{"name":1}},{"function":{"name":"b"}}])",
                         "t") == Names{"a", "b"});
  for (const char* bad :
       {"", "{}", "[]", "7", "[1", "[{}]", "[{\"name\":\"a\"},{\"title\":\"b\"}]", "\"a\""}) {
    CAPTURE(bad);
    test::check_error(ErrorCategory::format, "t: the list of functions",
                      [&] { (void)chat::tool_names(bad, "t"); });
  }
}

TEST_CASE("answers are taken apart") {
  const auto parts = [](const char* begun, const char* answer) {
    return chat::answer_in({.said = "", .result = false, .begun = begun, .answer = answer}, false);
  };
  CHECK(parts("", " Hi. ").text == "Hi.");
  CHECK(parts(" <think", ">\nHm.\n</think>\nHi.").thoughts == "Hm.");
  CHECK(parts(" <think", ">\nHm.\n</think>\nHi.").text == "Hi.");
  CHECK(parts(" <think></think", ">\n\nHi.").text == "Hi.");
  CHECK(parts(" <think>\n</think", ">Hi.").thoughts == "");
  CHECK(parts("<think></think>", "Hi.").text == "Hi.");
  CHECK(parts(" <think", ">\nHm").thoughts == "Hm");
  CHECK(parts(" <think", ">\nHm").text == "");
  CHECK(parts("", " <think>Hm</think>Hi").text == "Hi");  // by itself
  CHECK(parts("", " I <think>").text == "I <think>");
}

TEST_CASE("a conversation with a real model is saved and loaded") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "talk.st";
  const auto model = rwkv::load(golden::cases()[0].model);
  // A byte that is no UTF-8 is among what the model says.
  rwkv::io::Vocabulary vocabulary;
  for (const char c : std::string_view("\xff User:\nAitnBo\xe2\x9c\xbf<hk>/ySma0123456789xvz"))
    vocabulary.emplace_back(1, c);
  vocabulary.resize(std::min(vocabulary.size(), model.shape().vocab()));
  const Tokenizer letters(vocabulary);
  rwkv::Workspace work(model.shape(), 16);
  rwkv::State start(model.shape());
  GenerateOptions options{.max_tokens = 12, .stop_tokens = {}};
  for (const chat::Template* form : {&chat::classic, &chat::native}) {
    rwkv::Conversation talk(model, start, letters, {.form = form, .think = chat::Think::open});
    std::vector<rwkv::State<>> states{talk.state()};
    for (const char* text : {"is", "\xff", "no"}) {
      options.sampler.seed += 1;
      (void)talk.ask(text, work, options);
      states.push_back(talk.state());
    }
    talk.save(path);
    const rwkv::State<> final_state = talk.state();
    rwkv::Conversation other(model, start, letters, {.system = "no"});
    other.load(path);
    CHECK(other.settings().form == form);
    CHECK(other.state() == talk.state());
    REQUIRE(other.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) CHECK(other.turn(i) == talk.turn(i));
    // It goes on as the one that was never saved, and takes back what that one said.
    options.sampler.seed += 1;
    CHECK(other.ask("on", work, options).text == talk.ask("on", work, options).text);
    CHECK(other.state() == talk.state());
    CHECK(other.undo(work));
    for (; other.size() > 0; states.pop_back()) {
      CHECK(other.state() == states.back());
      CHECK(other.undo(work));
    }
    CHECK(other.state() == start);
    CHECK(model.load_state(path) == final_state);  // it is a state file too
  }

  const auto refuse = [&](ErrorCategory category, const char* sentence, auto& talk) {
    const auto before = talk.state();
    test::check_error(category, sentence, [&] { talk.load(path); });
    CHECK(talk.state() == before);
  };
  start.values()[0] = 0.5f;
  rwkv::Conversation tuned(model, start, letters);
  refuse(ErrorCategory::argument, "began with another (tuned) state", tuned);
  const auto stranger = rwkv::load(golden::cases()[1].model);
  rwkv::Conversation strange(stranger, rwkv::State(stranger.shape()), letters);
  refuse(ErrorCategory::argument, "made by another model", strange);
  model.save_state(path, start);
  refuse(ErrorCategory::format, "holds no conversation", tuned);
  const auto with = [&](const char* json) {
    model.save_state(path, start, {{"rwkv.conversation", json}});
  };
  with("{\"version\":2}");
  refuse(ErrorCategory::unsupported, "conversation version 2", tuned);
  for (const char* bad :
       {"", "[]", "{\"version\":1}", "{\"version\":1,\"template\":\"classic\",\"think\":\"hard\"}",
        "{\"version\":1,\"template\":\"native\",\"think\":\"off\",\"ahead\":\"Us er\"}",
        "{\"version\":1,\"template\":\"native\",\"think\":\"off\",\"turns\":[{\"reason\":9}]}",
        "{\"version\":1,\"template\":\"native\",\"think\":\"off\",\"turns\":[{\"read\":[-1]}]}",
        "{\"version\":1,\"template\":\"native\",\"think\":\"off\",\"turns\":[[]]}",
        "{\"version\":1,\"template\":[300]}"}) {
    CAPTURE(bad);
    with(bad);
    refuse(ErrorCategory::format, "talk.st: ", tuned);
  }
}

TEST_CASE("the last tokens of an answer are taken back, with a history or without") {
  const auto model = rwkv::load(golden::cases()[0].model);
  rwkv::io::Vocabulary vocabulary;
  for (const char c : std::string_view("\xff User:\nAitnBo\xe2\x9c\xbf<hk>/ySma0123456789xvz"))
    vocabulary.emplace_back(1, c);
  vocabulary.resize(std::min(vocabulary.size(), model.shape().vocab()));
  const Tokenizer letters(vocabulary);
  rwkv::Workspace work(model.shape(), 16);
  rwkv::State start(model.shape());
  std::size_t taken_back = 0;
  std::size_t without_pass = 0;
  for (const chat::Template* form : {&chat::classic, &chat::native}) {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      rwkv::NgramDraft draft;
      rwkv::History history(model.shape(), 1 << 20);
      rwkv::Feeder feeder(model.shape(), {.draft = &draft, .history = &history});
      GenerateOptions options{.max_tokens = 12, .sampler = {.seed = seed}, .stop_tokens = {}};
      rwkv::Conversation plain(model, start, letters, {.form = form});
      rwkv::Conversation talk(model, start, letters, {.form = form});
      rwkv::History* const none = nullptr;
      CHECK(talk.rewind(3, &history, work) == 0);
      for (std::size_t turn = 0; turn < 4; ++turn) {
        options.feeder = nullptr;
        (void)plain.ask("is", work, options);
        options.feeder = &feeder;
        (void)talk.ask("is", work, options);
        REQUIRE(talk.state() == plain.state());
        CHECK(talk.rewind(0, &history, work) == 0);
        const std::string whole = talk.turn(turn).answer;
        const std::size_t recorded = history.size();
        const std::size_t back = talk.rewind(1 + turn * 2, &history, work);
        CHECK(plain.rewind(1 + turn * 2, none, work) == back);
        if (back < 1 + turn * 2 && back > 0) CHECK(talk.turn(turn).answer.empty());
        CHECK(talk.state() == plain.state());
        CHECK(talk.turn(turn) == plain.turn(turn));
        CHECK(whole.starts_with(talk.turn(turn).answer));
        CHECK(talk.turn(turn).answer.size() <= whole.size());
        taken_back += back;
        without_pass += recorded - history.size();
      }
      CHECK(talk.tokens_of(4) == plain.tokens_of(4));
      CHECK(talk.tokens_of(2).size() < talk.tokens_of(3).size());
      // What was taken back cannot be had again, and not more than there is.
      CHECK(talk.rewind(100, &history, work) <= 12);
      CHECK(talk.turn(3).answer.empty());
      CHECK(talk.rewind(1, &history, work) == 0);
      (void)plain.rewind(100, none, work);
      (void)talk.ask("no", work, options);
      options.feeder = nullptr;
      (void)plain.ask("no", work, options);
      CHECK(talk.state() == plain.state());
    }
  }
  CHECK(taken_back > 100);
  CHECK(without_pass == taken_back);
}

TEST_CASE("a hybrid model talks") {
  const test::TemporaryDirectory folder;
  test::SampleSizes sizes = test::hybrid_sizes;
  sizes.vocab = 256;
  const rwkv::HybridModel model(test::sample_hybrid(1, sizes));
  rwkv::HybridWorkspace work(model.shape(), 16);
  const GenerateOptions options{.max_tokens = 10, .stop_tokens = {}};
  rwkv::Conversation talk(model, rwkv::HybridState(model.shape()), Tokenizer::bytes());
  (void)talk.ask("hello", work, options);
  const auto state = talk.state();
  (void)talk.ask("world", work, options);
  talk.save(folder.path() / "talk.st");
  CHECK(talk.undo(work));
  CHECK(talk.state() == state);
  talk.load(folder.path() / "talk.st");
  CHECK(talk.size() == 2);
  CHECK(talk.undo(work));
  CHECK(talk.state() == state);
}
