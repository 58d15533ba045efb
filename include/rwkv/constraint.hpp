// SPDX-License-Identifier: Apache-2.0
// What the text of one sequence must look like, as generation sees it: which tokens may come next.
// Grammars (grammar.hpp) make such constraints; a program may write its own kind.
//
//   rwkv::Constraint constraint = grammar.constraint(tokenizer);
//   constraint.allowed(mask);                        // for Sampler::sample(logits, mask)
//   constraint.accept(token);                        // a copy made before is the way back
#pragma once

#include <rwkv/core/error.hpp>
#include <rwkv/text/token_mask.hpp>

#include <memory>
#include <string>
#include <vector>

namespace rwkv::inline RWKV_ABI {

/// A position within a text that is constrained. A value type: a copy goes its own way from here,
/// so that copying before and assigning afterwards takes tokens back. Copies share what is large
/// and may be used by several threads at once, each value by one.
class Constraint {
 public:
  /// What a kind of constraint does. See the functions of `Constraint`.
  class Rules {
   public:
    virtual ~Rules() = default;
    [[nodiscard]] virtual std::unique_ptr<Rules> clone() const = 0;
    virtual void allowed(TokenMask& mask) = 0;
    virtual void accept(Token token) = 0;
    [[nodiscard]] virtual std::string forced() = 0;
    [[nodiscard]] virtual std::vector<Token> forced_tokens(std::size_t most) = 0;
    [[nodiscard]] virtual bool complete() const = 0;

   protected:
    Rules() = default;
    Rules(const Rules&) = default;
    Rules& operator=(const Rules&) = default;
  };

  /// No constraint: converts to false; the functions below throw `Error` (argument).
  Constraint() = default;
  explicit Constraint(std::unique_ptr<Rules> rules) noexcept : rules_(std::move(rules)) {}
  Constraint(const Constraint& other) : rules_(other.rules_ ? other.rules_->clone() : nullptr) {}
  Constraint(Constraint&&) noexcept = default;
  Constraint& operator=(const Constraint& other) {
    if (this != &other) rules_ = other.rules_ ? other.rules_->clone() : nullptr;
    return *this;
  }
  Constraint& operator=(Constraint&&) noexcept = default;
  ~Constraint() = default;

  [[nodiscard]] explicit operator bool() const noexcept { return rules_ != nullptr; }

  /// Sets `mask` to the tokens that may come next, of all ids of the tokenizer. Where the text is
  /// forced and no token could reach beyond what is forced, that is the one token which the
  /// tokenizer makes of it; so every way of feeding forced text gives the same tokens. Tokens that
  /// end a text (they have no bytes) are not in it: they are the caller's, where `complete`. Empty
  /// if the text is complete and nothing can follow, or if the vocabulary lacks what must follow.
  void allowed(TokenMask& mask) { rules().allowed(mask); }

  /// Goes on by a token. Throws `Error` (argument), with nothing changed, if its bytes do not fit,
  /// whether or not it was in the mask that forced text leaves.
  void accept(Token token) { rules().accept(token); }

  /// The bytes that must follow, whatever is chosen: as many as are certain, up to 64 KiB.
  [[nodiscard]] std::string forced() { return rules().forced(); }

  /// The tokens, at most `most`, that `allowed` would give one by one for forced text.
  [[nodiscard]] std::vector<Token> forced_tokens(std::size_t most = 4096) {
    return rules().forced_tokens(most);
  }

  /// True if the text may end here.
  [[nodiscard]] bool complete() const { return rules().complete(); }

 private:
  [[nodiscard]] Rules& rules() const {
    if (rules_ == nullptr)
      fail(ErrorCategory::argument, "this is no constraint, or was moved away");
    return *rules_;
  }

  std::unique_ptr<Rules> rules_;
};

}  // namespace rwkv::inline RWKV_ABI
