// SPDX-License-Identifier: Apache-2.0
// Which tokens fit a state. Tokens that stay within a terminal, and where the others leave it, are
// found by one walk of the vocabulary for each state of its automaton, and kept; what follows is
// walked when a mask is wanted, from the few places where terminals end.
#pragma once

#include <rwkv/constraint.hpp>
#include <rwkv/grammar/machine.hpp>
#include <rwkv/grammar/trie.hpp>

#include <unordered_map>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// A program and a vocabulary, and what is known of them. Any number of threads may use it at once.
class Masks {
 public:
  Masks(std::shared_ptr<const Program> program, std::shared_ptr<const TrieData> trie)
      : program_(std::move(program)), trie_(std::move(trie)) {
    for (const Terminal& terminal : program_->terminals)
      if (terminal.dfa != nullptr)
        if (const ByteDfa* common = trie_->known().intern(terminal.dfa); common != nullptr)
          common_.emplace(terminal.dfa.get(), common);
  }

  [[nodiscard]] const Program& program() const noexcept { return *program_; }
  [[nodiscard]] const TrieData& trie() const noexcept { return *trie_; }

  /// The tokens that may follow `state`, whatever is forced.
  void allowed(Machine& machine, const State& state, TokenMask& mask) {
    Walk walk(*this, machine, mask);
    mask.clear(trie_->tokens());
    for (const Thread& thread : state.threads) walk.add(thread);
  }

  /// Is there a token whose bytes go on behind `node` as `state`, which is that at `node`, allows?
  [[nodiscard]] bool reaches_beyond(Machine& machine, const State& state, std::uint32_t node) {
    if (trie_->nodes()[node].end == node + 1 || state.threads.empty()) return false;
    TokenMask mask(trie_->tokens());
    Walk(*this, machine, mask).below(state, node);
    return !mask.none();
  }

 private:
  using Known = KnownMasks::Known;

  // Masks of small automata are the vocabulary's: other grammars have the same strings.
  [[nodiscard]] KnownMasks& masks_for(const ByteDfa*& dfa) {
    if (const auto found = common_.find(dfa); found != common_.end()) {
      dfa = found->second;
      return trie_->known();
    }
    return own_;
  }

  [[nodiscard]] Known mask_of(const ByteDfa& of, std::uint32_t q) {
    const ByteDfa* dfa = &of;
    KnownMasks& masks = masks_for(dfa);
    return masks.get({dfa, q, unbounded}, [&] { return walk<false>(*dfa, q); });
  }

  /// Of a string of which `room` more characters may begin.
  [[nodiscard]] Known mask_of(const ByteDfa& of, std::uint32_t q, std::uint32_t room) {
    const ByteDfa* dfa = &of;
    KnownMasks& masks = masks_for(dfa);
    constexpr std::uint32_t any = unbounded - 1;
    const auto most = static_cast<std::uint32_t>(trie_->longest());
    const Known all = masks.get({dfa, q, any}, [&] { return walk<true>(*dfa, q); });
    if (room >= most) return all;
    return masks.get({dfa, q, room}, [&] {
      TerminalMask some;
      some.tokens = all->tokens;
      for (std::size_t i = 0; i < some.tokens.size(); ++i)
        for (std::uint64_t left = some.tokens[i]; left != 0; left &= left - 1) {
          const auto bit = static_cast<std::size_t>(std::countr_zero(left));
          if (all->counts[i * 64 + bit] > room) some.tokens[i] &= ~(std::uint64_t{1} << bit);
        }
      some.closing = all->closing;
      for (unsigned byte = 0; byte < 256; ++byte) {
        for (std::uint32_t e = all->first[byte]; e < all->first[byte + 1]; ++e)
          if (all->exits[e].count <= room) some.exits.push_back(all->exits[e]);
        some.first[byte + 1] = static_cast<std::uint32_t>(some.exits.size());
      }
      return some;
    });
  }

  template <bool Counted>
  [[nodiscard]] TerminalMask walk(const ByteDfa& dfa, std::uint32_t start) const {
    const std::vector<TrieData::Node>& nodes = trie_->nodes();
    TerminalMask out;
    out.tokens.assign((trie_->tokens() + 63) / 64, 0);
    if (Counted) out.counts.assign(trie_->tokens(), 0);
    std::vector<std::uint32_t> states(trie_->longest() + 1, start);
    std::vector<std::uint16_t> counts(trie_->longest() + 1, 0);
    std::vector<TerminalMask::Exit> exits;
    for (std::uint32_t i = 1; i < nodes.size();) {
      const TrieData::Node& node = nodes[i];
      const std::uint32_t before = states[node.depth - 1u];
      const std::uint32_t q = dfa.next(before, node.byte);
      if (q == ByteDfa::dead) {
        i = node.end;
        continue;
      }
      states[node.depth] = q;
      if (Counted)
        counts[node.depth] =
            static_cast<std::uint16_t>(counts[node.depth - 1u] + (before == 1 && node.byte != '"'));
      if (node.token != TrieData::no_token) {
        out.tokens[node.token / 64] |= std::uint64_t{1} << node.token % 64;
        if (Counted) out.counts[node.token] = counts[node.depth];
        if (Counted && dfa.accepting(q)) out.closing.emplace_back(node.token, counts[node.depth]);
      }
      if (dfa.accepting(q))
        for (std::uint32_t c = i + 1; c < node.end; c = nodes[c].end)
          exits.push_back({c, Counted ? counts[node.depth] : 0u, dfa.tag(q)});
      ++i;
    }
    for (const TerminalMask::Exit& e : exits) ++out.first[nodes[e.node].byte + 1u];
    for (std::size_t b = 0; b < 256; ++b) out.first[b + 1] += out.first[b];
    auto fill = out.first;
    out.exits.resize(exits.size());
    for (const TerminalMask::Exit& e : exits) out.exits[fill[nodes[e.node].byte]++] = e;
    return out;
  }

  /// One mask in the making.
  class Walk {
   public:
    Walk(Masks& masks, Machine& machine, TokenMask& mask)
        : masks_(masks), nodes_(masks.trie().nodes()), machine_(machine), out_(&mask) {}

    void add(const Thread& thread) {
      const Op& op = machine_.program().ops[thread.place.pc];
      const Terminal& t = machine_.terminal(op);
      switch (t.kind) {
        case Terminal::Kind::automaton: {
          const Known known = masks_.mask_of(*t.dfa, thread.progress.q);
          unite(known->tokens);
          leave(thread, *known, 0, 0, 0);
          break;
        }
        case Terminal::Kind::counted: {
          const std::uint32_t count = thread.progress.count;
          const Known known = masks_.mask_of(*t.dfa, thread.progress.q, t.most - count);
          const std::uint32_t missing = count < t.least ? t.least - count : 0;
          if (missing == 0) {
            unite(known->tokens);
          } else {
            words_ = known->tokens;
            for (const auto& [token, begun] : known->closing)
              if (begun < missing) words_[token / 64] &= ~(std::uint64_t{1} << token % 64);
            unite(words_);
          }
          leave(thread, *known, missing, 0, 0);
          break;
        }
        case Terminal::Kind::names:
          add_names(thread, *t.names, nullptr);
          break;
        default:
          add_key(thread, t, machine_.program().objects[op.a]);
      }
    }

    void below(const State& state, std::uint32_t node) {
      pool(0) = state;
      descend(node, 0);
    }

   private:
    void unite(std::span<const std::uint64_t> tokens) noexcept {
      const std::span<std::uint64_t> words = out_->words();
      for (std::size_t i = 0; i < words.size(); ++i) words[i] |= tokens[i];
    }

    void add_key(const Thread& thread, const Terminal& t, const Object& object) {
      if (thread.progress.q == ByteDfa::dead) return add_names(thread, *t.names, &object);
      if (object.distinct_others) {  // rare
        pool(0).clear();
        pool(0).threads.push_back(thread);
        return descend(0, 0);
      }
      // As if no name were declared; then those that are.
      TokenMask* const all = std::exchange(out_, &own_);
      own_.clear(all->size());
      const Known known = masks_.mask_of(*t.dfa, thread.progress.q);
      unite(known->tokens);
      for (std::size_t tag = 0; tag < object.other_rules.size(); ++tag)
        leave(thread, *known, 0, static_cast<std::int32_t>(tag),
              static_cast<std::int64_t>(object.rules.size() + tag));
      if (thread.progress.spelling.low < thread.progress.spelling.high)
        add_names(thread, *t.names, &object);
      out_ = all;
      unite(own_.words());
    }

    // What follows the terminal, read with outcome `end`, in the tokens that leave it with this tag
    // after at least `missing` characters.
    void leave(const Thread& thread, const TerminalMask& known, std::uint32_t missing,
               std::int32_t tag, std::int64_t end) {
      if (known.exits.empty()) return;
      machine_.after(thread, thread.progress, end, after_);
      if (after_.threads.empty()) return;
      for (unsigned byte = 0; byte < 256; ++byte) {
        if (known.first[byte] == known.first[byte + 1]) continue;
        machine_.step(after_, static_cast<unsigned char>(byte), pool(0));
        if (pool(0).dead()) continue;
        for (std::uint32_t e = known.first[byte]; e < known.first[byte + 1]; ++e)
          if (known.exits[e].count >= missing && known.exits[e].tag == tag)
            arrive(known.exits[e].node, 0);
      }
    }

    // Tokens that spell names. Of an object: only those that it may still have; where there are
    // others, `out_` has them all already, and the tokens with declared names are put right.
    void add_names(const Thread& thread, const Names& names, const Object* object) {
      const bool others = object != nullptr && thread.progress.q != ByteDfa::dead;
      const Object none;
      const Remaining remaining(object != nullptr ? *object : none, thread.place.object.get());
      const auto any = [&](std::uint32_t low, std::uint32_t high) {
        return object == nullptr ? low < high : remaining.any(low, high);
      };
      spellings_.resize(masks_.trie().longest() + 1);
      spellings_[0] = thread.progress.spelling;
      for (std::uint32_t i = 1; i < nodes_.size();) {
        const TrieData::Node& node = nodes_[i];
        Spelling& s = spellings_[node.depth];
        s = spellings_[node.depth - 1u];
        if (!advance(s, names, node.byte)) {
          i = node.end;
        } else if (s.place == Spelling::Place::after) {
          if (others)
            for (std::uint32_t below = i; below < node.end; ++below)
              if (nodes_[below].token != TrieData::no_token) out_->set(nodes_[below].token, false);
          if (object == nullptr || remaining.has(s.low)) {
            if (node.token != TrieData::no_token) out_->set(node.token);
            if (node.end > i + 1) {
              machine_.after(thread, thread.progress, object != nullptr ? s.low : 0, pool(0));
              descend(i, 0);
            }
          }
          i = node.end;
        } else if (!others && !viable(s, names, any)) {
          i = node.end;
        } else {
          if (!others && node.token != TrieData::no_token) out_->set(node.token);
          ++i;
        }
      }
    }

    State& pool(std::size_t depth) {
      while (pool_.size() <= depth) pool_.emplace_back();
      return pool_[depth];
    }

    // The state at `node` is pool(depth).
    void arrive(std::uint32_t node, std::size_t depth) {
      if (nodes_[node].token != TrieData::no_token) out_->set(nodes_[node].token);
      if (!pool(depth).threads.empty()) descend(node, depth);
    }

    void descend(std::uint32_t node, std::size_t depth) {
      for (std::uint32_t c = node + 1; c < nodes_[node].end; c = nodes_[c].end) {
        machine_.step(pool(depth), nodes_[c].byte, pool(depth + 1));
        if (!pool(depth + 1).dead()) arrive(c, depth + 1);
      }
    }

    Masks& masks_;
    const std::vector<TrieData::Node>& nodes_;
    Machine& machine_;
    TokenMask* out_;
    TokenMask own_;
    std::vector<std::uint64_t> words_;
    std::vector<Spelling> spellings_;  // by depth
    std::deque<State> pool_;           // by depth; references stay valid
    State after_;
  };

  std::shared_ptr<const Program> program_;
  std::shared_ptr<const TrieData> trie_;
  KnownMasks own_;
  std::unordered_map<const ByteDfa*, const ByteDfa*> common_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
