// SPDX-License-Identifier: Apache-2.0
// The few objects of torch that a state dict is made of: storages, tensors as views of them,
// parameters. Any other name in the pickle is refused.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/pickle_value.hpp>

#include <array>
#include <functional>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle {

/// The bytes of the storage called `key`; throws when there is no such storage or when it does not
/// hold `count` elements.
using FindStorage =
    std::function<std::span<const std::byte>(std::string_view key, DType, std::uint64_t count)>;

class TorchObjects {
 public:
  TorchObjects(const std::string& source, FindStorage find_storage)
      : source_(source), find_storage_(std::move(find_storage)) {}

  [[nodiscard]] const Tensor& operator[](TensorRef ref) const { return tensors_[ref.index]; }

  /// What the pickle means by `module`.`name`.
  [[nodiscard]] Value named(std::string_view module, std::string_view name) const {
    static constexpr std::array<std::pair<std::string_view, DType>, 7> storages{
        {{"DoubleStorage", DType::f64},
         {"FloatStorage", DType::f32},
         {"HalfStorage", DType::f16},
         {"BFloat16Storage", DType::bf16},
         {"LongStorage", DType::i64},
         {"IntStorage", DType::i32},
         {"ByteStorage", DType::u8}}};
    static constexpr std::array<std::pair<std::string_view, Function>, 3> functions{
        {{"_rebuild_tensor_v2", Function::tensor},
         {"_rebuild_parameter", Function::parameter},
         {"_rebuild_parameter_with_state", Function::parameter_with_state}}};
    if (module == "collections" && name == "OrderedDict") return Function::ordered_dict;
    if (module == "torch")
      for (const auto& [storage, dtype] : storages)
        if (name == storage) return StorageType{dtype};
    if (module == "torch._utils")
      for (const auto& [function, value] : functions)
        if (name == function) return value;
    fail_with(ErrorCategory::unsupported, source_, ": the pickle asks for ",
              printable(std::string(module) + '.' + std::string(name)),
              ", which is not part of a state dict");
  }

  /// Persistent ids stand for storages: ('storage', type, key, device, number of elements).
  [[nodiscard]] Storage storage(std::span<const Value> id) {
    if (id.size() != 5 || get<std::string_view>(id[0], "a name") != "storage")
      refuse(source_, "refers to an outside object that is no storage");
    const DType dtype = get<StorageType>(id[1], "a storage type").dtype;
    const auto key = get<std::string_view>(id[2], "a storage key");
    const auto count = get<std::int64_t>(id[4], "an element count");
    if (count < 0) refuse(source_, "gives storage ", printable(key), " ", count, " elements");
    storages_.push_back({dtype, find_storage_(key, dtype, static_cast<std::uint64_t>(count))});
    return {static_cast<std::uint32_t>(storages_.size() - 1)};
  }

  /// The tensor that one of torch's functions makes of `arguments`.
  [[nodiscard]] TensorRef call(Function function, std::span<const Value> arguments,
                               const Tuples& tuples) {
    switch (function) {
      case Function::tensor:
        check_count(arguments, 6, 7, "_rebuild_tensor_v2");
        return rebuild_tensor(arguments, tuples);
      case Function::parameter:
        check_count(arguments, 3, 3, "_rebuild_parameter");
        break;
      case Function::parameter_with_state:
        check_count(arguments, 4, 4, "_rebuild_parameter_with_state");
        break;
      case Function::ordered_dict:
        RWKV_ASSERT(false);  // makes no tensor; the machine keeps its dictionaries itself
        break;
    }
    return get<TensorRef>(arguments[0], "a tensor");  // a parameter is its tensor
  }

 private:
  struct Elements {
    DType dtype;
    std::span<const std::byte> bytes;
  };

  template <class T>
  T get(const Value& value, const char* what) const {
    return expect<T>(value, what, source_);
  }

  void check_count(std::span<const Value> arguments, std::size_t least, std::size_t most,
                   const char* function) const {
    if (arguments.size() < least || arguments.size() > most)
      refuse(source_, "passes ", arguments.size(), " arguments to ", function);
  }

  std::vector<std::size_t> sizes(const Value& value, const char* what, const Tuples& tuples) const {
    const auto parts = tuples[get<Tuple>(value, what)];
    if (parts.size() > max_rank) refuse(source_, "has ", what, " of ", parts.size(), " dimensions");
    std::vector<std::size_t> out;
    for (const Value& part : parts) {
      const auto size = get<std::int64_t>(part, what);
      if (size < 0 || static_cast<std::uint64_t>(size) > (std::numeric_limits<std::size_t>::max)())
        refuse(source_, "has ", what, " with ", size);
      out.push_back(static_cast<std::size_t>(size));
    }
    return out;
  }

  // (storage, offset, shape, stride, requires_grad, hooks[, metadata]) -> a view of the storage.
  TensorRef rebuild_tensor(std::span<const Value> arguments, const Tuples& tuples) {
    const auto& [dtype, bytes] = storages_[get<Storage>(arguments[0], "a storage").index];
    const auto offset = get<std::int64_t>(arguments[1], "a storage offset");
    auto shape = sizes(arguments[2], "a shape", tuples);
    auto stride = sizes(arguments[3], "strides", tuples);
    if (shape.size() != stride.size())
      refuse(source_, "has ", stride.size(), " strides for shape ", to_string(shape));
    const std::size_t stored = bytes.size() / size_of(dtype);
    const auto past_end = [&] {
      refuse(source_, "places a tensor of shape ", to_string(shape), " and strides ",
             to_string(stride), " at ", offset, " of a storage of ", stored, " elements");
    };
    const auto count = element_count(shape);
    if (!count || *count > stored || offset < 0 || static_cast<std::uint64_t>(offset) > stored)
      past_end();
    const auto begin = static_cast<std::size_t>(offset);
    std::size_t reach = 0;  // elements from the first to behind the last
    if (*count > 0) {
      reach = 1;
      for (std::size_t d = 0; d < shape.size(); ++d) {
        const auto step = checked_product(shape[d] - 1, stride[d]);
        if (!step || *step > stored - reach) past_end();
        reach += *step;
      }
    }
    if (reach > stored - begin) past_end();
    tensors_.push_back({dtype, std::move(shape), std::move(stride),
                        bytes.subspan(begin * size_of(dtype), reach * size_of(dtype))});
    return {static_cast<std::uint32_t>(tensors_.size() - 1)};
  }

  const std::string& source_;
  FindStorage find_storage_;
  std::vector<Elements> storages_;
  std::vector<Tensor> tensors_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle
