// SPDX-License-Identifier: Apache-2.0
// JSON from untrusted files, one event at a time: no document tree is built, so neither nesting nor
// repetition can make a small file take much memory.
#pragma once

#include <rwkv/core/error.hpp>

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace rwkv::inline RWKV_ABI::io::detail {

/// Base of the event handlers. A handler hides the events it expects; any other event ends the
/// parse with a sentence. `start_*`, `end_*` and `key` must be provided by the handler.
class JsonEvents {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  bool null() { return refuse("null"); }
  bool boolean(bool) { return refuse("a truth value"); }
  bool number_integer(number_integer_t) { return refuse("a negative number"); }
  bool number_unsigned(number_unsigned_t) { return refuse("a number"); }
  bool number_float(number_float_t, const string_t&) {
    return refuse("a number that is no 64-bit integer");
  }
  bool string(string_t&) { return refuse("a string"); }
  bool binary(binary_t&) { return refuse("binary data"); }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) {
    error_ = "is not valid JSON at byte " + std::to_string(position);
    return false;
  }

  /// Why the parse ended early.
  [[nodiscard]] const std::string& error() const noexcept { return error_; }
  [[nodiscard]] ErrorCategory category() const noexcept { return category_; }

 protected:
  /// Ends the parse: the value is not what the format has in this place.
  bool refuse(std::string_view what) {
    error_ = "holds " + std::string(what) + " where the format has something else";
    return false;
  }
  bool stop(std::string sentence, ErrorCategory category = ErrorCategory::format) {
    error_ = std::move(sentence);
    category_ = category;
    return false;
  }

 private:
  std::string error_;
  ErrorCategory category_ = ErrorCategory::format;
};

/// Feeds `text` to `handler`; throws `Error` "<source>: <what> <handler's sentence>".
template <class Handler>
void parse_json(std::string_view text, Handler& handler, const std::string& source,
                const char* what) {
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &handler))
    fail_with(handler.category(), source, ": ", what, " ", handler.error());
}

}  // namespace rwkv::inline RWKV_ABI::io::detail
