// SPDX-License-Identifier: Apache-2.0
// A vocabulary file of any kind, recognised by content, and the one that belongs to a model.
#pragma once

#include <rwkv/io/vocabulary.hpp>

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
#include <filesystem>
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

#if !defined(RWKV_NO_IO)
/// Reads the content of a vocabulary file: the official text file, a Hugging Face tokenizer.json,
/// or web-rwkv's JSON; a byte order mark before it is skipped. `source` names it in messages.
/// Throws `Error`.
[[nodiscard]] RWKV_FUNCTION Vocabulary read_vocabulary(std::string_view text,
                                                       const std::string& source);

#if !defined(RWKV_NO_FILES)
[[nodiscard]] RWKV_FUNCTION Vocabulary read_vocabulary(const std::filesystem::path& path);

/// The vocabulary file in a model's folder: `rwkv_vocab*.txt`, else `rwkv_vocab*.json` (web-rwkv's;
/// the first of several), else `tokenizer.json`. Throws
/// `Error` (argument) if there are several of the former.
[[nodiscard]] RWKV_FUNCTION std::optional<std::filesystem::path> find_vocabulary(
    const std::filesystem::path& folder);
#endif
#endif

/// A vocabulary and where it came from.
struct NamedVocabulary {
  Vocabulary tokens;
  std::string source;
};

/// The vocabulary of a model: the one that its file carries, else the one in its folder. For a
/// model of 256 tokens with neither, or beside a vocabulary for more, tokens are bytes. Throws
/// `Error` (argument) if it has more tokens, or far fewer, than the model: see `vocabulary_misfit`.
[[nodiscard]] RWKV_FUNCTION std::optional<NamedVocabulary> vocabulary_of(
    const Checkpoint& checkpoint);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/vocabulary_file.ipp>
#endif
