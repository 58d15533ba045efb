// SPDX-License-Identifier: Apache-2.0
#include "../support/hostile.hpp"
#include <rwkv/io/model_config.hpp>

#include <doctest/doctest.h>

using rwkv::io::Metadata;

namespace {

Metadata read(std::string_view json) {
  return rwkv::io::read_model_config(std::as_bytes(std::span(json)), "file");
}

std::string refusal(std::string_view json) {
  try {
    (void)read(json);
  } catch (const rwkv::Error& e) {
    CHECK(e.category() == rwkv::ErrorCategory::format);
    return e.what();
  }
  return "";
}

bool mentions(const std::string& sentence, std::string_view part) {
  return sentence.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the scalars of a config.json, as text") {
  CHECK(read("{}").empty());
  CHECK(read(R"({"hidden_size": 768, "norm_eps": 1e-05, "tie": false, "a": true, "b": -3,
                 "model_type": "rwkv7", "head_dim": null, "x": 0.1, "big": 18446744073709551615})") ==
        Metadata{{"config.hidden_size", "768"},
                 {"config.norm_eps", "1e-05"},
                 {"config.tie", "false"},
                 {"config.a", "true"},
                 {"config.b", "-3"},
                 {"config.model_type", "rwkv7"},
                 {"config.x", "0.1"},
                 {"config.big", "18446744073709551615"}});
  CHECK(read("\xef\xbb\xbf{\"a\": 1}") == Metadata{{"config.a", "1"}});
}

TEST_CASE("what is in objects and arrays stays there") {
  CHECK(read(R"({"attn": {"layers": [1, 2], "norm_eps": 3}, "none": {}, "empty": [],
                 "architectures": ["A"], "deep": [[], {}], "nulls": [null], "objects": [{"a": 1}],
                 "last": 7})") == Metadata{{"config.attn", "{...}"},
                                           {"config.architectures", "[...]"},
                                           {"config.deep", "[...]"},
                                           {"config.nulls", "[...]"},
                                           {"config.objects", "[...]"},
                                           {"config.last", "7"}});
}

TEST_CASE("what is no configuration is refused") {
  CHECK(mentions(refusal(""), "not valid JSON"));
  CHECK(mentions(refusal("{"), "not valid JSON"));
  CHECK(mentions(refusal("[]"), "file: the configuration holds an array"));
  CHECK(mentions(refusal("null"), "holds null"));
  CHECK(mentions(refusal("1"), "holds a value"));
  CHECK(mentions(refusal("\"a\""), "holds a value"));
  CHECK(mentions(refusal(R"({"a": 1, "a": 2})"), "two values for \"a\""));
  CHECK(mentions(refusal(R"({"a": NaN})"), "not valid JSON"));
  CHECK(mentions(refusal("{\"a\":" + std::string(200'000, '[')), "not valid JSON"));
  CHECK(mentions(refusal("{\"a\":\"\xff\"}"), "not valid JSON"));
}
