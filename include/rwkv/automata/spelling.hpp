// SPDX-License-Identifier: Apache-2.0
// How a compiled automaton is fed and read: which tokens begin a word, which tokens spell a symbol,
// and what the first logits mean. It travels in the checkpoint's metadata.
#pragma once

#include <rwkv/automata/dfa.hpp>
#include <rwkv/io/checkpoint.hpp>

#include <string>
#include <vector>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// What the label, the largest logit, stands for.
enum class Output : std::uint8_t {
  acceptance,   ///< 0 = reject, 1 = accept
  state,        ///< the state of the DFA
  permutation,  ///< the rank of a permutation (permutations.hpp)
};

[[nodiscard]] constexpr std::string_view name_of(Output output) noexcept {
  constexpr std::string_view names[] = {"acceptance", "state", "permutation"};
  return names[static_cast<std::size_t>(output)];
}

/// Tokens in and out of a compiled automaton. Tokens 0 ... labels-1 are the labels; as inputs they
/// change nothing.
struct Spelling {
  Output output = Output::acceptance;
  std::size_t labels = 0;
  std::vector<Token> begin;                 ///< fed once, before the first symbol
  std::vector<std::vector<Token>> symbols;  ///< at least one token each
  Alphabet alphabet;                        ///< bytes to symbols

  /// Adds the spelling to a checkpoint's metadata.
  void write(io::Metadata& metadata) const;
  /// The spelling that a checkpoint carries. Throws Error (format) naming its source if there is
  /// none or it does not fit the vocabulary.
  [[nodiscard]] static Spelling read(const io::Checkpoint& checkpoint);

  friend bool operator==(const Spelling&, const Spelling&) = default;
};

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/automata/spelling.ipp>
#endif
