// SPDX-License-Identifier: Apache-2.0
// A vocabulary as a tree, laid out in the order in which it is walked.
#pragma once

#include <rwkv/grammar/known_masks.hpp>
#include <rwkv/tokenizer.hpp>

#include <algorithm>
#include <numeric>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// Node 0 is the root; a node is followed by all that is below it, children in the order of their
/// bytes. (ByteTrie finds one child at a time; here all are visited.)
class TrieData {
 public:
  static constexpr std::uint32_t no_token = static_cast<std::uint32_t>(-1);

  struct Node {
    std::uint32_t end;    // past what is below it
    std::uint32_t token;  // whose bytes lead here
    std::uint16_t depth;  // bytes from the root
    std::uint8_t byte;    // the last of them
  };

  explicit TrieData(const Tokenizer& tokenizer) : tokens_(tokenizer.vocab_size()) {
    std::vector<Token> sorted;
    for (Token token = 0; token < tokens_; ++token)
      if (!tokenizer.token_bytes(token).empty()) sorted.push_back(token);
    std::sort(sorted.begin(), sorted.end(), [&](Token a, Token b) {
      return tokenizer.token_bytes(a) < tokenizer.token_bytes(b);
    });
    nodes_.push_back({0, no_token, 0, 0});
    std::vector<std::uint32_t> open{0};  // the way to the last node
    std::string_view last;
    for (const Token token : sorted) {
      const std::string_view bytes = tokenizer.token_bytes(token);
      const auto common = static_cast<std::size_t>(
          std::mismatch(last.begin(), last.end(), bytes.begin(), bytes.end()).first - last.begin());
      close(open, common);
      for (std::size_t i = common; i < bytes.size(); ++i) {
        open.push_back(static_cast<std::uint32_t>(nodes_.size()));
        nodes_.push_back({0, no_token, static_cast<std::uint16_t>(i + 1),
                          static_cast<std::uint8_t>(static_cast<unsigned char>(bytes[i]))});
      }
      nodes_.back().token = token;
      longest_ = (std::max)(longest_, bytes.size());
      last = bytes;
    }
    close(open, 0);
    nodes_[0].end = static_cast<std::uint32_t>(nodes_.size());
  }

  [[nodiscard]] const std::vector<Node>& nodes() const noexcept { return nodes_; }
  /// Ids, whether they have bytes or not.
  [[nodiscard]] std::size_t tokens() const noexcept { return tokens_; }
  /// Bytes of a token.
  [[nodiscard]] std::size_t longest() const noexcept { return longest_; }

  /// What automata that several grammars have make of it.
  [[nodiscard]] KnownMasks& known() const noexcept { return known_; }

  /// The child of `node` by `byte`; 0: there is none.
  [[nodiscard]] std::uint32_t child(std::uint32_t node, unsigned char byte) const noexcept {
    for (std::uint32_t c = node + 1; c < nodes_[node].end; c = nodes_[c].end)
      if (nodes_[c].byte == byte) return c;
    return 0;
  }

 private:
  void close(std::vector<std::uint32_t>& open, std::size_t depth) {
    for (; open.size() > depth + 1; open.pop_back())
      nodes_[open.back()].end = static_cast<std::uint32_t>(nodes_.size());
  }

  std::vector<Node> nodes_;
  std::size_t tokens_;
  std::size_t longest_ = 0;
  mutable KnownMasks known_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
