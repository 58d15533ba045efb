// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file:
//   {"__metadata__": {"key": "value"},
//    "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/json_events.hpp>
#include <rwkv/io/untrusted.hpp>

#include <array>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

inline constexpr std::uint64_t longest_safetensors_header = 100'000'000;  // the format's own limit

struct SafetensorsEntry {
  DType dtype = DType::f32;
  std::vector<std::size_t> shape;
  std::uint64_t begin = 0;  // within the data that follows the header
  std::uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry, std::less<>> entries;
  Metadata metadata;
};

inline constexpr std::array<std::pair<std::string_view, DType>, 15> safetensors_types{
    {{"F64", DType::f64},
     {"F32", DType::f32},
     {"F16", DType::f16},
     {"BF16", DType::bf16},
     {"I64", DType::i64},
     {"I32", DType::i32},
     {"I16", DType::i16},
     {"I8", DType::i8},
     {"U64", DType::u64},
     {"U32", DType::u32},
     {"U16", DType::u16},
     {"U8", DType::u8},
     {"BOOL", DType::boolean},
     {"F8_E4M3", DType::f8_e4m3},
     {"F8_E5M2", DType::f8_e5m2}}};

[[nodiscard]] constexpr std::string_view safetensors_name_of(DType type) noexcept {
  for (const auto& [name, dtype] : safetensors_types)
    if (dtype == type) return name;
  return {};
}

/// Collects the header from JSON events.
class SafetensorsHeaderEvents final : public JsonEvents {
 public:
  SafetensorsHeader header;

  bool start_object() override {
    if (depth_ == 2 || in_array_) return refuse("an object");
    ++depth_;
    return true;
  }

  bool null() override {  // instead of no metadata
    if (depth_ != 1 || !in_metadata_) return refuse("null");
    in_metadata_ = false;
    return true;
  }

  bool end_object() override {
    --depth_;
    if (depth_ == 0 || in_metadata_) {
      in_metadata_ = false;
      return true;
    }
    if (seen_ != (dtype | shape | offsets))
      return stop("lacks dtype, shape or data_offsets of tensor " + printable(entry_->first));
    return true;
  }

  bool key(std::string& name) override {
    if (depth_ == 2) return in_metadata_ ? metadata_key(name) : field(name);
    if (name == "__metadata__") {
      in_metadata_ = true;
      return true;
    }
    const auto [entry, fresh] = header.entries.try_emplace(name);
    if (!fresh) return stop("names tensor " + printable(name) + " twice");
    entry_ = entry;
    seen_ = 0;
    field_ = none;
    return true;
  }

  bool string(std::string& text) override {
    if (depth_ != 2) return refuse("a string");
    if (in_metadata_) {
      metadata_value_->second = text;
      return true;
    }
    if (field_ != dtype) return refuse("a string");
    for (const auto& [name, type] : safetensors_types)
      if (name == text) {
        entry_->second.dtype = type;
        return complete(dtype);
      }
    return stop("gives tensor " + printable(entry_->first) + " the element type " +
                    printable(text) + ", which is not supported",
                ErrorCategory::unsupported);
  }

  bool start_array() override {
    if (depth_ != 2 || in_metadata_ || in_array_ || (field_ != shape && field_ != offsets))
      return refuse("an array");
    in_array_ = true;
    offset_count_ = 0;
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    if (field_ == offsets && offset_count_ != 2) return refuse("an array that is no pair");
    return complete(field_);
  }

  bool number_unsigned(std::uint64_t number) override {
    if (!in_array_) return refuse("a number");
    if (field_ == offsets) {
      if (offset_count_ == 2) return refuse("an array that is no pair");
      (offset_count_++ == 0 ? entry_->second.begin : entry_->second.end) = number;
      return true;
    }
    if (entry_->second.shape.size() == max_rank)
      return stop("gives tensor " + printable(entry_->first) + " more than " +
                  std::to_string(max_rank) + " dimensions");
    if (number > (std::numeric_limits<std::size_t>::max)()) return refuse("an absurd dimension");
    entry_->second.shape.push_back(static_cast<std::size_t>(number));
    return true;
  }

 private:
  enum Field : unsigned { none = 0, dtype = 1, shape = 2, offsets = 4 };

  bool metadata_key(const std::string& name) {
    const auto [value, fresh] = header.metadata.try_emplace(name);
    metadata_value_ = value;
    return fresh || stop("names metadata " + printable(name) + " twice");
  }

  bool field(std::string_view name) {
    field_ = name == "dtype"          ? dtype
             : name == "shape"        ? shape
             : name == "data_offsets" ? offsets
                                      : none;
    if (field_ == none || (seen_ & field_) != 0)
      return stop("has an unexpected field " + printable(name) + " in tensor " +
                  printable(entry_->first));
    return true;
  }

  bool complete(Field field) {
    seen_ |= field;
    field_ = none;
    return true;
  }

  unsigned depth_ = 0;
  bool in_metadata_ = false;
  bool in_array_ = false;
  Field field_ = none;    // whose value comes next
  unsigned seen_ = none;  // fields of the current tensor that are complete
  unsigned offset_count_ = 0;
  decltype(header.entries)::iterator entry_{};
  Metadata::iterator metadata_value_{};
};

[[nodiscard]] inline SafetensorsHeader read_safetensors_header(std::string_view text,
                                                               const std::string& source) {
  SafetensorsHeaderEvents events;
  parse_json(text, events, source, "the safetensors header");
  return std::move(events.header);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
