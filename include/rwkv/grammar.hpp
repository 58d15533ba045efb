// SPDX-License-Identifier: Apache-2.0
// Texts of a guaranteed form: a JSON Schema, a GBNF grammar or a regular expression becomes a
// constraint on what `generate` may write.
//
//   const auto grammar = rwkv::Grammar::from_json_schema(R"({"type": "object", "properties":
//       {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"]})");
//   rwkv::GenerateOptions options;
//   options.constraint = grammar.constraint(tokenizer);
//   rwkv::GenerateResult r = rwkv::generate(model, state, work, tokenizer, prompt, options);
//
// Grammars are about bytes, so that any tokenizer will do. A grammar is compiled once; which tokens
// fit is found by walking the vocabulary as a tree, once for every state of a terminal.
#pragma once

#include <rwkv/constraint.hpp>
#include <rwkv/grammar/options.hpp>
#include <rwkv/tokenizer.hpp>

#include <memory>
#include <string>
#include <string_view>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

class Program;   // what a grammar is compiled to
class TrieData;  // a vocabulary as a tree

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The vocabulary of a tokenizer, prepared for constraints. Immutable: copies share it, any number
/// of threads may use it at once.
class TokenTrie {
 public:
  /// O(total length): some 20 ms for 65536 tokens.
  explicit TokenTrie(Tokenizer tokenizer);

  [[nodiscard]] const Tokenizer& tokenizer() const noexcept { return tokenizer_; }

 private:
  friend class Grammar;
  Tokenizer tokenizer_;
  std::shared_ptr<const grammar::TrieData> data_;
};

/// A compiled grammar. Immutable: copies share it, any number of threads may use it at once.
///
/// All functions that make one throw `Error` naming `source` and the place: (format) for text that
/// is no JSON, (argument) for mistakes in a grammar or expression, for one that no text satisfies
/// and for one whose automata would be too large, (unsupported) for what is not supported, by its
/// name and JSON pointer.
class Grammar {
 public:
  /// The JSON texts that are valid instances of a JSON Schema, draft 2020-12 (or older, by its
  /// $schema). Supported: all annotations, type, enum, const, allOf, anyOf, oneOf (of schemas that
  /// exclude each other), $ref within the document, $defs, $id, $anchor; properties, required,
  /// additionalProperties, patternProperties, propertyNames, minProperties, maxProperties;
  /// prefixItems, items, minItems, maxItems; minLength, maxLength, pattern (no assertions but ^ and
  /// $, no back references), format (see `JsonOptions`); minimum, maximum, exclusiveMinimum,
  /// exclusiveMaximum, multipleOf; not, uniqueItems, contains and the like where they are trivial.
  /// Anything else is refused.
  ///
  /// A schema says nothing about names that occur twice; declared ones never do. Numbers with an
  /// exponent are accepted in normalised form (one digit before the point) where the schema
  /// restricts numbers.
  [[nodiscard]] static Grammar from_json_schema(std::string_view schema,
                                                const JsonOptions& options = {},
                                                const std::string& source = "schema");

  /// `{"name": ..., "arguments": ...}` in this order: one of the tools, and an object that is valid
  /// for it. `tools` is a JSON list of {"name", "parameters"}, or of {"type": "function",
  /// "function": {"name", "parameters"}}; "parameters" (also "input_schema" or "arguments") is a
  /// JSON Schema, {} if absent.
  [[nodiscard]] static Grammar from_tools(std::string_view tools,
                                          const JsonOptions& options = JsonOptions::compact(),
                                          const std::string& source = "tools");

  /// A grammar in GBNF, as llama.cpp reads it: rules `name ::= alternatives`, of which `root`
  /// describes the text; "literals", [sets], "." (any character), ( ), |, *, +, ?, {m,n}, escapes
  /// `\n \r \t \\ \" \[ \] \xHH \uHHHH \UHHHHHHHH`, # comments. Left recursion is refused, and
  /// so are tokens (`<name>`).
  [[nodiscard]] static Grammar from_gbnf(std::string_view grammar,
                                         const std::string& source = "grammar");

  /// The texts that a regular expression describes as a whole. As in ECMAScript with the flag u:
  /// characters are those of UTF-8, sets may hold any; groups do not capture, repetitions are
  /// neither greedy nor lazy; there are no assertions (but ^ at the beginning and $ at the end,
  /// which say what is meant anyway), no back references.
  [[nodiscard]] static Grammar from_regex(std::string_view pattern,
                                          const std::string& source = "regular expression");

  /// Does `text` as a whole satisfy the grammar? O(text) where the grammar is not ambiguous.
  [[nodiscard]] bool matches(std::string_view text) const;

  /// At the beginning of a text in the tokens of a vocabulary. Copies share the masks that were
  /// computed; so one constraint is made for a grammar, and copied for every sequence.
  [[nodiscard]] Constraint constraint(const TokenTrie& tokens) const;
  /// `constraint(TokenTrie(tokenizer))`
  [[nodiscard]] Constraint constraint(const Tokenizer& tokenizer) const;

 private:
  explicit Grammar(std::shared_ptr<const grammar::Program> program);
  std::shared_ptr<const grammar::Program> program_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/grammar.ipp>
#endif
