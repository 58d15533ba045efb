// SPDX-License-Identifier: Apache-2.0
// Text on the device: the draws, tokens and texts of the host's sampler, tokenizer and generate.
#include "support.hpp"
#include "support/golden.hpp"
#include "support/numbers.hpp"
#include <rwkv/generate.hpp>
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/model.hpp>
#include <rwkv/simd/chosen.hpp>
#include <rwkv/static_blob.hpp>
#include <rwkv/static_generate.hpp>
#include <rwkv/text/static_vocabulary_writer.hpp>

#include <cstring>
#include <fstream>
#include <map>

using rwkv::Sampler;
using rwkv::StaticSampler;
using rwkv::StaticTokenizer;
using rwkv::StopReason;
using rwkv::Token;

namespace {

constinit StaticSampler<> needs_no_constructor;

/// Draws `n` tokens with both samplers, of logits that change.
template <class Static>
void check_draws(Sampler host, Static device, std::size_t vocab, int n, std::uint32_t seed) {
  test::Random random(seed);
  std::vector<float> logits(vocab);
  for (int i = 0; i < n; ++i) {
    for (float& x : logits) x = static_cast<float>(random.below(4000)) / 400 - 5;
    if (i % 7 == 0) logits[random.below(vocab)] = -std::numeric_limits<float>::infinity();
    if (i % 5 == 0) std::fill(logits.begin(), logits.begin() + static_cast<long>(vocab / 2), 2.0f);
    const Token want = host.sample(logits);
    const auto token = device.sample(logits);
    REQUIRE(token.has_value());
    REQUIRE(*token == want);
  }
}

}  // namespace

TEST_CASE("the static sampler draws what Sampler draws") {
  CHECK(sizeof needs_no_constructor + 128 <= 1024);
  CHECK(needs_no_constructor.options().top_k == 0);
  std::uint32_t seed = 0;
  for (const float temperature : {0.0f, 0.7f, 1.0f, 3.0f})
    for (const float top_p : {0.0f, 0.5f, 0.85f, 1.0f})
      for (const std::size_t top_k : {std::size_t{0}, std::size_t{1}, std::size_t{20}})
        for (const float min_p : {0.0f, 0.05f}) {
          const std::size_t vocab = seed % 3 == 0 ? 256 : 61;
          const float penalty = seed % 2 == 0 ? 0.4f : 0.0f;
          check_draws(Sampler({.temperature = temperature,
                               .top_p = top_p,
                               .top_k = top_k,
                               .min_p = min_p,
                               .presence_penalty = penalty,
                               .frequency_penalty = penalty / 2,
                               .seed = seed}),
                      StaticSampler<256>({.temperature = temperature,
                                          .top_p = top_p,
                                          .top_k = top_k,
                                          .min_p = min_p,
                                          .presence_penalty = penalty,
                                          .frequency_penalty = penalty / 2,
                                          .seed = seed}),
                      vocab, 60, seed);
          ++seed;
        }
  check_draws(Sampler({.presence_penalty = 0, .frequency_penalty = 0, .seed = 5}),
              StaticSampler<0>({.seed = 5}), 4096, 20, 5);
  CHECK(rwkv::StaticSamplerOptions{.top_p = 2}.problem() != nullptr);
  CHECK(rwkv::StaticSamplerOptions{.temperature = -1}.problem() != nullptr);
  CHECK(rwkv::StaticSamplerOptions{}.problem() == nullptr);
}

TEST_CASE("the static sampler: what cannot be drawn from, and more tokens than it remembers") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  StaticSampler<2> sampler({.temperature = 0});
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), infinity}) {
    float logits[] = {1, bad, 2};
    CHECK_FALSE(sampler.sample(logits).has_value());
  }
  float none[] = {-infinity, -infinity};
  CHECK_FALSE(sampler.sample(none).has_value());
  CHECK_FALSE(sampler.sample({}).has_value());
  float numbers[] = {1, 3, 3};
  CHECK(rwkv::GreedySampler::draw(numbers) == Token{1});
  CHECK_FALSE(rwkv::GreedySampler::draw(none).has_value());
  // The one that counts least makes room.
  for (const Token t : {0u, 0u, 1u, 2u}) sampler.observe(t);
  float logits[] = {1.0f, 0.9f, 0.9f};
  CHECK(sampler.sample(logits) == Token{1});
}

namespace {

rwkv::io::Vocabulary words() {
  rwkv::io::Vocabulary v(1);  // id 0 has no bytes
  for (int b = 0; b < 256; ++b) v.emplace_back(1, static_cast<char>(b));
  for (const char* w :
       {" the", " th", "the", "\n\n", "User:", "Us", "\xe2\x82\xac", "\xf0\x9f", "77",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"})
    v.emplace_back(w);
  v.emplace_back();
  v.emplace_back("last");
  return v;
}

void check_same(const StaticTokenizer& device, const rwkv::Tokenizer& host, std::string_view text) {
  for (const Token want : host.encode(text)) {
    const auto match = device.longest_prefix(text);
    REQUIRE(match.token == want);
    REQUIRE(device.token_bytes(match.token) == host.token_bytes(want));
    REQUIRE(match.length == device.token_bytes(want).size());
    text.remove_prefix(match.length);
  }
  REQUIRE(text.empty());
}

}  // namespace

TEST_CASE("the static tokenizer finds what Tokenizer finds") {
  const rwkv::Tokenizer host(words());
  const auto bytes = rwkv::static_vocabulary(host);
  const auto device = StaticTokenizer::from(bytes);
  REQUIRE(device.has_value());
  CHECK(device->intact());
  CHECK(device->vocab_size() == host.vocab_size());
  for (Token t = 0; t < host.vocab_size() + 3; ++t)
    CHECK(device->token_bytes(t) == (t < host.vocab_size() ? host.token_bytes(t) : ""));
  test::Random random(3);
  for (int i = 0; i < 200; ++i) check_same(*device, host, test::messy_text(random, 20));
  CHECK(device->longest_prefix("").length == 0);

  // Every byte counts, and none that is wrong leads outside (sanitizers watch).
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto damaged = bytes;
    damaged[i] ^= static_cast<std::byte>(1 + random.below(255));
    const char* why = nullptr;
    const auto view = StaticTokenizer::from(damaged, &why);
    CHECK(view.has_value() == (why == nullptr));
    if (!view) continue;
    CHECK_FALSE(view->intact());
    for (const std::string_view text : {"User: the end", "\n\n77", "\xff"})
      (void)view->longest_prefix(text);
    for (Token t = 0; t < view->vocab_size(); t += 7) (void)view->token_bytes(t);
  }
  for (std::size_t n = 0; n < bytes.size(); n += 13)
    CHECK_FALSE(StaticTokenizer::from(std::span(bytes).first(n)).has_value());
}

#ifdef RWKV_GOLDENS
TEST_CASE("the World vocabulary on the device") {
  const std::filesystem::path path =
      std::filesystem::path(RWKV_GOLDENS) / "vocab" / "rwkv_vocab_v20230424.txt";
  const auto host = rwkv::Tokenizer::from_vocab_file(path);
  const auto bytes = rwkv::static_vocabulary(host);
  MESSAGE("World: " << bytes.size() << " bytes");
  const auto device = StaticTokenizer::from(bytes);
  REQUIRE(device.has_value());
  CHECK(device->intact());
  for (Token t = 0; t < host.vocab_size(); ++t)
    if (!host.token_bytes(t).empty()) check_same(*device, host, host.token_bytes(t));
  test::Random random(4);
  for (int i = 0; i < 50; ++i) check_same(*device, host, test::messy_text(random, 50));
}
#endif

namespace {

using Tales = rwkv::Shape<6, 128, 32, 544, 256, 16, 16, 16, 32>;

/// A model of tests/data with a vocabulary of bytes, on both sides.
struct Both {
  rwkv::Model<> model = rwkv::load(RWKV_MODELS "/tales/tales.safetensors");
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> lines;
  using Weights = rwkv::StaticBlob<Tales, rwkv::DType::f16, rwkv::DType::f32>;
  std::optional<Weights> weights;
  Both() {
    const auto blob = rwkv::io::static_blob(model.weights());
    lines.resize(blob.core.size() / 64 + 1);
    std::memcpy(lines.data(), blob.core.data(), blob.core.size());
    const char* why = "";
    weights = Weights::from(std::as_bytes(std::span(lines)), &why);
    REQUIRE_MESSAGE(weights.has_value(), std::string(why));
  }
};

/// Gives up in the second token.
struct Impatient : rwkv::Serial {
  int layers = 9;
  bool proceed() { return --layers > 0; }
};

}  // namespace

TEST_CASE("generate with a static model: the tokens, the text and the state of the host's") {
  Both both;
  const rwkv::StaticModel<Both::Weights, rwkv::simd::Chosen> device(*both.weights);
  const auto tokenizer = rwkv::Tokenizer::bytes();
  struct Case {
    std::string_view prompt;
    rwkv::GenerateOptions options;
    std::vector<std::string_view> stops;
  };
  std::vector<Case> cases;
  cases.push_back({"Once upon a time", {.max_tokens = 60, .sampler = {.seed = 1}}, {}});
  cases.push_back({"The king", {.max_tokens = 40, .sampler = {.temperature = 0}}, {}});
  cases.push_back({"A fox",
                   {.max_tokens = 200, .sampler = {.top_p = 1, .top_k = 9, .seed = 3}},
                   {". ", "er ", "rrr"}});
  cases.push_back(
      {"", {.max_tokens = 30, .sampler = {.temperature = 2.5f, .top_p = 1, .seed = 4}}, {}});
  cases.back().options.leading_token = 10;
  cases.push_back({"\xe2\x82", {.max_tokens = 30, .sampler = {.temperature = 9, .top_p = 1}}, {}});
  cases.push_back({"Once", {.max_tokens = 0}, {}});
  for (Case& c : cases) {
    c.options.stop_strings.assign(c.stops.begin(), c.stops.end());
    rwkv::State host_state(both.model.shape());
    rwkv::Workspace host_work(both.model.shape());
    const auto want =
        rwkv::generate(both.model, host_state, host_work, tokenizer, c.prompt, c.options);

    rwkv::State<Tales> state;
    static rwkv::Workspace<Tales, 3> work;
    const rwkv::SamplerOptions& o = c.options.sampler;
    StaticSampler<> sampler(
        {.temperature = o.temperature, .top_p = o.top_p, .top_k = o.top_k, .seed = o.seed});
    std::string text;
    const auto result =
        rwkv::generate(device, state, work, rwkv::ByteTokenizer(), c.prompt, sampler,
                       {.max_tokens = c.options.max_tokens,
                        .stop_strings = c.stops,
                        .leading_token = c.options.leading_token},
                       [&](std::string_view piece) {
                         text += piece;
                         CHECK(rwkv::incomplete_utf8_suffix(piece) <= 3);
                       });
    CHECK(result.problem == nullptr);
    CHECK(text == want.text);
    CHECK(result.reason == want.reason);
    CHECK(result.tokens == want.tokens.size());
    CHECK(result.prompt_tokens == want.prompt_tokens);
    CHECK(std::memcmp(state.values().data(), host_state.values().data(), state.bytes()) == 0);
    CHECK(std::equal(result.logits.begin(), result.logits.end(), want.logits.begin(),
                     want.logits.end()));
  }
}

TEST_CASE("generate with a static model: going on, stopping, and what is refused") {
  Both both;
  const rwkv::StaticModel<Both::Weights, rwkv::simd::Chosen> device(*both.weights);
  static rwkv::Workspace<Tales, 1> work;
  const rwkv::ByteTokenizer tokenizer;
  rwkv::State<Tales> whole, halves;
  std::string one, two;
  StaticSampler<> a({.seed = 8}), b({.seed = 8});
  (void)rwkv::generate(device, whole, work, tokenizer, "The ", a, {.max_tokens = 24},
                       [&](std::string_view s) { one += s; });
  auto show = [&](std::string_view s) { two += s; };
  auto first = rwkv::generate(device, halves, work, tokenizer, "The ", b, {.max_tokens = 11}, show);
  (void)rwkv::generate(device, halves, work, tokenizer, "", b,
                       {.max_tokens = 13, .logits = first.logits}, show);
  CHECK(one == two);
  CHECK(whole == halves);

  int pieces = 0;
  const auto stopped = rwkv::generate(device, halves, work, tokenizer, "x", b, {},
                                      [&](std::string_view) { return ++pieces < 3; });
  CHECK(stopped.reason == StopReason::cancelled);
  CHECK(stopped.tokens == 3);

  CHECK(rwkv::generate(device, halves, work, tokenizer, "xyz", b, {}, rwkv::NoStaticCallback(),
                       Impatient())
            .reason == StopReason::cancelled);

  const auto problem = [&](std::string_view prompt, const rwkv::StaticGenerateOptions& options) {
    const auto result = rwkv::generate(device, halves, work, tokenizer, prompt, b, options);
    return std::string(result.problem == nullptr ? "" : result.problem);
  };
  const auto before = halves;
  const std::string_view empty[] = {""};
  const std::string_view lengthy[] = {"123456789012345678901234567890123"};
  CHECK(problem("", {}).find("nothing to go on from") != std::string::npos);
  CHECK(problem("a", {.stop_strings = empty}).find("stop string") != std::string::npos);
  CHECK(problem("a", {.stop_strings = lengthy}).find("stop string") != std::string::npos);
  CHECK(problem("", {.leading_token = 256}).find("leading token") != std::string::npos);
  CHECK(problem("", {.logits = work.logits().first(3)}).find("logits") != std::string::npos);
  CHECK(halves == before);
}
