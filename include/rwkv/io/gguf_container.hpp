// SPDX-License-Identifier: Apache-2.0
// The GGUF container: key-value metadata, a directory of tensors, aligned tensor data. Knows no
// model; gguf.hpp says what the names mean.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/untrusted.hpp>

#include <algorithm>
#include <array>
#include <type_traits>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

struct GgufTensor {
  std::string_view name;
  std::vector<std::size_t> shape;  // slowest first
  std::uint32_t type = 0;
  std::uint64_t offset = 0;  // from the start of the data
};

/// Views of a GGUF file.
struct Gguf {
  Metadata metadata;                                                        // scalars, as text
  std::map<std::string, std::vector<std::string_view>, std::less<>> texts;  // arrays of strings
  std::map<std::string, std::vector<std::int64_t>, std::less<>> integers;   // arrays of integers
  std::vector<GgufTensor> tensors;
  std::span<const std::byte> data;
};

/// The DType of a GGUF tensor type, or nothing.
[[nodiscard]] constexpr std::optional<DType> gguf_dtype(std::uint32_t type) noexcept {
  for (std::size_t i = 0; i < internal::dtypes; ++i)
    if (const int number = internal::dtype_traits[i].gguf;
        number >= 0 && static_cast<std::uint32_t>(number) == type)
      return static_cast<DType>(i);
  return std::nullopt;
}

/// What people call a GGUF tensor type.
[[nodiscard]] inline std::string gguf_type_name(std::uint32_t type) {
  static constexpr std::array<const char*, 31> names{
      "F32",     "F16",    "Q4_0",    "Q4_1",  "",       "",      "Q5_0",  "Q5_1",
      "Q8_0",    "Q8_1",   "Q2_K",    "Q3_K",  "Q4_K",   "Q5_K",  "Q6_K",  "Q8_K",
      "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS",
      "I8",      "I16",    "I32",     "I64",   "F64",    "IQ1_M", "BF16"};
  if (type < names.size() && *names[type] != '\0') return names[type];
  return "number " + std::to_string(type);
}

class GgufReader {
 public:
  GgufReader(std::span<const std::byte> bytes, const std::string& source)
      : source_(source), in_(bytes, source) {}

  /// Reads everything but the tensors' data. The arrays in `wanted_arrays` are kept, others
  /// skipped.
  [[nodiscard]] Gguf read(std::span<const std::string_view> wanted_arrays) {
    if (in_.text(4, "the header") != "GGUF") refuse("this is no GGUF file");
    const auto version = in_.get<std::uint32_t>("the header");
    if (version != 2 && version != 3)
      fail_with(ErrorCategory::unsupported, source_, ": GGUF version ", version,
                (version & 0xffffu) == 0 ? " (a big-endian file)" : "", " is not supported");
    const auto tensors = in_.get<std::uint64_t>("the header");
    const auto pairs = in_.get<std::uint64_t>("the header");
    constexpr std::uint64_t smallest_pair = 13;  // empty key, type, one byte
    constexpr std::uint64_t smallest_tensor = 24;
    if (pairs > in_.remaining() / smallest_pair || tensors > in_.remaining() / smallest_tensor)
      refuse("the header promises ", pairs, " metadata entries and ", tensors,
             " tensors, more than the file can hold");
    for (std::uint64_t i = 0; i < pairs; ++i) read_pair(wanted_arrays);
    gguf_.tensors.reserve(static_cast<std::size_t>(tensors));
    for (std::uint64_t i = 0; i < tensors; ++i) read_tensor();
    const std::size_t padding =
        (data_alignment_ - in_.position() % data_alignment_) % data_alignment_;
    in_.take(gguf_.tensors.empty() ? 0 : padding, "the padding before the data");
    gguf_.data = in_.take(in_.remaining(), "the data");
    return std::move(gguf_);
  }

 private:
  enum Type : std::uint32_t {
    u8,
    i8,
    u16,
    i16,
    u32,
    i32,
    f32,
    boolean,
    text,
    array,
    u64,
    i64,
    f64
  };

  template <class... Why>
  [[noreturn]] void refuse(const Why&... why) const {
    fail_with(ErrorCategory::format, source_, ": ", why...);
  }

  std::string_view read_text() { return in_.text(in_.get<std::uint64_t>("a text"), "a text"); }

  // Calls `use` with the next value, as the C++ type that the number `type` stands for.
  template <class Use>
  void with_scalar(std::uint32_t type, Use use) {
    switch (type) {
      case u8:
        return use(in_.get<std::uint8_t>("a value"));
      case i8:
        return use(in_.get<std::int8_t>("a value"));
      case u16:
        return use(in_.get<std::uint16_t>("a value"));
      case i16:
        return use(in_.get<std::int16_t>("a value"));
      case u32:
        return use(in_.get<std::uint32_t>("a value"));
      case i32:
        return use(in_.get<std::int32_t>("a value"));
      case f32:
        return use(in_.get<float>("a value"));
      case boolean:
        return use(in_.get<std::uint8_t>("a value") != 0);
      case u64:
        return use(in_.get<std::uint64_t>("a value"));
      case i64:
        return use(in_.get<std::int64_t>("a value"));
      case f64:
        return use(in_.get<double>("a value"));
      default:
        refuse("a metadata value has the unknown type ", type);
    }
  }

  static std::string to_text(bool value) { return value ? "true" : "false"; }
  template <class T>
  static std::string to_text(T value) {
    std::string text;
    internal::Part(value).append_to(text);
    return text;
  }

  void read_pair(std::span<const std::string_view> wanted_arrays) {
    const std::string key(read_text());
    const auto type = in_.get<std::uint32_t>("a metadata type");
    if (type == array) {
      const bool wanted =
          std::find(wanted_arrays.begin(), wanted_arrays.end(), key) != wanted_arrays.end();
      return read_array(key, wanted);
    }
    const auto [entry, fresh] = gguf_.metadata.try_emplace(key);
    if (!fresh) refuse("the metadata has two entries ", printable(key));
    std::string& value = entry->second;
    if (type == text) {
      value = read_text();
    } else {
      with_scalar(type, [&](auto number) { value = to_text(number); });
    }
    if (key == "general.alignment") set_alignment(type, value);
  }

  void set_alignment(std::uint32_t type, const std::string& value) {
    const std::uint32_t number = internal::parse<std::uint32_t>(value).value_or(0);
    if (type != u32 || !std::has_single_bit(number))
      refuse("general.alignment is ", printable(value), ", which is no power of two");
    data_alignment_ = number;
  }

  void read_array(const std::string& key, bool wanted) {
    const auto type = in_.get<std::uint32_t>("an array");
    const auto count = in_.get<std::uint64_t>("an array");
    if (type == text) {
      constexpr std::uint64_t smallest = 8;
      if (count > in_.remaining() / smallest)
        refuse("the array ", printable(key), " promises ", count, " texts");
      std::vector<std::string_view> texts;
      for (std::uint64_t i = 0; i < count; ++i) {
        const auto value = read_text();
        if (wanted) texts.push_back(value);
      }
      if (wanted && !gguf_.texts.emplace(key, std::move(texts)).second)
        refuse("the metadata has two entries ", printable(key));
      return;
    }
    static constexpr std::array<std::uint8_t, 13> widths{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type >= widths.size() || widths[type] == 0)
      fail_with(ErrorCategory::unsupported, source_, ": the array ", printable(key),
                " has elements of type ", type, ", which is not supported");
    if (count > in_.remaining() / widths[type])
      refuse("the array ", printable(key), " promises ", count, " values");
    if (!wanted) {
      in_.take(count * widths[type], "an array");
      return;
    }
    std::vector<std::int64_t> values;
    values.reserve(static_cast<std::size_t>(count));
    for (std::uint64_t i = 0; i < count; ++i)
      with_scalar(type, [&](auto value) {
        if constexpr (std::is_integral_v<decltype(value)>)
          values.push_back(static_cast<std::int64_t>(value));
        else
          refuse("the array ", printable(key), " does not hold integers");
      });
    if (!gguf_.integers.emplace(key, std::move(values)).second)
      refuse("the metadata has two entries ", printable(key));
  }

  void read_tensor() {
    GgufTensor tensor;
    tensor.name = read_text();
    const auto rank = in_.get<std::uint32_t>("a tensor");
    if (rank > 4)
      refuse_tensor(ErrorCategory::format, source_, tensor.name, " has ", rank, " dimensions");
    tensor.shape.resize(rank);
    std::for_each(tensor.shape.rbegin(), tensor.shape.rend(), [&](std::size_t& d) {
      const auto size = in_.get<std::uint64_t>("a tensor");
      if (size > (std::numeric_limits<std::size_t>::max)())
        refuse_tensor(ErrorCategory::format, source_, tensor.name, " has dimension ", size);
      d = static_cast<std::size_t>(size);
    });
    tensor.type = in_.get<std::uint32_t>("a tensor");
    tensor.offset = in_.get<std::uint64_t>("a tensor");
    if (tensor.offset % data_alignment_ != 0)
      refuse_tensor(ErrorCategory::format, source_, tensor.name, " lies at ", tensor.offset,
                    ", which is no multiple of ", data_alignment_);
    gguf_.tensors.push_back(std::move(tensor));
  }

  const std::string& source_;
  Cursor in_;
  Gguf gguf_;
  std::size_t data_alignment_ = 32;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
