// SPDX-License-Identifier: Apache-2.0
// Regular expressions over bytes -> minimal DFAs.
//
//   a  \.  \x41  \n \t \r \f \v \0     one byte (a multi-byte UTF-8 character counts as one atom)
//   .  [a-z_]  [^0-9]  \d \D \w \W \s \S     one byte of a set; "." is any but the line feed
//   ef  e|f  (e)  (?:e)                sequence, choice, grouping
//   e*  e+  e?  e{3}  e{2,}  e{2,5}    repetition
//
// An expression describes whole texts: there are no anchors, and nothing like a longest match.
#pragma once

#include <rwkv/automata/dfa.hpp>

#include <string_view>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// How large the automata on the way to a minimal DFA may grow.
struct RegexLimits {
  std::size_t nfa_states = 20'000;  ///< bounded repetitions are written out
  std::size_t dfa_states = 5'000;   ///< before minimisation
};

/// The minimal DFA of the texts that `pattern` describes as a whole; bytes that it cannot tell
/// apart share a symbol. Equal languages give equal DFAs. Throws Error (argument) that names the
/// position of a mistake in the pattern, or the limit it exceeds.
[[nodiscard]] RWKV_FUNCTION Dfa from_regex(std::string_view pattern,
                                           const RegexLimits& limits = {});

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/automata/regex.ipp>
#endif
