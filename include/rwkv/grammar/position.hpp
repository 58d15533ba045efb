// SPDX-License-Identifier: Apache-2.0
// The constraint that a grammar makes: a state of its machine.
#pragma once

#include <rwkv/grammar/masks.hpp>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

class Position final : public Constraint::Rules {
 public:
  Position(std::shared_ptr<Masks> masks, const Tokenizer& tokenizer)
      : masks_(std::move(masks)), tokenizer_(tokenizer), machine_(masks_->program()) {
    machine_.start(state_);
  }

  Position(const Position& other)
      : masks_(other.masks_),
        tokenizer_(other.tokenizer_),
        machine_(masks_->program()),
        state_(other.state_) {}
  Position& operator=(const Position&) = delete;

  [[nodiscard]] std::unique_ptr<Rules> clone() const override {
    return std::make_unique<Position>(*this);
  }

  void allowed(TokenMask& mask) override {
    if (const std::uint32_t token = forced_token(state_); token != TrieData::no_token) {
      mask.clear(masks_->trie().tokens());
      mask.set(token);
      return;
    }
    masks_->allowed(machine_, state_, mask);
  }

  void accept(Token token) override {
    const std::string_view bytes = tokenizer_.token_bytes(token);
    if (bytes.empty())
      fail_with(ErrorCategory::argument, "token ", token,
                " has no bytes, so that a constraint does not know it");
    read(bytes, state_, token);
  }

  [[nodiscard]] std::string forced() override {
    std::string text;
    State at;
    for (const State* state = &state_; text.size() < most_forced && !state->complete; state = &at) {
      const int byte = machine_.only(*state);
      if (byte < 0) break;
      text += static_cast<char>(static_cast<unsigned char>(byte));
      machine_.step(*state, static_cast<unsigned char>(byte), next_);
      std::swap(at, next_);
    }
    return text;
  }

  [[nodiscard]] std::vector<Token> forced_tokens(std::size_t most) override {
    std::vector<Token> tokens;
    State at = state_;
    while (tokens.size() < most) {
      const std::uint32_t token = forced_token(at);
      if (token == TrieData::no_token) break;
      read(tokenizer_.token_bytes(token), at, token);
      tokens.push_back(token);
    }
    return tokens;
  }

  [[nodiscard]] bool complete() const override { return state_.complete; }

 private:
  static constexpr std::size_t most_forced = std::size_t{1} << 16;

  void read(std::string_view bytes, State& state, Token token) {
    State a = state;
    for (const char c : bytes) {
      machine_.step(a, static_cast<unsigned char>(c), next_);
      std::swap(a, next_);
      if (a.dead())
        fail_with(ErrorCategory::argument, "token ", token, " does not fit the constraint");
    }
    state = std::move(a);
  }

  // The token that the tokenizer makes of the beginning of forced text, unless one that begins like
  // this can reach beyond what is forced.
  [[nodiscard]] std::uint32_t forced_token(const State& from) {
    const TrieData& trie = masks_->trie();
    std::uint32_t node = 0;
    std::uint32_t token = TrieData::no_token;
    State at;
    for (const State* state = &from; !state->complete; state = &at) {
      const int byte = machine_.only(*state);
      if (byte < 0) break;
      node = trie.child(node, static_cast<unsigned char>(byte));
      if (node == 0) return token;
      if (trie.nodes()[node].token != TrieData::no_token) token = trie.nodes()[node].token;
      machine_.step(*state, static_cast<unsigned char>(byte), next_);
      std::swap(at, next_);
    }
    if (node == 0 || token == TrieData::no_token) return TrieData::no_token;
    return masks_->reaches_beyond(machine_, at, node) ? TrieData::no_token : token;
  }

  std::shared_ptr<Masks> masks_;
  Tokenizer tokenizer_;
  Machine machine_;
  State state_;
  State next_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
