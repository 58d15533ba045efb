// SPDX-License-Identifier: Apache-2.0
// One call opens whatever a file is, and what it gives does what the typed models do.
#include "support/golden.hpp"
#include "support/sample_hybrid.hpp"
#include "support/temporary_directory.hpp"
#include "text/support.hpp"
#include <rwkv/any_model.hpp>
#include <rwkv/chat.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/speculate.hpp>

#include <doctest/doctest.h>

#include <fstream>

using rwkv::AnyModel;
using rwkv::AnyState;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::Token;

namespace {

const std::filesystem::path models = RWKV_MODELS;
const std::vector<Token> tokens{1, 5, 3, 2, 8, 1};

std::vector<float> copy(std::span<const float> values) { return {values.begin(), values.end()}; }

}  // namespace

TEST_CASE("a folder is a model with its vocabulary: the tales go on as with the typed model") {
  const auto tales = rwkv::open(models / "tales");
  CHECK(tales.model.rwkv7() != nullptr);
  CHECK(tales.model.hybrid() == nullptr);
  CHECK(tales.format == "safetensors");
  CHECK(tales.chat_template.form == &rwkv::chat::classic);
  AnyState state = tales.model.initial_state();
  auto work = tales.model.workspace();
  const rwkv::GenerateOptions options{.max_tokens = 40, .stop_tokens = {}};
  const auto text =
      rwkv::generate(tales.model, state, work, tales.tokenizer(), "The king", options);

  const auto model = rwkv::Model<>::load(models / "tales");
  rwkv::State typed = model.initial_state();
  rwkv::Workspace typed_work(model.shape());
  const auto same =
      rwkv::generate(model, typed, typed_work, rwkv::Tokenizer::bytes(), "The king", options);
  CHECK(text.tokens == same.tokens);
  CHECK(text.logits == same.logits);
  CHECK(state == AnyState(typed));
  CHECK(state.bytes() == typed.bytes());
  CHECK(work.bytes() == typed_work.bytes());

  rwkv::Conversation talk(tales.model, tales.model.initial_state(), tales.tokenizer());
  rwkv::Conversation typed_talk(model, model.initial_state(), tales.tokenizer());
  CHECK(talk.ask("Who are you?", work, options).text ==
        typed_talk.ask("Who are you?", typed_work, options).text);
}

TEST_CASE("guesses and the way back, where it holds RWKV-7") {
  const auto tales = rwkv::open(models / "tales");
  const rwkv::GenerateOptions options{
      .max_tokens = 40, .sampler = {.temperature = 0}, .stop_tokens = {}};
  auto work = tales.model.workspace();
  AnyState plain = tales.model.initial_state();
  const auto text =
      rwkv::generate(tales.model, plain, work, tales.tokenizer(), "The king", options);

  rwkv::NgramDraft draft;
  rwkv::History history(tales.model.shape(), 64 << 20);
  rwkv::Feeder feeder(tales.model.shape(),
                      {.draft = &draft, .draft_tokens = 4, .history = &history});
  rwkv::GenerateOptions fed = options;
  fed.feeder = &feeder;
  AnyState state = tales.model.initial_state();
  const auto same = rwkv::generate(tales.model, state, work, tales.tokenizer(), "The king", fed);
  CHECK(same.tokens == text.tokens);
  CHECK(state == plain);
  CHECK(feeder.counts().guessed > 0);
  CHECK(history.size() == same.prompt_tokens + 40);
  history.rewind(state.rwkv(), 40);
  AnyState prompt = tales.model.initial_state();
  (void)tales.model.forward(prompt, tales.tokenizer().encode("The king"), work);
  CHECK(state == prompt);

  rwkv::Conversation talk(tales.model, tales.model.initial_state(), tales.tokenizer());
  (void)talk.ask("Who are you?", work, fed);
  const std::string answer = talk.turn(0).answer;
  rwkv::Conversation again = talk;
  rwkv::AnyWorkspace useless = rwkv::AnyModel(test::sample_hybrid()).workspace();
  CHECK(talk.rewind(5, &history, useless) >= 5);  // without a pass
  CHECK(again.rewind(5, static_cast<rwkv::History*>(nullptr), work) >= 5);
  CHECK(talk.state() == again.state());
  CHECK(talk.turn(0).answer.size() < answer.size());
  CHECK(talk.tokens_of(1) == talk.tokens_of(9));

  const AnyState taken = std::move(prompt);
  CHECK(taken.intact());
  CHECK_FALSE(prompt.intact());
  test::check_error(ErrorCategory::argument, "was moved away", [&] {
    const rwkv::Conversation none(tales.model, std::move(prompt), tales.tokenizer());
  });

  const AnyModel hybrid(test::sample_hybrid());
  AnyState caches = hybrid.initial_state();
  auto hybrid_work = hybrid.workspace();
  fed.any_vocabulary = true;
  test::check_error(ErrorCategory::unsupported, "have no way back", [&] {
    (void)rwkv::generate(hybrid, caches, hybrid_work, rwkv::Tokenizer::bytes(),
                         std::span<const Token>(tokens), fed);
  });
  rwkv::Feeder::Request request{&feeder, &plain.rwkv(), tokens};
  test::check_error(ErrorCategory::argument, "the same architecture",
                    [&] { rwkv::feed(tales.model, std::span(&request, 1), hybrid_work); });
}

TEST_CASE("RWKV-X too: batches, states in files and bytes") {
  const test::TemporaryDirectory directory;
  rwkv::convert(test::sample_hybrid(), directory / "x.safetensors",
                {.format = rwkv::FileFormat::safetensors, .type = rwkv::DType::f32});
  const auto opened = rwkv::open(directory / "x.safetensors");
  const auto typed = rwkv::HybridModel::load(directory / "x.safetensors");
  const AnyModel& model = opened.model;
  REQUIRE(model.hybrid() != nullptr);
  CHECK(model.shape() == typed.shape());
  CHECK_FALSE(opened.vocabulary);
  CHECK_THROWS_WITH_AS((void)opened.tokenizer(),
                       ((directory / "x.safetensors").string() +
                        ": neither this model nor its folder has a vocabulary")
                           .c_str(),
                       Error);

  AnyState state = model.initial_state();
  auto work = model.workspace(3);
  rwkv::HybridState typed_state = typed.initial_state();
  rwkv::HybridWorkspace typed_work(typed.shape(), 3);
  CHECK(copy(model.forward(state, tokens, work)) ==
        copy(typed.forward(typed_state, tokens, typed_work)));
  CHECK(state == AnyState(typed_state));
  CHECK(model.state_from_bytes(model.state_to_bytes(state)) == state);
  model.save_state(directory / "state", state);
  CHECK(model.load_state(directory / "state") == state);
  CHECK(typed.load_state(directory / "state") == typed_state);

  std::vector<AnyState> states(2, state);
  const std::size_t positions[] = {0, 2};
  const rwkv::AnySlot slots[] = {{&states[0], tokens, positions},
                                 slot_of(states[1], std::span(tokens).first(2))};
  std::vector<float> logits(2 * model.shape().vocab()), hidden(2 * model.shape().embed());
  model.forward(slots, rwkv::Logits::chosen, {logits, hidden}, work);
  model.forward(state, std::span(tokens).first(1), work);
  CHECK(copy(work.logits()) == copy(std::span<const float>(logits).first(model.shape().vocab())));
  CHECK_FALSE(states[0] == states[1]);

  rwkv::HybridConfig config = typed.config();
  config.semantics = rwkv::HybridSemantics::package;
  const auto package = rwkv::open(directory / "x.safetensors", {.hybrid = config});
  CHECK(package.model.workspace(8, 100).rows() == 100);
  CHECK(model.workspace(8, 100).rows() == 8);
}

TEST_CASE("what does not go together is refused") {
  const AnyModel seven = rwkv::open(golden::cases()[0].model).model;
  const AnyModel x{rwkv::HybridModel(test::sample_hybrid())};
  AnyState of_seven = seven.initial_state(), of_x = x.initial_state();
  auto work_of_seven = seven.workspace(), work_of_x = x.workspace();
  const auto refused = [](const char* sentence, auto&& f) {
    CHECK_THROWS_WITH_AS(f(), sentence, Error);
  };
  const char* const state = "a state of another architecture than the model's";
  const char* const work = "a workspace of another architecture than the model's";
  refused(state, [&] { seven.forward(of_x, tokens, work_of_seven); });
  refused(state, [&] { x.forward(of_seven, tokens, work_of_x); });
  refused(work, [&] { seven.forward(of_seven, tokens, work_of_x); });
  refused(work, [&] { x.forward(of_x, tokens, work_of_seven); });
  refused(state, [&] { (void)seven.state_to_bytes(of_x); });
  refused(state, [&] { (void)x.state_to_bytes(of_seven); });
  const rwkv::AnySlot none{nullptr, tokens};
  refused("slot 0 has no state",
          [&] { seven.forward(std::span(&none, 1), rwkv::Logits::none, {}, work_of_seven); });
  CHECK_THROWS_AS((void)rwkv::open(golden::cases()[0].model, {.hybrid = rwkv::HybridConfig{}}),
                  Error);
  CHECK(of_seven == seven.initial_state());
}

TEST_CASE("quantised while it is opened, from memory, with a vocabulary of one's own") {
  std::ifstream in(models / "tales" / "tales.safetensors", std::ios::binary);
  const std::string file{std::istreambuf_iterator<char>(in), {}};
  std::string letters;
  for (int i = 0; i < 100; ++i)
    letters += std::to_string(i) + " b'\\x" + "0123456789abcdef"[i / 16] +
               "0123456789abcdef"[i % 16] + "' 1\n";
  const auto tales =
      rwkv::open(std::as_bytes(std::span(file)),
                 {.load = {.matrix_type = rwkv::DType::q8_0}, .vocabulary = letters});
  CHECK(tales.source == "the model in memory");
  CHECK(tales.tokenizer().vocab_size() == 100);
  CHECK(tales.model.weights().block(0).ffn.key.type == rwkv::DType::q8_0);
}

TEST_CASE("without exceptions: a result, or why there is none") {
  const auto missing = rwkv::try_open("there is no such file");
  REQUIRE_FALSE(missing);
  CHECK(missing.failure().category == ErrorCategory::io);
  CHECK(missing.failure().sentence.find("there is no such file") != std::string::npos);
  auto tales = rwkv::try_open(models / "tales");
  REQUIRE(tales.ok());
  CHECK(tales->model.shape().vocab() == 256);
  CHECK((*std::move(tales)).tokenizer().vocab_size() == 256);

  rwkv::LoadOptions options;
  options.cancelled = [] { return true; };
  const auto cancelled = rwkv::try_load(models / "tales", options);
  REQUIRE_FALSE(cancelled);
  CHECK(cancelled.failure().category == ErrorCategory::cancelled);
  options.cancelled = [] { return false; };
  CHECK(rwkv::try_load(models / "tales", options).value().shape().embed() == 128);
  const std::byte nothing[3] = {};
  CHECK(rwkv::try_open(nothing).failure().category == ErrorCategory::format);

  CHECK(rwkv::attempt([] { return 3; }).value() == 3);
  CHECK(rwkv::attempt([] {}).ok());
  const auto huge = rwkv::attempt([] { throw std::bad_alloc(); });
  CHECK(huge.failure().category == ErrorCategory::memory);
  const auto other = rwkv::attempt([]() -> int { throw std::out_of_range("far"); });
  CHECK(other.failure().sentence == "far");
}
