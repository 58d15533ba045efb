// SPDX-License-Identifier: Apache-2.0
// Longest match over bytes: a double-array trie. A node is a base; its child by byte c is the cell
// at base ^ c, provided that this cell is labelled c. No two nodes have the same base, so the label
// alone tells whether a cell is a child. One step costs one load of 8 bytes, and all 256 children
// of a node lie in one block of 2 KB; the blocks of the first letters stay in cache.
#pragma once

#include <rwkv/core/config.hpp>

#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI {

/// A constant map from byte strings to tokens. Shareable between threads.
class ByteTrie {
 public:
  struct Entry {
    std::string_view bytes;
    Token token;
  };
  struct Match {
    std::size_t length = 0;  ///< 0: no entry is a prefix of the text
    Token token = 0;
  };

  static constexpr Token max_token = (Token{1} << 23) - 2;

  /// `sorted`: by bytes (as unsigned), distinct, none empty, tokens up to `max_token`. Keeps no
  /// reference to it. Linear in the total length.
  explicit ByteTrie(std::span<const Entry> sorted) { Builder(cells_).build(sorted); }

  /// The longest entry that `text` begins with. O(its length).
  [[nodiscard]] Match longest_prefix(std::string_view text) const noexcept {
    const Cell* const cells = cells_.data();
    Match match;
    std::uint32_t base = root;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const Cell cell = cells[base ^ byte];
      if ((cell.tag & label_mask) != byte) break;
      base = cell.base;
      if (const Token token = cell.tag >> label_bits; token != 0) match = {i + 1, token - 1};
    }
    return match;
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return cells_.size() * sizeof(Cell); }

 private:
  struct Cell {
    std::uint32_t base = dead;
    std::uint32_t tag = no_label;  // token + 1 (0: no entry ends here) above the label
  };

  static constexpr unsigned label_bits = 9;
  static constexpr std::uint32_t label_mask = (1u << label_bits) - 1;
  static constexpr std::uint32_t no_label = 256;
  static constexpr std::uint32_t block = 256;
  static constexpr std::uint32_t dead = 0;  // base of nodes without children: a block kept empty
  static constexpr std::uint32_t root = block;  // base of the root

  // Breadth first, so that shallow nodes lie together. Free cells form a ring in which the search
  // for a place goes on from where the last one was found.
  class Builder {
   public:
    explicit Builder(std::vector<Cell>& cells) : cells_(cells) {}

    void build(std::span<const Entry> sorted) {
      append_block();
      append_block();
      for (std::uint32_t i = 1; i <= block; ++i) take(block - i);  // the dead block
      std::vector<Node> nodes{{0, sorted.size(), 0, 0}};
      for (std::size_t n = 0; n < nodes.size(); ++n) {
        const Node node = nodes[n];
        split(sorted, node);
        const std::uint32_t base = n == 0 ? root : place();
        is_base_[base] = true;
        (n == 0 ? root_cell_ : cells_[node.cell]).base = base;
        for (const Child& child : children_) {
          const std::uint32_t cell = base ^ child.label;
          take(cell);
          std::size_t begin = child.begin;
          std::uint32_t token = 0;
          if (sorted[begin].bytes.size() == node.depth + 1) token = sorted[begin++].token + 1;
          cells_[cell].tag = token << label_bits | child.label;
          if (begin < child.end) nodes.push_back({begin, child.end, node.depth + 1, cell});
        }
      }
    }

   private:
    struct Node {
      std::size_t begin, end;  // the entries below it
      std::size_t depth;
      std::uint32_t cell;
    };
    struct Child {
      std::uint32_t label;
      std::size_t begin, end;
    };

    void split(std::span<const Entry> sorted, const Node& node) {
      children_.clear();
      for (std::size_t i = node.begin; i < node.end; ++i) {
        const auto label = static_cast<unsigned char>(sorted[i].bytes[node.depth]);
        if (children_.empty() || children_.back().label != label)
          children_.push_back({label, i, i});
        children_.back().end = i + 1;
      }
    }

    // A base for the children. After `attempts` misses a fresh block is better than more search.
    std::uint32_t place() {
      constexpr int attempts = 128;
      for (int i = 0; i < attempts && free_ != none; ++i, free_ = ring_[free_].next)
        if (const std::uint32_t base = free_ ^ children_.front().label; fits(base)) return base;
      return append_block();
    }

    [[nodiscard]] bool fits(std::uint32_t base) const {
      if (is_base_[base]) return false;
      for (const Child& child : children_)
        if ((cells_[base ^ child.label].tag & label_mask) != no_label) return false;
      return true;
    }

    std::uint32_t append_block() {
      const auto first = static_cast<std::uint32_t>(cells_.size());
      cells_.resize(first + block);
      ring_.resize(first + block);
      is_base_.resize(first + block);
      const std::uint32_t last = first + block - 1;
      for (std::uint32_t i = first; i <= last; ++i) ring_[i] = {i - 1, i + 1};
      const std::uint32_t after = free_ == none ? first : free_;
      const std::uint32_t before = free_ == none ? last : ring_[free_].previous;
      join(before, first);
      join(last, after);
      free_ = first;
      return first;
    }

    void take(std::uint32_t cell) {
      const Link link = ring_[cell];
      join(link.previous, link.next);
      if (free_ == cell) free_ = link.next == cell ? none : link.next;
    }

    void join(std::uint32_t a, std::uint32_t b) {
      ring_[a].next = b;
      ring_[b].previous = a;
    }

    struct Link {
      std::uint32_t previous, next;
    };
    static constexpr auto none = static_cast<std::uint32_t>(-1);

    std::vector<Cell>& cells_;
    Cell root_cell_;
    std::vector<Link> ring_;
    std::vector<bool> is_base_;
    std::vector<Child> children_;
    std::uint32_t free_ = none;
  };

  std::vector<Cell> cells_;
};

}  // namespace rwkv::inline RWKV_ABI
