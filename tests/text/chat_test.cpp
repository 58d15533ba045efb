// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"
#include <rwkv/text/chat.hpp>

namespace chat = rwkv::chat;

TEST_CASE("texts are cleaned of blank lines") {
  CHECK(chat::clean("") == "");
  CHECK(chat::clean(" \n\t\n ") == "");
  CHECK(chat::clean("  hi there\n") == "hi there");
  CHECK(chat::clean("a\n\n\nb\nc") == "a\nb\nc");
  CHECK(chat::clean("a\r\n\r\nb\r\nc") == "a\nb\nc");
  CHECK(chat::clean("a\rb\r") == "a\rb");  // a lone carriage return inside is kept
  CHECK(chat::clean("a\n \nb") == "a\n \nb");
  CHECK(chat::clean("\r\r\na") == "a");
}

TEST_CASE("turns") {
  CHECK(chat::turn("hi\n\nthere ") == "User: hi\nthere\n\nAssistant:");
  CHECK(chat::turn("hi", chat::Think::open) == "User: hi\n\nAssistant: <think");
  CHECK(chat::turn("hi", chat::Think::skip) == "User: hi\n\nAssistant: <think></think");
  CHECK(chat::turn("hi", chat::Think::skip_lines) == "User: hi\n\nAssistant: <think>\n</think");
  CHECK(chat::system(" be brief\n") == "System: be brief\n\n");
}

TEST_CASE("the next turn goes on from what the state has consumed") {
  const std::string next = std::string(chat::separator) + chat::turn("hi");
  CHECK(chat::remainder(next, "") == next);
  CHECK(chat::remainder(next, "\n\n") == "User: hi\n\nAssistant:");
  CHECK(chat::remainder(next, "\n\nUser:") == " hi\n\nAssistant:");
  CHECK(chat::remainder(next, "\n\nUser: x") == "hi\n\nAssistant:");
  CHECK(chat::remainder(next, next) == "");
  CHECK(chat::remainder(next, next + "!") == "");
}

TEST_CASE("an answer ends where another turn would begin") {
  for (const std::string& s : chat::stop_strings()) CHECK(s.starts_with(chat::separator));
  const auto strings = chat::stop_strings();
  CHECK(std::find(strings.begin(), strings.end(), "\n\nUser:") != strings.end());
}
