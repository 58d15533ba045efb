// SPDX-License-Identifier: Apache-2.0
// The pickled state dict inside a .pth file. A pickle is a program; this machine runs only the
// instructions and calls only the few constructors that torch.save writes for a dictionary of
// tensors. Everything else is refused by name, so a file can do nothing but describe tensors.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/untrusted.hpp>

#include <array>
#include <functional>
#include <utility>
#include <variant>

namespace rwkv::inline RWKV_ABI::io::detail {

/// Runs a pickle. Values are small and copied freely; containers live in pools and are referred to
/// by number, so that no nesting in the pickle becomes recursion here. Memory is O(pickle).
class Unpickler {
 public:
  struct Opaque {};  ///< None, truth values, floats, lists: allowed, but no part of a tensor
  struct Tuple {
    std::uint32_t begin, count;
  };
  struct Dict {
    std::uint32_t index;
  };
  enum class Function : std::uint8_t { ordered_dict, tensor, parameter, parameter_with_state };
  struct StorageType {
    DType dtype;
  };
  struct Storage {
    std::uint32_t index;
  };
  struct TensorRef {
    std::uint32_t index;
  };
  using Value = std::variant<Opaque, std::int64_t, std::string_view, Tuple, Dict, Function,
                             StorageType, Storage, TensorRef>;
  using Items = std::vector<std::pair<Value, Value>>;

  /// The bytes of the storage called `key`; throws when there is no such storage or when it does
  /// not hold `count` elements.
  using FindStorage = std::function<std::span<const std::byte>(std::string_view key, DType dtype,
                                                               std::uint64_t count)>;

  Unpickler(std::span<const std::byte> pickle, const std::string& source, FindStorage find_storage)
      : in_(pickle, source),
        length_(pickle.size()),
        source_(source),
        find_storage_(std::move(find_storage)) {}

  /// The value that the pickle describes.
  [[nodiscard]] Value run() {
    while (step(in_.get<std::uint8_t>("the pickle"))) {
    }
    return pop();
  }

  [[nodiscard]] const Items& items(Dict dict) const { return dicts_[dict.index]; }
  [[nodiscard]] const Tensor& tensor(TensorRef ref) const { return tensors_[ref.index]; }

 private:
  struct StoredElements {
    DType dtype;
    std::span<const std::byte> bytes;
  };

  template <class... Why>
  [[noreturn]] void refuse(const Why&... why) const {
    fail_with(ErrorCategory::format, source_, ": the pickle ", why...);
  }

  // Executes one instruction; false after the last one.
  bool step(unsigned opcode) {
    switch (opcode) {
      case 0x80: {  // PROTO
        const unsigned protocol = in_.get<std::uint8_t>("the pickle");
        if (protocol < 2 || protocol > 4)
          fail_with(ErrorCategory::unsupported, source_, ": pickle protocol ", protocol,
                    " is not supported");
        return true;
      }
      case 0x95:  // FRAME: only a hint for buffering
        in_.take(8, "the pickle");
        return true;
      case '.':
        return false;
      case '(':
        marks_.push_back(stack_.size());
        return true;
      case 'N':   // None
      case 0x88:  // True
      case 0x89:  // False
      case ']':   // empty list
        return push(Opaque{});
      case 'G':
        in_.take(8, "the pickle");
        return push(Opaque{});
      case 'J':
        return push(std::int64_t{in_.get<std::int32_t>("the pickle")});
      case 'K':
        return push(std::int64_t{in_.get<std::uint8_t>("the pickle")});
      case 'M':
        return push(std::int64_t{in_.get<std::uint16_t>("the pickle")});
      case 0x8a:
        return push(long_integer(in_.get<std::uint8_t>("the pickle")));
      case 0x8b:
        return push(long_integer(in_.get<std::uint32_t>("the pickle")));
      case 0x8c:
        return push(in_.text(in_.get<std::uint8_t>("the pickle"), "the pickle"));
      case 'X':
        return push(in_.text(in_.get<std::uint32_t>("the pickle"), "the pickle"));
      case 0x8d:
        return push(in_.text(in_.get<std::uint64_t>("the pickle"), "the pickle"));
      case ')':
        return push(Tuple{0, 0});
      case 't':
        return push_tuple(above_mark());
      case 0x85:
      case 0x86:
      case 0x87:
        return push_tuple(depth(opcode - 0x84));
      case '}':
        return push(new_dict());
      case 's':
        return set_items(depth(2));
      case 'u':
        return set_items(above_mark());
      case 'a':  // elements of lists are dropped
        return drop(depth(1));
      case 'e':
        return drop(above_mark());
      case 'c': {
        const auto module = line();
        return push(global(module, line()));
      }
      case 0x93: {
        const auto name = get<std::string_view>(pop(), "a name");
        return push(global(get<std::string_view>(pop(), "a module"), name));
      }
      case 'R':
        return reduce();
      case 'b':  // attributes of an OrderedDict, which no tensor depends on
        pop();
        get<Dict>(top(), "a dictionary");
        return true;
      case 'Q':
        return push(storage(get<Tuple>(pop(), "a tuple")));
      case 'q':
        return memorise(in_.get<std::uint8_t>("the pickle"));
      case 'r':
        return memorise(in_.get<std::uint32_t>("the pickle"));
      case 0x94:
        return memorise(memo_.size());
      case 'h':
        return push(recall(in_.get<std::uint8_t>("the pickle")));
      case 'j':
        return push(recall(in_.get<std::uint32_t>("the pickle")));
      default:
        fail_with(ErrorCategory::unsupported, source_, ": pickle instruction ", opcode, " at byte ",
                  in_.position() - 1, " is none that a state dict needs");
    }
  }

  // -- stack -------------------------------------------------------------------------------------

  bool push(Value value) {
    stack_.push_back(value);
    return true;
  }

  // Nothing below the innermost mark may be taken, as that would make the mark dangle.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  std::size_t depth(std::size_t count) const {
    if (stack_.size() - floor() < count) refuse("takes a value that is not there");
    return stack_.size() - count;
  }

  const Value& top() const { return stack_[depth(1)]; }

  Value pop() {
    const Value value = top();
    stack_.pop_back();
    return value;
  }

  std::size_t above_mark() {
    if (marks_.empty()) refuse("takes values above a mark that is not there");
    const std::size_t first = marks_.back();
    marks_.pop_back();
    return first;
  }

  bool drop(std::size_t first) {
    stack_.resize(first);
    return true;
  }

  template <class T>
  T get(const Value& value, const char* what) const {
    if (const T* wanted = std::get_if<T>(&value)) return *wanted;
    refuse("has something else than ", what, " before byte ", in_.position());
  }

  // -- values ------------------------------------------------------------------------------------

  std::int64_t long_integer(std::uint32_t length) {
    if (length > 8) refuse("holds an integer of ", length, " bytes");
    const auto bytes = in_.take(length, "the pickle");
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), length);
    if (length > 0 && length < 8 && (bytes.back() & std::byte{0x80}) != std::byte{0})
      value |= ~std::uint64_t{0} << 8 * length;  // extend the sign
    return static_cast<std::int64_t>(value);
  }

  std::string_view line() {
    std::size_t length = 0;
    Cursor ahead = in_;
    while (ahead.get<char>("the pickle") != '\n') ++length;
    const auto text = in_.text(length, "the pickle");
    in_.take(1, "the pickle");
    return text;
  }

  bool push_tuple(std::size_t first) {
    const Tuple tuple{static_cast<std::uint32_t>(tuple_items_.size()),
                      static_cast<std::uint32_t>(stack_.size() - first)};
    tuple_items_.insert(tuple_items_.end(), stack_.begin() + static_cast<std::ptrdiff_t>(first),
                        stack_.end());
    stack_.resize(first);
    return push(tuple);
  }

  std::span<const Value> elements(Tuple tuple) const {
    return std::span(tuple_items_).subspan(tuple.begin, tuple.count);
  }

  Value new_dict() {
    dicts_.emplace_back();
    return Dict{static_cast<std::uint32_t>(dicts_.size() - 1)};
  }

  bool set_items(std::size_t first) {
    if ((stack_.size() - first) % 2 != 0) refuse("has a key without a value");
    if (first == floor()) refuse("sets items of nothing");
    Items& items = dicts_[get<Dict>(stack_[first - 1], "a dictionary").index];
    for (std::size_t i = first; i < stack_.size(); i += 2)
      items.emplace_back(stack_[i], stack_[i + 1]);
    return drop(first);
  }

  bool memorise(std::size_t index) {
    // Writers number their memo 0, 1, 2, ..., each entry taking more than a byte.
    if (index >= length_) refuse("numbers a value ", index);
    if (index >= memo_.size()) memo_.resize(index + 1);
    memo_[index] = top();
    return true;
  }

  Value recall(std::size_t index) const {
    if (index >= memo_.size() || !memo_[index]) refuse("refers to value ", index, " before it");
    return *memo_[index];
  }

  // -- torch -------------------------------------------------------------------------------------

  Value global(std::string_view module, std::string_view name) const {
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

  // Persistent ids stand for storages: ('storage', type, key, device, number of elements).
  Value storage(Tuple id) {
    const auto parts = elements(id);
    if (parts.size() != 5 || get<std::string_view>(parts[0], "a name") != "storage")
      refuse("refers to an outside object that is no storage");
    const DType dtype = get<StorageType>(parts[1], "a storage type").dtype;
    const auto key = get<std::string_view>(parts[2], "a storage key");
    const auto count = get<std::int64_t>(parts[4], "an element count");
    if (count < 0) refuse("gives storage ", printable(key), " ", count, " elements");
    storages_.push_back({dtype, find_storage_(key, dtype, static_cast<std::uint64_t>(count))});
    return Storage{static_cast<std::uint32_t>(storages_.size() - 1)};
  }

  bool reduce() {
    const auto arguments = elements(get<Tuple>(pop(), "a tuple of arguments"));
    const auto expect = [&](std::size_t least, std::size_t most, const char* what) {
      if (arguments.size() < least || arguments.size() > most)
        refuse("passes ", arguments.size(), " arguments to ", what);
    };
    switch (get<Function>(pop(), "a function")) {
      case Function::ordered_dict:
        expect(0, 0, "OrderedDict");
        return push(new_dict());
      case Function::tensor:
        expect(6, 7, "_rebuild_tensor_v2");
        return push(rebuild_tensor(arguments));
      case Function::parameter:
        expect(3, 3, "_rebuild_parameter");
        break;
      case Function::parameter_with_state:
        expect(4, 4, "_rebuild_parameter_with_state");
        break;
    }
    return push(get<TensorRef>(arguments[0], "a tensor"));  // a parameter is its tensor
  }

  std::vector<std::size_t> sizes(const Value& value, const char* what) const {
    const auto parts = elements(get<Tuple>(value, what));
    if (parts.size() > max_rank) refuse("has ", what, " of ", parts.size(), " dimensions");
    std::vector<std::size_t> out;
    for (const Value& part : parts) {
      const auto size = get<std::int64_t>(part, what);
      if (size < 0 || static_cast<std::uint64_t>(size) > std::numeric_limits<std::size_t>::max())
        refuse("has ", what, " with ", size);
      out.push_back(static_cast<std::size_t>(size));
    }
    return out;
  }

  // (storage, offset, shape, stride, requires_grad, hooks[, metadata]) -> a view of the storage.
  Value rebuild_tensor(std::span<const Value> arguments) {
    const auto& [dtype, bytes] = storages_[get<Storage>(arguments[0], "a storage").index];
    const auto offset = get<std::int64_t>(arguments[1], "a storage offset");
    auto shape = sizes(arguments[2], "a shape");
    auto stride = sizes(arguments[3], "strides");
    if (shape.size() != stride.size())
      refuse("has ", stride.size(), " strides for shape ", to_string(shape));
    const std::size_t stored = bytes.size() / size_of(dtype);
    const auto count = element_count(shape);
    const auto past_end = [&] {
      refuse("places a tensor of shape ", to_string(shape), " and strides ", to_string(stride),
             " at ", offset, " of a storage of ", stored, " elements");
    };
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
    tensors_.push_back(Tensor{dtype, std::move(shape), std::move(stride),
                              bytes.subspan(begin * size_of(dtype), reach * size_of(dtype))});
    return TensorRef{static_cast<std::uint32_t>(tensors_.size() - 1)};
  }

  Cursor in_;
  std::size_t length_;
  const std::string& source_;
  FindStorage find_storage_;
  std::vector<Value> stack_;
  std::vector<std::size_t> marks_;  // stack heights
  std::vector<std::optional<Value>> memo_;
  std::vector<Value> tuple_items_;
  std::vector<Items> dicts_;
  std::vector<StoredElements> storages_;
  std::vector<Tensor> tensors_;
};

}  // namespace rwkv::inline RWKV_ABI::io::detail
