// SPDX-License-Identifier: Apache-2.0
// Which files of a folder are the model. What a file holds follows from its content, but which
// files belong together only names can say: those that Hugging Face's programs and llama.cpp's
// gguf-split give. The name is that in the folder, also when it is a symbolic link to a file of
// another name.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/shards.hpp>

#include <algorithm>
#include <array>
#include <set>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// "model-00002-of-00003.safetensors": one file of several.
struct PartName {
  std::string before;  ///< "model-"
  std::string after;   ///< "-of-00003.safetensors"
  std::size_t digits = 0;
  std::size_t number = 0;
  std::size_t count = 0;

  /// The name of part `k`, from 1 on.
  [[nodiscard]] std::string of(std::size_t k) const {
    std::string text = std::to_string(k);
    if (text.size() < digits) text.insert(0, digits - text.size(), '0');
    return before + text + after;
  }
};

/// Nothing if the file is whole, going by its name.
[[nodiscard]] inline std::optional<PartName> part_name(std::string_view name) {
  constexpr std::string_view of = "-of-";
  constexpr std::size_t most_parts = 100'000;
  const std::size_t middle = name.rfind(of);
  const std::size_t dot = name.rfind('.');
  if (middle == std::string_view::npos || dot == std::string_view::npos ||
      dot < middle + of.size() || middle == 0)
    return std::nullopt;
  const std::size_t dash = name.rfind('-', middle - 1);
  if (dash == std::string_view::npos) return std::nullopt;
  const std::string_view number = name.substr(dash + 1, middle - dash - 1);
  const auto part = internal::parse<std::size_t>(number);
  const auto parts =
      internal::parse<std::size_t>(name.substr(middle + of.size(), dot - middle - of.size()));
  if (!part || !parts || *part == 0 || *part > *parts || *parts == 1 || *parts > most_parts)
    return std::nullopt;
  return PartName{std::string(name.substr(0, dash + 1)), std::string(name.substr(middle)),
                  number.size(), *part, *parts};
}

/// Names of the files in a folder, in order. A link to a file that is not there is none.
[[nodiscard]] inline std::vector<std::string> files_in(const std::filesystem::path& folder) {
  std::error_code error;
  std::vector<std::string> names;
  std::filesystem::directory_iterator at(folder, error);
  for (; !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    std::error_code ignored;
    if (at->is_regular_file(ignored)) names.push_back(at->path().filename().string());
  }
  if (error)
    fail_with(ErrorCategory::io, folder.string(), ": cannot read this folder: ", error.message());
  std::sort(names.begin(), names.end());
  return names;
}

[[nodiscard]] inline bool has_file(const std::vector<std::string>& names, std::string_view name) {
  return std::binary_search(names.begin(), names.end(), name, std::less<>());
}

/// "a, b and 3 more"
[[nodiscard]] inline std::string list_of(const std::vector<std::string>& names) {
  constexpr std::size_t most = 6;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < most; ++i) text += (i > 0 ? ", " : "") + names[i];
  if (names.size() > most) text += " and " + std::to_string(names.size() - most) + " more";
  return text;
}

/// Files that are a model together.
struct ModelFiles {
  std::string name;                ///< of the index, or of the first file
  std::vector<std::string> files;  ///< in the folder
  ShardIndex index;                ///< empty without one
};

/// Those of `files` that are not among `names`.
[[nodiscard]] inline std::vector<std::string> absent(const std::vector<std::string>& files,
                                                     const std::vector<std::string>& names) {
  std::vector<std::string> result;
  for (const std::string& file : files)
    if (!has_file(names, file)) result.push_back(file);
  return result;
}

[[nodiscard]] inline ModelFiles indexed_files(const std::filesystem::path& index) {
  const MappedFile file(index);
  ModelFiles model{index.filename().string(), {}, read_shard_index(file.bytes(), index.string())};
  std::set<std::string> files;
  for (const auto& [tensor, shard] : model.index) files.insert(shard);
  model.files.assign(files.begin(), files.end());
  return model;
}

/// All parts of the model that `part` is one of.
[[nodiscard]] inline ModelFiles numbered_files(const PartName& part) {
  ModelFiles model{part.of(1), {}, {}};
  for (std::size_t k = 1; k <= part.count; ++k) model.files.push_back(part.of(k));
  return model;
}

inline void require_complete(const std::filesystem::path& folder, const ModelFiles& model,
                             const std::vector<std::string>& names) {
  const auto missing = absent(model.files, names);
  if (missing.empty()) return;
  fail_with(ErrorCategory::io, (folder / model.name).string(), ": this model is in ",
            model.files.size(), " files, of which ", missing.size(),
            missing.size() == 1 ? " is" : " are", " not in this folder: ", list_of(missing));
}

/// True for names that weights have, and not what training programs put beside them.
[[nodiscard]] inline bool may_be_weights(std::string_view name) {
  constexpr std::array<std::string_view, 7> endings{".safetensors", ".pth", ".pt",  ".bin",
                                                    ".gguf",        ".st",  ".ckpt"};
  constexpr std::array<std::string_view, 6> others{"training_args", "optimizer", "scheduler",
                                                   "rng_state",     "scaler",    "adapter_model"};
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); }) &&
         std::none_of(others.begin(), others.end(),
                      [&](std::string_view other) { return name.starts_with(other); });
}

/// The model in a folder: model.safetensors, unless an index says that it is one file of several;
/// the files of an index whose files are there; pytorch_model.bin; the only file, or the only set
/// of numbered files, that may be weights. Throws `Error` (io) with a sentence that names what is
/// missing, or what there is to choose from.
[[nodiscard]] inline ModelFiles model_in(const std::filesystem::path& folder) {
  const std::vector<std::string> names = files_in(folder);
  std::vector<ModelFiles> complete;
  std::optional<ModelFiles> incomplete;
  for (const std::string& name : names) {
    if (!name.ends_with(".index.json")) continue;
    ModelFiles model = indexed_files(folder / name);
    if (absent(model.files, names).empty())
      complete.push_back(std::move(model));
    else if (!incomplete)
      incomplete = std::move(model);
  }
  const auto whole = [&](const std::string& name) {
    return has_file(names, name) &&
           std::none_of(complete.begin(), complete.end(), [&](const ModelFiles& model) {
             return model.files.size() > 1 &&
                    std::find(model.files.begin(), model.files.end(), name) != model.files.end();
           });
  };
  const auto choose = [&](std::vector<ModelFiles>& models) {
    if (models.size() == 1) return std::move(models[0]);
    std::vector<std::string> choice;
    for (const ModelFiles& model : models) choice.push_back(model.name);
    fail_with(ErrorCategory::io, folder.string(), ": there are ", models.size(),
              " models in this folder; name one: ", list_of(choice));
  };
  if (whole("model.safetensors")) return {"model.safetensors", {"model.safetensors"}, {}};
  // The same model is often there twice; safetensors are what everybody reads first.
  if (std::any_of(complete.begin(), complete.end(),
                  [](const ModelFiles& m) { return m.name.ends_with(".safetensors.index.json"); }))
    std::erase_if(complete,
                  [](const ModelFiles& m) { return !m.name.ends_with(".safetensors.index.json"); });
  if (!complete.empty()) return choose(complete);
  if (whole("pytorch_model.bin")) return {"pytorch_model.bin", {"pytorch_model.bin"}, {}};

  std::vector<ModelFiles> candidates;
  for (const std::string& name : names) {
    if (!may_be_weights(name)) continue;
    const auto part = part_name(name);
    if (!part) {
      candidates.push_back({name, {name}, {}});
    } else if (part->number == 1 || !has_file(names, part->of(1))) {
      ModelFiles model = numbered_files(*part);
      if (absent(model.files, names).empty())
        candidates.push_back(std::move(model));
      else if (!incomplete)
        incomplete = std::move(model);
    }
  }
  // An index without any of its files is left over from a model that is now in one file.
  const bool partial =
      incomplete && absent(incomplete->files, names).size() < incomplete->files.size();
  if (!candidates.empty() && !partial) return choose(candidates);
  if (incomplete) require_complete(folder, *incomplete, names);
  fail_with(ErrorCategory::io, folder.string(),
            ": there is no model in this folder: neither model.safetensors nor an index, nor any "
            "other .safetensors, .pth, .pt, .bin, .gguf or .st");
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
