// SPDX-License-Identifier: Apache-2.0
// Parameters from and to model files, under the official names and shapes.
#pragma once

#include <rwkv/train/parameters.hpp>

#include <filesystem>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// Trainable parameters from an opened model file of any element type. Throws `Error` (format,
/// shape, unsupported, numeric) naming the file and the tensor.
[[nodiscard]] RWKV_FUNCTION Parameters read_parameters(const io::Checkpoint& c);

/// Writes a model file: safetensors, official names and shapes (of a hybrid model with the prefixes
/// of the published ones, and its hyper-parameters), `dtype` f32, f16 or bf16 (rounded
/// to nearest), atomically. `metadata` is added to what the library itself needs to know about the
/// model. Throws `Error` (argument) for another type, or for a number that it cannot hold, or NaN,
/// (io) when the file cannot be written.
RWKV_FUNCTION void write_model(const std::filesystem::path& path, const Parameters& p,
                               DType dtype = DType::f32, io::Metadata metadata = {});

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/model_file.ipp>
#endif
