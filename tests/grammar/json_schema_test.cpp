// SPDX-License-Identifier: Apache-2.0
#include "support.hpp"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>

using nlohmann::json;
using rwkv::ErrorCategory;
using rwkv::Grammar;
using rwkv::JsonOptions;
using rwkv::JsonSpelling;
using test::check_error;

namespace {

struct Case {
  const char* schema;
  std::vector<const char*> valid, invalid;
};

void check(const Case& c, const JsonOptions& options = {}) {
  CAPTURE(c.schema);
  const Grammar g = Grammar::from_json_schema(c.schema, options);
  for (const char* text : c.valid) {
    CAPTURE(text);
    CHECK(g.matches(text));
  }
  for (const char* text : c.invalid) {
    CAPTURE(text);
    CHECK_FALSE(g.matches(text));
  }
}

}  // namespace

TEST_CASE("types, constants and enumerations") {
  check({"{}",
         {"null", "1", "-0.5e+3", "\"x\"", "[]", "{}", "[1, {\"a\": null}]"},
         {"", "nul", "01", "1.", "+1", "[1,]", "{\"a\"}", "'x'", " 1", "1 ", "\"\n\"", "\"\\x\""}});
  check({"true", {"1"}, {}});
  check({R"({"type": ["integer", "null"]})",
         {"0", "-12", "null", "1.0", "-3.00", "1e2", "1e+20", "1.5e+16", "-0"},
         {"1.5", "1e-2", "1.5e1", "\"1\"", "true"}});
  check({R"({"type": "boolean"})", {"true", "false"}, {"null", "0"}});
  check({R"({"enum": ["red", "gr\u00fcn", 3, null, [1, {"a": "b"}]]})",
         {"\"red\"", "\"grün\"", "\"gr\\u00fcn\"", "\"gr\\u00FCn\"", "3", "3.0", "null",
          "[1, {\"a\": \"b\"}]"},
         {"\"re\"", "\"redd\"", "2", "[1]", "[1,{\"a\":\"b\",\"c\":1}]", "\"gr\\u00fdn\""}});
  check({R"({"const": {"a": 1, "b": [true]}})",
         {R"({"a":1,"b":[true]})", R"({ "b" : [ true ] , "a" : 1.0 })"},
         {R"({"a":1})", R"({"a":1,"b":[true],"a":1})", R"({"a":1,"b":[]})"}});
  check({R"({"const": "tab\t\"quote\" \\ \u20ac \ud83d\ude00"})",
         {R"("tab\t\"quote\" \\ € 😀")", R"("tab\u0009\u0022quote\" \u005c \u20AC \ud83D\uDE00")"},
         {R"("tab	\"quote\" \\ € 😀")", R"("\u0074ab\t\"quote\" \\ € 😀")",
          R"("tab\t\"quote\" \\ € \ud83d")"}});
}

TEST_CASE("strings") {
  check({R"({"type": "string", "minLength": 2, "maxLength": 3})",
         {"\"ab\"", "\"abc\"", "\"ä€😀\"", R"("\u00e4\n")", R"("\ud83d\ude00x")"},
         {"\"a\"", "\"abcd\"", R"("\ud83d\ude00")", "\"a\\\"", R"("\ud83dx")"}});
  check({R"({"type": "string", "pattern": "^[a-z]+(-[0-9])?$"})",
         {"\"abc\"", "\"a-1\""},
         {"\"abc-\"", "\"A\"", "\"\"", "\"a-1 \""}});
  check({R"s({"type": "string", "pattern": "^(^$|^https?:)"})s",
         {R"("")", R"("http:")", R"("https:x")"},
         {R"("x")", R"("xhttp:")"}});
  check({R"({"type": "string", "pattern": "b.d"})",
         {"\"abcd\"", "\"b\\u00e4d\"", R"("\"bad\"")", R"("x\nb\"dy")"},
         {"\"bd\"", R"("b\nd")"}});
  check({R"({"type": "string", "pattern": "^[a-c]*$", "maxLength": 4, "minLength": 1})",
         {"\"abca\""},
         {"\"\"", "\"abcab\"", "\"abd\""}});
  check({R"({"pattern": "a", "allOf": [{"pattern": "b"}], "type": "string"})",
         {"\"ab\"", "\"xbxa\""},
         {"\"a\"", "\"b\""}});
  check({R"({"enum": ["a", "ab", "abc", 5], "minLength": 2, "pattern": "b$"})",
         {"\"ab\"", "5"},
         {"\"a\"", "\"abc\""}});
  check({R"({"type": "string", "format": "date"})", {"\"x\""}, {}});
  JsonOptions formats;
  formats.formats = true;
  const auto format = [&](const char* name, std::vector<const char*> valid,
                          std::vector<const char*> invalid) {
    const std::string schema = R"({"type": "string", "format": ")" + std::string(name) + "\"}";
    check({schema.c_str(), std::move(valid), std::move(invalid)}, formats);
  };
  format("date", {"\"2024-02-29\"", "\"2023-12-31\""},
         {"\"2023-02-29\"", "\"2023-04-31\"", "\"2023-1-1\""});
  format("time", {"\"23:59:59Z\"", "\"00:00:00.5+02:00\""}, {"\"24:00:00Z\"", "\"12:00\""});
  format("date-time", {"\"2024-01-01T00:00:00Z\""}, {"\"2024-01-01 00:00:00Z\""});
  format("duration", {"\"P1DT2H\"", "\"P3W\"", "\"PT1M\""}, {"\"P\"", "\"P1\"", "\"PT\""});
  format("uuid", {"\"123e4567-e89b-12d3-a456-426614174000\""}, {"\"123e4567\""});
  format("email", {"\"a.b@c.de\""}, {"\"a@\"", "\"@b\"", "\"a b@c\""});
  format("ipv4", {"\"127.0.0.1\""}, {"\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""});
  format("ipv6", {"\"::1\"", "\"2001:db8::ff00:42:8329\"", "\"1:2:3:4:5:6:7:8\""},
         {"\"1::2::3\"", "\"12345::\"", "\"1:2:3\""});
  format("hostname", {"\"a-b.example\""}, {"\"-a\"", "\"a..b\""});
  format("uri", {"\"https://example.org/a?b=c#d\""}, {"\"example\""});
  format("never heard of", {"\"x\""}, {});
}

TEST_CASE("numbers") {
  // Against plain comparisons, in every spelling that is accepted.
  struct Bounds {
    const char* schema;
    bool (*fits)(double);
  };
  for (const Bounds& b : {
           Bounds{R"({"type":"number","minimum":-1.5,"exclusiveMaximum":12})",
                  [](double x) { return x >= -1.5 && x < 12; }},
           Bounds{R"({"type":"integer","minimum":3,"maximum":120})",
                  [](double x) { return x >= 3 && x <= 120 && x == std::floor(x); }},
           Bounds{R"({"type":"integer","exclusiveMinimum":-25,"maximum":-3})",
                  [](double x) { return x > -25 && x <= -3 && x == std::floor(x); }},
           Bounds{R"({"type":"number","exclusiveMinimum":0})", [](double x) { return x > 0; }},
           Bounds{R"({"type":"number","maximum":0})", [](double x) { return x <= 0; }},
           Bounds{R"({"type":"number","minimum":0.004,"maximum":0.5})",
                  [](double x) { return x >= 0.004 && x <= 0.5; }},
           Bounds{R"({"type":"integer","multipleOf":7,"minimum":-20})",
                  [](double x) { return x >= -20 && std::fmod(x, 7) == 0; }},
           Bounds{R"({"type":"number","multipleOf":2.5})",
                  [](double x) { return std::fmod(x, 2.5) == 0; }},
           Bounds{R"({"type":"number","multipleOf":0.25,"maximum":10})",
                  [](double x) { return x <= 10 && std::fmod(x, 0.25) == 0; }},
       }) {
    CAPTURE(b.schema);
    const Grammar g = Grammar::from_json_schema(b.schema);
    JsonOptions plain;
    plain.spelling = JsonSpelling::plain;
    const Grammar p = Grammar::from_json_schema(b.schema, plain);
    for (int quarters = -600; quarters <= 600; ++quarters) {
      const double x = quarters / 4.0;
      std::string text = json(x).dump();  // "1.0" for what is whole
      CAPTURE(text);
      REQUIRE(g.matches(text) == b.fits(x));
      REQUIRE(g.matches(text + (text.find('.') == std::string::npos ? ".0" : "000")) == b.fits(x));
      if (x == std::floor(x)) {
        text = std::to_string(static_cast<long>(x));
        REQUIRE(g.matches(text) == b.fits(x));
        REQUIRE(p.matches(text) == b.fits(x));
      }
    }
    for (const char* text : {"0.003", "0.0039999", "0.004", "0.49999", "0.50001", "1e-05", "5e-3",
                             "2.5e-01", "1e1", "1.2e1", "1e+2", "-1e0", "-2e1", "1e400", "4e-2"}) {
      CAPTURE(text);
      const double x = std::strtod(text, nullptr);
      const bool exponent = std::string_view(text).find('e') != std::string_view::npos;
      const bool whole = std::string_view(b.schema).find("integer") != std::string_view::npos;
      const bool multiple = std::string_view(b.schema).find("multiple") != std::string_view::npos;
      if (!std::isfinite(x) || (exponent && (multiple || whole))) continue;  // see grammar.hpp
      REQUIRE(g.matches(text) == b.fits(x));
    }
  }
  check({R"({"type":"integer","minimum":100000})",
         {"1e5", "1e16", "1.5e+300", "9e+15"},
         {"1e4", "1.5e5", "1e-16"}});
  check({R"({"type":"number","maximum":1e20,"minimum":-1e-7})",
         {"1e20", "100000000000000000000", "9.99e+19", "-1e-07", "-9e-8", "1e-300"},
         {"1.01e20", "100000000000000000001", "-1.1e-7", "-1", "2e20"}});
  JsonOptions plain;
  plain.spelling = JsonSpelling::plain;
  check({R"({"type":"integer"})", {"0", "-5"}, {"1.0", "1e2"}}, plain);
  check({R"({"type":"integer","minimum":0})", {"0", "5"}, {"-0", "1.0", "1e2"}}, plain);
  check({R"({"const":5})", {"5"}, {"5.0", "5e0"}}, plain);
  check({R"({"type":"number","multipleOf":10})",
         {"123456789012340", "-20.00"},
         {"914874703563562390", "1234567890123450"}},  // as doubles they are no multiples
        plain);
  check({R"({"type":"number","multipleOf":0.25,"minimum":1e16})", {"10000000000000000.25"}, {}},
        plain);
}

TEST_CASE("objects: properties in any order, each at most once") {
  const char* const schema = R"({"type":"object","properties":{"a":{"type":"integer"},
      "b":{"type":"string"},"c":{}},"required":["a","b"],"additionalProperties":false})";
  const Case c{schema,
               {R"({"a":1,"b":""})", R"({"b":"","a":1})", "{ \"c\" :[],\n\t\"b\":\"x\",\"a\":2}"},
               {R"({"a":1})", R"({"a":1,"b":"","a":2})", R"({"a":1,"b":"","d":2})",
                R"({"a":"1","b":""})", R"({"a":1,"b":"",})", "{}", R"({"A":1,"b":""})"}};
  check(c);
  JsonOptions ordered;
  ordered.ordered = true;
  check({schema,
         {R"({"a":1,"b":""})", R"({"a":1,"b":"","c":0})"},
         {R"({"b":"","a":1})", R"({"a":1,"c":0,"b":""})"}},
        ordered);
  check(
      {R"({"properties":{"a":{"type":"integer"}},"patternProperties":{"^n_":{"type":"null"},"_x$":{}},
             "additionalProperties":{"type":"boolean"}})",
       {"{}", "1", R"({"a":1,"n_a":null,"b":true})", R"({"n_x":null})", R"({"y_x":"z"})"},
       {R"({"a":true})", R"({"n_a":1})", R"({"b":1})", R"({"n_x":1})"}});
  check({R"({"type":"object","minProperties":2,"maxProperties":3,"properties":{"a":{}}})",
         {R"({"a":1,"b":2})", R"({"x":1,"y":2,"z":3})"},
         {"{}", R"({"a":1})", R"({"a":1,"a":2})", R"({"b":1,"b":2})", R"({"é":1,"\u00e9":2})",
          R"({"a":1,"b":1,"c":1,"d":1})"}});
  check(
      {R"({"type":"object","maxProperties":2,"properties":{"a":{},"b":{},"c":{}},"required":["c"],"additionalProperties":false})",
       {R"({"c":1,"a":2})", R"({"b":1,"c":2})"},
       {R"({"a":1,"b":2})", R"({"a":1,"b":2,"c":3})"}});
  check({R"({"propertyNames":{"maxLength":3,"pattern":"^[a-z]"},"properties":{"A":{},"ok":{}}})",
         {R"({"abc":1,"ok":2})", "{}", "3"},
         {R"({"abcd":1})", R"({"A":1})", R"({"1":1})"}});
  check(
      {R"({"type":"object","properties":{"n\u00e4":{"const":1},"q\"":{"const":2}},"required":["n\u00e4","q\""],"additionalProperties":false})",
       {R"({"nä":1,"q\"":2})", R"({"q\u0022":2,"n\u00E4":1})"},
       {R"({"n\u00e5":1,"q\"":2})"}});
  check({R"({"type":"object","properties":{"a":false,"b":true}})",
         {R"({"b":1})", R"({"c":1})"},
         {R"({"a":1})"}});
  check({R"({"type":"object","required":["x"],"additionalProperties":{"type":"integer"}})",
         {R"({"x":1,"y":2})"},
         {R"({"y":2})", R"({"x":""})"}});
}

TEST_CASE("arrays") {
  check({R"({"type":"array","items":{"type":"integer"},"minItems":1,"maxItems":3})",
         {"[1]", "[ 1 , 2 ,3 ]"},
         {"[]", "[1,2,3,4]", "[1,]", "[\"\"]", "[1 2]"}});
  check(
      {R"({"type":"array","prefixItems":[{"type":"integer"},{"type":"string"}],"items":{"type":"null"}})",
       {"[]", "[1]", "[1,\"\"]", "[1,\"\",null,null]"},
       {"[\"\"]", "[1,2]", "[1,\"\",3]"}});
  check(
      {R"({"prefixItems":[{"type":"integer"}],"items":false})", {"[]", "[1]", "\"x\""}, {"[1,1]"}});
  check({R"({"items":{"type":"array","items":{"enum":[0,1]},"minItems":2}})",
         {"[]", "[[0,1],[1,1,1]]"},
         {"[[0]]", "[[0,2]]"}});
  check(
      {R"({"$schema":"http://json-schema.org/draft-07/schema#","items":[{"type":"integer"}],"additionalItems":{"type":"string"}})",
       {"[1,\"\",\"\"]"},
       {"[1,2]", "[\"\"]"}});
}

TEST_CASE("schemas of schemas") {
  check(
      {R"({"anyOf":[{"type":"integer"},{"type":"string","maxLength":1},{"required":["a"],"type":"object"}]})",
       {"1", "\"x\"", "{\"a\":0}"},
       {"1.5", "\"xx\"", "{}"}});
  check(
      {R"({"allOf":[{"type":"object","properties":{"a":{"minimum":3}},"required":["a"]},{"properties":{"a":{"type":"integer","maximum":5}}}]})",
       {"{\"a\":4}"},
       {"{\"a\":2}", "{\"a\":6}", "{\"a\":4.5}", "{}"}});
  check(
      {R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"},"v":{"type":"integer"}},"required":["k"]},
                      {"type":"object","properties":{"k":{"const":"b"},"v":{"type":"string"}},"required":["k"]},{"type":"null"}]})",
       {R"({"k":"a","v":1})", R"({"v":"x","k":"b"})", "null"},
       {R"({"k":"a","v":"x"})", R"({"k":"c"})", R"({"v":1,"k":"b"})"}});
  check({R"({"not":{"type":["string","null"]}})", {"1", "[]"}, {"\"\"", "null"}});
  check({R"({"type":"object","not":{"required":["a"]}})", {"{}", "{\"b\":1}"}, {"{\"a\":1}"}});
  check(
      {R"({"$defs":{"tree":{"type":"object","properties":{"left":{"$ref":"#/$defs/tree"},"right":{"$ref":"#/$defs/tree"},"value":{"type":"integer"}},
             "required":["value"],"additionalProperties":false}},"$ref":"#/$defs/tree"})",
       {R"({"value":1})", R"({"left":{"value":2,"right":{"value":3}},"value":1})"},
       {R"({"left":{},"value":1})", R"({"left":null,"value":1})"}});
  check(
      {R"({"$id":"https://example.org/root.json","$ref":"other.json#name","$defs":{"o":{"$id":"other.json","$defs":{"n":{"$anchor":"name","type":"null"}}}}})",
       {"null"},
       {"1"}});
  check({R"({"type":"object","properties":{"a":{}},"unevaluatedProperties":false})",
         {"{}", "{\"a\":1}"},
         {"{\"b\":1}"}});
}

TEST_CASE("calls of tools") {
  const Grammar g = Grammar::from_tools(R"([
    {"type": "function", "function": {"name": "weather", "description": "Now.", "parameters":
      {"type": "object", "properties": {"city": {"$ref": "#/$defs/city"}}, "required": ["city"],
       "additionalProperties": false, "$defs": {"city": {"type": "string", "minLength": 1}}}}},
    {"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}},
      "required": ["x"], "additionalProperties": false}},
    {"name": "stop"}])");
  CHECK(g.matches(R"({"name":"weather","arguments":{"city":"Ulm"}})"));
  CHECK(g.matches(R"({"name":"add","arguments":{"x":-3}})"));
  CHECK(g.matches(R"({"name":"stop","arguments":{}})"));
  CHECK_FALSE(g.matches(R"({"name":"add","arguments":{"city":"Ulm"}})"));
  CHECK_FALSE(g.matches(R"({"name":"weather","arguments":{"city":""}})"));
  CHECK_FALSE(g.matches(R"({"name":"other","arguments":{}})"));
  CHECK_FALSE(g.matches(R"({"arguments":{},"name":"stop"})"));
  for (const char* anything : {"{}", "true", "null", R"({"description":"d"})"}) {
    const Grammar any =
        Grammar::from_tools(std::string(R"([{"name":"a","parameters":)") + anything + "}]");
    CHECK(any.matches(R"({"name":"a","arguments":{"x":[1]}})"));
    for (const char* other : {"[]", "1", "null", "\"\""})
      CHECK_FALSE(any.matches(std::string(R"({"name":"a","arguments":)") + other + "}"));
  }
  check_error(ErrorCategory::argument, "/1: a tool needs a \"name\"",
              [] { (void)Grammar::from_tools(R"([{"name":"a"},{"nam":"b"}])"); });
  check_error(ErrorCategory::unsupported, "tools: /0/parameters/if: \"if\" is not supported", [] {
    (void)Grammar::from_tools(
        R"([{"name":"a","parameters":{"if":{"type":"object"},"then":false}}])");
  });
}

TEST_CASE("masks are what accept takes, and written texts are valid") {
  const rwkv::Tokenizer tokenizer = test::pieces();
  std::mt19937 random(3);
  JsonOptions loose;
  loose.whitespace = 3;
  JsonOptions any = loose;
  any.spelling = JsonSpelling::any;
  std::size_t complete = 0;
  for (
      const char* schema : {
          R"({"type":"object","properties":{"name":{"type":"string","maxLength":4},"age":{"type":"integer","minimum":0,"maximum":130}},"required":["name","age"],"additionalProperties":false})",
          R"({"type":"array","items":{"enum":["red","green","blue",12,null]},"minItems":1,"maxItems":3})",
          R"({"type":"object","properties":{"id":{"type":"integer"},"name":{"enum":["ä€","a\"b"]}},"required":["id"]})",
          R"({"type":"object","patternProperties":{"^a":{"type":"null"}},"additionalProperties":{"type":"boolean"},"minProperties":2,"maxProperties":3})",
          R"({"anyOf":[{"type":"object","properties":{"name":{"const":"ab"}},"required":["name"],"additionalProperties":false},{"type":"string","pattern":"^ab+c$"},{"const":[1,"😀"]}]})",
          R"({"type":"string","minLength":3,"maxLength":5})",
          R"({"$defs":{"n":{"type":"array","items":{"$ref":"#/$defs/n"},"maxItems":2}},"$ref":"#/$defs/n"})",
          R"({"type":"object","properties":{"name":{},"age":{},"id":{}},"maxProperties":2,"required":["id"],"additionalProperties":false})",
      })
    for (const JsonOptions& options : {JsonOptions::compact(), loose, any}) {
      CAPTURE(schema);
      const Grammar grammar = Grammar::from_json_schema(schema, options);
      const rwkv::Constraint constraint = grammar.constraint(tokenizer);
      for (int i = 0; i < 2; ++i) {
        const std::string text = test::write_checked(constraint, tokenizer, random, 25);
        if (text.empty()) continue;
        ++complete;
        CAPTURE(text);
        CHECK(json::accept(text));
        CHECK(grammar.matches(text));
        CHECK(Grammar::from_json_schema(schema).matches(json::parse(text).dump()));
      }
    }
  CHECK(complete > 10);
}

TEST_CASE("what must follow") {
  const Grammar g = Grammar::from_json_schema(
      R"({"type":"object","properties":{"name":{"const":"abc"},"items":{"type":"integer"}},"required":["name","items"],"additionalProperties":false})",
      JsonOptions::compact());
  rwkv::Constraint constraint = g.constraint(rwkv::Tokenizer::bytes());
  CHECK(constraint.forced() == R"({"name":"abc","items":)");
  CHECK(constraint.forced_tokens().size() == constraint.forced().size());
}

TEST_CASE("what is not supported is refused by its name and place") {
  const auto refused = [](const char* schema, const char* part,
                          ErrorCategory category = ErrorCategory::unsupported) {
    CAPTURE(schema);
    check_error(category, part, [&] { (void)Grammar::from_json_schema(schema, {}, "s.json"); });
  };
  refused(R"({"properties":{"a/b":{"items":[true,{"if":{},"then":{}}]}}})",
          "s.json: /properties/a~1b/items/1/if: \"if\" is not supported");
  refused(R"({"uniqueItems":true})", "/uniqueItems: \"uniqueItems\" is not supported");
  refused(R"({"contains":{"type":"integer"}})", "/contains: ");
  refused(R"({"dependentRequired":{"a":["b"]}})", "/dependentRequired: ");
  refused(R"({"dependentSchemas":{"a":{"type":"object"}}})", "/dependentSchemas: ");
  refused(R"({"allOf":[true],"unevaluatedProperties":false})", "/unevaluatedProperties: ");
  refused(R"({"$dynamicRef":"#a"})", "/$dynamicRef: ");
  refused(R"({"not":{"minimum":3}})", "/not: ");
  refused(R"({"oneOf":[{"type":"integer"},{"minimum":2}]})",
          "/oneOf: \"oneOf\" is not supported where branches (here 0 and 1)");
  refused(R"({"pattern":"(?=a)b"})", "s.json: /pattern: position 0: ");
  refused(R"({"$ref":"https://example.org/x"})",
          "/$ref: https://example.org/x is not in this document");
  refused(R"({"$schema":"http://json-schema.org/draft-04/schema#"})", "draft-04");
  refused(R"({"multipleOf":0.12345678901})", "/multipleOf: ");
  const auto wrong = [&](const char* schema, const char* part) {
    refused(schema, part, ErrorCategory::argument);
  };
  wrong(R"({"type":"strin"})", "s.json: /type: there is no type \"strin\"");
  wrong(R"({"type":5})", "/type: must be a string");
  wrong(R"({"minLength":-1})", "/minLength: must be a number of things");
  wrong(R"({"required":"a"})", "/required: must be a list");
  wrong(R"({"properties":[]})", "/properties: must be an object");
  wrong(R"({"properties":{"a":5},"type":"object","required":["a"]})",
        "/properties/a: a schema is an object, true or false");
  wrong(R"({"$ref":"#/nowhere"})", "#/nowhere refers to nothing");
  wrong(R"({"$ref":"#"})", "this schema refers to itself without end");
  wrong(R"({"$defs":{"a":{"anyOf":[{"$ref":"#/$defs/a"},{"type":"null"}]}},"$ref":"#/$defs/a"})",
        "without end");
  wrong("false", "s.json: no value is valid");
  wrong(R"({"type":"integer","minimum":3,"maximum":2})", "no value is valid");
  wrong(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
        "no value is valid");
  wrong(R"({"type":"string","pattern":"(a|b)*a(a|b){30}"})",
        "/pattern: the expression needs more than");
  refused("{", "s.json: the schema is not valid JSON at byte", ErrorCategory::format);
  refused("{} {}", "is not valid JSON", ErrorCategory::format);
}

TEST_CASE("large and hostile schemas are answered in bounded time") {
  const auto start = std::chrono::steady_clock::now();
  SUBCASE("a string of a megabyte") {
    const std::string big(1'000'000, 'x');
    const Grammar g =
        Grammar::from_json_schema(json{{"const", big}}.dump(), JsonOptions::compact());
    CHECK(g.matches(json(big).dump()));
    rwkv::Constraint constraint = g.constraint(test::pieces());
    CHECK(constraint.forced().size() == 65536);
    rwkv::TokenMask mask;
    constraint.allowed(mask);
    CHECK(mask.count() == 1);
  }
  SUBCASE("ten thousand properties") {
    json schema{{"type", "object"}, {"additionalProperties", false}};
    json text = json::object();
    for (int i = 0; i < 10'000; ++i) {
      const std::string name = "property" + std::to_string(i);
      schema["properties"][name] = {{"type", "integer"}};
      schema["required"].push_back(name);
      text[name] = i;
    }
    const Grammar g = Grammar::from_json_schema(schema.dump());
    CHECK(g.matches(text.dump()));
    text.erase("property77");
    CHECK_FALSE(g.matches(text.dump()));
    rwkv::Constraint constraint = g.constraint(test::pieces());
    rwkv::TokenMask mask;
    constraint.allowed(mask);
    CHECK_FALSE(mask.none());
  }
  SUBCASE("nesting without end") {
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += R"({"items":)";
    check_error(ErrorCategory::unsupported, "is nested more than",
                [&] { (void)Grammar::from_json_schema(deep + "{}" + std::string(100'000, '}')); });
  }
  SUBCASE("alternatives of alternatives") {
    json all = json::array();
    for (int i = 0; i < 30; ++i)
      all.push_back({{"anyOf", {{{"minLength", i}}, {{"maxLength", 100 + i}}}}});
    check_error(ErrorCategory::argument, "combine in more than", [&] {
      (void)Grammar::from_json_schema(json{{"allOf", all}}.dump());
    });
  }
  SUBCASE("a text nested without end") {
    const Grammar g = Grammar::from_json_schema("{}");
    CHECK(g.matches(std::string(100'000, '[') + std::string(100'000, ']')));
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(20));
}

// Debian's json-schema-test-suite: no valid instance refused, no invalid one accepted; what is not
// supported is refused.
TEST_CASE("the test suite of JSON Schema") {
  const std::filesystem::path root("/usr/share/json-schema-test-suite/tests");
  bool any = false;
  for (const auto& [folder, dialect] : {std::pair("draft2020-12", ""),
                                        {"draft2019-09", ""},
                                        {"draft7", "http://json-schema.org/draft-07/schema#"},
                                        {"draft6", "http://json-schema.org/draft-06/schema#"}}) {
    if (!std::filesystem::is_directory(root / folder)) continue;
    any = true;
    std::size_t groups = 0;
    std::size_t refused = 0;
    for (const auto& file : std::filesystem::directory_iterator(root / folder)) {
      if (file.path().extension() != ".json") continue;
      std::ifstream in(file.path());
      for (const json& group : json::parse(in)) {
        json schema = group["schema"];
        if (schema.is_object() && !schema.contains("$schema") && *dialect != '\0')
          schema["$schema"] = dialect;
        ++groups;
        const std::string where =
            file.path().filename().string() + ": " + group["description"].get<std::string>();
        CAPTURE(where);
        try {
          const Grammar g = Grammar::from_json_schema(schema.dump());
          for (const json& test : group["tests"]) {
            const json& data = test["data"];
            for (const std::string& text : {data.dump(), data.dump(2), data.dump(-1, ' ', true)}) {
              CAPTURE(text);
              CHECK(g.matches(text) == test["valid"].get<bool>());
            }
          }
        } catch (const rwkv::Error& error) {
          const std::string_view sentence = error.what();
          if (sentence.find("no value is valid") != std::string_view::npos) {
            for (const json& test : group["tests"]) CHECK_FALSE(test["valid"].get<bool>());
            continue;
          }
          CAPTURE(sentence);
          CHECK(error.category() == ErrorCategory::unsupported);
          ++refused;
        }
      }
    }
    CHECK(groups > 60);
    CHECK(refused < groups / 2);
    std::cout << folder << ": " << groups << " groups of schemas, " << refused << " refused\n";
  }
  if (!any) std::cout << "skipped: json-schema-test-suite is not installed\n";
}
