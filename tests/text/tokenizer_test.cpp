// SPDX-License-Identifier: Apache-2.0
#include "../support/temporary_directory.hpp"
#include "../support/tokenizer_json.hpp"
#include "support.hpp"
#include "support/sanitizers.hpp"
#include <rwkv/tokenizer.hpp>

#include <map>
#include <set>

#ifdef RWKV_GOLDENS
#include <nlohmann/json.hpp>
#endif

using rwkv::ErrorCategory;
using rwkv::Token;
using rwkv::Tokenizer;

namespace {

// All bytes as ids 1 to 256, as in the World vocabulary, and a few longer tokens.
rwkv::io::Vocabulary small_vocabulary() {
  rwkv::io::Vocabulary v(1);
  for (int byte = 0; byte < 256; ++byte) v.emplace_back(1, static_cast<char>(byte));
  for (const char* token : {"the", " the", "\n\n", "ther", "there", "\xc3\xa9", "\xe2\x82", "ab",
                            "abcd", "aaaa", "User", "User:", "er"})
    v.emplace_back(token);
  v.emplace_back();  // an unused id
  v.emplace_back(" there is");
  return v;
}

std::vector<Token> longest_match(const std::string& text, const rwkv::io::Vocabulary& vocabulary) {
  std::map<std::string, Token> ids;
  std::size_t longest = 0;
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    if (!vocabulary[id].empty()) ids[vocabulary[id]] = static_cast<Token>(id);
    longest = std::max(longest, vocabulary[id].size());
  }
  std::vector<Token> tokens;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t n = std::min(longest, text.size() - at);
    while (n > 0 && !ids.contains(text.substr(at, n))) --n;
    if (n == 0) return {};
    tokens.push_back(ids[text.substr(at, n)]);
    at += n;
  }
  return tokens;
}

}  // namespace

TEST_CASE("longest match") {
  const Tokenizer tokenizer(small_vocabulary());
  const auto text_of = [&](std::string_view text) {
    std::vector<std::string> parts;
    for (const Token token : tokenizer.encode(text))
      parts.emplace_back(tokenizer.token_bytes(token));
    return parts;
  };
  using Parts = std::vector<std::string>;
  CHECK(text_of("") == Parts{});
  CHECK(text_of("there is") == Parts{"there", " ", "i", "s"});
  CHECK(text_of(" there is") == Parts{" there is"});
  CHECK(text_of(" there it") == Parts{" the", "r", "e", " ", "i", "t"});  // greedy, not optimal
  CHECK(text_of("abc") == Parts{"ab", "c"});  // the match ends before the trie
  CHECK(text_of("aaaaaaa") == Parts{"aaaa", "a", "a", "a"});
  CHECK(text_of("\xe2\x82\xac") == Parts{"\xe2\x82", "\xac"});
  CHECK(tokenizer.vocab_size() == small_vocabulary().size());
}

TEST_CASE("every entry encodes to itself; empty ids decode to nothing") {
  const auto vocabulary = small_vocabulary();
  const Tokenizer tokenizer(vocabulary);
  for (std::size_t id = 0; id < vocabulary.size(); ++id) {
    const auto token = static_cast<Token>(id);
    REQUIRE(tokenizer.token_bytes(token) == vocabulary[id]);
    if (vocabulary[id].empty())
      REQUIRE(tokenizer.decode(std::vector{token}).empty());
    else
      REQUIRE(tokenizer.encode(vocabulary[id]) == std::vector{token});
  }
  test::check_error(ErrorCategory::argument, "token 272 is past the vocabulary of 272", [&] {
    (void)tokenizer.decode(std::vector<Token>{65, 272});
  });
}

TEST_CASE("random vocabularies and texts: as the naive search, and back") {
  test::Random random(3);
  for (int round = 0; round < (test::sanitized ? 100 : 300); ++round) {
    const std::size_t letters = 1 + random.below(4);
    const auto word = [&](std::size_t n) {
      std::string s;
      for (std::size_t i = 0; i < n; ++i) s += static_cast<char>(0xfe + random.below(letters));
      return s;
    };
    std::set<std::string> words;
    for (std::size_t i = 0; i < letters; ++i)
      words.insert(std::string(1, static_cast<char>(0xfe + i)));
    for (std::size_t n = random.below(200); n > 0; --n) words.insert(word(1 + random.below(12)));
    rwkv::io::Vocabulary vocabulary(words.begin(), words.end());
    for (std::size_t n = random.below(5); n > 0; --n)
      vocabulary.insert(
          vocabulary.begin() + static_cast<std::ptrdiff_t>(random.below(vocabulary.size())),
          std::string());
    const Tokenizer tokenizer(vocabulary);
    for (int i = 0; i < 10; ++i) {
      const std::string text = word(random.below(300));
      const auto tokens = tokenizer.encode(text);
      REQUIRE(tokens == longest_match(text, vocabulary));
      REQUIRE(tokenizer.decode(tokens) == text);
    }
  }
}

TEST_CASE("any bytes come back") {
  const Tokenizer tokenizer(small_vocabulary());
  test::Random random(4);
  for (int round = 0; round < (test::sanitized ? 200 : 500); ++round) {
    const std::string text = test::messy_text(random, random.below(200));
    const auto tokens = tokenizer.encode(text);
    REQUIRE(tokenizer.decode(tokens) == text);
    REQUIRE(tokens == longest_match(text, small_vocabulary()));
  }
}

TEST_CASE("a byte that no token begins with is named") {
  const Tokenizer tokenizer(rwkv::io::Vocabulary{"a", "ab", "cd"}, "v.txt");
  test::check_error(ErrorCategory::argument,
                    "v.txt: no token begins with byte 99, which is at offset 3",
                    [&] { (void)tokenizer.encode("abac"); });
  std::vector<Token> tokens{7};
  CHECK_THROWS_AS(tokenizer.encode("ab\xff", tokens), rwkv::Error);
  CHECK(tokens == std::vector<Token>{7, 1});
}

TEST_CASE("the byte tokenizer") {
  const Tokenizer tokenizer = Tokenizer::bytes();
  CHECK(tokenizer.vocab_size() == 256);
  std::string text;
  for (int byte = 255; byte >= 0; --byte) text += static_cast<char>(byte);
  const auto tokens = tokenizer.encode(text);
  REQUIRE(tokens.size() == 256);
  for (Token i = 0; i < 256; ++i) CHECK(tokens[i] == 255 - i);
  CHECK(tokenizer.decode(tokens) == text);
}

TEST_CASE("vocabularies that cannot work are refused") {
  test::check_error(ErrorCategory::format, "v: tokens 1 and 3 are both \"ab\"", [] {
    Tokenizer({"x", "ab", "a", "ab"}, "v");
  });
  test::check_error(ErrorCategory::unsupported, "v: token 1 has 1025 bytes", [] {
    Tokenizer({"x", std::string(1025, 'a')}, "v");
  });
  test::check_error(ErrorCategory::unsupported, "v: has 262145 tokens",
                    [] { Tokenizer(rwkv::io::Vocabulary(262145), "v"); });
  const Tokenizer longest({"a", std::string(1024, 'a')});
  CHECK(longest.encode(std::string(2049, 'a')) == std::vector<Token>{1, 1, 0});
}

TEST_CASE("from a file, recognised by content") {
  const test::TemporaryDirectory directory;
  test::write_file(directory / "text", "1 'a' 1\n2 'ab' 2\n");
  test::write_file(directory / "json", "\n {\"1\": \"a\", \"2\": [97, 98]}");
  test::write_file(directory / "hugging", test::tokenizer_json({"", "a", "ab"}));
  test::write_file(directory / "bad", "1 'a' 2\n");
  for (const char* name : {"text", "json", "hugging"}) {
    CHECK(Tokenizer::from_vocab_file(directory / name).encode("aab") == std::vector<Token>{1, 2});
    const std::string marked = "\xef\xbb\xbf" + test::read_file(directory / name);
    CHECK(Tokenizer::from_vocab(std::as_bytes(std::span(marked))).encode("aab") ==
          std::vector<Token>{1, 2});
  }
  test::check_error(ErrorCategory::format, "bad: line 1: the token has 1 bytes, not 2",
                    [&] { (void)Tokenizer::from_vocab_file(directory / "bad"); });
  test::check_error(ErrorCategory::io, "missing",
                    [&] { (void)Tokenizer::from_vocab_file(directory / "missing"); });
}

TEST_CASE("from a checkpoint") {
  rwkv::io::Checkpoint checkpoint;
  checkpoint.source = "m.gguf";
  test::check_error(ErrorCategory::argument, "m.gguf: this file carries no vocabulary",
                    [&] { (void)Tokenizer::from_checkpoint(checkpoint); });
  checkpoint.vocabulary = {"", "a", "ab", ""};
  const Tokenizer tokenizer = Tokenizer::from_checkpoint(checkpoint);
  CHECK(tokenizer.vocab_size() == 4);
  CHECK(tokenizer.encode("aab") == std::vector<Token>{1, 2});
  CHECK(tokenizer.ids_in_use() == 3);
}

TEST_CASE("a vocabulary of another model") {
  const Tokenizer tokenizer({"", "a", "b"}, "v.txt");
  tokenizer.require_fit(3);
  tokenizer.require_fit(64);
  for (const std::size_t rows : {2u, 65u})
    test::check_error(ErrorCategory::argument, "v.txt: this vocabulary has ids up to 2, and the",
                      [&] { tokenizer.require_fit(rows); });
}

TEST_CASE("a stream of tokens decodes to whole characters, and in the end to the same bytes") {
  const Tokenizer tokenizer(small_vocabulary());
  test::Random random(5);
  for (int round = 0; round < 500; ++round) {
    const std::string original = test::messy_text(random, random.below(40));
    const auto tokens = tokenizer.encode(original);
    rwkv::StreamDecoder decoder(tokenizer);
    std::string text;
    for (const Token token : tokens) {
      text += decoder.push(token);
      REQUIRE_FALSE(test::cuts_character(original, text.size()));
    }
    text += decoder.flush();
    REQUIRE(text == original);
  }
  rwkv::StreamDecoder decoder(tokenizer);
  CHECK(decoder.push(0xe2 + 1) == "");
  CHECK_THROWS_AS((void)decoder.push(5000), rwkv::Error);  // and nothing is lost
  CHECK(decoder.push(0x82 + 1) == "");
  CHECK(decoder.push(0xac + 1) == "\xe2\x82\xac");
}

#ifdef RWKV_GOLDENS

namespace {

std::string from_base64(const std::string& text) {
  constexpr std::string_view alphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    if (c == '=') break;
    bits = bits << 6 | static_cast<std::uint32_t>(alphabet.find(c));
    count += 6;
    if (count >= 8) {
      count -= 8;
      out += static_cast<char>(bits >> count & 0xff);
    }
  }
  return out;
}

const std::string golden_vocabulary = RWKV_GOLDENS "/vocab/rwkv_vocab_v20230424.txt";

}  // namespace

TEST_CASE("World vocabulary: golden cases of the official tokenizers") {
  Tokenizer tokenizer = Tokenizer::from_vocab_file(golden_vocabulary);
  SUBCASE("the official file") {}
  SUBCASE("made a tokenizer.json") {
    rwkv::io::Vocabulary tokens;
    for (Token id = 0; id < tokenizer.vocab_size(); ++id)
      tokens.emplace_back(tokenizer.token_bytes(id));
    tokenizer = Tokenizer::from_vocab(test::tokenizer_json(tokens, 65536));
  }
  CHECK(tokenizer.vocab_size() == 65530);
  std::ifstream file(RWKV_GOLDENS "/tokenizer/cases.json");
  const auto cases = nlohmann::json::parse(file);
  std::size_t compared = 0;
  for (const auto& item : cases.at("items")) {
    const std::string text = from_base64(item.at("bytes").get<std::string>());
    const auto ids = item.at("ids").get<std::vector<Token>>();
    CAPTURE(item.at("category").get<std::string>());
    REQUIRE(tokenizer.encode(text) == ids);
    REQUIRE(tokenizer.decode(ids) == text);
    ++compared;
  }
  for (const auto& item : cases.at("decode")) {
    REQUIRE(tokenizer.decode(item.at("ids").get<std::vector<Token>>()) ==
            from_base64(item.at("bytes").get<std::string>()));
    ++compared;
  }
  CHECK(compared >= 240);
}

TEST_CASE("World vocabulary: every entry encodes to itself; the same through JSON") {
  const Tokenizer tokenizer = Tokenizer::from_vocab_file(golden_vocabulary);
  std::string json = "{";
  for (Token id = 1; id < tokenizer.vocab_size(); ++id) {
    const std::string bytes(tokenizer.token_bytes(id));
    REQUIRE(tokenizer.encode(bytes) == std::vector{id});
    const nlohmann::json value =
        rwkv::io::detail::is_utf8(bytes)
            ? nlohmann::json(bytes)
            : nlohmann::json(std::vector<unsigned char>(bytes.begin(), bytes.end()));
    json += (id == 1 ? "\"" : ",\"") + std::to_string(id) + "\":" + value.dump();
  }
  const Tokenizer other = Tokenizer::from_web_rwkv_json(json + "}");
  REQUIRE(other.vocab_size() == tokenizer.vocab_size());
  for (Token id = 0; id < tokenizer.vocab_size(); ++id)
    REQUIRE(other.token_bytes(id) == tokenizer.token_bytes(id));
}

TEST_CASE("World vocabulary: any bytes come back, never through id 0") {
  const Tokenizer tokenizer = Tokenizer::from_vocab_file(golden_vocabulary);
  test::Random random(6);
  for (int round = 0; round < 200; ++round) {
    std::string text = test::messy_text(random, random.below(300));
    for (std::size_t n = random.below(300); n > 0; --n)
      text += static_cast<char>(random.below(256));
    const auto tokens = tokenizer.encode(text);
    REQUIRE(tokenizer.decode(tokens) == text);
    REQUIRE(std::find(tokens.begin(), tokens.end(), Token{0}) == tokens.end());
  }
}

#endif
