// SPDX-License-Identifier: Apache-2.0
// The .bin files of rwkv.cpp: a header of six numbers, then tensors one after the other until the
// end of the file. Dimensions are stored fastest first.
#pragma once

#include <rwkv/io/official_names.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// True if `bytes` begin like an rwkv.cpp file.
[[nodiscard]] inline bool is_ggmf(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "fmgg", 4) == 0;
}

namespace detail {

/// The element type behind a type number of rwkv.cpp; refuses the others.
[[nodiscard]] inline DType ggmf_type(std::int32_t type, std::string_view tensor,
                                     const std::string& source) {
  static constexpr std::array<std::pair<std::int32_t, DType>, 7> types{{{0, DType::f32},
                                                                        {1, DType::f16},
                                                                        {2, DType::q4_0},
                                                                        {3, DType::q4_1},
                                                                        {7, DType::q5_0},
                                                                        {8, DType::q5_1},
                                                                        {9, DType::q8_0}}};
  for (const auto& [number, dtype] : types)
    if (type == number) return dtype;
  refuse_tensor(ErrorCategory::format, source, tensor, " has the unknown type ", type);
}

/// Official names, except that the six x_* are fused and the low-rank matrices transposed.
[[nodiscard]] inline OfficialName official_from_ggmf(std::string_view name) {
  constexpr std::string_view fused = "x_rwkvag";
  const auto block = split_block(name, "blocks.");
  if (block && block->second == "att.x_rwkvag")
    return {.name = std::string(name.substr(0, name.size() - fused.size())), .fused = true};
  return {.name = std::string(name), .transposed = block && is_low_rank(block->second)};
}

}  // namespace detail

/// Reads an rwkv.cpp model (RWKV-7; F32, F16, Q4_0 ... Q8_0) whose content is `bytes`, which must
/// outlive the result, as views under official names. Throws `Error` (format) for a damaged file,
/// (unsupported) for other file versions and other RWKV versions. Time and memory O(tensors).
[[nodiscard]] inline Checkpoint read_ggmf(std::span<const std::byte> bytes,
                                          const std::string& source) {
  detail::Cursor in(bytes, source);
  constexpr const char* header = "the header";
  if (in.text(4, header) != "fmgg")
    fail_with(ErrorCategory::format, source, ": this is no rwkv.cpp file");
  const auto version = in.get<std::int32_t>(header);
  if (version != 100 && version != 101)
    fail_with(ErrorCategory::unsupported, source, ": version ", version,
              " of the rwkv.cpp format is not supported");
  const auto vocab = in.get<std::int32_t>(header);
  const auto embed = in.get<std::int32_t>(header);
  const auto layers = in.get<std::int32_t>(header);  // 0: the file does not say
  in.take(4, header);                                // the overall type follows from the tensors

  Checkpoint checkpoint;
  checkpoint.source = source;
  checkpoint.format = "ggmf";
  checkpoint.in_place = false;
  while (in.remaining() > 0) {
    constexpr const char* what = "a tensor";
    const auto rank = in.get<std::int32_t>(what);
    const auto name_length = in.get<std::int32_t>(what);
    const auto type = in.get<std::int32_t>(what);
    if (rank < 1 || rank > 3 || name_length < 1)
      fail_with(ErrorCategory::format, source, ": damaged at byte ", in.position() - 12,
                ": a tensor of ", rank, " dimensions and a name of ", name_length, " bytes");
    std::vector<std::size_t> shape(static_cast<std::size_t>(rank));
    std::for_each(shape.rbegin(), shape.rend(), [&](std::size_t& d) {
      const auto size = in.get<std::int32_t>(what);
      if (size < 0) fail_with(ErrorCategory::format, source, ": a tensor has dimension ", size);
      d = static_cast<std::size_t>(size);
    });
    const auto name = in.text(static_cast<std::uint64_t>(name_length), what);
    const DType dtype = detail::ggmf_type(type, name, source);
    detail::require_whole_blocks(shape, dtype, source, name);
    const auto size = detail::byte_count(shape, dtype);
    if (!size || *size > in.remaining())
      detail::refuse_tensor(ErrorCategory::format, source, name, " of shape ", to_string(shape),
                            " needs more than the ", in.remaining(), " bytes that are left");
    const auto stride = c_order(shape);
    detail::add_official(checkpoint, detail::official_from_ggmf(name),
                         Tensor{dtype, shape, stride, in.take(*size, what)});
  }

  if (checkpoint.find("blocks.0.att.r_k") == nullptr)
    fail_with(ErrorCategory::unsupported, source,
              ": this is no RWKV-7 model: it has no blocks.0.att.r_k");
  const Tensor& embedding = checkpoint.get("emb.weight");
  if (vocab < 0 || embed < 0 ||
      embedding.shape != std::vector<std::size_t>{static_cast<std::size_t>(vocab),
                                                  static_cast<std::size_t>(embed)})
    fail_with(ErrorCategory::format, source, ": tensor emb.weight has shape ",
              to_string(embedding.shape), ", the header says ", vocab, " tokens of ", embed);
  std::int32_t blocks = 0;
  while (checkpoint.find("blocks." + std::to_string(blocks) + ".att.r_k") != nullptr) ++blocks;
  if (layers != 0 && layers != blocks)
    fail_with(ErrorCategory::format, source, ": the header says ", layers,
              " layers, and there are ", blocks, "; the file may be cut off");
  return checkpoint;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
