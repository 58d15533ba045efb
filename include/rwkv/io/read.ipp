// SPDX-License-Identifier: Apache-2.0
// The definitions of io/read.hpp.
#pragma once

#include <rwkv/io/gguf.hpp>
#include <rwkv/io/names.hpp>
#include <rwkv/io/read.hpp>
#include <rwkv/io/safetensors.hpp>
#include <rwkv/io/vocabulary_text.hpp>

#if !defined(RWKV_NO_PTH)
#include <rwkv/io/ggmf.hpp>
#include <rwkv/io/pth.hpp>
#endif

#if !defined(RWKV_NO_FILES)
#include <rwkv/io/folder.hpp>
#include <rwkv/io/keep_open.hpp>
#include <rwkv/io/model_config.hpp>
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

[[nodiscard]] inline bool begins_with(std::span<const std::byte> bytes, std::string_view text) {
  return bytes.size() >= text.size() && std::memcmp(bytes.data(), text.data(), text.size()) == 0;
}

[[nodiscard]] inline Checkpoint read_container(std::span<const std::byte> bytes,
                                               const std::string& source) {
  if (is_gguf(bytes)) return read_gguf(bytes, source);
#if !defined(RWKV_NO_PTH)
  if (is_ggmf(bytes)) return read_ggmf(bytes, source);
  if (is_zip(bytes) || is_legacy_pth(bytes)) return read_pth(bytes, source);
#endif
  if (is_safetensors(bytes)) return read_safetensors(bytes, source);
  if (begins_with(bytes, "version https://git-lfs"))
    fail_with(ErrorCategory::format, source,
              ": this is a Git LFS pointer; the model itself has not been downloaded");
  for (const char* first : {"1 '", "1 \"", "1 b'"})
    if (begins_with(without_mark(bytes), first))
      fail_with(ErrorCategory::format, source,
                ": this is a vocabulary and no model: it is given with --vocab beside one");
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

RWKV_FUNCTION bool has_known_format(std::span<const std::byte> bytes) noexcept {
#if !defined(RWKV_NO_PTH)
  if (is_ggmf(bytes) || is_zip(bytes) || is_legacy_pth(bytes)) return true;
#endif
  return is_gguf(bytes) || is_safetensors(bytes) ||
         detail::begins_with(bytes, "version https://git-lfs") ||
         detail::begins_with(detail::without_mark(bytes), "{");
}

RWKV_FUNCTION Checkpoint read_checkpoint(View view, const std::string& source) {
  Checkpoint checkpoint =
      detail::with_vocabulary(to_official_names(detail::read_container(view.bytes, source)));
  checkpoint.storage.push_back(std::make_shared<const View>(view));  // it needs no keeping
  checkpoint.in_place = true;
  return checkpoint;
}

RWKV_FUNCTION Checkpoint read_checkpoint(std::vector<std::byte>&& bytes,
                                         const std::string& source) {
  auto kept = std::make_shared<const std::vector<std::byte>>(std::move(bytes));
  Checkpoint checkpoint = read_checkpoint(View{*kept}, source);
  checkpoint.storage.push_back(std::move(kept));
  checkpoint.in_place = false;
  return checkpoint;
}

RWKV_FUNCTION Checkpoint read_checkpoint(std::span<const std::byte> bytes,
                                         const std::string& source) {
  return read_checkpoint(std::vector<std::byte>(bytes.begin(), bytes.end()), source);
}

#if !defined(RWKV_NO_FILES)
namespace detail {

/// A configuration that contradicts what this library is about is refused, another one becomes
/// metadata of the model.
inline void add_config(Checkpoint& checkpoint, const std::filesystem::path& file, bool insist) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(file, ignored)) return;
  const MappedFile config(file);
  Metadata metadata = read_model_config(config.bytes(), file.string());
  const auto type = metadata.find("config.model_type");
  if (type != metadata.end() && type->second.find("wkv") == std::string::npos &&
      type->second.find("WKV") == std::string::npos) {
    if (!insist) return;
    fail_with(ErrorCategory::unsupported, file.string(),
              ": this is the configuration of a model of type ", printable(type->second),
              ", which is no RWKV");
  }
  checkpoint.metadata.merge(metadata);
}

/// A file that is open already: where files cannot be mapped, opening is reading.
struct OpenFile {
  std::string name;
  std::shared_ptr<const MappedFile> file;
};

/// The files of a model together, under the names in them.
[[nodiscard]] inline Checkpoint read_files(const std::filesystem::path& folder,
                                           const ModelFiles& model, const OpenFile& open,
                                           FileAccess access) {
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<ModelPart> parts;
  for (const std::string& name : model.files) {
    files.push_back(name == open.name ? open.file
                                      : std::make_shared<const MappedFile>(folder / name, access));
    parts.push_back({files.back()->bytes(), (folder / name).string()});
  }
  Checkpoint whole;
  if (is_gguf(parts[0].bytes)) {
    whole = read_gguf(parts);
  } else {
    for (const ModelPart& part : parts) {
      Checkpoint some = read_container(part.bytes, part.source);
      for (auto& [tensor, view] : some.tensors)
        if (!whole.tensors.emplace(tensor, std::move(view)).second)
          refuse_tensor(ErrorCategory::format, part.source, tensor, " is in another file too");
      whole.metadata.merge(some.metadata);
      if (!whole.vocabulary) whole.vocabulary = std::move(some.vocabulary);
      if (whole.format.empty()) whole.format = some.format;
    }
  }
  whole.source = (model.files.size() == 1 ? folder / model.files[0] : folder / model.name).string();
  whole.in_place =
      std::all_of(files.begin(), files.end(), [](auto& file) { return file->mapped(); });
  for (auto& file : files) keep_open(whole, std::move(file));
  for (const auto& [tensor, file] : model.index)
    if (whole.find(tensor) == nullptr)
      refuse_tensor(ErrorCategory::format, whole.source, tensor, " is not in ", file);
  return whole;
}

[[nodiscard]] inline Checkpoint read_folder(const std::filesystem::path& folder,
                                            const ModelFiles& model, FileAccess access, bool insist,
                                            const OpenFile& open = {}) {
  Checkpoint checkpoint = read_files(folder, model, open, access);
  if (checkpoint.format != "gguf" && checkpoint.format != "ggmf")
    add_config(checkpoint, folder / "config.json", insist);
  checkpoint = with_vocabulary(to_official_names(std::move(checkpoint)));
  checkpoint.folder = folder.empty() ? "." : folder.string();
  return checkpoint;
}

}  // namespace detail

RWKV_FUNCTION Checkpoint read_checkpoint(const std::filesystem::path& path, FileAccess access) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    return detail::read_folder(path, detail::model_in(path), access, true);
  const std::filesystem::path folder = path.parent_path();
  const std::filesystem::path listed = folder.empty() ? "." : folder;
  const detail::OpenFile open{path.filename().string(),
                              std::make_shared<const MappedFile>(path, access)};
  const std::span<const std::byte> bytes = open.file->bytes();
  if (!detail::begins_with(detail::without_mark(bytes), "{")) {
    detail::ModelFiles model{open.name, {open.name}, {}};
    const auto part = detail::part_name(open.name);
    if (part && (!is_gguf(bytes) || detail::is_split_gguf(bytes, path.string()))) {
      model = detail::numbered_files(*part);
      detail::require_complete(folder, model, detail::files_in(listed));
    }
    return detail::read_folder(folder, model, access, false, open);
  }
  if (path.filename() == "config.json")
    return detail::read_folder(folder, detail::model_in(listed), access, true);
  const detail::ModelFiles model = detail::indexed_files(path);
  const std::vector<std::string> names = detail::files_in(listed);
  if (!detail::absent(model.files, names).empty())  // perhaps the model is in one file by now
    for (const char* whole : {"model.safetensors", "pytorch_model.bin"})
      if (detail::has_file(names, whole))
        return detail::read_folder(folder, {whole, {whole}, {}}, access, true);
  detail::require_complete(folder, model, names);
  return detail::read_folder(folder, model, access, true);
}
#endif

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
