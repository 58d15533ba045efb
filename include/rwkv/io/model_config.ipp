// SPDX-License-Identifier: Apache-2.0
// The definition of io/model_config.hpp.
#pragma once

#include <rwkv/io/json_events.hpp>
#include <rwkv/io/model_config.hpp>
#include <rwkv/io/untrusted.hpp>

#include <array>
#include <charconv>
#include <set>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// Collects the scalars of the outermost object.
class ModelConfigEvents final : public JsonEvents {
 public:
  Metadata metadata;

  bool null() override {
    if (depth_ == 0) return refuse("null");
    return depth_ == 1 || filled();
  }
  bool boolean(bool value) override { return put(value ? "true" : "false"); }
  bool number_integer(std::int64_t number) override { return put(std::to_string(number)); }
  bool number_unsigned(std::uint64_t number) override { return put(std::to_string(number)); }
  bool number_float(double number) override {
    std::array<char, 64> digits;
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    return put({digits.data(), end});
  }
  bool string(std::string& text) override { return put(text); }
  bool start_object() override { return open("{...}"); }
  bool start_array() override { return open("[...]"); }
  bool end_object() override { return close("{...}"); }
  bool end_array() override { return close("[...]"); }

  bool key(std::string& name) override {
    if (depth_ > 1) return filled();
    key_ = "config." + name;
    return seen_.insert(key_).second || stop("has two values for " + printable(name));
  }

 private:
  bool filled() {
    empty_ = false;
    return true;
  }

  bool put(std::string_view value) {
    if (depth_ == 0) return refuse("a value");
    if (depth_ > 1) return filled();
    metadata.emplace(key_, value);
    return true;
  }

  bool open(std::string_view kind) {
    if (depth_ == 0 && kind != "{...}") return refuse("an array");
    if (depth_++ > 1) filled();
    if (depth_ == 2) empty_ = true;
    return true;
  }

  bool close(std::string_view kind) {
    if (--depth_ == 1 && !empty_) metadata.emplace(key_, kind);
    return true;
  }

  std::size_t depth_ = 0;
  bool empty_ = true;  // the object or array that is the value of key_
  std::string key_;
  std::set<std::string> seen_;
};

}  // namespace detail

RWKV_FUNCTION Metadata read_model_config(std::span<const std::byte> json,
                                         const std::string& source) {
  detail::ModelConfigEvents events;
  detail::parse_json({reinterpret_cast<const char*>(json.data()), json.size()}, events, source,
                     "the configuration");
  return std::move(events.metadata);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
