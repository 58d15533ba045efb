// SPDX-License-Identifier: Apache-2.0
// How much errors in the columns of a model's matrices matter, seen from a text: the mean square of
// the inputs that the columns are multiplied with. An error e_c in column c adds e_c x_c to an
// output, whose expected square is e_c^2 E[x_c^2] when the errors are independent.
//
//   options.importance = rwkv::calibrate(rwkv::load("rwkv7-0.1b.pth"), tokens);
//   rwkv::convert(checkpoint, "rwkv7-0.1b-q4_k.gguf", options);
#pragma once

#include <rwkv/model.hpp>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace rwkv::inline RWKV_ABI {

/// Per matrix (official name), a weight for the squared errors in each column.
using Importance = std::map<std::string, std::vector<float>, std::less<>>;

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// The importance of every matrix for `text`, read from an empty state: E[x_c^2] over its tokens,
/// for `ConvertOptions::importance`. Some ten thousand tokens of what the model will be used for
/// are plenty. Costs as much as reading the text; `progress` is called with the fraction done from
/// the calling thread. The same bits for every executor. Throws `Error`: (argument) for an empty
/// text or a token outside the vocabulary, (numeric) if an input is not finite.
[[nodiscard]] RWKV_FUNCTION Importance calibrate(const Model<>& model, std::span<const Token> text,
                                                 ExecutorRef exec = {},
                                                 const std::function<void(double)>& progress = {});

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/calibrate.ipp>
#endif
