// SPDX-License-Identifier: Apache-2.0
#include "support/tokenizer_json.hpp"

#include <rwkv/core/error.hpp>
#include <rwkv/io/tokenizer_json.hpp>

#include <doctest/doctest.h>

#include <random>

using rwkv::Error;
using rwkv::io::read_tokenizer_json;
using rwkv::io::Vocabulary;

namespace {

Vocabulary every_byte() {
  Vocabulary tokens{""};
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  tokens.insert(tokens.end(), {"\xc3\xa9", " the", "", "\r\n\n", "\xff\xfe", "\xe2\x82\xac"});
  return tokens;
}

void check_refusal(const std::string& json, const char* part) {
  CAPTURE(json);
  CHECK_THROWS_WITH_AS((void)read_tokenizer_json(json, "t.json"), doctest::Contains(part), Error);
}

nlohmann::json small() { return test::tokenizer_document({"", "a", "b"}); }

}  // namespace

TEST_CASE("tokens are the bytes that their texts stand for") {
  const Vocabulary tokens = every_byte();
  CHECK(read_tokenizer_json(test::tokenizer_json(tokens, 300), "t.json") == tokens);
  // Whatever the order of the sections.
  const auto document = small();
  std::string backwards;
  for (const char* name : {"model", "decoder", "added_tokens", "version"})
    backwards +=
        (backwards.empty() ? "{\"" : ",\"") + std::string(name) + "\":" + document[name].dump();
  CHECK(read_tokenizer_json(backwards + "}", "t.json") == Vocabulary{"", "a", "b"});
}

TEST_CASE("special and reserved tokens are never made from text, other added ones are") {
  auto document = small();
  document["model"]["vocab"]["<s>"] = 3;
  document["added_tokens"].push_back({{"id", 3}, {"content", "<s>"}, {"special", true}});
  document["added_tokens"].push_back({{"id", 4}, {"content", "<t> "}, {"special", false}});
  document["added_tokens"].push_back({{"id", 2}, {"content", "b"}, {"special", false}});
  CHECK(read_tokenizer_json(document.dump(), "t.json") == Vocabulary{"", "a", "b", "", "<t> "});
  document.erase("added_tokens");  // <s> is an ordinary text then, the end of text is not
  CHECK(read_tokenizer_json(document.dump(), "t.json") == Vocabulary{"", "a", "b", "<s>"});
}

TEST_CASE("other tokenizers are refused by name") {
  auto document = small();
  document["model"]["type"] = "BPE";
  check_refusal(document.dump(), "t.json: this is a tokenizer of type \"BPE\", another algorithm");
  document["model"]["vocab"] = {{"\xe4\xb8\xad", 1}};  // whatever is in it
  document["model"]["merges"] = {"a b"};
  check_refusal(document.dump(), "\"BPE\"");
  document["model"].erase("type");  // as older files
  check_refusal(document.dump(), "\"BPE\"");
  document["model"].erase("merges");
  check_refusal(document.dump(), "type (none)");
  document["model"] = {{"type", "Unigram"}, {"vocab", {{"a", -1.5}, {"b", -2}}}};
  check_refusal(document.dump(), "\"Unigram\"");

  document = small();
  document["normalizer"] = {{"type", "NFKC"}};
  check_refusal(document.dump(), "changes texts first (\"NFKC\")");
  document["normalizer"] = {{"type", "Sequence"}, {"normalizers", nlohmann::json::array()}};
  CHECK(read_tokenizer_json(document.dump(), "t.json").size() == 3);
  document["normalizer"]["normalizers"].push_back({{"type", "NFC"}});
  check_refusal(document.dump(), "changes texts first (\"NFC\")");
  document = small();
  document["pre_tokenizer"]["pretokenizers"].push_back({{"type", "Whitespace"}});
  check_refusal(document.dump(), "takes texts apart first (\"Whitespace\")");
  document["pre_tokenizer"] = {{"type", "Metaspace"}};
  check_refusal(document.dump(), "takes texts apart first (\"Metaspace\")");
  document = small();
  document["pre_tokenizer"]["pretokenizers"][0]["add_prefix_space"] = true;
  check_refusal(document.dump(), "puts a space before texts");
  document = small();
  document["decoder"] = {{"type", "Metaspace"}};
  check_refusal(document.dump(), "decoder is \"Metaspace\"");
  document["decoder"] = {{"type", "Sequence"}, {"decoders", {{{"type", "ByteLevel"}}}}};
  CHECK(read_tokenizer_json(document.dump(), "t.json").size() == 3);
}

TEST_CASE("what is damaged is refused") {
  const auto with = [](const char* text, const nlohmann::json& id) {
    auto document = small();
    document["model"]["vocab"][text] = id;
    return document.dump();
  };
  check_refusal(with("c", 2), "id 2 occurs twice");
  check_refusal(with("c", 1 << 18), "id 262144 is not below 262144");
  check_refusal(with("", 3), "id 3 is an empty string");
  check_refusal(with(" c", 3), "token 3 \" c\" has characters that stand for no byte");
  check_refusal(with("\xc2\xad", 3), "stand for no byte");  // 173 is written otherwise
  check_refusal(with("\xc5\x84", 3), "stand for no byte");  // U+0144, one past the alphabet
  check_refusal(with("\xe4\xb8\xad", 3), "stand for no byte");
  check_refusal(with("\xf0\x9f\x8c\x8d", 3), "stand for no byte");
  check_refusal(with("c", -1), "the token \"c\" has no id");
  check_refusal(with("c", 1.5), "the token \"c\" has no id");
  check_refusal(with("c", "3"), "the token \"c\" has no id");
  check_refusal("{", "not valid JSON");
  check_refusal("{}", "holds no vocabulary");
  check_refusal(R"({"model":[]})", "holds no vocabulary");
  check_refusal(R"({"model":{"type":"WordLevel"}})", "holds no tokens");
  check_refusal(R"({"model":{"type":"WordLevel","vocab":{}}})", "holds no tokens");
  check_refusal(R"({"model":)" + std::string(100'000, '['), "not valid JSON");
  CHECK(read_tokenizer_json(with("\xc5\x83", 3), "t.json")[3] == "\xad");
}

TEST_CASE("damaged files are read or refused") {
  const std::string json = test::tokenizer_json(every_byte(), 270);
  std::mt19937 random(3);
  int refused = 0;
  for (int round = 0; round < 2000; ++round) {
    std::string damaged = json;
    for (unsigned i = 1 + random() % 4; i > 0; --i)
      damaged[random() % damaged.size()] = static_cast<char>(random() & 0xff);
    if (random() % 4 == 0) damaged.resize(random() % damaged.size());
    try {
      (void)read_tokenizer_json(damaged, "t.json");
    } catch (const Error& error) {
      ++refused;
      REQUIRE(std::string(error.what()).starts_with("t.json: "));
    }
  }
  CHECK(refused > 1000);
}
