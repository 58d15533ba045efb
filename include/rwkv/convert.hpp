// SPDX-License-Identifier: Apache-2.0
// Any model file into one that llama.cpp runs (GGUF, in any weight type), or back into safetensors
// with official names.
//
//   rwkv::convert(rwkv::io::read_checkpoint("rwkv7-0.1b.pth"), "rwkv7-0.1b-q4_k.gguf",
//                 {.type = rwkv::DType::q4_k, .vocabulary = vocabulary});
#pragma once

#include <rwkv/calibrate.hpp>
#include <rwkv/io/weight_changes.hpp>
#include <rwkv/verify.hpp>

namespace rwkv::inline RWKV_ABI {

enum class FileFormat : std::uint8_t { gguf, safetensors };

struct ConvertOptions {
  FileFormat format = FileFormat::gguf;
  /// Of the matrices: f32, f16, bf16 or, in GGUF, a block type. What other tensors become is said
  /// in io/weight_types.hpp; in safetensors all have this type.
  DType type = DType::f16;
  /// The vocabulary to embed instead of the one in the checkpoint. GGUF files of models with 256
  /// tokens and no vocabulary say that tokens are bytes.
  std::optional<io::Vocabulary> vocabulary = {};
  /// The chat template in jinja notation (see chat::jinja_of), instead of the one in the checkpoint
  /// or, in GGUF, the one of World models if the vocabulary is theirs.
  std::string chat_template = {};
  /// Official names of matrices that keep 16 bits where they would become blocks, besides those
  /// that the model itself names (see `keep_key`).
  std::vector<std::string> keep = {};
  /// Added to the model's tensors (adapter.hpp) before these are rounded to their types.
  std::vector<Adapter> adapters = {};
  /// Computes a self-test from the written weights and puts it into the file (see verify.hpp).
  bool self_test = true;
  /// How much errors in the columns of a matrix matter, by official name: see
  /// `quant::QuantiseOptions`. Matrices that are not in it count all columns alike.
  Importance importance = {};
  /// Called with the fraction done, 0 ... 1, from the calling thread, about once a second or more
  /// often. If it throws, nothing is written.
  std::function<void(double)> progress = {};
};

using io::keep_key;

/// Metadata with a chat template in jinja notation.
inline constexpr std::string_view chat_template_key = "tokenizer.chat_template";

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// Writes `checkpoint` to `path` in another format and type, as a whole or not at all. The same
/// input gives the same bytes for every executor. Throws `Error`: (argument) for a type that the
/// format does not have, a vocabulary larger than the model's, or a matrix to keep that the model
/// does not have, (format, unsupported) for a checkpoint that is no RWKV-7 model, (numeric) for
/// numbers that the type cannot hold, (io).
///
/// RWKV-X models are written as safetensors only: (unsupported). A GGUF file of a model with
/// extended eigenvalues, with a table that is normalised already or with another epsilon in the
/// norm per head has the architecture "rwkv7-extended", so that programs which do not know these
/// refuse it. One thread converts 10 to 60 million numbers per second to blocks. Memory: pieces of
/// tensors, and the written model for the self-test.
RWKV_FUNCTION void convert(const io::Checkpoint& checkpoint, const std::filesystem::path& path,
                           const ConvertOptions& options = {}, ExecutorRef exec = {});

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/convert.ipp>
#endif
