// SPDX-License-Identifier: Apache-2.0
// Adapters: small files that change some matrices of a model. What they mean, W being [out, in]:
//
//   LoRA     W + f B A                    A [rank, in], B [out, rank], f = alpha / rank
//   PiSSA    W + B A - B0 A0              a LoRA file, and one with the factors that it began with
//   MiSS     W[o][i] + D[i mod r][o]      D [r, out]; also called DiSHA and Bone
//   Bat      W_ab + W_ab D_b + D_b        all blocks ab of r x r; D [in / r, r, r] (a for Hugging
//                                         Face's: [out / r, r, r])
//
// and, in any of them, whole tensors that replace the model's. Names are those of RWKV-PEFT, of
// Hugging Face PEFT, of web-rwkv, or of this library's own training.
//
//   rwkv::LoadOptions options;
//   options.adapters = {rwkv::read_adapter("poems-lora.pth", 0.8f)};
//   const auto model = rwkv::Model<>::load("rwkv7-0.4b.pth", options);
#pragma once

#include <rwkv/io/weight_changes.hpp>

#if !defined(RWKV_NO_FILES)
#include <filesystem>
#endif

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// An adapter of tensors in memory. It is checked when it meets its model, which then throws
/// `Error`, naming the file and the tensor: (unsupported) for kinds that are not computed (DoRA,
/// AdaLoRA, LoHa, ...), (format) for a file without adapter, half a pair, or a tensor that belongs
/// to no tensor of the model, (shape) for one that does not fit it, (argument) for a scale that is
/// not finite.
[[nodiscard]] RWKV_FUNCTION Adapter make_adapter(io::Checkpoint checkpoint, float scale = 1);

#if !defined(RWKV_NO_FILES)
/// Reads an adapter: a file of tensors, or adapter_model.safetensors (.bin) with the
/// adapter_config.json of Hugging Face PEFT beside it, or the folder of both. Throws `Error`.
[[nodiscard]] RWKV_FUNCTION Adapter read_adapter(const std::filesystem::path& path,
                                                 float scale = 1);
#endif

/// The model with the adapters in it, in the types that its tensors have; blocks become f32.
/// Memory: all tensors that are changed. Throws `Error` (see `make_adapter`).
[[nodiscard]] RWKV_FUNCTION io::Checkpoint with_adapters(io::Checkpoint model,
                                                         std::span<const Adapter> adapters,
                                                         ExecutorRef exec = {});

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// What a PEFT adapter_config.json says, as metadata behind "peft.": numbers, truth values and
/// strings, and the members of `alpha_pattern`, "peft.alpha_pattern.<module>". Null, lists and
/// other objects are left out. Throws `Error` (format) for anything but an object, (unsupported)
/// for a pattern that is a regular expression.
[[nodiscard]] RWKV_FUNCTION Metadata read_adapter_config(std::span<const std::byte> json,
                                                         const std::string& source);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/adapter.ipp>
#endif
