// SPDX-License-Identifier: Apache-2.0
// What automata make of a vocabulary, once it is found out.
#pragma once

#include <rwkv/grammar/byte_dfa.hpp>

#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA {

/// What a state of an automaton makes of the vocabulary.
struct TerminalMask {
  struct Exit {
    std::uint32_t node;   // the byte that leads to it follows the terminal
    std::uint32_t count;  // characters begun before it
    std::int32_t tag;     // of what was read
  };
  std::vector<std::uint64_t> tokens;       // those within
  std::vector<Exit> exits;                 // by their byte
  std::array<std::uint32_t, 257> first{};  // exits of a byte: first[byte] to first[byte + 1]
  // Where characters are counted:
  std::vector<std::uint16_t> counts;                     // those that a token begins
  std::vector<std::pair<Token, std::uint32_t>> closing;  // tokens that end the string, and theirs
};

/// Masks by automaton and state. Any number of threads may use it at once.
class KnownMasks {
 public:
  using Known = std::shared_ptr<const TerminalMask>;

  struct Key {
    const ByteDfa* dfa;
    std::uint32_t q;
    std::uint32_t room;  // characters that may still begin; unbounded: not counted

    friend bool operator==(const Key&, const Key&) = default;
  };

  /// What is known of `key`, or what `make` finds out now.
  template <class Make>
  [[nodiscard]] Known get(const Key& key, const Make& make) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto found = known_.find(key); found != known_.end()) return found->second;
    }
    auto made = std::make_shared<const TerminalMask>(make());
    const std::lock_guard lock(mutex_);
    if (known_.size() >= most_known) known_.clear();
    return known_.emplace(key, std::move(made)).first->second;
  }

  /// The automaton equal to `dfa` that is kept here, or `dfa`, which then is; a null pointer if it
  /// is large, or there are many already.
  [[nodiscard]] const ByteDfa* intern(const std::shared_ptr<const ByteDfa>& dfa) {
    if (dfa->states() < 4 || dfa->states() > 64) return nullptr;  // fewer: found out at once
    const std::lock_guard lock(mutex_);
    for (const auto& kept : interned_)
      if (*kept == *dfa) return kept.get();
    if (interned_.size() == most_interned) return nullptr;
    interned_.push_back(dfa);
    return dfa.get();
  }

 private:
  static constexpr std::size_t most_known = 4096;  // some 8 KB each
  static constexpr std::size_t most_interned = 32;

  struct HashKey {
    std::size_t operator()(const Key& key) const noexcept {
      return std::hash<const void*>()(key.dfa) + key.q * std::size_t{0x9e3779b1u} +
             key.room * std::size_t{0x85ebca6bu};
    }
  };

  std::mutex mutex_;
  std::unordered_map<Key, Known, HashKey> known_;
  std::vector<std::shared_ptr<const ByteDfa>> interned_;
};

}  // namespace rwkv::inline RWKV_ABI::grammar::inline RWKV_ISA
