// SPDX-License-Identifier: Apache-2.0
// Where schemas stand in their document, and what they refer to.
#pragma once

#include <rwkv/grammar/json.hpp>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// References within documents: pointers, $id, $anchor. Nodes must stay where they are.
class SchemaIndex {
 public:
  explicit SchemaIndex(const std::string& source) : source_(source) {}

  /// A document: a schema with all that is in it. Throws Error (unsupported) if it is of a draft
  /// that is not known.
  void add(const Json& document) {
    if (document_ == nullptr) document_ = &document;
    const Json* const dialect = document.find("$schema");
    if (dialect != nullptr && dialect->is(Json::Kind::string)) check_dialect(document, *dialect);
    roots_.insert(&document);
    walk(document, false);
  }

  /// What pointers in messages begin at; not itself a schema.
  void set_document(const Json& document) {
    document_ = &document;
    note(document);
  }
  [[nodiscard]] const Json* document() const noexcept { return document_; }

  /// By the drafts before 2019-09, what stands beside $ref does not count.
  [[nodiscard]] bool legacy(const Json& schema) const {
    if (legacy_.empty()) return false;
    for (const Json* at = &schema; at != nullptr; at = above(*at))
      for (const Json* document : legacy_)
        if (document == at) return true;
    return false;
  }

  /// The schema that `schema` refers to. Throws Error.
  [[nodiscard]] const Json& resolve(const Json& schema, const std::string& reference) const {
    const std::size_t hash = (std::min)(reference.find('#'), reference.size());
    const std::string uri = reference.substr(0, hash);
    const std::string fragment =
        unescaped(reference.substr((std::min)(hash + 1, reference.size())));
    const Json* from = resource_of(schema);
    if (!uri.empty()) {
      const auto found = resources_.find(joined(base_of(schema), uri));
      if (found == resources_.end())
        fail_with(ErrorCategory::unsupported, source_, ": ", pointer(schema), "/$ref: ", reference,
                  " is not in this document, and schemas elsewhere are not supported");
      from = found->second;
    }
    if (fragment.empty()) return *from;
    const Json* const to = fragment[0] == '/' ? follow(*from, fragment) : anchored(*from, fragment);
    if (to == nullptr)
      fail_with(ErrorCategory::argument, source_, ": ", pointer(schema), "/$ref: ", reference,
                " refers to nothing");
    return *to;
  }

  /// The JSON pointer of a node; empty for a document and for what is in none.
  [[nodiscard]] std::string pointer(const Json& node) const {
    std::string out;
    const Json* at = &node;
    for (const Json* up = parent(*at); up != nullptr; at = up, up = parent(*at)) {
      std::string token;
      for (std::size_t i = 0; i < up->items.size(); ++i)
        if (&up->items[i] == at) token = std::to_string(i);
      for (const auto& [name, member] : up->members)
        if (&member == at)
          for (const char c : name) token += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
      out = "/" + token + out;
    }
    return out;
  }

  template <class... Why>
  [[noreturn]] void refuse(const Json& schema, const std::string& keyword,
                           const Why&... why) const {
    fail_with(ErrorCategory::argument, source_, ": ", where(schema, keyword), ": ", why...);
  }
  [[noreturn]] void lacks(const Json& schema, const std::string& keyword,
                          const std::string& more = {}) const {
    fail_with(ErrorCategory::unsupported, source_, ": ", where(schema, keyword), ": \"", keyword,
              "\" is not supported", more);
  }

 private:
  [[nodiscard]] std::string where(const Json& schema, const std::string& keyword) const {
    std::string out = pointer(schema);
    if (!keyword.empty()) out += "/" + keyword;
    return out.empty() ? "the schema" : out;
  }

  void check_dialect(const Json& document, const Json& dialect) {
    const std::string& name = dialect.text;
    for (const char* known : {"draft/2020-12/schema", "draft/2019-09/schema"})
      if (name.find(known) != std::string::npos) return;
    for (const char* known : {"draft-07/schema", "draft-06/schema"})
      if (name.find(known) != std::string::npos) {
        legacy_.push_back(&document);
        return;
      }
    fail_with(ErrorCategory::unsupported, source_, ": /$schema: the dialect ", name,
              " is not supported (2020-12, 2019-09, draft-07 and draft-06 are)");
  }

  void note(const Json& node) {
    for (const Json& item : node.items) {
      parents_.emplace(&item, &node);
      note(item);
    }
    for (const auto& member : node.members) {
      parents_.emplace(&member.second, &node);
      note(member.second);
    }
  }

  // `map`: the names of its members are not keywords.
  void walk(const Json& node, bool map) {
    if (!map && node.is(Json::Kind::object)) {
      const auto text = [&](const char* keyword) -> const std::string* {
        const Json* const value = node.find(keyword);
        return value != nullptr && value->is(Json::Kind::string) ? &value->text : nullptr;
      };
      if (const std::string* id = text("$id"); id != nullptr) {
        const std::string whole = joined(base_above(node), *id);
        const std::size_t hash = whole.find('#');
        if (hash != std::string::npos && hash + 1 < whole.size())
          anchors_.emplace(whole, &node);  // as older drafts have it
        else
          resources_.emplace(whole.substr(0, hash), &node);
      }
      for (const char* keyword : {"$anchor", "$dynamicAnchor"})
        if (const std::string* name = text(keyword); name != nullptr)
          anchors_.emplace(base_of(node) + "#" + *name, &node);
    }
    for (const Json& item : node.items) {
      parents_.emplace(&item, &node);
      walk(item, false);
    }
    for (const auto& [name, member] : node.members) {
      parents_.emplace(&member, &node);
      const bool values =
          !map && (name == "enum" || name == "const" || name == "default" || name == "examples");
      const bool names =
          !map && (name == "properties" || name == "patternProperties" || name == "$defs" ||
                   name == "definitions" || name == "dependentSchemas" || name == "dependencies");
      if (values)
        note(member);
      else
        walk(member, names);
    }
  }

  // Within its document.
  [[nodiscard]] const Json* above(const Json& node) const {
    return roots_.contains(&node) ? nullptr : parent(node);
  }
  [[nodiscard]] const Json* parent(const Json& node) const {
    const auto found = parents_.find(&node);
    return found == parents_.end() ? nullptr : found->second;
  }

  // An identifier that is more than an anchor.
  [[nodiscard]] const std::string* identifier(const Json& node) const {
    const Json* const id = node.find("$id");
    if (id == nullptr || !id->is(Json::Kind::string) || id->text.starts_with("#")) return nullptr;
    if (node.find("$ref") != nullptr && legacy(node)) return nullptr;
    return &id->text;
  }

  [[nodiscard]] const Json* resource_of(const Json& schema) const {
    const Json* at = &schema;
    while (identifier(*at) == nullptr && above(*at) != nullptr) at = above(*at);
    return at;
  }

  [[nodiscard]] std::string base_of(const Json& schema) const {
    std::vector<const std::string*> ids;
    for (const Json* at = &schema; at != nullptr; at = above(*at))
      if (const std::string* id = identifier(*at); id != nullptr) ids.push_back(id);
    std::string base;
    for (auto id = ids.rbegin(); id != ids.rend(); ++id) base = joined(base, **id);
    return base.substr(0, base.find('#'));
  }
  [[nodiscard]] std::string base_above(const Json& schema) const {
    const Json* const up = above(schema);
    return up == nullptr ? std::string() : base_of(*up);
  }

  // RFC 3986, without what no schema uses.
  [[nodiscard]] static std::string joined(const std::string& base, const std::string& reference) {
    const std::size_t colon = reference.find(':');
    if (colon != std::string::npos && reference.find_first_of("/?#") > colon) return reference;
    if (reference.starts_with("#")) return base + reference;
    const std::size_t scheme = base.find(':');
    if (scheme == std::string::npos && base.empty()) return reference;
    const bool authority = base.substr((std::min)(scheme + 1, base.size())).starts_with("//");
    const std::size_t path =
        authority ? (std::min)(base.find('/', scheme + 3), base.size()) : scheme + 1;
    if (reference.starts_with("//")) return base.substr(0, scheme + 1) + reference;
    if (reference.starts_with("/")) return base.substr(0, path) + reference;
    std::string whole = base.substr(path);
    whole.erase((std::min)(whole.rfind('/') + 1, whole.size()));
    if (authority && whole.empty()) whole = "/";
    whole += reference;
    // ./ and ../
    std::vector<std::string> segments;
    std::size_t begin = 0;
    while (begin <= whole.size()) {
      const std::size_t end = (std::min)(whole.find('/', begin), whole.size());
      const std::string segment = whole.substr(begin, end - begin);
      const bool last = end == whole.size();
      if (segment == "..") {
        if (segments.size() > 1) segments.pop_back();
        if (last) segments.emplace_back();
      } else if (segment == ".") {
        if (last) segments.emplace_back();
      } else {
        segments.push_back(segment);
      }
      begin = end + 1;
    }
    std::string out = base.substr(0, path);
    for (std::size_t i = 0; i < segments.size(); ++i) out += (i > 0 ? "/" : "") + segments[i];
    return out;
  }

  // %XX
  [[nodiscard]] static std::string unescaped(const std::string& text) {
    std::string out;
    const auto digit = [&](std::size_t i) -> int {
      const char c = i < text.size() ? text[i] : '\0';
      if (c >= '0' && c <= '9') return c - '0';
      if (c >= 'a' && c <= 'f') return c - 'a' + 10;
      if (c >= 'A' && c <= 'F') return c - 'A' + 10;
      return -1;
    };
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '%' && digit(i + 1) >= 0 && digit(i + 2) >= 0) {
        out += static_cast<char>(static_cast<unsigned char>(16 * digit(i + 1) + digit(i + 2)));
        i += 2;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  [[nodiscard]] static const Json* follow(const Json& from, const std::string& pointer) {
    const Json* at = &from;
    for (std::size_t begin = 1; at != nullptr && begin <= pointer.size();) {
      const std::size_t end = (std::min)(pointer.find('/', begin), pointer.size());
      std::string token;
      for (std::size_t i = begin; i < end; ++i) {
        if (pointer[i] == '~' && i + 1 < end)
          token += pointer[++i] == '0' ? '~' : '/';
        else
          token += pointer[i];
      }
      if (at->is(Json::Kind::array)) {
        std::size_t index = 0;
        bool good = !token.empty() && token.size() < 10;
        for (const char c : token) {
          good = good && c >= '0' && c <= '9';
          if (good) index = index * 10 + static_cast<std::size_t>(c - '0');
        }
        at = good && index < at->items.size() ? &at->items[index] : nullptr;
      } else {
        at = at->find(token);
      }
      begin = end + 1;
    }
    return at;
  }

  [[nodiscard]] const Json* anchored(const Json& from, const std::string& name) const {
    const auto found = anchors_.find(base_of(from) + "#" + name);
    return found == anchors_.end() ? nullptr : found->second;
  }

  const std::string& source_;
  const Json* document_ = nullptr;
  std::set<const Json*> roots_;
  std::vector<const Json*> legacy_;
  std::unordered_map<const Json*, const Json*> parents_;
  std::map<std::string, const Json*> resources_, anchors_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
