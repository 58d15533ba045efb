// SPDX-License-Identifier: Apache-2.0
// The definitions of io/safetensors_writer.hpp.
#pragma once

#include <rwkv/io/safetensors_header.hpp>
#include <rwkv/io/safetensors_writer.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// Appends `text`, which is UTF-8, as a string of JSON. By hand: to be destroyed, the values of
/// nlohmann/json ask for memory, and end the program if there is none.
inline void append_json(std::string& json, std::string_view text) {
  constexpr std::string_view special = "\"\\\b\f\n\r\t", letters = "\"\\bfnrt";
  constexpr std::string_view digits = "0123456789abcdef";
  json += '"';
  for (const char c : text) {
    const auto code = static_cast<unsigned char>(c);
    if (const std::size_t at = special.find(c); at != special.npos)
      (json += '\\') += letters[at];
    else if (code < 0x20)
      ((json += "\\u00") += digits[code >> 4]) += digits[code & 15];
    else
      json += c;
  }
  json += '"';
}

/// The same for a list of numbers.
inline void append_json(std::string& json, std::span<const std::size_t> numbers) {
  json += '[';
  for (std::size_t i = 0; i < numbers.size(); ++i)
    (json += i == 0 ? "" : ",") += std::to_string(numbers[i]);
  json += ']';
}

// The format allows no gaps, so alignment comes from the order: lengths divisible by 64 first, then
// by 32, 16, ... Each tensor then starts at a multiple of the power of two that divides its own
// length, hence at least at a multiple of its element size.
RWKV_FUNCTION SafetensorsPlan plan_safetensors(std::span<const TensorEntry> tensors,
                                               const Metadata& metadata) {
  const auto refuse = [](const std::string& name, const auto&... why) {
    fail_with(ErrorCategory::argument, "cannot write tensor ", printable(name), why...);
  };
  SafetensorsPlan plan;
  plan.order.resize(tensors.size());
  std::iota(plan.order.begin(), plan.order.end(), std::size_t{0});
  const auto divisor = [&](std::size_t i) {
    return (std::min)(std::countr_zero(bytes_of(tensors[i])), std::countr_zero(alignment));
  };
  std::sort(plan.order.begin(), plan.order.end(), [&](std::size_t a, std::size_t b) {
    if (divisor(a) != divisor(b)) return divisor(a) > divisor(b);
    return tensors[a].name < tensors[b].name;
  });

  std::string json = "{";
  const auto key = [&json](std::string_view name) {
    if (json.back() != '{') json += ',';
    append_json(json, name);
    json += ':';
  };
  if (!metadata.empty()) {
    key("__metadata__");
    json += '{';
    for (const auto& [name, value] : metadata) {
      if (!is_utf8(name) || !is_utf8(value))
        fail_with(ErrorCategory::argument, "metadata ", printable(name), " is not UTF-8");
      key(name);
      append_json(json, value);
    }
    json += '}';
  }

  std::size_t offset = 0;
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const std::size_t i : plan.order) {
    const TensorEntry& tensor = tensors[i];
    if (!is_utf8(tensor.name)) refuse(tensor.name, ": the name is not UTF-8");
    if (tensor.name == "__metadata__") refuse(tensor.name, ": the name is reserved");
    if (safetensors_name_of(tensor.dtype).empty())
      refuse(tensor.name, ": the format has no type ", std::string(name_of(tensor.dtype)));
    if (!byte_count(tensor.shape, tensor.dtype))
      refuse(tensor.name, ": the shape ", to_string(tensor.shape), " is too large");
    const std::size_t end = offset + bytes_of(tensor);
    names.push_back(tensor.name);
    const std::size_t offsets[] = {offset, end};
    key(tensor.name);
    json += "{\"data_offsets\":";
    append_json(json, std::span<const std::size_t>(offsets));
    json += ",\"dtype\":";
    append_json(json, safetensors_name_of(tensor.dtype));
    json += ",\"shape\":";
    append_json(json, std::span<const std::size_t>(tensor.shape));
    json += '}';
    offset = end;
  }
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end())
    refuse(std::string(*twice), ": the name occurs twice");
  json += '}';

  const std::size_t padded = (json.size() + 8 + alignment - 1) / alignment * alignment - 8;
  const auto length = static_cast<std::uint64_t>(padded);
  plan.head.resize(8);
  std::memcpy(plan.head.data(), &length, 8);
  plan.head += json;
  plan.head.resize(8 + padded, ' ');
  return plan;
}

[[nodiscard]] inline SafetensorsPlan plan_safetensors(std::span<const NamedTensor> tensors,
                                                      const Metadata& metadata) {
  std::vector<TensorEntry> entries;
  entries.reserve(tensors.size());
  for (const NamedTensor& tensor : tensors) {
    if (byte_count(tensor.shape, tensor.dtype) != tensor.bytes.size())
      fail_with(ErrorCategory::argument, "cannot write tensor ", printable(tensor.name), ": ",
                tensor.bytes.size(), " bytes for shape ", to_string(tensor.shape), " and type ",
                std::string(name_of(tensor.dtype)));
    entries.push_back({tensor.name, tensor.dtype, tensor.shape});
  }
  return plan_safetensors(std::span<const TensorEntry>(entries), metadata);
}

}  // namespace detail

RWKV_FUNCTION std::vector<std::byte> serialize_safetensors(std::span<const NamedTensor> tensors,
                                                           const Metadata& metadata) {
  const auto plan = detail::plan_safetensors(tensors, metadata);
  const auto head = std::as_bytes(std::span(plan.head));
  std::vector<std::byte> out(head.begin(), head.end());
  for (const std::size_t i : plan.order)
    out.insert(out.end(), tensors[i].bytes.begin(), tensors[i].bytes.end());
  return out;
}

#if !defined(RWKV_NO_FILES)
RWKV_FUNCTION void write_safetensors(const std::filesystem::path& path,
                                     std::span<const NamedTensor> tensors,
                                     const Metadata& metadata) {
  const auto plan = detail::plan_safetensors(tensors, metadata);
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(plan.head)));
  for (const std::size_t i : plan.order) file.write(tensors[i].bytes);
  file.commit();
}

RWKV_FUNCTION SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                                   const Metadata& metadata,
                                                   std::span<const TensorEntry> tensors)
    : plan_(detail::plan_safetensors(tensors, metadata)), file_(path), source_(path.string()) {
  for (const TensorEntry& tensor : tensors) missing_ += bytes_of(tensor);
  file_.write(std::as_bytes(std::span(plan_.head)));
}

RWKV_FUNCTION void SafetensorsWriter::append(std::span<const std::byte> bytes) {
  if (bytes.size() > missing_)
    fail_with(ErrorCategory::argument, source_, ": more data than the tensors have");
  file_.write(bytes);
  missing_ -= bytes.size();
}

RWKV_FUNCTION void SafetensorsWriter::replace(std::string_view key, std::string_view value) {
  std::string before;
  detail::append_json(before, key);
  before += ":\"";
  const std::size_t at = plan_.head.find(before);
  RWKV_ASSERT(at != std::string::npos);
  file_.overwrite(at + before.size(), std::as_bytes(std::span(value)));
}

RWKV_FUNCTION void SafetensorsWriter::commit() {
  if (missing_ != 0)
    fail_with(ErrorCategory::argument, source_, ": ", missing_, " bytes of data are missing");
  file_.commit();
}
#endif

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
