// SPDX-License-Identifier: Apache-2.0
// DFA -> RWKV-7. The state of the automaton is a one-hot row of the recurrent state; each symbol is
// a few micro-steps (factor.hpp), each a token; the current label is the largest logit.
#pragma once

#include <rwkv/automata/spelling.hpp>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

/// An RWKV-7 model of one layer (extended eigenvalues) that runs `dfa`, as a checkpoint for
/// `Model`, `StaticModel` or `save`; `Spelling::read` tells how to feed it, and
/// `Recogniser` does. The largest logit after every symbol is that of the label:
/// `Output::acceptance` (tokens 0 and 1) or `Output::state` (token = state). It leads by 15 or
/// more. The recurrent state is exact, so this holds for words of any length. Throws Error
/// (argument) for more than 504 states (505 if one of them is a sink), or another kind of output.
/// A symbol costs at most 3 tokens per state.
[[nodiscard]] RWKV_FUNCTION io::Checkpoint compile(const Dfa& dfa,
                                                   Output output = Output::acceptance);

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/automata/compile.ipp>
#endif
