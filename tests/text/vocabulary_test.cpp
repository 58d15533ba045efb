// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"
#include <rwkv/io/vocabulary_json.hpp>
#include <rwkv/io/vocabulary_text.hpp>

using namespace std::string_literals;
using rwkv::ErrorCategory;

namespace {

std::string literal(std::string_view source) {
  rwkv::io::detail::PythonLiteral literal(source);
  CAPTURE(source);
  REQUIRE(literal.problem() == nullptr);
  return literal.value();
}

void check_line(std::string_view line, std::string_view problem) {
  const std::string text = "1 'a' 1\n2 'b' 1\n" + std::string(line) + "\n4 'd' 1\n";
  test::check_error(ErrorCategory::format, "v.txt: line 3: " + std::string(problem),
                    [&] { (void)rwkv::io::read_vocabulary_text(text, "v.txt"); });
}

void check_json(std::string_view json, std::string_view problem) {
  test::check_error(ErrorCategory::format, problem,
                    [&] { (void)rwkv::io::read_vocabulary_json(json, "v.json"); });
}

}  // namespace

TEST_CASE("Python literals: text") {
  CHECK(literal("''") == "");
  CHECK(literal("'abc'") == "abc");
  CHECK(literal("\"it's\"") == "it's");
  CHECK(literal("'say \"x\"'") == "say \"x\"");
  CHECK(literal(R"('\'\"\\')") == "'\"\\");
  CHECK(literal(R"('\n\t\r\a\b\f\v')") == "\n\t\r\a\b\f\v");
  CHECK(literal(R"('\x41\x00\x7f')") == "A\0\x7f"s);
  CHECK(literal(R"('\x80\xe9\xFF')") == "\xc2\x80\xc3\xa9\xc3\xbf");  // characters, not bytes
  CHECK(literal(R"('\u20ac\uFFFD')") == "\xe2\x82\xac\xef\xbf\xbd");
  CHECK(literal(R"('\U0001f30d\U0010ffff')") == "\xf0\x9f\x8c\x8d\xf4\x8f\xbf\xbf");
  CHECK(literal(R"('\0\12\1012\777')") == "\0\nA2\xc7\xbf"s);
  CHECK(literal(R"('\q\8\ ')") == R"(\q\8\ )");  // not escapes: the backslash stays
  CHECK(literal("'\xc3\xa9'") == "\xc3\xa9");
}

TEST_CASE("Python literals: bytes") {
  CHECK(literal("b''") == "");
  CHECK(literal(R"(b'\x80\xff')") == "\x80\xff");
  CHECK(literal(R"(b"'\377\7")") == "'\xff\x07");
  CHECK(literal(R"(b'\u20ac\U\N{x}')") == R"(\u20ac\U\N{x})");  // only text has these
}

TEST_CASE("Python literals: written as Python writes them, and read back") {
  using rwkv::io::detail::python_literal;
  CHECK(python_literal("") == "b''");
  CHECK(python_literal("a b~") == "b'a b~'");
  CHECK(python_literal("it's") == R"(b"it's")");
  CHECK(python_literal(R"(say "x")") == R"(b'say "x"')");
  CHECK(python_literal(R"('")") == R"(b'\'"')");
  CHECK(python_literal("\t\n\r\\") == R"(b'\t\n\r\\')");
  CHECK(python_literal("\0\x1f\x7f\x80\xff"s) == R"(b'\x00\x1f\x7f\x80\xff')");
  std::string all;
  for (int byte = 0; byte < 256; ++byte) {
    all += static_cast<char>(byte);
    CHECK(literal(python_literal(all)) == all);
  }
}

TEST_CASE("a vocabulary is written as it is read") {
  const rwkv::io::Vocabulary vocabulary{"", "a", "", "\xff\0"s, "'", " \n"};
  CHECK(rwkv::io::vocabulary_text(vocabulary) ==
        "1 b'a' 1\n3 b'\\xff\\x00' 2\n4 b\"'\" 1\n5 b' \\n' 2\n");
  CHECK(rwkv::io::read_vocabulary_text(rwkv::io::vocabulary_text(vocabulary), "v") == vocabulary);
}

TEST_CASE("Python literals: malformed") {
  const auto problem = [](std::string_view source) {
    const char* const p = rwkv::io::detail::PythonLiteral(source).problem();
    return std::string(p != nullptr ? p : "none");
  };
  for (const char* source : {"", "abc", "r'a'", "u'a'", "B'a'", "bb'a'", "b", "f'a'", "1"})
    CHECK(problem(source) == "the token is no quoted string");
  for (const char* source : {"'", "'a", "'a\"", "'a\\'", "'\\", "b'"})
    CHECK(problem(source) == "the closing quote is missing");
  for (const char* source : {"'a'b", "'a' ", "'a''b'", "''''"})
    CHECK(problem(source) == "text follows the closing quote");
  for (const char* source :
       {R"('\x')", R"('\x4')", R"('\x4g')", R"('\u20a')", R"('\U0001f30')", R"(b'\x')", R"('\x)"})
    CHECK(problem(source) == "an escape lacks digits");
  for (const char* source : {R"('\ud800')", R"('\udfff')", R"('\U00110000')", R"('\Uffffffff')"})
    CHECK(problem(source) == "an escape is no Unicode character");
  CHECK(problem(R"('\N{DIGIT ONE}')") == "an escape names a character, which is not supported");
  CHECK(problem(R"(b'\400')") == "an octal escape is larger than a byte");
  CHECK(problem("b'\xc3\xa9'") == "a bytes literal holds a character that is not ASCII");
}

TEST_CASE(
    "the text file: ids with gaps, spaces in tokens, both line ends, no line end at the end") {
  const auto v = rwkv::io::read_vocabulary_text(
      "1 'a' 1\r\n3 ' ' 1\n5 ' a b ' 5\n4 b'\\xff' 1\n7 \"\xc3\xa9\" 2", "v.txt");
  CHECK(v == rwkv::io::Vocabulary{"", "a", "", " ", "\xff", " a b ", "", "\xc3\xa9"});
}

TEST_CASE("the text file: blank lines, and blanks at the ends of lines") {
  const auto v = rwkv::io::read_vocabulary_text("\n1 'a' 1 \t\r\n\r\n  \n2 ' ' 1\n\n", "v.txt");
  CHECK(v == rwkv::io::Vocabulary{"", "a", " "});
}

TEST_CASE("what ends texts is never made from text, whatever a file calls it") {
  for (const char* name : {"<|endoftext|>", "<s>", "<|rwkv_tokenizer_end_of_text|>"}) {
    const std::string length = std::to_string(std::string_view(name).size());
    const auto line = [&](const char* id) {
      return std::string(id) + " '" + name + "' " + length + "\n";
    };
    CHECK(rwkv::io::read_vocabulary_text(line("0") + "1 'a' 1\n", "v.txt") ==
          rwkv::io::Vocabulary{"", "a"});
    CHECK(rwkv::io::read_vocabulary_text("0 'a' 1\n" + line("1"), "v.txt")[1] == name);
    CHECK(rwkv::io::read_vocabulary_json("{\"0\": \"" + std::string(name) + "\", \"1\": \"a\"}",
                                         "v.json") == rwkv::io::Vocabulary{"", "a"});
  }
  CHECK(rwkv::io::read_vocabulary_json(R"({"0": "", "1": "a"})", "v") ==
        rwkv::io::Vocabulary{"", "a"});
}

TEST_CASE("the text file: malformed lines are named") {
  check_line("3", "the line is not \"id token length\"");
  check_line("3 'c'", "the line is not");
  check_line("x 'c' 1", "the id \"x\" is no number");
  check_line("-3 'c' 1", "the id \"-3\" is no number");
  check_line("3. 'c' 1", "the id \"3.\" is no number");
  check_line(" 3 'c' 1", "the id \"\" is no number");
  check_line("99999999999999999999999 'c' 1", "the id \"99999999999999999999999\" is no number");
  check_line("262144 'c' 1", "id 262144 is not below 262144");
  check_line("18446744073709551615 'c' 1", "id 18446744073709551615 is not below");
  check_line("3 'c' one", "the length \"one\" is no number");
  check_line("3 'c' 2", "the token has 1 bytes, not 2");
  check_line("3 '\xc3\xa9' 1", "the token has 2 bytes, not 1");
  check_line("3 '' 0", "id 3 is an empty string");
  check_line("2 'c' 1", "id 2 occurs twice");
  check_line("3 c 1", "the token is no quoted string");
  check_line("3 '\xff' 1", "the line is not UTF-8");
  check_line("3 'c 1", "the closing quote is missing");
  test::check_error(ErrorCategory::format, "v.txt: holds no tokens",
                    [] { (void)rwkv::io::read_vocabulary_text("", "v.txt"); });
}

TEST_CASE("the text file: what is written reads back, whatever the bytes") {
  rwkv::io::Vocabulary v{"", "a", "", "'", "\\", "\\x41", "\"", "\n", "\xe2\x82\xac", " a b "};
  for (int byte = 0; byte < 256; ++byte) v.emplace_back(2, static_cast<char>(byte));
  v.push_back("");
  v.push_back("last");
  CHECK(rwkv::io::read_vocabulary_text(rwkv::io::vocabulary_text(v), "v.txt") == v);
}

TEST_CASE("the JSON file") {
  const auto v = rwkv::io::read_vocabulary_json(
      R"( {"1": "a", "3": [128, 0, 255], "2": "\u20ac\n", "5": [97]} )", "v.json");
  CHECK(v == rwkv::io::Vocabulary{"", "a", "\xe2\x82\xac\n", "\x80\0\xff"s, "", "a"});
}

TEST_CASE("the JSON file: malformed") {
  check_json("", "v.json: vocabulary is not valid JSON");
  check_json("{\"1\": \"a\"", "is not valid JSON");
  check_json("{\"1\": \"\xff\"}", "is not valid JSON");
  check_json("{}", "v.json: holds no tokens");
  check_json("[]", "holds an array");
  check_json("\"a\"", "holds a string");
  check_json("17", "holds the number 17");
  check_json("null", "holds null");
  check_json(R"({"1": null})", "holds null");
  check_json(R"({"1": true})", "holds a truth value");
  check_json(R"({"1": 5})", "holds the number 5");
  check_json(R"({"1": {"2": "a"}})", "holds an object");
  check_json(R"({"1": [[1]]})", "holds an array");
  check_json(R"({"1": ["a"]})", "holds a string");
  check_json(R"({"1": [256]})", "holds the number 256");
  check_json(R"({"1": [-1]})", "holds a negative number");
  check_json(R"({"1": [1.5]})", "holds a number");
  check_json(R"({"1": []})", "id 1 is an empty string");
  check_json(R"({"1": ""})", "id 1 is an empty string");
  check_json(R"({"1": "a", "1": "b"})", "id 1 occurs twice");
  check_json(R"({"x": "a"})", "has the key \"x\", which is no token id");
  check_json(R"({"": "a"})", "has the key \"\"");
  check_json(R"({"-1": "a"})", "has the key \"-1\"");
  check_json(R"({"262144": "a"})", "id 262144 is not below 262144");
}
