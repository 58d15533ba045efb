// SPDX-License-Identifier: Apache-2.0
// The definition of io/json_events.hpp.
#pragma once

#include <rwkv/io/json_events.hpp>

#include <nlohmann/json.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// What the parser calls, whatever the handler: it is compiled once.
struct JsonSax {
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  JsonEvents& to;

  bool null() { return to.null(); }
  bool boolean(bool value) { return to.boolean(value); }
  bool number_integer(number_integer_t number) { return to.number_integer(number); }
  bool number_unsigned(number_unsigned_t number) { return to.number_unsigned(number); }
  bool number_float(number_float_t number, const string_t&) { return to.number_float(number); }
  bool string(string_t& text) { return to.string(text); }
  bool binary(binary_t&) { return to.stop("holds binary data"); }
  bool start_object(std::size_t) { return to.start_object(); }
  bool key(string_t& name) { return to.key(name); }
  bool end_object() { return to.end_object(); }
  bool start_array(std::size_t) { return to.start_array(); }
  bool end_array() { return to.end_array(); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    return to.stop("is not valid JSON at byte " + std::to_string(position));
  }
};

RWKV_FUNCTION bool parse_json(std::string_view text, JsonEvents& handler) {
  JsonSax sax{handler};
  // What nlohmann::json::sax_parse calls. By itself it also compiles the readers of all binary
  // formats, which are larger than everything else here.
  auto input = nlohmann::detail::input_adapter(text.data(), text.data() + text.size());
  nlohmann::detail::parser<nlohmann::json, decltype(input)> parser(std::move(input));
  return parser.sax_parse(&sax, true);
}

RWKV_FUNCTION void parse_json(std::string_view text, JsonEvents& handler, const std::string& source,
                              const char* what) {
  if (!parse_json(text, handler))
    fail_with(handler.category(), source, ": ", what, " ", handler.error());
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
