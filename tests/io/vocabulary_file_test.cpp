// SPDX-License-Identifier: Apache-2.0
#include "../support/temporary_directory.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/tokenizer_json.hpp"
#include <rwkv/io/vocabulary_file.hpp>

#include <doctest/doctest.h>

using rwkv::Error;
using rwkv::io::read_vocabulary;
using rwkv::io::Vocabulary;
using rwkv::io::vocabulary_of;

TEST_CASE("every kind of vocabulary file, also behind a byte order mark") {
  const Vocabulary tokens{"", "a", "ab"};
  for (const std::string& text :
       {std::string("1 'a' 1\n2 'ab' 2\n"), std::string("1 'a' 1\r\n2 'ab' 2\r\n"),
        std::string(R"({"1": "a", "2": [97, 98]})"), std::string("\n{ \"1\":\"a\",\"2\":\"ab\"}"),
        test::tokenizer_json(tokens), "\n " + test::tokenizer_document(tokens).dump(2)}) {
    CAPTURE(text);
    CHECK(read_vocabulary(text, "v") == tokens);
    CHECK(read_vocabulary("\xef\xbb\xbf" + text, "v") == tokens);
  }
  for (const char* none : {"", "{", "{}", "{\"", "\xef\xbb\xbf", "\xef\xbb\xbf\xef\xbb\xbf{}"}) {
    CAPTURE(none);
    CHECK_THROWS_AS((void)read_vocabulary(none, "v"), Error);
  }
}

TEST_CASE("the vocabulary in a model's folder") {
  const test::TemporaryDirectory directory;
  rwkv::io::Checkpoint checkpoint = test::sample_checkpoint({.vocab = 10});
  CHECK_FALSE(vocabulary_of(checkpoint));
  checkpoint.folder = directory.path().string();
  CHECK_FALSE(vocabulary_of(checkpoint));
  test::write_file(directory / "vocab.txt", "1 'x' 1\n");  // might be anybody's
  CHECK_FALSE(vocabulary_of(checkpoint));

  test::write_file(directory / "tokenizer.json", test::tokenizer_json({"", "json"}));
  CHECK(vocabulary_of(checkpoint)->tokens == Vocabulary{"", "json"});
  CHECK(vocabulary_of(checkpoint)->source == (directory / "tokenizer.json").string());
  auto document = test::tokenizer_document({"", "json"});
  document["model"]["type"] = "BPE";
  test::write_file(directory / "tokenizer.json", document.dump());
  CHECK_THROWS_WITH_AS((void)vocabulary_of(checkpoint), doctest::Contains("type \"BPE\""), Error);
  test::write_file(directory / "rwkv_vocab_v1.json", R"({"1": "web"})");
  CHECK(vocabulary_of(checkpoint)->tokens == Vocabulary{"", "web"});
  test::write_file(directory / "rwkv_vocab_v1.txt", "1 'text' 4\n");
  CHECK(vocabulary_of(checkpoint)->tokens == Vocabulary{"", "text"});

  test::write_file(directory / "rwkv_vocab_v2.txt", "1 'text' 4\n");
  CHECK_THROWS_WITH_AS((void)vocabulary_of(checkpoint),
                       doctest::Contains("rwkv_vocab_v1.txt and rwkv_vocab_v2.txt; name one"),
                       Error);
  checkpoint.vocabulary = {"", "carried"};
  CHECK(vocabulary_of(checkpoint)->tokens == Vocabulary{"", "carried"});
}

TEST_CASE("a vocabulary of another model is refused, and a model of 256 tokens reads bytes") {
  const test::TemporaryDirectory directory;
  test::write_file(directory / "rwkv_vocab.txt", "11 'text' 4\n");
  rwkv::io::Checkpoint checkpoint = test::sample_checkpoint({.vocab = 10});
  checkpoint.folder = directory.path().string();
  CHECK_THROWS_WITH_AS(
      (void)vocabulary_of(checkpoint),
      doctest::Contains(
          "rwkv_vocab.txt: this vocabulary has ids up to 11, and the model 10 tokens"),
      Error);
  checkpoint.vocabulary = {"", "", "", "", "", "", "", "", "", "", "a", ""};
  CHECK_THROWS_WITH_AS((void)vocabulary_of(checkpoint), doctest::Contains("sample: this"), Error);
  checkpoint.vocabulary.reset();

  auto bytes = test::sample_checkpoint({.vocab = 256});
  CHECK(vocabulary_of(bytes)->tokens.size() == 256);
  bytes.folder = directory.path().string();
  CHECK(vocabulary_of(bytes)->tokens[255] == "\xff");  // 11 ids are not padded to 256
  test::write_file(directory / "rwkv_vocab.txt", "200 'text' 4\n");
  CHECK(vocabulary_of(bytes)->tokens[200] == "text");
}

TEST_CASE("models that exist and their vocabularies") {
  using rwkv::io::vocabulary_misfit;
  const auto fits = [](std::size_t ids, std::size_t rows) {
    return vocabulary_misfit(ids, rows).empty();
  };
  CHECK(fits(65530, 65536));  // World
  CHECK(fits(65530, 65535));  // as fla has it
  CHECK(fits(65530, 65530));
  CHECK(fits(50277, 50277));  // Pile
  CHECK(fits(50277, 50304));
  CHECK(fits(1, 64));
  CHECK(fits(256, 256));
  CHECK(fits(256, 300));
  CHECK(fits(300, 512));
  CHECK(fits(1000, 1024));
  CHECK_FALSE(fits(65530, 50304));  // a Pile model with the World file
  CHECK_FALSE(fits(50277, 65536));
  CHECK_FALSE(fits(65530, 65529));
  CHECK_FALSE(fits(256, 65536));
  CHECK_FALSE(fits(11, 256));
  CHECK_FALSE(fits(0, 64));
}
