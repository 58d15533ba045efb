// SPDX-License-Identifier: Apache-2.0
// A JSON document as a tree, small and with its numbers as they are written: what schemas are.
#pragma once

#include <rwkv/io/json_events.hpp>

#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

struct Json {
  enum class Kind : std::uint8_t { null, truth, number, string, array, object };
  Kind kind = Kind::null;
  bool truth = false;
  std::string text{};  // of a string; a number in decimal
  std::vector<Json> items{};
  std::vector<std::pair<std::string, Json>> members{};

  [[nodiscard]] bool is(Kind k) const noexcept { return kind == k; }

  /// The last member of this name; null pointer if there is none.
  [[nodiscard]] const Json* find(std::string_view name) const noexcept {
    for (auto m = members.rbegin(); m != members.rend(); ++m)
      if (m->first == name) return &m->second;
    return nullptr;
  }
};

/// Builds the tree. Deep nesting is refused: what reads the tree recurses.
class JsonBuilder final : public io::detail::JsonEvents {
 public:
  static constexpr std::size_t deepest = 500;

  bool null() override { return add({}); }
  bool boolean(bool value) override {
    Json json{.kind = Json::Kind::truth};
    json.truth = value;
    return add(std::move(json));
  }
  bool number_integer(std::int64_t n) override { return number(std::to_string(n)); }
  bool number_unsigned(std::uint64_t n) override { return number(std::to_string(n)); }
  bool number_float(double x) override {
    char digits[64];
    return number({digits, std::to_chars(digits, digits + sizeof digits, x).ptr});
  }
  bool string(std::string& text) override {
    Json json{.kind = Json::Kind::string};
    json.text = std::move(text);
    return add(std::move(json));
  }
  bool start_object() override { return open(Json::Kind::object); }
  bool key(std::string& name) override {
    open_.back()->members.emplace_back(std::move(name), Json());
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array() override { return open(Json::Kind::array); }
  bool end_array() override { return close(); }

  [[nodiscard]] Json take() { return std::move(root_); }

 private:
  bool number(std::string text) {
    Json json{.kind = Json::Kind::number};
    json.text = std::move(text);
    return add(std::move(json));
  }

  Json* place() {
    if (open_.empty()) return &root_;
    Json& parent = *open_.back();
    if (parent.kind == Json::Kind::object) return &parent.members.back().second;
    return &parent.items.emplace_back();
  }
  bool add(Json json) {
    *place() = std::move(json);
    return true;
  }
  bool open(Json::Kind kind) {
    if (open_.size() == deepest)
      return stop("is nested more than " + std::to_string(deepest) + " deep",
                  ErrorCategory::unsupported);
    Json* const json = place();
    json->kind = kind;
    open_.push_back(json);  // its siblings come when it is closed: it stays where it is
    return true;
  }
  bool close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;
};

/// Throws Error "<source>: <what> ..."
[[nodiscard]] inline Json parse_tree(std::string_view text, const std::string& source,
                                     const char* what) {
  JsonBuilder builder;
  io::detail::parse_json(text, builder, source, what);
  return builder.take();
}

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
