// SPDX-License-Identifier: Apache-2.0
// JSON from untrusted files, one event at a time: no document tree is built, so neither nesting nor
// repetition can make a small file take much memory.
#pragma once

#include <rwkv/core/error.hpp>

#include <string>
#include <string_view>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// Base of the event handlers: they override the events they expect; any other one ends the parse
/// with a sentence. Strings may be moved from. False ends the parse.
class JsonEvents {
 public:
  virtual bool null() { return refuse("null"); }
  virtual bool boolean(bool) { return refuse("a truth value"); }
  virtual bool number_integer(std::int64_t) { return refuse("a negative number"); }
  virtual bool number_unsigned(std::uint64_t) { return refuse("a number"); }
  virtual bool number_float(double) { return refuse("a number that is no 64-bit integer"); }
  virtual bool string(std::string&) { return refuse("a string"); }
  virtual bool start_object() = 0;
  virtual bool key(std::string& name) = 0;
  virtual bool end_object() = 0;
  virtual bool start_array() = 0;
  virtual bool end_array() = 0;

  /// Why the parse ended early.
  [[nodiscard]] const std::string& error() const noexcept { return error_; }
  [[nodiscard]] ErrorCategory category() const noexcept { return category_; }

  /// Ends the parse for the reason given.
  bool stop(std::string sentence, ErrorCategory category = ErrorCategory::format) {
    error_ = std::move(sentence);
    category_ = category;
    return false;
  }

 protected:
  ~JsonEvents() = default;
  /// Ends the parse: the value is not what the format has in this place.
  bool refuse(std::string_view what) {
    return stop("holds " + std::string(what) + " where the format has something else");
  }

 private:
  std::string error_;
  ErrorCategory category_ = ErrorCategory::format;
};

/// Feeds `text` to `handler`. False if that ended early: the handler knows why.
[[nodiscard]] RWKV_FUNCTION bool parse_json(std::string_view text, JsonEvents& handler);

/// Feeds `text` to `handler`; throws `Error` "<source>: <what> <handler's sentence>".
RWKV_FUNCTION void parse_json(std::string_view text, JsonEvents& handler, const std::string& source,
                              const char* what);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail

#if RWKV_HEADER_ONLY
#include <rwkv/io/json_events.ipp>
#endif
