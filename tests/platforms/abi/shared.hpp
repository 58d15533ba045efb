// SPDX-License-Identifier: Apache-2.0
// What two object files with different -m flags hand to each other.
#pragma once

#include <rwkv/model.hpp>
#include <rwkv/tokenizer.hpp>

namespace other {

/// Throws an rwkv::Error of category format.
void fail();
/// Reads `text` with a tokenizer that was made elsewhere.
std::vector<rwkv::Token> read(const rwkv::Tokenizer& tokenizer, const std::string& text);
/// The tensor `name`, multiplied by two in `state`.
void change(const rwkv::io::Checkpoint& checkpoint, rwkv::State<>& state);
/// The instructions that this file's kernels are named after.
const char* instructions();

}  // namespace other
