// SPDX-License-Identifier: Apache-2.0
// The definitions of grammar.hpp.
#pragma once

#include <rwkv/grammar.hpp>
#include <rwkv/grammar/gbnf.hpp>
#include <rwkv/grammar/json_schema.hpp>
#include <rwkv/grammar/pattern.hpp>
#include <rwkv/grammar/position.hpp>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

RWKV_FUNCTION TokenTrie::TokenTrie(Tokenizer tokenizer)
    : tokenizer_(std::move(tokenizer)),
      data_(std::make_shared<const grammar::TrieData>(tokenizer_)) {}

RWKV_FUNCTION Grammar::Grammar(std::shared_ptr<const grammar::Program> program)
    : program_(std::move(program)) {}

RWKV_FUNCTION Grammar Grammar::from_json_schema(std::string_view schema, const JsonOptions& options,
                                                const std::string& source) {
  const grammar::Json json = grammar::parse_tree(schema, source, "the schema");
  return Grammar(grammar::SchemaCompiler(options, source).run(json));
}

RWKV_FUNCTION Grammar Grammar::from_tools(std::string_view tools, const JsonOptions& options,
                                          const std::string& source) {
  const grammar::Json json = grammar::parse_tree(tools, source, "the list");
  return Grammar(grammar::SchemaCompiler(options, source).run_tools(json));
}

RWKV_FUNCTION Grammar Grammar::from_gbnf(std::string_view text, const std::string& source) {
  return Grammar(grammar::GbnfCompiler(text, source).run());
}

RWKV_FUNCTION Grammar Grammar::from_regex(std::string_view pattern, const std::string& source) {
  using grammar::Op;
  grammar::Program program;
  const std::uint32_t terminal = program.add(grammar::whole_match(pattern, source));
  const std::uint32_t end = program.add(Op{.code = Op::Code::finish});
  program.root = program.add_rule();
  program.rules[program.root] =
      program.add(Op{.code = Op::Code::terminal, .a = terminal, .next = end});
  if (!program.finish())
    fail_with(ErrorCategory::argument, source, ": no text satisfies this expression");
  return Grammar(std::make_shared<const grammar::Program>(std::move(program)));
}

RWKV_FUNCTION bool Grammar::matches(std::string_view text) const {
  if (program_ == nullptr) fail(ErrorCategory::argument, "this grammar was moved away");
  grammar::Machine machine(*program_);
  grammar::State state;
  grammar::State next;
  machine.start(state);
  for (const char c : text) {
    machine.step(state, static_cast<unsigned char>(c), next);
    std::swap(state, next);
    if (state.dead()) return false;
  }
  return state.complete;
}

RWKV_FUNCTION Constraint Grammar::constraint(const TokenTrie& tokens) const {
  if (program_ == nullptr) fail(ErrorCategory::argument, "this grammar was moved away");
  if (tokens.data_ == nullptr) fail(ErrorCategory::argument, "this token trie was moved away");
  return Constraint(std::make_unique<grammar::Position>(
      std::make_shared<grammar::Masks>(program_, tokens.data_), tokens.tokenizer()));
}

RWKV_FUNCTION Constraint Grammar::constraint(const Tokenizer& tokenizer) const {
  return constraint(TokenTrie(tokenizer));
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
