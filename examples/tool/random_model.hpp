// SPDX-License-Identifier: Apache-2.0
// Models of the released shapes with random weights: as fast and as large as the real ones.
#pragma once

#include <rwkv/io/checkpoint.hpp>

#include <optional>

namespace tool {

/// A checkpoint of the shape `name` (0.1b, 0.4b, 1.5b or 2.9b) with random weights of `type` (f32,
/// f16 or bf16), always the same. All tensors view one pool of random numbers, so that it takes
/// little memory. `ffn_zeros`: about this fraction of the hidden units of channel mixes is zero.
rwkv::io::Checkpoint random_checkpoint(const std::string& name, rwkv::DType type,
                                       std::optional<double> ffn_zeros = {});

}  // namespace tool
