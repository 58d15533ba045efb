// SPDX-License-Identifier: Apache-2.0
// The definitions of io/read.hpp.
#pragma once

#include <rwkv/io/ggmf.hpp>
#include <rwkv/io/gguf.hpp>
#include <rwkv/io/names.hpp>
#include <rwkv/io/pth.hpp>
#include <rwkv/io/read.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/io/vocabulary_text.hpp>

#if !defined(RWKV_NO_FILES)
#include <rwkv/io/keep_open.hpp>
#include <rwkv/io/shards.hpp>
#endif

#include <set>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

[[nodiscard]] inline bool begins_with(std::span<const std::byte> bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

[[nodiscard]] inline Checkpoint read_container(std::span<const std::byte> bytes,
                                               const std::string& source) {
  if (is_gguf(bytes)) return read_gguf(bytes, source);
  if (is_ggmf(bytes)) return read_ggmf(bytes, source);
  if (is_zip(bytes) || is_legacy_pth(bytes)) return read_pth(bytes, source);
  if (is_safetensors(bytes)) return read_safetensors(bytes, source);
  if (begins_with(bytes, "version https://git-lfs"))
    fail_with(ErrorCategory::format, source,
              ": this is a Git LFS pointer; the model itself has not been downloaded");
  fail_with(ErrorCategory::format, source,
            ": this is no model file: neither safetensors nor .pth, GGUF or rwkv.cpp");
}

/// Models trained with this library carry their vocabulary as metadata, in the form of the official
/// vocabulary file.
[[nodiscard]] inline Checkpoint with_vocabulary(Checkpoint checkpoint) {
  if (const auto it = checkpoint.metadata.find("rwkv.vocabulary");
      it != checkpoint.metadata.end() && !checkpoint.vocabulary)
    checkpoint.vocabulary =
        read_vocabulary_text(it->second, checkpoint.source + ": metadata rwkv.vocabulary");
  return checkpoint;
}

}  // namespace detail

RWKV_FUNCTION Checkpoint read_checkpoint(std::span<const std::byte> bytes,
                                         const std::string& source) {
  return detail::with_vocabulary(to_official_names(detail::read_container(bytes, source)));
}

#if !defined(RWKV_NO_FILES)
namespace detail {

[[nodiscard]] inline Checkpoint read_shards(const ShardIndex& index,
                                            const std::filesystem::path& path) {
  std::set<std::string> files;
  for (const auto& [tensor, file] : index) files.insert(file);
  Checkpoint whole;
  whole.source = path.string();
  whole.format = "safetensors";
  for (const std::string& name : files) {
    const auto shard_path = path.parent_path() / name;
    auto file = std::make_shared<const MappedFile>(shard_path);
    Checkpoint shard = read_safetensors(file->bytes(), shard_path.string());
    for (auto& [tensor, view] : shard.tensors)
      if (!whole.tensors.emplace(tensor, std::move(view)).second)
        refuse_tensor(ErrorCategory::format, shard.source, tensor, " is in another file too");
    whole.metadata.merge(shard.metadata);
    keep_open(whole, std::move(file));
  }
  for (const auto& [tensor, file] : index)
    if (whole.find(tensor) == nullptr)
      refuse_tensor(ErrorCategory::format, whole.source, tensor, " is not in ", file);
  return whole;
}

}  // namespace detail

RWKV_FUNCTION Checkpoint read_checkpoint(const std::filesystem::path& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    for (const char* name : {"model.safetensors.index.json", "model.safetensors"})
      if (std::filesystem::exists(path / name, ignored)) return read_checkpoint(path / name);
    fail_with(ErrorCategory::io, path.string(),
              ": this directory has neither model.safetensors nor model.safetensors.index.json");
  }
  const auto file = std::make_shared<const MappedFile>(path);
  const std::string source = path.string();
  if (file->bytes()[0] == std::byte{'{'})
    return detail::with_vocabulary(to_official_names(
        detail::read_shards(detail::read_shard_index(file->bytes(), source), path)));
  Checkpoint checkpoint = read_checkpoint(file->bytes(), source);
  detail::keep_open(checkpoint, file);
  return checkpoint;
}
#endif

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
