// SPDX-License-Identifier: Apache-2.0
// What every file format becomes: named tensors under the official RWKV names, plus metadata.
// Nobody above io/ knows which kind of file a checkpoint came from.
#pragma once

#include <rwkv/core/dtype.hpp>
#include <rwkv/core/error.hpp>
#include <rwkv/quant/rows.hpp>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace rwkv::inline RWKV_ABI::io {

/// A strided view of stored elements. `bytes` starts at element (0, ..., 0) and covers every
/// element that the shape and the strides can reach; readers guarantee it, so that element access
/// needs no check. Elements of a block type are counted as they lie in the file, block after block;
/// rows are whole blocks there, and `bytes` starts with a block.
struct Tensor {
  DType dtype = DType::f32;
  std::vector<std::size_t> shape;   ///< slowest dimension first; empty = a scalar
  std::vector<std::size_t> stride;  ///< in elements, one per dimension
  std::span<const std::byte> bytes;

  [[nodiscard]] std::size_t size() const noexcept {
    std::size_t n = 1;
    for (const std::size_t d : shape) n *= d;
    return n;
  }

  /// True if the elements lie one after the other in C order.
  [[nodiscard]] bool contiguous() const noexcept {
    std::size_t expected = 1;
    for (std::size_t d = shape.size(); d-- > 0;) {
      if (shape[d] != 1 && stride[d] != expected) return false;
      expected *= shape[d];
    }
    return true;
  }

  /// The same elements seen with the two last dimensions exchanged (no copy).
  [[nodiscard]] Tensor transposed() const {
    Tensor t = *this;
    if (const std::size_t n = shape.size(); n >= 2) {
      std::swap(t.shape[n - 1], t.shape[n - 2]);
      std::swap(t.stride[n - 1], t.stride[n - 2]);
    }
    return t;
  }

  /// The element at `offset` elements from the start, converted to a number. Decodes a whole block
  /// if the type is one of blocks.
  template <class To = float>
  [[nodiscard]] To at_offset(std::size_t offset) const noexcept {
    const std::byte* p = bytes.data() + offset * size_of(dtype);
    const auto load = [p]<class T>(T value) {
      std::memcpy(&value, p, sizeof value);  // tensors in files are not always aligned
      return value;
    };
    switch (dtype) {
      case DType::f64:
        return static_cast<To>(load(double{}));
      case DType::f32:
        return static_cast<To>(load(float{}));
      case DType::f16:
        return static_cast<To>(to_float(load(half{})));
      case DType::bf16:
        return static_cast<To>(to_float(load(bfloat16{})));
      case DType::i64:
        return static_cast<To>(load(std::int64_t{}));
      case DType::i32:
        return static_cast<To>(load(std::int32_t{}));
      case DType::u8:
      case DType::boolean:
        return static_cast<To>(load(std::uint8_t{}));
      case DType::i16:
        return static_cast<To>(load(std::int16_t{}));
      case DType::i8:
        return static_cast<To>(load(std::int8_t{}));
      case DType::u64:
        return static_cast<To>(load(std::uint64_t{}));
      case DType::u32:
        return static_cast<To>(load(std::uint32_t{}));
      case DType::u16:
        return static_cast<To>(load(std::uint16_t{}));
      case DType::f8_e4m3:
        return static_cast<To>(float_from_e4m3(load(std::uint8_t{})));
      case DType::f8_e5m2:
        return static_cast<To>(float_from_e5m2(load(std::uint8_t{})));
      default:
        return static_cast<To>(quant::decode_element(dtype, bytes.data(), offset));
    }
  }

  /// All elements in C order.
  template <class To = float>
  [[nodiscard]] std::vector<To> values() const {
    std::vector<To> out(size());
    if (is_block(dtype) && contiguous() && out.size() % block_elements(dtype) == 0) {
      std::vector<float> decoded(out.size());
      quant::decode_row(dtype, bytes.data(), decoded.size(), decoded.data());
      std::transform(decoded.begin(), decoded.end(), out.begin(),
                     [](float value) { return static_cast<To>(value); });
      return out;
    }
    std::vector<std::size_t> index(shape.size(), 0);
    std::size_t offset = 0;
    for (To& value : out) {
      value = at_offset<To>(offset);
      for (std::size_t d = shape.size(); d-- > 0;) {
        offset += stride[d];
        if (++index[d] < shape[d]) break;
        offset -= stride[d] * shape[d];
        index[d] = 0;
      }
    }
    return out;
  }
};

/// Strides of a C-order tensor.
[[nodiscard]] inline std::vector<std::size_t> c_order(const std::vector<std::size_t>& shape) {
  std::vector<std::size_t> stride(shape.size());
  std::size_t step = 1;
  for (std::size_t d = shape.size(); d-- > 0;) {
    stride[d] = step;
    step *= shape[d];
  }
  return stride;
}

/// "[3, 64]"
[[nodiscard]] inline std::string to_string(const std::vector<std::size_t>& shape) {
  std::string s = "[";
  for (std::size_t d = 0; d < shape.size(); ++d) s += (d ? ", " : "") + std::to_string(shape[d]);
  return s + "]";
}

/// Token bytes by id; ids without text are empty.
using Vocabulary = std::vector<std::string>;

using Metadata = std::map<std::string, std::string, std::less<>>;

/// An opened model file: tensors by official name. Copies share the underlying bytes.
struct Checkpoint {
  std::string source;  ///< the path or a description, for messages
  std::string format;  ///< "pth", "safetensors", "gguf", "ggmf"
  std::map<std::string, Tensor, std::less<>> tensors;
  Metadata metadata;
  std::optional<Vocabulary> vocabulary;  ///< when the file carries one
  std::string folder;  ///< where the file lies, and perhaps its vocabulary; empty for memory
  std::vector<std::shared_ptr<const void>> storage;  ///< keeps `Tensor::bytes` alive
  /// Whether a model may use its tables (embedding, DeepEmbed) where they lie, which then keeps
  /// `storage`. Without
  /// storage it never does. False for bytes that are taken away (readers of spans say so) or that
  /// would cost memory beside the model.
  bool in_place = true;
  /// Says that these bytes will not be read again soon, so that a loader which copies weights into
  /// its own layout does not hold two copies in memory; they stay readable. Empty when the bytes
  /// are not a mapped file.
  std::function<void(std::span<const std::byte>)> release;
  /// Throws `Error` (io) if a mapped file has become shorter than it was: reading its end would
  /// kill the process. Called by `get`, that is, by all that reads tensors. Empty: nothing is
  /// mapped.
  std::function<void()> check;

  [[nodiscard]] const Tensor* find(std::string_view name) const {
    const auto it = tensors.find(name);
    return it == tensors.end() ? nullptr : &it->second;
  }

  /// The tensor called `name`; throws `Error` (format) naming the file when it is missing, and as
  /// `check`.
  [[nodiscard]] const Tensor& get(std::string_view name) const {
    if (check) check();
    if (const Tensor* t = find(name)) return *t;
    fail_with(ErrorCategory::format, source, ": tensor ", std::string(name), " is missing");
  }
};

/// Throws Error (format) unless a tensor of `c` is a matrix of that shape.
inline void check_shape(const Checkpoint& c, const std::string& name, const Tensor& tensor,
                        std::array<std::size_t, 2> shape) {
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end()))
    fail_with(ErrorCategory::format, c.source, ": tensor ", name, " has shape ",
              to_string(tensor.shape), " where [", shape[0], ", ", shape[1], "] was expected");
}

}  // namespace rwkv::inline RWKV_ABI::io
