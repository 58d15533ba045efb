// SPDX-License-Identifier: Apache-2.0
// The safetensors container: an 8-byte header length, a JSON header, raw little-endian data.
// Reading gives views of the caller's bytes under the names in the file.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/safetensors_header.hpp>

#include <algorithm>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// True if `bytes` begin like a safetensors file.
[[nodiscard]] inline bool is_safetensors(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < 9) return false;
  std::uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof header);
  return header <= detail::longest_safetensors_header && bytes[8] == std::byte{'{'};
}

/// Reads a safetensors file whose content is `bytes`, which must outlive the result. `source` names
/// it in messages. Names are kept as they are in the file; `read_checkpoint` maps them.
/// Throws `Error` (format) unless every tensor lies inside the file, matches its shape, and the
/// tensors cover the data without overlap or gap; (unsupported) for element types without a DType.
/// Time and memory O(header).
[[nodiscard]] inline Checkpoint read_safetensors(std::span<const std::byte> bytes,
                                                 const std::string& source) {
  detail::Cursor in(bytes, source);
  const auto header_length = in.get<std::uint64_t>("the header length");
  if (header_length > detail::longest_safetensors_header)
    fail_with(ErrorCategory::format, source, ": a safetensors header of ", header_length,
              " bytes is more than the format allows");
  auto header =
      detail::read_safetensors_header(in.text(header_length, "the safetensors header"), source);
  const auto data = in.take(in.remaining(), "the data");

  Checkpoint checkpoint;
  checkpoint.source = source;
  checkpoint.format = "safetensors";
  checkpoint.in_place = false;
  checkpoint.metadata = std::move(header.metadata);
  std::vector<const detail::SafetensorsEntry*> by_offset;
  by_offset.reserve(header.entries.size());
  for (const auto& [name, entry] : header.entries) {
    if (entry.begin > entry.end || entry.end > data.size())
      detail::refuse_tensor(ErrorCategory::format, source, name, " lies at bytes ", entry.begin,
                            " to ", entry.end, " of ", data.size(), " data bytes");
    const auto size = detail::byte_count(entry.shape, entry.dtype);
    if (!size || *size != entry.end - entry.begin)
      detail::refuse_tensor(ErrorCategory::format, source, name, " of shape ",
                            to_string(entry.shape), " and type ", std::string(name_of(entry.dtype)),
                            " does not fill the ", entry.end - entry.begin, " bytes it claims");
    checkpoint.tensors.emplace(name,
                               Tensor{entry.dtype, entry.shape, c_order(entry.shape),
                                      data.subspan(static_cast<std::size_t>(entry.begin), *size)});
    by_offset.push_back(&entry);
  }

  const auto before = [](const auto* a, const auto* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
  };
  std::make_heap(by_offset.begin(), by_offset.end(), before);  // there are few: less code than sort
  std::sort_heap(by_offset.begin(), by_offset.end(), before);
  std::uint64_t covered = 0;
  for (const auto* entry : by_offset) {
    if (entry->begin != covered)
      fail_with(ErrorCategory::format, source, ": the tensors ",
                entry->begin < covered ? "overlap" : "leave a gap", " at data byte ", entry->begin);
    covered = entry->end;
  }
  if (covered != data.size())
    fail_with(ErrorCategory::format, source, ": ", data.size() - covered,
              " bytes at the end belong to no tensor");
  return checkpoint;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
