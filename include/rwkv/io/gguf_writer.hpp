// SPDX-License-Identifier: Apache-2.0
// Writing the GGUF container, front to back: metadata and the list of tensors, then their data.
// Knows no model; gguf_model.hpp says what an RWKV-7 file holds.
#pragma once

#include <rwkv/io/atomic_file.hpp>
#include <rwkv/io/gguf_container.hpp>
#include <rwkv/io/tensor_entry.hpp>

#include <set>
#include <variant>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// What GGUF metadata can say, as far as models need it.
using GgufValue = std::variant<std::uint32_t, float, bool, std::string, std::vector<std::int32_t>,
                               std::vector<std::string>>;

/// In the order in which they are written.
using GgufMetadata = std::vector<std::pair<std::string, GgufValue>>;

namespace detail {

/// The GGUF number of a tensor type, or nothing if the format has no such type.
[[nodiscard]] constexpr std::optional<std::uint32_t> gguf_number(DType type) noexcept {
  const int number = internal::traits_of(type).gguf;
  if (number < 0) return std::nullopt;
  return static_cast<std::uint32_t>(number);
}

/// Everything before the data, and where the texts in it lie.
struct GgufHead {
  std::string bytes;
  std::map<std::string, std::size_t, std::less<>> texts;  // key: offset of the value
};

class GgufHeadBuilder {
 public:
  [[nodiscard]] GgufHead build(const GgufMetadata& metadata, std::span<const TensorEntry> tensors) {
    head_.bytes = "GGUF";
    put(std::uint32_t{3});
    put(std::uint64_t{tensors.size()});
    put(std::uint64_t{metadata.size()});
    std::set<std::string_view> keys;
    for (const auto& [key, value] : metadata) {
      if (!is_utf8(key) || key.empty() || !keys.insert(key).second)
        fail_with(ErrorCategory::argument, "metadata ", printable(key),
                  " is not UTF-8, has no name or occurs twice");
      text(key);
      std::visit([&, &name = key](const auto& v) { pair(name, v); }, value);
    }
    std::uint64_t offset = 0;
    for (const TensorEntry& tensor : tensors) {
      text(tensor.name);
      put(static_cast<std::uint32_t>(tensor.shape.size()));
      for (auto d = tensor.shape.rbegin(); d != tensor.shape.rend(); ++d) put(std::uint64_t{*d});
      put(*gguf_number(tensor.dtype));
      put(offset);
      offset += padded(bytes_of(tensor));
    }
    head_.bytes.resize(padded(head_.bytes.size()));
    return std::move(head_);
  }

  static constexpr std::size_t padded(std::size_t bytes) noexcept {
    constexpr std::size_t unit = 32;  // the format's default alignment
    return (bytes + unit - 1) / unit * unit;
  }

 private:
  template <class T>
  requires std::is_arithmetic_v<T>
  void put(T number) { head_.bytes.append(reinterpret_cast<const char*>(&number), sizeof number); }
  void text(std::string_view value) {
    put(std::uint64_t{value.size()});
    head_.bytes += value;
  }

  // The numbers of the value types are those of GgufReader.
  void pair(const std::string&, std::uint32_t v) { put(std::uint32_t{4}), put(v); }
  void pair(const std::string&, float v) { put(std::uint32_t{6}), put(v); }
  void pair(const std::string&, bool v) { put(std::uint32_t{7}), put(std::uint8_t{v}); }
  void pair(const std::string& key, const std::string& v) {
    put(std::uint32_t{8});
    text(v);
    head_.texts.emplace(key, head_.bytes.size() - v.size());
  }
  void pair(const std::string&, const std::vector<std::int32_t>& v) {
    array(5, v.size());
    for (const std::int32_t number : v) put(number);
  }
  void pair(const std::string&, const std::vector<std::string>& v) {
    array(8, v.size());
    for (const std::string& t : v) text(t);
  }
  void array(std::uint32_t type, std::size_t size) {
    put(std::uint32_t{9});
    put(type);
    put(std::uint64_t{size});
  }

  GgufHead head_;
};

inline void check_gguf_tensors(std::span<const TensorEntry> tensors) {
  std::set<std::string_view> names;
  for (const TensorEntry& tensor : tensors) {
    const auto refuse = [&](const auto&... why) {
      fail_with(ErrorCategory::argument, "cannot write tensor ", printable(tensor.name), why...);
    };
    constexpr std::size_t longest_name = 63;  // that ggml accepts
    if (!is_utf8(tensor.name) || tensor.name.empty() || tensor.name.size() > longest_name)
      refuse(": the name is empty, not UTF-8 or longer than ", longest_name, " bytes");
    if (!names.insert(tensor.name).second) refuse(": the name occurs twice");
    if (!gguf_number(tensor.dtype))
      refuse(": the format has no type ", std::string(name_of(tensor.dtype)));
    if (tensor.shape.empty() || tensor.shape.size() > 4 || !byte_count(tensor.shape, tensor.dtype))
      refuse(": the format has no shape ", to_string(tensor.shape));
    if (tensor.shape.back() % block_elements(tensor.dtype) != 0)
      refuse(": rows of ", tensor.shape.back(), " elements are no whole blocks of ",
             std::string(name_of(tensor.dtype)));
  }
}

}  // namespace detail

/// Writes a GGUF file of version 3, as a whole or not at all, with no more than what it is given in
/// memory. The same calls give the same bytes.
///
///   rwkv::io::GgufWriter out("model.gguf", {{"general.architecture", "rwkv7"}}, entries);
///   for (const auto& bytes : of_tensors) out.append(bytes);  // of each, or part by part
///   out.commit();
class GgufWriter {
 public:
  /// Begins the file. Throws `Error` (argument) for names that are empty, too long or used twice,
  /// and for types and shapes that the format does not have; (io) when the file cannot be written.
  GgufWriter(const std::filesystem::path& path, const GgufMetadata& metadata,
             std::span<const TensorEntry> tensors)
      : file_(path), source_(path.string()) {
    detail::check_gguf_tensors(tensors);
    detail::GgufHead head = detail::GgufHeadBuilder().build(metadata, tensors);
    texts_ = std::move(head.texts);
    for (const TensorEntry& tensor : tensors) sizes_.push_back(bytes_of(tensor));
    file_.write(std::as_bytes(std::span(head.bytes)));
    skip_empty();
  }

  /// Data of the tensors in the order of the list, C order, in pieces of any size that do not reach
  /// into the next tensor.
  void append(std::span<const std::byte> bytes) {
    if (tensor_ == sizes_.size() || bytes.size() > sizes_[tensor_] - written_)
      fail_with(ErrorCategory::argument, source_, ": more data than tensor ", tensor_, " has");
    file_.write(bytes);
    written_ += bytes.size();
    skip_empty();
  }

  /// The file so far, complete once all data is there, under a temporary name. Throws `Error` (io)
  /// if the file cannot be written, or is none that could be read: a pipe.
  [[nodiscard]] std::filesystem::path readable() { return file_.readable(); }

  /// Replaces a text in the metadata by another one of the same length.
  void replace(std::string_view key, std::string_view value) {
    const auto at = texts_.find(key);
    RWKV_ASSERT(at != texts_.end());
    file_.overwrite(at->second, std::as_bytes(std::span(value)));
  }

  /// Makes the complete file visible under its name. Throws `Error` (argument) if data is missing.
  void commit() {
    if (tensor_ != sizes_.size())
      fail_with(ErrorCategory::argument, source_, ": the data of tensor ", tensor_,
                " is missing or not complete");
    file_.commit();
  }

 private:
  // Tensors without elements need no data; every tensor ends on a multiple of the alignment.
  void skip_empty() {
    while (tensor_ < sizes_.size() && written_ == sizes_[tensor_]) {
      static constexpr std::array<std::byte, 32> zeros{};
      file_.write(std::span(zeros).first(detail::GgufHeadBuilder::padded(written_) - written_));
      written_ = 0;
      ++tensor_;
    }
  }

  AtomicFile file_;
  std::string source_;
  std::map<std::string, std::size_t, std::less<>> texts_;
  std::vector<std::size_t> sizes_;
  std::size_t tensor_ = 0;   // that the next byte belongs to
  std::size_t written_ = 0;  // bytes of it
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
