// SPDX-License-Identifier: Apache-2.0
// The few objects of torch that a state dict is made of: storages, tensors as views of them,
// parameters. A tensor is only noted when the pickle describes it, and checked when it is asked
// for: what nobody needs may be damaged, or of a type that nobody here knows.
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

  /// What the pickle means by `module`.`name`.
  [[nodiscard]] Value named(std::string_view module, std::string_view name) {
    struct Element {
      std::string_view storage, type;
      DType dtype;
    };
    static constexpr std::array<Element, 11> elements{
        {{"DoubleStorage", "float64", DType::f64},
         {"FloatStorage", "float32", DType::f32},
         {"HalfStorage", "float16", DType::f16},
         {"BFloat16Storage", "bfloat16", DType::bf16},
         {"LongStorage", "int64", DType::i64},
         {"IntStorage", "int32", DType::i32},
         {"ShortStorage", "int16", DType::i16},
         {"CharStorage", "int8", DType::i8},
         {"ByteStorage", "uint8", DType::u8},
         {"BoolStorage", "bool", DType::boolean},
         {"Float8_e4m3fnStorage", "float8_e4m3fn", DType::f8_e4m3}}};
    static constexpr std::array<Element, 4> more{
        {{"Float8_e5m2Storage", "float8_e5m2", DType::f8_e5m2},
         {"UInt16Storage", "uint16", DType::u16},
         {"UInt32Storage", "uint32", DType::u32},
         {"UInt64Storage", "uint64", DType::u64}}};
    static constexpr std::array<std::pair<std::string_view, Function>, 5> functions{
        {{"_rebuild_tensor", Function::tensor_v1},
         {"_rebuild_tensor_v2", Function::tensor},
         {"_rebuild_tensor_v3", Function::tensor_v3},
         {"_rebuild_parameter", Function::parameter},
         {"_rebuild_parameter_with_state", Function::parameter_with_state}}};
    if (module == "collections" && name == "OrderedDict") return Function::ordered_dict;
    if (module == "torch" || module == "torch.storage") {
      if (name == "UntypedStorage") return StorageType{DType::u8, true};
      for (const auto& all : {std::span<const Element>(elements), std::span<const Element>(more)})
        for (const Element& element : all) {
          if (name == element.storage) return StorageType{element.dtype, false};
          if (name == element.type) return ElementType{element.dtype};
        }
    }
    if (module == "torch._utils")
      for (const auto& [function, value] : functions)
        if (name == function) return value;
    if (module == "torch._tensor" && name == "_rebuild_from_type_v2") return Function::from_type;
    globals_.emplace_back(module, name);
    return Global{static_cast<std::uint32_t>(globals_.size() - 1)};
  }

  /// "module.name" of a class or function that means nothing here.
  [[nodiscard]] std::string name_of(Global global) const {
    const auto& [module, name] = globals_[global.index];
    return std::string(module) + '.' + std::string(name);
  }

  /// Persistent ids stand for storages: ('storage', type, key, device, number of elements).
  [[nodiscard]] Storage storage(std::span<const Value> id) {
    if (id.size() != 5 || get<std::string_view>(id[0], "a name") != "storage")
      refuse(source_, "refers to an outside object that is no storage");
    const auto key = get<std::string_view>(id[2], "a storage key");
    const auto count = get<std::int64_t>(id[4], "an element count");
    if (count < 0) refuse(source_, "gives storage ", printable(key), " ", count, " elements");
    storages_.push_back({id[1], key, static_cast<std::uint64_t>(count)});
    return {static_cast<std::uint32_t>(storages_.size() - 1)};
  }

  /// The tensor that one of torch's functions makes of `arguments`; what is not one is opaque.
  [[nodiscard]] Value call(Function function, Tuple arguments, const Tuples& tuples) {
    const auto parts = tuples[arguments];
    switch (function) {
      case Function::tensor:
      case Function::tensor_v1:
      case Function::tensor_v3:
        notes_.push_back({function, arguments});
        return TensorRef{static_cast<std::uint32_t>(notes_.size() - 1)};
      case Function::parameter:
      case Function::parameter_with_state:  // a parameter is its tensor
        if (!parts.empty() && std::holds_alternative<TensorRef>(parts[0])) return parts[0];
        break;
      case Function::from_type:
        if (parts.size() == 4 && is_plain(parts[1]))
          if (const auto* make = std::get_if<Function>(&parts[0]);
              make != nullptr && *make != Function::from_type && *make != Function::ordered_dict)
            if (const auto* theirs = std::get_if<Tuple>(&parts[2]))
              return call(*make, *theirs, tuples);
        if (parts.size() > 1 && std::holds_alternative<Global>(parts[1])) return parts[1];
        break;
      case Function::ordered_dict:
        RWKV_ASSERT(false);  // makes no tensor; the machine keeps its dictionaries itself
        break;
    }
    return Opaque{};
  }

  /// What is said about an element type that this library does not have; nothing if it has it.
  [[nodiscard]] std::optional<std::string> unknown_type(TensorRef ref, const Tuples& tuples) const {
    const auto& note = notes_[ref.index];
    const auto arguments = tuples[note.arguments];
    const auto unknown = [&](const Value& type) -> std::optional<std::string> {
      if (const auto* global = std::get_if<Global>(&type)) return name_of(*global);
      return std::nullopt;
    };
    if (note.function == Function::tensor_v3 && arguments.size() > 6) return unknown(arguments[6]);
    if (arguments.empty()) return std::nullopt;
    const auto* storage = std::get_if<Storage>(&arguments[0]);
    return storage == nullptr ? std::nullopt : unknown(storages_[storage->index].type);
  }

  /// The tensor as a view; throws if it is none.
  [[nodiscard]] Tensor view(TensorRef ref, const Tuples& tuples) const {
    const auto& note = notes_[ref.index];
    const auto arguments = tuples[note.arguments];
    switch (note.function) {
      case Function::tensor_v1:
        check_count(arguments, 4, 4, "_rebuild_tensor");
        break;
      case Function::tensor_v3:
        check_count(arguments, 7, 8, "_rebuild_tensor_v3");
        break;
      default:
        check_count(arguments, 6, 7, "_rebuild_tensor_v2");
        break;
    }
    const auto& stored = storages_[get<Storage>(arguments[0], "a storage").index];
    const auto type = get<StorageType>(stored.type, "a storage type");
    const DType dtype = note.function == Function::tensor_v3
                            ? get<ElementType>(arguments[6], "an element type").dtype
                            : type.dtype;
    if (type.dtype != dtype && !type.untyped)
      refuse(source_, "has a storage of type ", std::string(rwkv::name_of(type.dtype)),
             " for elements of type ", std::string(rwkv::name_of(dtype)));
    const auto bytes = find_storage_(stored.key, type.dtype, stored.count);
    return rebuild(arguments, dtype, bytes, tuples);
  }

 private:
  struct Stored {
    Value type;
    std::string_view key;
    std::uint64_t count;
  };
  struct Note {
    Function function;
    Tuple arguments;
  };

  template <class T>
  T get(const Value& value, const char* what) const {
    return expect<T>(value, what, source_);
  }

  // Types that only say that a tensor is one.
  [[nodiscard]] bool is_plain(const Value& type) const {
    const auto* global = std::get_if<Global>(&type);
    if (global == nullptr) return false;
    const auto& [module, name] = globals_[global->index];
    return module.starts_with("torch") &&
           (name == "Tensor" || name == "Parameter" || name == "Buffer");
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

  // (storage, offset, shape, stride, ...) -> a view of the storage.
  Tensor rebuild(std::span<const Value> arguments, DType dtype, std::span<const std::byte> bytes,
                 const Tuples& tuples) const {
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
    return {dtype, std::move(shape), std::move(stride),
            bytes.subspan(begin * size_of(dtype), reach * size_of(dtype))};
  }

  const std::string& source_;
  FindStorage find_storage_;
  std::vector<Stored> storages_;
  std::vector<Note> notes_;
  std::vector<std::pair<std::string_view, std::string_view>> globals_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle
