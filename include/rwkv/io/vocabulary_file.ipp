// SPDX-License-Identifier: Apache-2.0
// The definitions of io/vocabulary_file.hpp.
#pragma once

#include <rwkv/io/vocabulary_file.hpp>

#if !defined(RWKV_NO_IO)
#include <rwkv/io/tokenizer_json.hpp>
#include <rwkv/io/vocabulary_json.hpp>
#include <rwkv/io/vocabulary_text.hpp>
#if !defined(RWKV_NO_FILES)
#include <rwkv/io/mapped_file.hpp>
#endif
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

#if !defined(RWKV_NO_IO)
RWKV_FUNCTION Vocabulary read_vocabulary(std::string_view text, const std::string& source) {
  text = detail::without_mark(text);
  constexpr std::string_view space = " \t\r\n";
  const std::size_t first = (std::min)(text.find_first_not_of(space), text.size());
  if (!text.substr(first).starts_with('{')) return read_vocabulary_text(text, source);
  // web-rwkv's keys are ids.
  const std::size_t quote = text.find_first_not_of(space, first + 1);
  const bool named = quote != std::string_view::npos && text[quote] == '"' &&
                     quote + 1 < text.size() && (text[quote + 1] < '0' || text[quote + 1] > '9');
  return named ? read_tokenizer_json(text, source) : read_vocabulary_json(text, source);
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION Vocabulary read_vocabulary(const std::filesystem::path& path) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  return read_vocabulary({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                         path.string());
}

RWKV_FUNCTION std::optional<std::filesystem::path> find_vocabulary(
    const std::filesystem::path& folder) {
  std::optional<std::filesystem::path> text;
  std::optional<std::filesystem::path> web;  // web-rwkv's
  std::optional<std::filesystem::path> json;
  std::error_code error;
  std::filesystem::directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename().string();
    std::error_code ignored;
    if (!at->is_regular_file(ignored)) continue;
    if (name == "tokenizer.json") json = at->path();
    if (!name.starts_with("rwkv_vocab")) continue;
    if (name.ends_with(".json") && (!web || at->path() < *web)) web = at->path();
    if (!name.ends_with(".txt")) continue;
    if (text)
      fail_with(ErrorCategory::argument, folder.string(), ": there are several vocabularies, ",
                (std::min)(text->filename().string(), name), " and ",
                (std::max)(text->filename().string(), name), "; name one");
    text = at->path();
  }
  return text ? text : web ? web : json;
}
#endif
#endif

RWKV_FUNCTION std::optional<NamedVocabulary> vocabulary_of(const Checkpoint& checkpoint) {
  const Tensor* table = checkpoint.find("emb.weight");
  const bool known = table != nullptr && table->shape.size() == 2;
  const auto misfit = [&](const Vocabulary& vocabulary) {
    return known ? vocabulary_misfit(ids_in_use(vocabulary), table->shape[0]) : std::string();
  };
  const bool bytes = known && table->shape[0] == 256;
  std::optional<NamedVocabulary> found;
  if (checkpoint.vocabulary) {
    found = {*checkpoint.vocabulary, checkpoint.source};
#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
  } else if (!checkpoint.folder.empty()) {
    if (const auto path = find_vocabulary(checkpoint.folder)) {
      found = {read_vocabulary(*path), path->string()};
      if (bytes && !misfit(found->tokens).empty()) found.reset();
    }
#endif
  }
  if (found) {
    if (const std::string problem = misfit(found->tokens); !problem.empty())
      fail_with(ErrorCategory::argument, found->source, ": ", problem);
  } else if (bytes) {
    found.emplace().source = "bytes";
    for (int byte = 0; byte < 256; ++byte) found->tokens.emplace_back(1, static_cast<char>(byte));
  }
  return found;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
