// SPDX-License-Identifier: Apache-2.0
// JSON Schemas to programs. Several schemas that must hold at once become one list of alternatives,
// each of which says for every type of value what is wanted of it; where values hold values, what
// is wanted of those is again a set of schemas.
#pragma once

#include <rwkv/grammar/json.hpp>
#include <rwkv/grammar/number.hpp>
#include <rwkv/grammar/options.hpp>
#include <rwkv/grammar/pattern.hpp>
#include <rwkv/grammar/program.hpp>
#include <rwkv/grammar/schema_index.hpp>
#include <rwkv/grammar/spelling.hpp>

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// What one alternative wants.
struct Alternative {
  enum Type : unsigned {
    null = 1,
    yes = 2,
    no = 4,
    number = 8,
    string = 16,
    array = 32,
    object = 64,
    any = 127,
  };

  struct Pattern {
    const Json* schema;  // where it stands
    std::string keyword;
    std::string text;  // a regular expression that is searched for

    friend bool operator==(const Pattern&, const Pattern&) = default;
  };

  unsigned types = any;
  Numbers numbers{};
  std::optional<std::vector<std::string>> strings{};  // only these, sorted
  std::vector<Pattern> patterns{};
  std::uint64_t shortest = 0, longest = unbounded;  // strings, in characters
  std::vector<const Json*> arrays{}, objects{};     // schemas with keywords about them
  std::uint64_t fewest_items = 0, most_items = unbounded;
  std::uint64_t fewest_properties = 0, most_properties = unbounded;

  void only_strings(std::vector<std::string> texts) {
    std::sort(texts.begin(), texts.end());
    texts.erase(std::unique(texts.begin(), texts.end()), texts.end());
    if (!strings) {
      strings = std::move(texts);
      return;
    }
    std::vector<std::string> both;
    std::set_intersection(strings->begin(), strings->end(), texts.begin(), texts.end(),
                          std::back_inserter(both));
    strings = std::move(both);
  }
};

class SchemaCompiler {
 public:
  SchemaCompiler(const JsonOptions& options, const std::string& source)
      : options_(options), source_(source), index_(source) {}

  [[nodiscard]] std::shared_ptr<const Program> run(const Json& schema) {
    index_.add(schema);
    return compile(schema);
  }

  /// A call of one of the tools.
  [[nodiscard]] std::shared_ptr<const Program> run_tools(const Json& tools) {
    index_.set_document(tools);
    if (!tools.is(Json::Kind::array) || tools.items.empty())
      fail_with(ErrorCategory::argument, source_, ": a list of tools is wanted");
    Json calls = make_object("anyOf", {.kind = Json::Kind::array});
    std::vector<const Json*> parameters_of;
    for (const Json& entry : tools.items) {
      const Json* tool = entry.find("function");
      if (tool == nullptr) tool = &entry;
      const Json* const name = tool->find("name");
      if (name == nullptr || !name->is(Json::Kind::string))
        index_.refuse(*tool, "", "a tool needs a \"name\"");
      const Json* parameters = nullptr;
      for (const char* key : {"parameters", "input_schema", "inputSchema", "arguments"})
        if (parameters == nullptr) parameters = tool->find(key);
      Json call = make_object("type", make_string("object"));
      Json properties = make_object("name", make_object("const", *name));
      // A schema of its own, to which references within it refer.
      const bool any = parameters == nullptr || parameters->is(Json::Kind::null);
      if (!any) index_.add(*parameters);
      parameters_of.push_back(any ? &made(make_object("type", make_string("object"))) : parameters);
      // An object, also where the tool's schema is {}.
      Json arguments = make_object("type", make_string("object"));
      Json all{.kind = Json::Kind::array};
      all.items.push_back(Json{.kind = Json::Kind::object});
      arguments.members.emplace_back("allOf", std::move(all));
      properties.members.emplace_back("arguments", std::move(arguments));
      call.members.emplace_back("properties", std::move(properties));
      Json required{.kind = Json::Kind::array};
      required.items = {make_string("name"), make_string("arguments")};
      call.members.emplace_back("required", std::move(required));
      call.members.emplace_back("additionalProperties", make_truth(false));
      calls.members[0].second.items.push_back(std::move(call));
    }
    const Json& schema = made(std::move(calls));
    for (std::size_t i = 0; i < parameters_of.size(); ++i) {
      const Json& call = schema.members[0].second.items[i];
      const Json* const arguments = call.find("properties")->find("arguments");
      stands_for_[&arguments->find("allOf")->items[0]] = parameters_of[i];
    }
    return compile(schema);
  }

 private:
  using Set = std::vector<const Json*>;  // schemas that hold together: sorted, distinct
  static constexpr std::size_t most_alternatives = 2048;
  static constexpr std::size_t most_ops = 4'000'000;
  static constexpr std::size_t most_states = 30'000;

  [[nodiscard]] std::shared_ptr<const Program> compile(const Json& schema) {
    end_ = program_.add(Op{.code = Op::Code::finish});
    program_.root = rule_of({&schema});
    while (!pending_.empty()) {
      const auto [set, rule] = std::move(pending_.back());
      pending_.pop_back();
      program_.rules[rule] = emit(alternatives(set), set);
      if (program_.ops.size() > most_ops)
        fail_with(ErrorCategory::argument, source_, ": the schema is too large");
    }
    if (!program_.finish()) fail_with(ErrorCategory::argument, source_, ": no value is valid");
    return std::make_shared<const Program>(std::move(program_));
  }

  // JSON made here.

  static Json make_string(std::string text) {
    Json json{.kind = Json::Kind::string};
    json.text = std::move(text);
    return json;
  }
  static Json make_number(std::size_t n) {
    Json json{.kind = Json::Kind::number};
    json.text = std::to_string(n);
    return json;
  }
  static Json make_truth(bool truth) {
    Json json{.kind = Json::Kind::truth};
    json.truth = truth;
    return json;
  }
  static Json make_object(const char* name, Json value) {
    Json json{.kind = Json::Kind::object};
    json.members.emplace_back(name, std::move(value));
    return json;
  }
  const Json& made(Json json) { return made_.emplace_back(std::move(json)); }

  // The schema that only this value satisfies.
  const Json& constant(const Json& value) {
    const Json*& known = constants_[&value];
    if (known == nullptr) known = &made(make_object("const", value));
    return *known;
  }

  // Reading keywords.

  const std::string& text_of(const Json& schema, const char* keyword, const Json& value) {
    if (!value.is(Json::Kind::string)) index_.refuse(schema, keyword, "must be a string");
    return value.text;
  }
  std::uint64_t count_of(const Json& schema, const char* keyword, const Json& value) {
    const Decimal d = Decimal::of(value.is(Json::Kind::number) ? value.text : "-1");
    if (d.negative || d.fraction_digits() > 0)
      index_.refuse(schema, keyword, "must be a number of things");
    if (d.exponent > 9) return unbounded;
    std::uint64_t n = 0;
    for (std::size_t i = 0; i < d.whole_digits(); ++i)
      n = n * 10 + static_cast<std::uint64_t>(d.whole(i) - '0');
    return n;
  }
  Decimal number_of(const Json& schema, const char* keyword, const Json& value) {
    if (!value.is(Json::Kind::number)) index_.refuse(schema, keyword, "must be a number");
    return Decimal::of(value.text);
  }
  const Json& list_of(const Json& schema, const char* keyword, const Json& value) {
    if (!value.is(Json::Kind::array)) index_.refuse(schema, keyword, "must be a list");
    return value;
  }
  const Json& object_of(const Json& schema, const char* keyword, const Json& value) {
    if (!value.is(Json::Kind::object)) index_.refuse(schema, keyword, "must be an object");
    return value;
  }

  // Alternatives.

  struct Pending {
    const Json* schema;
    std::size_t from;  // what led here, in trail_
  };
  struct Step {
    const Json* schema;
    std::size_t from;
  };
  static constexpr std::size_t nowhere = static_cast<std::size_t>(-1);

  // A branch taken of several: schemas, or strings of an enumeration.
  struct Choice {
    std::vector<const Json*> branches;
    std::size_t from;
  };

  struct Expansion {
    Alternative a{};
    std::vector<Pending> pending{};
    std::set<const Json*> applied{};
    std::vector<Choice> choices{};
  };

  [[nodiscard]] std::vector<Alternative> alternatives(const Set& set) {
    trail_.clear();
    Expansion e;
    for (const Json* schema : set) e.pending.push_back({schema, nowhere});
    std::vector<Alternative> out;
    expand(std::move(e), set, out);
    return out;
  }

  void expand(Expansion first, const Set& set, std::vector<Alternative>& out) {
    std::vector<Expansion> todo;
    todo.push_back(std::move(first));
    std::size_t steps = 0;
    while (!todo.empty()) {
      Expansion e = std::move(todo.back());
      todo.pop_back();
      if (++steps > 16 * most_alternatives || out.size() > most_alternatives)
        index_.refuse(*set[0], "", "these schemas combine in more than ", most_alternatives,
                      " ways");
      if (!apply_all(e)) continue;
      if (e.choices.empty()) {
        out.push_back(std::move(e.a));
        continue;
      }
      const Choice choice = std::move(e.choices.back());
      e.choices.pop_back();
      for (std::size_t i = choice.branches.size(); i-- > 0;) {
        Expansion branch = e;
        branch.pending.push_back({choice.branches[i], choice.from});
        todo.push_back(std::move(branch));
      }
    }
  }

  // False if nothing can satisfy it.
  bool apply_all(Expansion& e) {
    while (!e.pending.empty()) {
      Pending next = e.pending.back();
      e.pending.pop_back();
      if (const auto other = stands_for_.find(next.schema); other != stands_for_.end())
        next.schema = other->second;
      for (std::size_t at = next.from; at != nowhere; at = trail_[at].from)
        if (trail_[at].schema == next.schema)
          index_.refuse(*next.schema, "", "this schema refers to itself without end");
      if (!e.applied.insert(next.schema).second) continue;
      trail_.push_back({next.schema, next.from});
      if (!apply(e, *next.schema, trail_.size() - 1)) return false;
      if (e.a.types == 0) return false;
    }
    return true;
  }

  bool apply(Expansion& e, const Json& s, std::size_t at) {
    if (s.is(Json::Kind::truth)) return s.truth;
    if (!s.is(Json::Kind::object)) index_.refuse(s, "", "a schema is an object, true or false");
    const bool legacy = index_.legacy(s);
    const Json* const ref = s.find("$ref");
    if (ref != nullptr) {
      e.pending.push_back({&index_.resolve(s, text_of(s, "$ref", *ref)), at});
      if (legacy) return true;  // what stands beside it does not count in older drafts
    }
    Alternative& a = e.a;
    bool about_arrays = false;
    bool about_objects = false;
    for (const auto& [keyword, value] : s.members) {
      const auto known = keywords().find(keyword);
      if (known == keywords().end()) continue;
      switch (known->second) {
        case Keyword::annotation:
        case Keyword::reference:
          break;
        case Keyword::refused:
          if (trivial(s, keyword, value)) break;
          if (keyword == "unevaluatedItems" && alone(s)) {
            about_arrays = true;
            break;
          }
          if (keyword == "unevaluatedProperties" && alone(s)) {
            about_objects = true;
            break;
          }
          index_.lacks(s, keyword);
        case Keyword::type:
          if (!apply_type(a, s, value)) return false;
          break;
        case Keyword::enumeration: {
          std::vector<std::string> texts;
          Choice choice{{}, at};
          for (const Json& member : list_of(s, "enum", value).items) {
            if (member.is(Json::Kind::string))
              texts.push_back(member.text);
            else
              choice.branches.push_back(&constant(member));
          }
          if (choice.branches.empty()) {
            a.types &= Alternative::string;
            a.only_strings(std::move(texts));
            break;
          }
          if (!texts.empty()) {
            const Json*& strings = strings_[&value];
            if (strings == nullptr) {
              Json list{.kind = Json::Kind::array};
              for (std::string& text : texts) list.items.push_back(make_string(std::move(text)));
              strings = &made(make_object("enum", std::move(list)));
            }
            choice.branches.push_back(strings);
          }
          e.choices.push_back(std::move(choice));
          break;
        }
        case Keyword::constant:
          apply_constant(e, value, at);
          break;
        case Keyword::all_of:
          for (const Json& child : list_of(s, "allOf", value).items)
            e.pending.push_back({&child, at});
          break;
        case Keyword::any_of: {
          Choice choice{{}, at};
          for (const Json& child : list_of(s, "anyOf", value).items)
            choice.branches.push_back(&child);
          e.choices.push_back(std::move(choice));
          break;
        }
        case Keyword::one_of: {
          Choice choice{{}, at};
          for (const Json& child : list_of(s, "oneOf", value).items)
            choice.branches.push_back(&child);
          require_apart(s, choice.branches);
          e.choices.push_back(std::move(choice));
          break;
        }
        case Keyword::negation:
          if (!apply_not(e, s, value, at)) return false;
          break;
        case Keyword::minimum:
          a.numbers.at_least({number_of(s, "minimum", value), false});
          break;
        case Keyword::maximum:
          a.numbers.at_most({number_of(s, "maximum", value), false});
          break;
        case Keyword::exclusive_minimum:
          a.numbers.at_least({number_of(s, "exclusiveMinimum", value), true});
          break;
        case Keyword::exclusive_maximum:
          a.numbers.at_most({number_of(s, "exclusiveMaximum", value), true});
          break;
        case Keyword::multiple_of: {
          const Decimal by = number_of(s, "multipleOf", value);
          if (by.zero() || by.negative) index_.refuse(s, "multipleOf", "must be greater than 0");
          if (!a.numbers.multiple_of(by)) index_.lacks(s, "multipleOf", " of this step");
          break;
        }
        case Keyword::min_length:
          a.shortest = (std::max)(a.shortest, count_of(s, "minLength", value));
          break;
        case Keyword::max_length:
          a.longest = (std::min)(a.longest, count_of(s, "maxLength", value));
          break;
        case Keyword::pattern:
          add_pattern(a, s, "pattern", text_of(s, "pattern", value));
          break;
        case Keyword::format:
          if (options_.formats)
            if (const std::string_view pattern = format_pattern(text_of(s, "format", value));
                !pattern.empty())
              add_pattern(a, s, "format", std::string(pattern));
          break;
        case Keyword::min_items:
          a.fewest_items = (std::max)(a.fewest_items, count_of(s, "minItems", value));
          break;
        case Keyword::max_items:
          a.most_items = (std::min)(a.most_items, count_of(s, "maxItems", value));
          break;
        case Keyword::min_properties:
          a.fewest_properties =
              (std::max)(a.fewest_properties, count_of(s, "minProperties", value));
          break;
        case Keyword::max_properties:
          a.most_properties = (std::min)(a.most_properties, count_of(s, "maxProperties", value));
          break;
        case Keyword::of_arrays:
          about_arrays = true;
          break;
        case Keyword::of_objects:
          about_objects = true;
          break;
      }
    }
    if (about_arrays) a.arrays.push_back(&s);
    if (about_objects) a.objects.push_back(&s);
    return true;
  }

  bool apply_type(Alternative& a, const Json& s, const Json& value) {
    unsigned types = 0;
    bool integer = false;
    const auto add = [&](const Json& name) {
      const std::string& text = text_of(s, "type", name);
      if (text == "null") {
        types |= Alternative::null;
      } else if (text == "boolean") {
        types |= Alternative::yes | Alternative::no;
      } else if (text == "number") {
        types |= Alternative::number;
      } else if (text == "integer") {
        integer = true;
      } else if (text == "string") {
        types |= Alternative::string;
      } else if (text == "array") {
        types |= Alternative::array;
      } else if (text == "object") {
        types |= Alternative::object;
      } else {
        index_.refuse(s, "type", "there is no type \"", text, "\"");
      }
    };
    if (value.is(Json::Kind::array)) {
      for (const Json& name : value.items) add(name);
    } else {
      add(value);
    }
    if (integer && (types & Alternative::number) == 0) {
      types |= Alternative::number;
      a.numbers.integer = true;
    }
    a.types &= types;
    return a.types != 0;
  }

  void apply_constant(Expansion& e, const Json& value, std::size_t at) {
    Alternative& a = e.a;
    switch (value.kind) {
      case Json::Kind::null:
        a.types &= Alternative::null;
        return;
      case Json::Kind::truth:
        a.types &= value.truth ? Alternative::yes : Alternative::no;
        return;
      case Json::Kind::number:
        a.types &= Alternative::number;
        if (Decimal::of(value.text).fraction_digits() == 0) a.numbers.integer = true;
        a.numbers.at_least({Decimal::of(value.text), false});
        a.numbers.at_most({Decimal::of(value.text), false});
        return;
      case Json::Kind::string:
        a.types &= Alternative::string;
        a.only_strings({value.text});
        return;
      default:
        break;
    }
    // As a schema that spells it out.
    const Json*& known = spelled_[&value];
    if (known == nullptr) {
      Json schema;
      if (value.is(Json::Kind::array)) {
        schema = make_object("type", make_string("array"));
        Json items{.kind = Json::Kind::array};
        for (const Json& item : value.items) items.items.push_back(make_object("const", item));
        schema.members.emplace_back("prefixItems", std::move(items));
        schema.members.emplace_back("items", make_truth(false));
        schema.members.emplace_back("minItems", make_number(value.items.size()));
      } else {
        schema = make_object("type", make_string("object"));
        Json properties{.kind = Json::Kind::object};
        Json required{.kind = Json::Kind::array};
        for (const auto& [name, member] : value.members) {
          if (value.find(name) != &member) continue;  // of several, the last
          properties.members.emplace_back(name, make_object("const", member));
          required.items.push_back(make_string(name));
        }
        schema.members.emplace_back("properties", std::move(properties));
        schema.members.emplace_back("required", std::move(required));
        schema.members.emplace_back("additionalProperties", make_truth(false));
      }
      known = &made(std::move(schema));
    }
    e.pending.push_back({known, at});
  }

  bool apply_not(Expansion& e, const Json& s, const Json& value, std::size_t at) {
    if (value.is(Json::Kind::truth)) return !value.truth;
    std::size_t said = 0;
    for (const auto& member : value.members) {
      const auto known = keywords().find(member.first);
      said += known != keywords().end() && known->second != Keyword::annotation;
    }
    if (!value.is(Json::Kind::object)) index_.refuse(s, "not", "must be a schema");
    if (said == 0) return false;
    if (const Json* type = value.find("type"); said == 1 && type != nullptr) {
      Alternative other;
      (void)apply_type(other, value, *type);
      if (!other.numbers.integer) {
        e.a.types &= ~other.types;
        return true;
      }
    }
    if (const Json* required = value.find("required"); said == 1 && required != nullptr &&
                                                       required->is(Json::Kind::array) &&
                                                       required->items.size() == 1) {
      // An object without it.
      const Json*& known = spelled_[&value];
      if (known == nullptr) {
        Json schema = make_object("type", make_string("object"));
        schema.members.emplace_back(
            "properties",
            make_object(text_of(value, "required", required->items[0]).c_str(), make_truth(false)));
        known = &made(std::move(schema));
      }
      e.pending.push_back({known, at});
      return true;
    }
    index_.lacks(s, "not");
  }

  void add_pattern(Alternative& a, const Json& s, const char* keyword, std::string text) {
    const Alternative::Pattern pattern{&s, keyword, std::move(text)};
    for (const Alternative::Pattern& known : a.patterns)
      if (known.text == pattern.text) return;
    a.patterns.push_back(pattern);
  }

  // What the keywords are.

  enum class Keyword : std::uint8_t {
    annotation,
    reference,
    refused,
    type,
    enumeration,
    constant,
    all_of,
    any_of,
    one_of,
    negation,
    minimum,
    maximum,
    exclusive_minimum,
    exclusive_maximum,
    multiple_of,
    min_length,
    max_length,
    pattern,
    format,
    min_items,
    max_items,
    min_properties,
    max_properties,
    of_arrays,
    of_objects,
  };

  // Everything else says nothing about what is valid.
  [[nodiscard]] static const std::map<std::string_view, Keyword>& keywords() {
    static const std::map<std::string_view, Keyword> table{
        {"$ref", Keyword::reference},
        {"$dynamicRef", Keyword::refused},
        {"$recursiveRef", Keyword::refused},
        {"type", Keyword::type},
        {"enum", Keyword::enumeration},
        {"const", Keyword::constant},
        {"allOf", Keyword::all_of},
        {"anyOf", Keyword::any_of},
        {"oneOf", Keyword::one_of},
        {"not", Keyword::negation},
        {"if", Keyword::refused},
        {"dependentSchemas", Keyword::refused},
        {"dependentRequired", Keyword::refused},
        {"dependencies", Keyword::refused},
        {"unevaluatedItems", Keyword::refused},
        {"unevaluatedProperties", Keyword::refused},
        {"contains", Keyword::refused},
        {"uniqueItems", Keyword::refused},
        {"minimum", Keyword::minimum},
        {"maximum", Keyword::maximum},
        {"exclusiveMinimum", Keyword::exclusive_minimum},
        {"exclusiveMaximum", Keyword::exclusive_maximum},
        {"multipleOf", Keyword::multiple_of},
        {"minLength", Keyword::min_length},
        {"maxLength", Keyword::max_length},
        {"pattern", Keyword::pattern},
        {"format", Keyword::format},
        {"items", Keyword::of_arrays},
        {"prefixItems", Keyword::of_arrays},
        {"additionalItems", Keyword::of_arrays},
        {"minItems", Keyword::min_items},
        {"maxItems", Keyword::max_items},
        {"properties", Keyword::of_objects},
        {"patternProperties", Keyword::of_objects},
        {"additionalProperties", Keyword::of_objects},
        {"propertyNames", Keyword::of_objects},
        {"required", Keyword::of_objects},
        {"minProperties", Keyword::min_properties},
        {"maxProperties", Keyword::max_properties},
    };
    return table;
  }

  [[nodiscard]] static bool is_true(const Json& schema) {
    return (schema.is(Json::Kind::truth) && schema.truth) ||
           (schema.is(Json::Kind::object) && schema.members.empty());
  }

  // Beside no other schema for the same value, "unevaluatedItems" is the "items" of what is left,
  // and so with properties.
  [[nodiscard]] static bool alone(const Json& s) {
    for (const char* other : {"$ref", "allOf", "anyOf", "oneOf", "not", "if", "contains"})
      if (s.find(other) != nullptr) return false;
    return true;
  }
  [[nodiscard]] static const Json* other_properties_of(const Json& s) {
    const Json* const other = s.find("additionalProperties");
    return other != nullptr ? other : s.find("unevaluatedProperties");
  }

  // A keyword that is not supported but says nothing here.
  [[nodiscard]] bool trivial(const Json& s, const std::string& keyword, const Json& value) {
    if (keyword == "uniqueItems") {
      const Json* const most = s.find("maxItems");
      return (value.is(Json::Kind::truth) && !value.truth) ||
             (most != nullptr && count_of(s, "maxItems", *most) <= 1);
    }
    if (keyword == "if") return s.find("then") == nullptr && s.find("else") == nullptr;
    if (keyword == "contains") {
      const Json* const least = s.find("minContains");
      return least != nullptr && s.find("maxContains") == nullptr &&
             count_of(s, "minContains", *least) == 0;
    }
    if (keyword == "unevaluatedItems" || keyword == "unevaluatedProperties") return is_true(value);
    if (keyword == "dependentRequired" || keyword == "dependentSchemas" ||
        keyword == "dependencies")
      return value.is(Json::Kind::object) &&
             std::all_of(value.members.begin(), value.members.end(), [](const auto& member) {
               return is_true(member.second) ||
                      (member.second.is(Json::Kind::array) && member.second.items.empty());
             });
    return false;
  }

  /// A regular expression, searched for; empty: this format is not checked.
  [[nodiscard]] static std::string_view format_pattern(std::string_view format) {
#define RWKV_YEAR "(?:[1-9]\\d{3}|0[1-9]\\d\\d|00[1-9]\\d|000[1-9])"
#define RWKV_DATE                                                                                \
  "(?:" RWKV_YEAR                                                                                \
  "-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)"          \
  "|02-(?:0[1-9]|1\\d|2[0-8]))|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|" \
  "[13579][26])00)-02-29)"
#define RWKV_TIME                                                                       \
  "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,9})?(?:[Zz]|[+-](?:[01]\\d|2[0-3]):" \
  "[0-5]\\d)"
#define RWKV_HOST "(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
#define RWKV_OCTET "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define RWKV_IPV4 RWKV_OCTET "(?:\\." RWKV_OCTET "){3}"
#define RWKV_H16 "[0-9A-Fa-f]{1,4}"
    static const std::map<std::string_view, std::string_view> patterns{
        {"date", "^" RWKV_DATE "$"},
        {"time", "^" RWKV_TIME "$"},
        {"date-time", "^" RWKV_DATE "[Tt]" RWKV_TIME "$"},
        {"duration",
         "^P(?:\\d+W|(?:(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)(?:T(?:\\d+H(?:\\d+M"
         "(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S))?|T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|"
         "\\d+S)))$"},
        {"uuid", "^[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$"},
        {"email",
         "^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@" RWKV_HOST
         "(?:\\." RWKV_HOST ")*$"},
        {"hostname", "^" RWKV_HOST "(?:\\." RWKV_HOST ")*$"},
        {"ipv4", "^" RWKV_IPV4 "$"},
        {"ipv6",
         "^(?:(?:" RWKV_H16 ":){7}" RWKV_H16 "|(?:" RWKV_H16 ":){6}" RWKV_IPV4 "|::(?:" RWKV_H16
         ":){0,5}(?:" RWKV_H16 "|" RWKV_IPV4 ")|" RWKV_H16 "::(?:" RWKV_H16 ":){0,4}(?:" RWKV_H16
         "|" RWKV_IPV4 ")|(?:" RWKV_H16 ":){1}" RWKV_H16 "::(?:" RWKV_H16 ":){0,3}" RWKV_H16
         "|(?:" RWKV_H16 ":){2}" RWKV_H16 "::(?:" RWKV_H16 ":){0,2}" RWKV_H16 "|(?:" RWKV_H16
         ":){3}" RWKV_H16 "::(?:" RWKV_H16 ":){0,1}" RWKV_H16 "|(?:" RWKV_H16 ":){4}" RWKV_H16
         "::" RWKV_H16 "|(?:" RWKV_H16 ":){1,7}:|::)$"},
        {"uri",
         "^[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*(?:#(?:"
         "[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?$"},
    };
#undef RWKV_YEAR
#undef RWKV_DATE
#undef RWKV_TIME
#undef RWKV_HOST
#undef RWKV_OCTET
#undef RWKV_IPV4
#undef RWKV_H16
    const auto found = patterns.find(format);
    return found == patterns.end() ? std::string_view() : found->second;
  }

  // What excludes what.

  // Branches of oneOf must exclude each other: then it is anyOf.
  void require_apart(const Json& s, const std::vector<const Json*>& branches) {
    if (!apart_.insert(&s).second) return;
    const std::vector<Step> trail = trail_;
    Set set;
    if (const Json* type = s.find("type"); type != nullptr)
      set.push_back(&made(make_object("type", *type)));
    for (std::size_t i = 0; i < branches.size(); ++i)
      for (std::size_t j = 0; j < i; ++j) {
        Set both = set;
        both.push_back(branches[j]);
        both.push_back(branches[i]);
        if (!impossible(both, 0))
          index_.lacks(s, "oneOf",
                       " where branches (here " + std::to_string(j) + " and " + std::to_string(i) +
                           ") do not exclude each other by type, value or required property");
      }
    trail_ = trail;
  }

  // Is it certain that no value satisfies all of these?
  [[nodiscard]] bool impossible(const Set& set, int depth) {
    if (depth > 4) return false;
    const std::vector<Step> trail = trail_;
    const std::vector<Alternative> all = alternatives(set);
    const bool none = std::all_of(all.begin(), all.end(),
                                  [&](const Alternative& a) { return impossible(a, depth); });
    trail_ = trail;
    return none;
  }

  [[nodiscard]] bool impossible(const Alternative& a, int depth) {
    if ((a.types & (Alternative::null | Alternative::yes | Alternative::no)) != 0) return false;
    if ((a.types & Alternative::number) != 0) {
      const auto dfa = number_automaton(a.numbers);
      if (!dfa || !dfa->empty()) return false;
    }
    if ((a.types & Alternative::string) != 0 && !no_string(a)) return false;
    if ((a.types & Alternative::array) != 0 && a.fewest_items <= a.most_items) {
      bool none = false;
      for (std::uint64_t i = 0; i < (std::min)(a.fewest_items, std::uint64_t{16}) && !none; ++i)
        none = impossible_set(item_set(a, i), depth);
      if (!none) return false;
    }
    if ((a.types & Alternative::object) != 0 && a.fewest_properties <= a.most_properties) {
      bool none = false;
      for (const std::string& name : required_of(a))
        none = none || impossible_set(value_set(a, name), depth);
      if (!none) return false;
    }
    return true;
  }
  [[nodiscard]] bool impossible_set(const Set& set, int depth) {
    return !set.empty() && impossible(set, depth + 1);
  }

  // Strings.

  [[nodiscard]] std::shared_ptr<const ByteDfa> all_strings() {
    if (!all_strings_) {
      // Where nothing depends on what is written, any escape will do; but for the two that no
      // writer needs.
      Expressions e(Expressions::Form::json);
      const std::size_t quote = e.byte('"');
      const std::size_t character = e.characters(Characters::all());
      const std::size_t root =
          e.sequence({quote, e.repeat(character, 0, Expression::unbounded), quote});
      ByteDfa all = compiled(e, root, source_);
      if (options_.spelling == JsonSpelling::plain) {
        Expressions usual(Expressions::Form::utf8);
        const std::size_t itself = usual.bytes(ByteSet().set().reset('\\').reset(0x7f));
        const std::size_t escaped =
            usual.sequence({usual.byte('\\'), usual.bytes(ByteSet().set().reset('/'))});
        const std::size_t some =
            usual.repeat(usual.choice({itself, escaped}), 0, Expression::unbounded);
        all = *intersection(all, compiled(usual, some, source_), most_states);
      }
      all_strings_ = std::make_shared<const ByteDfa>(std::move(all));
    }
    return all_strings_;
  }

  /// Those in which the expression is found, quoted.
  [[nodiscard]] std::shared_ptr<const ByteDfa> strings_with(const Alternative::Pattern& pattern) {
    std::shared_ptr<const ByteDfa>& known = patterns_[pattern.text];
    if (known) return known;
    const std::string where =
        source_ + ": " + index_.pointer(*pattern.schema) + "/" + pattern.keyword;
    Expressions e(Expressions::Form::json, options_.spelling);
    const PatternParser parsed(pattern.text, where, e);
    const std::size_t any = e.repeat(e.characters(Characters::all()), 0, Expression::unbounded);
    const std::size_t begin = e.repeat(e.byte(begin_mark), 1, Expression::unbounded);
    const std::size_t end = e.repeat(e.byte(end_mark), 1, Expression::unbounded);
    const std::size_t nothing = e.sequence({});
    const std::size_t found =
        e.sequence({e.choice({e.sequence({begin, any}), nothing}), parsed.root(),
                    e.choice({e.sequence({any, end}), nothing})});
    const std::size_t whole = e.sequence({e.repeat(e.byte(begin_mark), marks, marks), any,
                                          e.repeat(e.byte(end_mark), marks, marks)});
    const ByteDfa searched = compiled(e, found, where);
    const auto both = intersection(searched, compiled(e, whole, where), 4 * most_states);
    if (!both) fail_with(ErrorCategory::argument, where, ": the expression is too large");
    return known = std::make_shared<const ByteDfa>(quotes_for_marks(*both));
  }

  // Within a string a quote follows a backslash, where no mark can stand.
  [[nodiscard]] static ByteDfa quotes_for_marks(const ByteDfa& marked) {
    if (marked.empty()) return {};
    std::array<std::uint8_t, 256> class_of = marked.class_of();
    class_of['"'] = static_cast<std::uint8_t>(marked.classes());
    return *explore(
        std::uint32_t{0},
        [&](std::uint32_t q, unsigned char byte) -> std::optional<std::uint32_t> {
          if (byte == begin_mark || byte == end_mark) return std::nullopt;
          std::uint32_t to = marked.next(q, byte);
          if (to == ByteDfa::dead && byte == '"') to = behind_marks(marked, q, begin_mark);
          if (to == ByteDfa::dead && byte == '"') to = behind_marks(marked, q, end_mark);
          if (to == ByteDfa::dead) return std::nullopt;
          return to;
        },
        [&](std::uint32_t q) { return marked.tag(q); }, class_of, marked.states());
  }

  /// Strings of this many characters.
  [[nodiscard]] std::optional<ByteDfa> counted(const ByteDfa& dfa, const ByteDfa& all,
                                               std::uint64_t shortest, std::uint64_t longest) {
    // Where `all` is in state 1, a character begins or the string ends.
    struct State {
      std::uint32_t q, any;
      std::uint64_t count;
      auto operator<=>(const State&) const = default;
    };
    const std::uint64_t enough = longest == unbounded ? shortest : longest;
    const ByteDfa* both[] = {&dfa, &all};
    return explore(
        State{0, 0, 0},
        [&](const State& s, unsigned char byte) -> std::optional<State> {
          State to{dfa.next(s.q, byte), all.next(s.any, byte), s.count};
          if (to.q == ByteDfa::dead || to.any == ByteDfa::dead) return std::nullopt;
          if (s.any == 1 && byte == '"')
            return s.count < shortest ? std::nullopt : std::optional(to);
          if (s.any == 1) {
            if (s.count == longest) return std::nullopt;
            to.count = (std::min)(s.count + 1, enough);
          }
          return to;
        },
        [&](const State& s) { return dfa.tag(s.q); }, common_classes(both), most_states);
  }

  [[nodiscard]] static std::uint64_t characters_in(std::string_view text) noexcept {
    return static_cast<std::uint64_t>(std::count_if(text.begin(), text.end(), [](char c) {
      return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
    }));
  }

  // The automaton of what patterns and lengths leave.
  [[nodiscard]] std::shared_ptr<const ByteDfa> string_automaton(const Alternative& a) {
    std::shared_ptr<const ByteDfa> dfa;
    for (const Alternative::Pattern& pattern : a.patterns) {
      const auto next = strings_with(pattern);
      if (!dfa) {
        dfa = next;
        continue;
      }
      auto both = intersection(*dfa, *next, most_states);
      if (!both)
        index_.refuse(*pattern.schema, pattern.keyword,
                      "together with others, the expression is too large");
      dfa = std::make_shared<const ByteDfa>(*std::move(both));
    }
    if (!dfa) dfa = all_strings();
    if ((a.shortest == 0 && a.longest == unbounded) || dfa->empty()) return dfa;
    auto short_ones = counted(*dfa, *all_strings(), a.shortest, a.longest);
    if (!short_ones) {
      const Json& at = a.patterns.empty() ? *index_.document() : *a.patterns[0].schema;
      index_.refuse(at, "pattern",
                    "together with minLength or maxLength, the expression is too large");
    }
    return std::make_shared<const ByteDfa>(*std::move(short_ones));
  }

  // Those of its list that satisfy the rest.
  [[nodiscard]] std::vector<std::string> strings_of(const Alternative& a) {
    std::vector<std::string> out;
    for (const std::string& text : *a.strings) {
      const std::uint64_t n = characters_in(text);
      bool fits = n >= a.shortest && n <= a.longest;
      for (const Alternative::Pattern& pattern : a.patterns)
        fits = fits && strings_with(pattern)->accepts(json_quoted(text));
      if (fits) out.push_back(text);
    }
    return out;
  }

  [[nodiscard]] bool no_string(const Alternative& a) {
    if (a.strings) return strings_of(a).empty();
    if (a.shortest > a.longest) return true;
    return !a.patterns.empty() && string_automaton(a)->empty();
  }

  // Numbers.

  static constexpr const char* plain_fraction =
      "(?:\\.\\d{1,17})?(?:[eE][+-]?(?:\\d\\d?|1\\d\\d|2[0-8]\\d))?";

  /// A null pointer if it would be too large.
  [[nodiscard]] std::shared_ptr<const ByteDfa> number_automaton(const Numbers& numbers) {
    for (const auto& [known, dfa] : numbers_)
      if (known == numbers) return dfa;
    std::shared_ptr<const ByteDfa> out;
    if (numbers.any() || numbers == Numbers{.integer = true}) {
      Expressions e(Expressions::Form::utf8);
      const bool plain = options_.spelling == JsonSpelling::plain;
      const std::string pattern =
          plain ? "-?(?:0|[1-9]\\d{0,17})" + std::string(numbers.any() ? plain_fraction : "")
          : numbers.any()
              ? "-?(?:0|[1-9]\\d*)(?:\\.\\d+)?(?:[eE][+-]?\\d+)?"
              : "-?(?:(?:0|[1-9]\\d*)(?:\\.0+)?|0(?:\\.0+)?[eE][+-]?\\d+|[1-9]\\d*[eE]\\+?\\d+"
                "|[1-9]\\.\\d{1,16}[eE]\\+?0*(?:1[6-9]|[2-9]\\d|[1-9]\\d{2,}))";
      const PatternParser parsed(pattern, source_, e);
      out = std::make_shared<const ByteDfa>(compiled(e, parsed.root(), source_));
    } else if (auto dfa =
                   NumberReader(numbers, options_.spelling == JsonSpelling::plain).automaton()) {
      out = std::make_shared<const ByteDfa>(*std::move(dfa));
    }
    numbers_.emplace_back(numbers, out);
    return out;
  }

  // What values hold.

  static void normalise(Set& set) {
    std::sort(set.begin(), set.end());
    set.erase(std::unique(set.begin(), set.end()), set.end());
  }
  // Schemas that say nothing are left out.
  void add_schema(Set& set, const Json* schema) const {
    if (schema != nullptr && (!is_true(*schema) || stands_for_.contains(schema)))
      set.push_back(schema);
  }

  [[nodiscard]] static const Json* prefix_of(const Json& s) {
    if (const Json* prefix = s.find("prefixItems"); prefix != nullptr) return prefix;
    const Json* const items = s.find("items");  // as older drafts have it
    return items != nullptr && items->is(Json::Kind::array) ? items : nullptr;
  }
  [[nodiscard]] static const Json* rest_of(const Json& s) {
    const Json* const items = s.find("items");
    if (items != nullptr && items->is(Json::Kind::array)) {
      const Json* const others = s.find("additionalItems");
      return others != nullptr ? others : s.find("unevaluatedItems");
    }
    return items != nullptr ? items : s.find("unevaluatedItems");
  }

  [[nodiscard]] Set item_set(const Alternative& a, std::uint64_t i) {
    Set set;
    for (const Json* s : a.arrays) {
      const Json* const prefix = prefix_of(*s);
      if (prefix != nullptr) list_of(*s, "prefixItems", *prefix);
      if (prefix != nullptr && i < prefix->items.size())
        add_schema(set, &prefix->items[static_cast<std::size_t>(i)]);
      else
        add_schema(set, rest_of(*s));
    }
    normalise(set);
    return set;
  }

  [[nodiscard]] std::vector<std::string> required_of(const Alternative& a) {
    std::vector<std::string> names;
    for (const Json* s : a.objects)
      if (const Json* required = s->find("required"); required != nullptr)
        for (const Json& name : list_of(*s, "required", *required).items)
          names.push_back(text_of(*s, "required", name));
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    return names;
  }

  // Members by name, for large objects.
  [[nodiscard]] const Json* property(const Json& properties, const std::string& name) {
    auto& known = members_[&properties];
    if (known.empty())
      for (const auto& [key, value] : properties.members) known[key] = &value;
    const auto found = known.find(name);
    return found == known.end() ? nullptr : found->second;
  }

  /// What the value of a property of this name must satisfy.
  [[nodiscard]] Set value_set(const Alternative& a, const std::string& name) {
    Set set;
    std::string in_quotes;
    for (const Json* s : a.objects) {
      bool covered = false;
      if (const Json* properties = s->find("properties"); properties != nullptr)
        if (const Json* schema = property(object_of(*s, "properties", *properties), name);
            schema != nullptr) {
          add_schema(set, schema);
          covered = true;
        }
      if (const Json* patterns = s->find("patternProperties"); patterns != nullptr) {
        if (in_quotes.empty()) in_quotes = json_quoted(name);
        for (const auto& [pattern, schema] : object_of(*s, "patternProperties", *patterns).members)
          if (strings_with({s, "patternProperties", pattern})->accepts(in_quotes)) {
            add_schema(set, &schema);
            covered = true;
          }
      }
      if (!covered) add_schema(set, other_properties_of(*s));
    }
    normalise(set);
    return set;
  }

  // Programs.

  std::uint32_t rule_of(Set set) {
    normalise(set);
    const auto [found, added] = rules_.emplace(std::move(set), 0);
    if (added) {
      found->second = program_.add_rule();
      pending_.emplace_back(found->first, found->second);
    }
    return found->second;
  }

  std::uint32_t read(std::uint32_t terminal, std::uint32_t next) {
    return program_.add(Op{.code = Op::Code::terminal, .a = terminal, .next = next});
  }
  std::uint32_t add_op(Op::Code code, std::uint32_t a, std::uint32_t next) {
    return program_.add(Op{.code = code, .a = a, .next = next});
  }
  std::uint32_t terminal_of(const std::shared_ptr<const ByteDfa>& dfa) {
    const auto [found, added] = terminals_.emplace(dfa.get(), 0);
    if (added) {
      kept_.push_back(dfa);
      found->second = program_.add(Terminal{.dfa = dfa});
    }
    return found->second;
  }

  /// A character between white space.
  std::uint32_t punctuation(bool before, char c, bool after) {
    std::uint32_t& known = punctuation_[{before, c, after}];
    if (known != 0) return known - 1;
    Expressions e(Expressions::Form::utf8);
    ByteSet white;
    for (const char w : {' ', '\t', '\n', '\r'}) white.set(static_cast<unsigned char>(w));
    const std::size_t most =
        options_.whitespace > 10'000 ? Expression::unbounded : options_.whitespace;
    const std::size_t space = e.repeat(e.bytes(white), 0, most);
    std::vector<std::size_t> parts;
    if (before) parts.push_back(space);
    parts.push_back(e.byte(static_cast<unsigned char>(c)));
    if (after) parts.push_back(space);
    known = program_.add(compiled(e, e.sequence(std::move(parts)), source_)) + 1;
    return known - 1;
  }

  std::uint32_t emit(const std::vector<Alternative>& all, const Set& set) {
    std::vector<std::uint32_t> branches;
    // Simple values of all alternatives are one automaton, if they are few words.
    unsigned words = 0;
    for (const Alternative& a : all) words |= a.types & 7u;
    if (words != 0) {
      std::uint32_t& known = words_[words];
      if (known == 0) {
        Expressions e(Expressions::Form::utf8);
        std::vector<std::size_t> texts;
        if ((words & Alternative::null) != 0) texts.push_back(e.text("null"));
        if ((words & Alternative::yes) != 0) texts.push_back(e.text("true"));
        if ((words & Alternative::no) != 0) texts.push_back(e.text("false"));
        known = program_.add(compiled(e, e.choice(std::move(texts)), source_)) + 1;
      }
      branches.push_back(read(known - 1, end_));
    }
    std::vector<std::uint32_t> used;  // terminals that are there already
    const auto add_terminal = [&](std::uint32_t terminal) {
      if (std::find(used.begin(), used.end(), terminal) != used.end()) return;
      used.push_back(terminal);
      branches.push_back(read(terminal, end_));
    };
    for (const Alternative& a : all) {
      if ((a.types & Alternative::number) != 0) {
        const auto dfa = number_automaton(a.numbers);
        if (!dfa)
          index_.refuse(*set[0], a.numbers.step > 1 ? "multipleOf" : "",
                        "the automaton of these numbers is too large");
        add_terminal(terminal_of(dfa));
      }
      if ((a.types & Alternative::string) != 0) {
        if (a.strings) {
          auto names = std::make_shared<Names>();
          names->texts = strings_of(a);
          names->spelling = options_.spelling;
          branches.push_back(
              read(program_.add(Terminal{.kind = Terminal::Kind::names, .names = std::move(names)}),
                   end_));
        } else if (a.patterns.empty() && (a.shortest > 0 || a.longest < unbounded)) {
          const auto limit = [](std::uint64_t n) {
            return static_cast<std::uint32_t>((std::min)(n, std::uint64_t{unbounded}));
          };
          branches.push_back(read(program_.add(Terminal{.kind = Terminal::Kind::counted,
                                                        .dfa = all_strings(),
                                                        .least = limit(a.shortest),
                                                        .most = limit(a.longest)}),
                                  end_));
        } else {
          add_terminal(terminal_of(string_automaton(a)));
        }
      }
      if ((a.types & Alternative::array) != 0) branches.push_back(emit_array(a));
      if ((a.types & Alternative::object) != 0) branches.push_back(emit_object(a));
    }
    return branches.size() == 1 ? branches[0] : program_.add_split(branches);
  }

  std::uint32_t emit_array(const Alternative& a) {
    Array array;
    std::size_t prefix = 0;
    for (const Json* s : a.arrays)
      if (const Json* p = prefix_of(*s); p != nullptr) prefix = (std::max)(prefix, p->items.size());
    for (std::size_t i = 0; i < prefix && i < a.most_items; ++i)
      array.prefix.push_back(rule_of(item_set(a, i)));
    array.items = rule_of(item_set(a, prefix));
    array.least = static_cast<std::uint32_t>(a.fewest_items);
    array.most = static_cast<std::uint32_t>(a.most_items);
    const auto n = static_cast<std::uint32_t>(program_.arrays.size());
    program_.arrays.push_back(std::move(array));
    const std::uint32_t item = add_op(Op::Code::item, n, 0);
    const std::uint32_t more =
        add_op(Op::Code::array_goes_on, n, read(punctuation(true, ',', true), item));
    const std::uint32_t done =
        add_op(Op::Code::array_ends, n, read(punctuation(true, ']', false), end_));
    program_.ops[item].next = program_.add_split({more, done});
    const std::uint32_t some = add_op(Op::Code::array_goes_on, n, item);
    const std::uint32_t none =
        add_op(Op::Code::array_ends, n, read(punctuation(false, ']', false), end_));
    return read(punctuation(false, '[', true), program_.add_split({some, none}));
  }

  // What the names of properties must satisfy.
  struct NameRules {
    bool restricted = false;
    std::optional<std::vector<std::string>> texts{};  // only these
    std::shared_ptr<const ByteDfa> dfa{};             // or these
  };

  [[nodiscard]] NameRules name_rules(const Alternative& a) {
    Set set;
    for (const Json* s : a.objects) add_schema(set, s->find("propertyNames"));
    NameRules out;
    if (set.empty()) return out;
    out.restricted = true;
    normalise(set);
    const std::vector<Step> trail = trail_;
    std::vector<std::string> texts;
    std::size_t automata = 0;
    for (const Alternative& name : alternatives(set)) {
      if ((name.types & Alternative::string) == 0) continue;
      if (name.strings) {
        const std::vector<std::string> some = strings_of(name);
        texts.insert(texts.end(), some.begin(), some.end());
      } else {
        ++automata;
        out.dfa = string_automaton(name);
      }
    }
    trail_ = trail;
    if (automata > 1 || (automata == 1 && !texts.empty()))
      index_.lacks(*a.objects[0], "propertyNames", " with alternatives");
    if (automata == 0) out.texts = std::move(texts);
    return out;
  }

  std::uint32_t emit_object(const Alternative& a) {
    const NameRules allowed = name_rules(a);
    const auto fits = [&](const std::string& name) {
      if (!allowed.restricted) return true;
      if (allowed.texts)
        return std::find(allowed.texts->begin(), allowed.texts->end(), name) !=
               allowed.texts->end();
      return allowed.dfa->accepts(json_quoted(name));
    };
    const std::vector<std::string> required = required_of(a);

    // All names that a schema mentions, in its order.
    std::vector<std::string> in_order;
    std::set<std::string, std::less<>> declared;
    const auto declare = [&](const std::string& name) {
      if (declared.insert(name).second) in_order.push_back(name);
    };
    for (const Json* s : a.objects)
      if (const Json* properties = s->find("properties"); properties != nullptr)
        for (const auto& member : object_of(*s, "properties", *properties).members)
          declare(member.first);
    for (const std::string& name : required) declare(name);
    if (allowed.texts)
      for (const std::string& name : *allowed.texts) declare(name);

    Object object;
    auto names = std::make_shared<Names>();
    names->spelling = options_.spelling;
    names->texts.assign(declared.begin(), declared.end());
    std::map<std::string_view, std::uint32_t> place;
    for (std::size_t i = 0; i < in_order.size(); ++i)
      place[in_order[i]] = static_cast<std::uint32_t>(i);
    for (const std::string& name : names->texts) {
      object.rules.push_back(fits(name) ? rule_of(value_set(a, name)) : Object::no_rule);
      object.required.push_back(std::binary_search(required.begin(), required.end(), name));
      object.place.push_back(place[name]);
    }
    object.ordered = options_.ordered;
    object.least = static_cast<std::uint32_t>(a.fewest_properties);
    object.most = static_cast<std::uint32_t>(a.most_properties);
    if (object.least <= required.size()) object.least = 0;
    object.distinct_others = object.least > 1;
    Terminal key{.kind = Terminal::Kind::key,
                 .dfa = std::make_shared<const ByteDfa>(),
                 .names = std::move(names)};
    if (!allowed.texts) key.dfa = other_names(a, allowed.dfa, object);
    object.terminal = program_.add(std::move(key));
    const auto n = static_cast<std::uint32_t>(program_.objects.size());
    program_.objects.push_back(std::move(object));

    const std::uint32_t name = add_op(Op::Code::key, n, 0);
    const std::uint32_t more =
        add_op(Op::Code::object_goes_on, n, read(punctuation(true, ',', true), name));
    const std::uint32_t done =
        add_op(Op::Code::object_ends, n, read(punctuation(true, '}', false), end_));
    const std::uint32_t value = add_op(Op::Code::value, n, program_.add_split({more, done}));
    program_.ops[name].next = read(punctuation(true, ':', true), value);
    const std::uint32_t some = add_op(Op::Code::object_goes_on, n, name);
    const std::uint32_t none =
        add_op(Op::Code::object_ends, n, read(punctuation(false, '}', false), end_));
    return read(punctuation(false, '{', true), program_.add_split({some, none}));
  }

  // Names that no schema mentions, told apart by the patterns that they match.
  [[nodiscard]] std::shared_ptr<const ByteDfa> other_names(
      const Alternative& a, const std::shared_ptr<const ByteDfa>& allowed, Object& object) {
    struct Named {
      std::size_t part;
      const Json* schema;
    };
    std::vector<Named> patterns;
    std::vector<std::shared_ptr<const ByteDfa>> automata{allowed ? allowed : all_strings()};
    for (std::size_t part = 0; part < a.objects.size(); ++part)
      if (const Json* all = a.objects[part]->find("patternProperties"); all != nullptr)
        for (const auto& [pattern, schema] : all->members) {
          patterns.push_back({part, &schema});
          automata.push_back(strings_with({a.objects[part], "patternProperties", pattern}));
        }
    const auto rule_for = [&](const std::vector<bool>& matched) {
      Set set;
      std::vector<bool> covered(a.objects.size(), false);
      for (std::size_t i = 0; i < patterns.size(); ++i)
        if (matched[i]) {
          add_schema(set, patterns[i].schema);
          covered[patterns[i].part] = true;
        }
      for (std::size_t part = 0; part < a.objects.size(); ++part)
        if (!covered[part]) add_schema(set, other_properties_of(*a.objects[part]));
      return rule_of(std::move(set));
    };
    if (patterns.empty()) {
      object.other_rules.push_back(rule_for({}));
      return automata[0];
    }
    using States = std::vector<std::uint32_t>;
    std::map<std::vector<bool>, std::int32_t> tags;
    std::vector<const ByteDfa*> all;
    for (const auto& dfa : automata) all.push_back(dfa.get());
    if (automata[0]->empty()) return automata[0];
    States start;
    for (const ByteDfa* dfa : all) start.push_back(dfa->empty() ? ByteDfa::dead : 0);
    auto out = explore(
        start,
        [&](const States& s, unsigned char byte) -> std::optional<States> {
          States to(s.size(), ByteDfa::dead);
          for (std::size_t i = 0; i < s.size(); ++i)
            if (s[i] != ByteDfa::dead) to[i] = all[i]->next(s[i], byte);
          if (to[0] == ByteDfa::dead) return std::nullopt;
          return to;
        },
        [&](const States& s) {
          if (!all[0]->accepting(s[0])) return ByteDfa::not_accepting;
          std::vector<bool> matched;
          for (std::size_t i = 1; i < s.size(); ++i)
            matched.push_back(s[i] != ByteDfa::dead && all[i]->accepting(s[i]));
          const auto [found, added] =
              tags.emplace(matched, static_cast<std::int32_t>(object.other_rules.size()));
          if (added) object.other_rules.push_back(rule_for(matched));
          return found->second;
        },
        common_classes(all), most_states);
    if (!out)
      index_.refuse(*a.objects[0], "patternProperties", "together, the expressions are too large");
    return std::make_shared<const ByteDfa>(*std::move(out));
  }

  JsonOptions options_;
  const std::string& source_;
  SchemaIndex index_;
  Program program_;
  std::uint32_t end_ = 0;
  std::map<Set, std::uint32_t> rules_;
  std::vector<std::pair<Set, std::uint32_t>> pending_;
  std::vector<Step> trail_;
  std::set<const Json*> apart_;
  std::deque<Json> made_;
  std::map<const Json*, const Json*> stands_for_;
  std::map<const Json*, const Json*> constants_, strings_, spelled_;
  std::map<const Json*, std::map<std::string_view, const Json*>> members_;
  std::shared_ptr<const ByteDfa> all_strings_;
  std::map<std::string, std::shared_ptr<const ByteDfa>> patterns_;
  std::vector<std::pair<Numbers, std::shared_ptr<const ByteDfa>>> numbers_;
  std::map<const ByteDfa*, std::uint32_t> terminals_;
  std::vector<std::shared_ptr<const ByteDfa>> kept_;
  std::map<std::tuple<bool, char, bool>, std::uint32_t> punctuation_;
  std::map<unsigned, std::uint32_t> words_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
