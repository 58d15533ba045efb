// SPDX-License-Identifier: Apache-2.0
// Terminals of a grammar: deterministic automata over bytes, from every state of which a text is
// accepted by some continuation.
#pragma once

#include <rwkv/automata/expression.hpp>

#include <array>
#include <deque>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// States are numbers from 0, the start; what leads nowhere is `dead`. An accepting state has a tag
/// from 0 up: which of several texts was read.
class ByteDfa {
 public:
  static constexpr std::uint32_t dead = static_cast<std::uint32_t>(-1);
  static constexpr std::int32_t not_accepting = -1;

  /// No text at all.
  ByteDfa() { classes_.fill(0); }

  /// `next[q * classes + class_of[b]]` follows q on byte b. Keeps the states that lie on a way from
  /// 0 to an accepting one, in their order; state 0 is kept unless no text is accepted.
  ByteDfa(const std::array<std::uint8_t, 256>& class_of, std::size_t classes,
          const std::vector<std::uint32_t>& next, const std::vector<std::int32_t>& tags)
      : classes_(class_of), class_count_(classes) {
    const std::size_t n = tags.size();
    // Backwards from what accepts.
    std::vector<std::size_t> first(n + 1, 0);
    for (const std::uint32_t to : next)
      if (to != dead) ++first[to + 1];
    for (std::size_t q = 0; q < n; ++q) first[q + 1] += first[q];
    std::vector<std::uint32_t> from(first[n]);
    auto fill = first;
    for (std::size_t i = 0; i < next.size(); ++i)
      if (next[i] != dead) from[fill[next[i]]++] = static_cast<std::uint32_t>(i / classes);
    std::vector<bool> useful(n, false);
    std::vector<std::uint32_t> todo;
    const auto reach = [&](std::uint32_t q) {
      if (!useful[q]) todo.push_back(q);
      useful[q] = true;
    };
    for (std::uint32_t q = 0; q < n; ++q)
      if (tags[q] >= 0) reach(q);
    while (!todo.empty()) {
      const std::uint32_t q = todo.back();
      todo.pop_back();
      for (std::size_t i = first[q]; i < first[q + 1]; ++i) reach(from[i]);
    }
    if (n == 0 || !useful[0]) return;
    // Forwards from the start.
    std::vector<std::uint32_t> number(n, dead);
    std::vector<std::uint32_t> kept{0};
    number[0] = 0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
      for (std::size_t c = 0; c < classes; ++c) {
        const std::uint32_t to = next[kept[i] * classes + c];
        const bool keep = to != dead && useful[to];
        if (keep && number[to] == dead) {
          number[to] = static_cast<std::uint32_t>(kept.size());
          kept.push_back(to);
        }
        next_.push_back(keep ? number[to] : dead);
      }
      tags_.push_back(tags[kept[i]]);
    }
    find_only();
  }

  explicit ByteDfa(const automata::Dfa& dfa) : ByteDfa(of(dfa)) {}

  /// Exactly this text.
  [[nodiscard]] static ByteDfa literal(std::string_view text) {
    std::array<std::uint8_t, 256> class_of{};
    std::size_t classes = 1;
    for (const char c : text) {
      std::uint8_t& k = class_of[static_cast<unsigned char>(c)];
      if (k == 0) k = static_cast<std::uint8_t>(classes++);
    }
    const std::size_t n = text.size() + 1;
    std::vector<std::uint32_t> next(n * classes, dead);
    for (std::size_t i = 0; i < text.size(); ++i)
      next[i * classes + class_of[static_cast<unsigned char>(text[i])]] =
          static_cast<std::uint32_t>(i + 1);
    std::vector<std::int32_t> tags(n, not_accepting);
    tags.back() = 0;
    return ByteDfa(class_of, classes, next, tags);
  }

  [[nodiscard]] bool empty() const noexcept { return tags_.empty(); }
  [[nodiscard]] std::size_t states() const noexcept { return tags_.size(); }
  [[nodiscard]] std::size_t classes() const noexcept { return class_count_; }
  [[nodiscard]] const std::array<std::uint8_t, 256>& class_of() const noexcept { return classes_; }

  [[nodiscard]] std::uint32_t next(std::uint32_t q, unsigned char byte) const noexcept {
    return next_[q * class_count_ + classes_[byte]];
  }
  [[nodiscard]] std::int32_t tag(std::uint32_t q) const noexcept { return tags_[q]; }
  [[nodiscard]] bool accepting(std::uint32_t q) const noexcept { return tags_[q] >= 0; }

  /// The only byte that can follow state q; -1: none can, -2: several can.
  [[nodiscard]] int only(std::uint32_t q) const noexcept { return only_[q]; }

  [[nodiscard]] std::uint32_t run(std::string_view text) const noexcept {
    std::uint32_t q = empty() ? dead : 0;
    for (std::size_t i = 0; i < text.size() && q != dead; ++i)
      q = next(q, static_cast<unsigned char>(text[i]));
    return q;
  }
  [[nodiscard]] bool accepts(std::string_view text) const noexcept {
    const std::uint32_t q = run(text);
    return q != dead && accepting(q);
  }

  /// The same texts with other tags: `tag_of(tag)`, where `not_accepting` takes a text out.
  template <class F>
  [[nodiscard]] ByteDfa retagged(F&& tag_of) const {
    std::vector<std::int32_t> tags = tags_;
    for (std::int32_t& t : tags)
      if (t >= 0) t = tag_of(t);
    return ByteDfa(classes_, class_count_, next_, tags);
  }

  friend bool operator==(const ByteDfa&, const ByteDfa&) = default;

 private:
  [[nodiscard]] static ByteDfa of(const automata::Dfa& dfa) {
    std::array<std::uint8_t, 256> class_of{};
    for (unsigned b = 0; b < 256; ++b)
      class_of[b] = static_cast<std::uint8_t>(dfa.alphabet()[static_cast<unsigned char>(b)]);
    // Its start becomes state 0.
    const auto number = [&](automata::StateId q) -> std::uint32_t {
      return q == dfa.start() ? 0 : q == 0 ? dfa.start() : q;
    };
    std::vector<std::uint32_t> next(dfa.states() * dfa.symbols());
    std::vector<std::int32_t> tags(dfa.states());
    for (automata::StateId q = 0; q < dfa.states(); ++q) {
      for (std::size_t s = 0; s < dfa.symbols(); ++s)
        next[number(q) * dfa.symbols() + s] = number(dfa.next(q, s));
      tags[number(q)] = dfa.accepting(q) ? 0 : not_accepting;
    }
    return ByteDfa(class_of, dfa.symbols(), next, tags);
  }

  void find_only() {
    std::vector<int> example(class_count_, -1);  // -2: a class of several bytes
    for (int b = 255; b >= 0; --b) {
      int& e = example[classes_[static_cast<std::size_t>(b)]];
      e = e == -1 ? b : -2;
    }
    for (std::size_t q = 0; q < states(); ++q) {
      int only = -1;
      for (std::size_t c = 0; c < class_count_; ++c)
        if (next_[q * class_count_ + c] != dead && example[c] != -1)
          only = only == -1 ? example[c] : -2;
      only_.push_back(static_cast<std::int16_t>(only));
    }
  }

  std::array<std::uint8_t, 256> classes_;
  std::size_t class_count_ = 1;
  std::vector<std::uint32_t> next_;
  std::vector<std::int32_t> tags_;
  std::vector<std::int16_t> only_;
};

/// The automaton of what `step(state, byte) -> std::optional<State>` can reach from `start`, with
/// the tags that `tag(state)` gives; bytes are told apart as `class_of` does. Nothing if there are
/// more than `limit` states. State: ordered.
template <class State, class Step, class Tag>
[[nodiscard]] std::optional<ByteDfa> explore(const State& start, const Step& step, const Tag& tag,
                                             const std::array<std::uint8_t, 256>& class_of,
                                             std::size_t limit) {
  std::vector<int> example;
  for (int b = 0; b < 256; ++b) {
    const std::size_t c = class_of[static_cast<std::size_t>(b)];
    if (c >= example.size()) example.resize(c + 1, -1);
    if (example[c] < 0) example[c] = b;
  }
  std::map<State, std::uint32_t> numbers{{start, 0}};
  std::deque<const State*> states{&numbers.begin()->first};
  std::vector<std::uint32_t> next;
  std::vector<std::int32_t> tags;
  while (!states.empty()) {
    const State& state = *states.front();
    states.pop_front();
    tags.push_back(tag(state));
    for (const int byte : example) {
      std::optional<State> to;
      if (byte >= 0) to = step(state, static_cast<unsigned char>(byte));
      if (!to) {
        next.push_back(ByteDfa::dead);
        continue;
      }
      const auto [found, added] =
          numbers.emplace(*std::move(to), static_cast<std::uint32_t>(numbers.size()));
      if (added) states.push_back(&found->first);
      next.push_back(found->second);
    }
    if (numbers.size() > limit) return std::nullopt;
  }
  return ByteDfa(class_of, example.size(), next, tags);
}

/// Bytes that neither automaton tells apart.
[[nodiscard]] inline std::array<std::uint8_t, 256> common_classes(
    std::span<const ByteDfa* const> automata) {
  std::map<std::vector<std::uint8_t>, std::uint8_t> numbers;
  std::array<std::uint8_t, 256> class_of{};
  for (std::size_t b = 0; b < 256; ++b) {
    std::vector<std::uint8_t> key;
    for (const ByteDfa* dfa : automata) key.push_back(dfa->class_of()[b]);
    class_of[b] =
        numbers.emplace(std::move(key), static_cast<std::uint8_t>(numbers.size())).first->second;
  }
  return class_of;
}

/// The texts of both. Nothing if that takes more than `limit` states.
[[nodiscard]] inline std::optional<ByteDfa> intersection(const ByteDfa& a, const ByteDfa& b,
                                                         std::size_t limit) {
  if (a.empty() || b.empty()) return ByteDfa();
  using Pair = std::pair<std::uint32_t, std::uint32_t>;
  const ByteDfa* both[] = {&a, &b};
  return explore(
      Pair(0, 0),
      [&](const Pair& p, unsigned char byte) -> std::optional<Pair> {
        const Pair to(a.next(p.first, byte), b.next(p.second, byte));
        if (to.first == ByteDfa::dead || to.second == ByteDfa::dead) return std::nullopt;
        return to;
      },
      [&](const Pair& p) {
        return a.accepting(p.first) && b.accepting(p.second) ? 0 : ByteDfa::not_accepting;
      },
      common_classes(both), limit);
}

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
