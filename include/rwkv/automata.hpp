// SPDX-License-Identifier: Apache-2.0
// RWKV-7 recognises every regular language, and here is the model that does: a regular expression
// or DFA is compiled, not trained, into the weights of one layer.
//
//   using namespace rwkv;
//   const auto dfa = automata::from_regex("(0|1(01*0)*1)+");       // binary multiples of three
//   const io::Checkpoint checkpoint = automata::compile(dfa);      // an ordinary RWKV-7 model
//   automata::Recogniser multiple_of_three(checkpoint);
//   multiple_of_three.feed("110");                                 // text of any length
//   if (multiple_of_three.accepted()) std::cout << "110 is a multiple of three\n";
//
// How it works, from the bottom up: factor.hpp (what a token can do to a one-hot state),
// weights.hpp (tokens as instructions, and why nothing is ever rounded), compile.hpp,
// permutations.hpp.
#pragma once

#include <rwkv/automata/compile.hpp>
#include <rwkv/automata/permutations.hpp>
#include <rwkv/automata/recogniser.hpp>
#include <rwkv/automata/regex.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/automata/save.hpp>
#endif
