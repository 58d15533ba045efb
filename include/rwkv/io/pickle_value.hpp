// SPDX-License-Identifier: Apache-2.0
// What a pickled state dict is made of. Values are small and copied freely; everything that has a
// size lives in a pool and is referred to by number, so that no nesting in the file becomes
// recursion in the reader.
#pragma once

#include <rwkv/io/untrusted.hpp>

#include <utility>
#include <variant>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle {

struct Opaque {};  ///< None, truth values, floats, bytes: allowed, but no part of a tensor

struct Tuple {
  std::uint32_t begin, count;  // in the pool of tuple elements
};

/// A dictionary; also a list or set, whose items have opaque keys, and an object of a class that
/// means nothing here, whose items are what it was made of.
struct Dict {
  std::uint32_t index;
};

/// The functions that make what a state dict consists of.
enum class Function : std::uint8_t {
  ordered_dict,
  tensor,  ///< _rebuild_tensor_v2, and _v3, which names the element type
  tensor_v1,
  tensor_v3,
  parameter,
  parameter_with_state,
  from_type,  ///< a function, a type, arguments, a state
};

/// A class or function that means nothing here: what it makes is opaque.
struct Global {
  std::uint32_t index;
};

struct StorageType {
  DType dtype;
  bool untyped;  ///< only bytes: the tensor says what they are
};

struct ElementType {
  DType dtype;
};

struct Storage {
  std::uint32_t index;
};

struct TensorRef {
  std::uint32_t index;
};

using Value = std::variant<Opaque, std::int64_t, std::string_view, Tuple, Dict, Function, Global,
                           StorageType, ElementType, Storage, TensorRef>;

/// The items of a dictionary.
using Items = std::vector<std::pair<Value, Value>>;

/// The elements of all tuples.
class Tuples {
 public:
  [[nodiscard]] Tuple add(std::span<const Value> elements) {
    const Tuple tuple{static_cast<std::uint32_t>(elements_.size()),
                      static_cast<std::uint32_t>(elements.size())};
    elements_.insert(elements_.end(), elements.begin(), elements.end());
    return tuple;
  }
  [[nodiscard]] std::span<const Value> operator[](Tuple tuple) const {
    return std::span(elements_).subspan(tuple.begin, tuple.count);
  }
  /// Elements of all tuples together.
  [[nodiscard]] std::size_t size() const noexcept { return elements_.size(); }

 private:
  std::vector<Value> elements_;
};

/// Throws `Error` (format) "<source>: the pickle <why...>".
template <class... Why>
[[noreturn]] void refuse(const std::string& source, const Why&... why) {
  fail_with(ErrorCategory::format, source, ": the pickle ", why...);
}

/// `value` as a T; refused, calling the T `what`, when it is something else.
template <class T>
T expect(const Value& value, const char* what, const std::string& source) {
  if (const T* wanted = std::get_if<T>(&value)) return *wanted;
  refuse(source, "has something else where it needs ", what);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle
