// SPDX-License-Identifier: Apache-2.0
// Opening a model file of any kind. What a file is follows from its content, never from its name.
//
//   const rwkv::io::Checkpoint checkpoint = rwkv::io::read_checkpoint("rwkv7-0.1b.pth");
//   const rwkv::io::Tensor& emb = checkpoint.get("emb.weight");  // [vocab, embed]
// Define RWKV_NO_FILES where there is no file system: models are then read from memory.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/file_access.hpp>

#if !defined(RWKV_NO_FILES)
#include <filesystem>
#endif

namespace rwkv::inline RWKV_ABI::io {

/// Bytes that outlive everything that is made of them: constant data of the program, say.
///
///   extern const std::byte model_file[4096];
///   const rwkv::Model model(rwkv::io::View{model_file});  // its embedding table stays there
struct View {
  std::span<const std::byte> bytes;
};

}  // namespace rwkv::inline RWKV_ABI::io

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// True if `bytes` begin like a file of tensors that `read_checkpoint` reads, or like an index.
[[nodiscard]] RWKV_FUNCTION bool has_known_format(std::span<const std::byte> bytes) noexcept;

/// Reads a model whose content is `view`: safetensors (official, fla or web-rwkv names), .pth, GGUF
/// or rwkv.cpp. `source` names it in messages. Tensors are views under official names (see
/// `to_official_names`): **the bytes must outlive the result and what is made of it.** Throws
/// `Error` with a sentence for everything else. Time and memory O(names and metadata), not
/// O(weights).
[[nodiscard]] RWKV_FUNCTION Checkpoint read_checkpoint(View view, const std::string& source);

/// The same for bytes that the result keeps.
[[nodiscard]] RWKV_FUNCTION Checkpoint read_checkpoint(std::vector<std::byte>&& bytes,
                                                       const std::string& source);

/// The same for bytes that are copied.
[[nodiscard]] RWKV_FUNCTION Checkpoint read_checkpoint(std::span<const std::byte> bytes,
                                                       const std::string& source);

namespace detail {

/// For a while: models made of the result copy what they keep.
[[nodiscard]] inline Checkpoint look_at(std::span<const std::byte> bytes,
                                        const std::string& source) {
  Checkpoint checkpoint = read_checkpoint(View{bytes}, source);
  checkpoint.in_place = false;
  return checkpoint;
}

}  // namespace detail

#if !defined(RWKV_NO_FILES)
/// Reads the model in the file `path`, which is mapped, not loaded, unless `access` says otherwise.
/// A mapped file must stay as it is while the result, or a model made of it, lives: one that has
/// become shorter is answered by `Error` (io) where that can be seen before its end is touched
/// (`Checkpoint::check`), but not between two looks. A model in several files, as
/// Hugging Face's programs (`model-00001-of-00003.safetensors`, .bin) and llama.cpp's gguf-split
/// name them, is named by any of them, by its index, by its config.json or by its folder. A folder
/// is read by what is in it: `model.safetensors`, an index (`*.index.json`) whose files are there,
/// `pytorch_model.bin`, or the only file that may be a model; a `config.json` beside safetensors is
/// read too. `Checkpoint::folder` says where a vocabulary may lie. Throws `Error` with a sentence
/// that names files that are missing, or those to choose from. The result keeps the files open and
/// may be used from several threads.
[[nodiscard]] RWKV_FUNCTION Checkpoint read_checkpoint(const std::filesystem::path& path,
                                                       FileAccess access = FileAccess::map);
#endif

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/read.ipp>
#endif
