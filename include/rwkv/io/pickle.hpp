// SPDX-License-Identifier: Apache-2.0
// The pickle inside a .pth file. A pickle is a program; this machine runs its instructions on
// values that stand for what they would make, and calls nothing: of a few of torch's functions it
// knows which tensor they describe, and whatever other classes and functions would make is opaque.
// So a file can do nothing but describe tensors.
#pragma once

#include <rwkv/io/torch_objects.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle {

/// Runs a pickle. Time and memory are O(pickle).
class Machine {
 public:
  Machine(std::span<const std::byte> pickle, const std::string& source, FindStorage find_storage)
      : in_(pickle, source),
        begin_(reinterpret_cast<const char*>(pickle.data())),
        length_(pickle.size()),
        source_(source),
        torch_(source, std::move(find_storage)) {}

  /// The value that the pickle describes.
  [[nodiscard]] Value run() {
    while (step(next<std::uint8_t>())) {
    }
    return pop();
  }

  [[nodiscard]] const Items& items(Dict dict) const { return dicts_[dict.index].items; }
  /// Bytes of the pickle, and where in it a text begins.
  [[nodiscard]] std::size_t size() const noexcept { return length_; }
  [[nodiscard]] std::size_t position(std::string_view text) const noexcept {
    return static_cast<std::size_t>(text.data() - begin_);
  }
  /// How many dictionaries, lists and objects there are.
  [[nodiscard]] std::size_t dictionaries() const noexcept { return dicts_.size(); }
  [[nodiscard]] bool is_object(Dict dict) const { return dicts_[dict.index].type.has_value(); }
  /// The class of an object, or the function that made it; nothing for dictionaries and lists.
  [[nodiscard]] std::string class_of(Dict dict) const {
    const auto& type = dicts_[dict.index].type;
    return type ? torch_.name_of(*type) : std::string();
  }
  [[nodiscard]] const Tuples& tuples() const noexcept { return tuples_; }
  [[nodiscard]] Tensor tensor(TensorRef ref) const { return torch_.view(ref, tuples_); }
  /// The name of a tensor's element type if it is none of this library's.
  [[nodiscard]] std::optional<std::string> unknown_type(TensorRef ref) const {
    return torch_.unknown_type(ref, tuples_);
  }

 private:
  // Executes one instruction; false after the last one.
  bool step(unsigned opcode) {
    switch (opcode) {
      case 0x80: {  // PROTO
        const unsigned protocol = next<std::uint8_t>();
        if (protocol < 2 || protocol > 5)
          fail_with(ErrorCategory::unsupported, source_, ": pickle protocol ", protocol,
                    " is not supported");
        return true;
      }
      case 0x95:  // FRAME: only a hint for buffering
        next<std::uint64_t>();
        return true;
      case '.':  // STOP
        return false;
      case '(':  // MARK
        marks_.push_back(stack_.size());
        return true;
      case 'N':   // NONE
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        return push(Opaque{});
      case 'G':  // BINFLOAT
        next<double>();
        return push(Opaque{});
      case 'B':  // BINBYTES
        return skip(next<std::uint32_t>());
      case 'C':  // SHORT_BINBYTES
        return skip(next<std::uint8_t>());
      case 0x8e:  // BINBYTES8
      case 0x96:  // BYTEARRAY8
        return skip(next<std::uint64_t>());
      case 0x82:  // EXT1: a class by number
        return skip(1);
      case 0x83:  // EXT2
        return skip(2);
      case 0x84:  // EXT4
        return skip(4);
      case 'J':  // BININT
        return push(std::int64_t{next<std::int32_t>()});
      case 'K':  // BININT1
        return push(std::int64_t{next<std::uint8_t>()});
      case 'M':  // BININT2
        return push(std::int64_t{next<std::uint16_t>()});
      case 0x8a:  // LONG1
        return push_long(next<std::uint8_t>());
      case 0x8b:  // LONG4
        return push_long(next<std::uint32_t>());
      case 0x8c:  // SHORT_BINUNICODE
        return push(text(next<std::uint8_t>()));
      case 'U':  // SHORT_BINSTRING
        return push(text(next<std::uint8_t>()));
      case 'T':  // BINSTRING
      case 'X':  // BINUNICODE
        return push(text(next<std::uint32_t>()));
      case 0x8d:  // BINUNICODE8
        return push(text(next<std::uint64_t>()));
      case ')':  // EMPTY_TUPLE
        return push(Tuple{0, 0});
      case 't':  // TUPLE
        return push_tuple(above_mark());
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        return push_tuple(depth(opcode - 0x84));
      case '}':   // EMPTY_DICT
      case ']':   // EMPTY_LIST
      case 0x8f:  // EMPTY_SET
        return push(new_dict());
      case 's':  // SETITEM
        return set_items(depth(2));
      case 'u':  // SETITEMS
        return set_items(above_mark());
      case 'a':  // APPEND
        return append(depth(1));
      case 'e':   // APPENDS
      case 0x90:  // ADDITEMS
        return append(above_mark());
      case 0x91:  // FROZENSET
        return push_frozen(above_mark());
      case '0':  // POP
        if (stack_.size() == floor() && !marks_.empty())
          marks_.pop_back();
        else
          pop();
        return true;
      case '1':  // POP_MARK
        return drop(above_mark());
      case '2': {  // DUP
        const Value value = top();
        return push(value);
      }
      case 'c': {  // GLOBAL
        const auto module = line();
        return push(torch_.named(module, line()));
      }
      case 0x93: {  // STACK_GLOBAL
        const auto name = pop_as<std::string_view>("a name");
        return push(torch_.named(pop_as<std::string_view>("a module"), name));
      }
      case 'R':   // REDUCE
      case 0x81:  // NEWOBJ
        return call(Opaque{});
      case 0x92:  // NEWOBJ_EX
        return call(pop());
      case 'i': {  // INST
        const auto module = line();
        const Value type = torch_.named(module, line());
        return push_made(type, above_mark());
      }
      case 'o': {  // OBJ
        const std::size_t first = above_mark();
        if (first == stack_.size()) refuse(source_, "makes an object of no class");
        const Value type = stack_[first];
        return push_made(type, first + 1, 1);
      }
      case 'b':  // BUILD
        return build(pop());
      case 'Q':  // BINPERSID
        return push(torch_.storage(tuples_[pop_as<Tuple>("a tuple")]));
      case 'q':  // BINPUT
        return memorise(next<std::uint8_t>());
      case 'r':  // LONG_BINPUT
        return memorise(next<std::uint32_t>());
      case 0x94:  // MEMOIZE
        return memorise(memo_.size());
      case 'h':  // BINGET
        return push(recall(next<std::uint8_t>()));
      case 'j':  // LONG_BINGET
        return push(recall(next<std::uint32_t>()));
      default:
        fail_with(ErrorCategory::unsupported, source_, ": pickle instruction ", opcode, " at byte ",
                  in_.position() - 1, " is none that a state dict needs");
    }
  }

  // -- input -------------------------------------------------------------------------------------

  template <class T>
  T next() {
    return in_.get<T>("the pickle");
  }

  std::string_view text(std::uint64_t length) { return in_.text(length, "the pickle"); }

  bool skip(std::uint64_t length) {
    text(length);
    return push(Opaque{});
  }

  bool push_long(std::uint32_t length) {
    const auto bytes = in_.take(length, "the pickle");
    if (length > 8) return push(Opaque{});  // none of a tensor's numbers
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data(), length);
    if (length > 0 && length < 8 && (bytes.back() & std::byte{0x80}) != std::byte{0})
      value |= ~std::uint64_t{0} << 8 * length;  // extend the sign
    return push(static_cast<std::int64_t>(value));
  }

  std::string_view line() {
    std::size_t length = 0;
    Cursor ahead = in_;
    while (ahead.get<char>("the pickle") != '\n') ++length;
    const auto content = text(length);
    next<char>();
    return content;
  }

  // -- stack -------------------------------------------------------------------------------------

  bool push(Value value) {
    stack_.push_back(value);
    return true;
  }

  // Nothing below the innermost mark may be taken, as that would make the mark dangle.
  std::size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }

  std::size_t depth(std::size_t count) const {
    if (stack_.size() - floor() < count) refuse(source_, "takes a value that is not there");
    return stack_.size() - count;
  }

  const Value& top() const { return stack_[depth(1)]; }

  Value pop() {
    const Value value = top();
    stack_.pop_back();
    return value;
  }

  template <class T>
  T pop_as(const char* what) {
    return expect<T>(pop(), what, source_);
  }

  std::size_t above_mark() {
    if (marks_.empty()) refuse(source_, "takes values above a mark that is not there");
    const std::size_t first = marks_.back();
    marks_.pop_back();
    return first;
  }

  bool drop(std::size_t first) {
    stack_.resize(first);
    return true;
  }

  bool push_tuple(std::size_t first) {
    const Tuple tuple = tuples_.add(std::span(stack_).subspan(first));
    drop(first);
    return push(tuple);
  }

  // -- dictionaries, calls, memo -----------------------------------------------------------------

  Value new_dict(std::optional<Global> type = {}) {
    dicts_.push_back({{}, type});
    return Dict{static_cast<std::uint32_t>(dicts_.size() - 1)};
  }

  Items& items_below(std::size_t first) {
    if (first == floor()) refuse(source_, "sets items of nothing");
    return dicts_[expect<Dict>(stack_[first - 1], "a dictionary", source_).index].items;
  }

  bool set_items(std::size_t first) {
    if ((stack_.size() - first) % 2 != 0) refuse(source_, "has a key without a value");
    Items& items = items_below(first);
    for (std::size_t i = first; i < stack_.size(); i += 2)
      items.emplace_back(stack_[i], stack_[i + 1]);
    return drop(first);
  }

  bool append(std::size_t first) {
    Items& items = items_below(first);
    for (std::size_t i = first; i < stack_.size(); ++i) items.emplace_back(Opaque{}, stack_[i]);
    return drop(first);
  }

  bool push_frozen(std::size_t first) {
    const Value set = new_dict();
    Items& items = dicts_.back().items;
    for (std::size_t i = first; i < stack_.size(); ++i) items.emplace_back(Opaque{}, stack_[i]);
    drop(first);
    return push(set);
  }

  // An object made of the values from `first` on, in place of these and of `before` values more.
  bool push_made(const Value& type, std::size_t first, std::size_t before = 0) {
    const Tuple arguments = tuples_.add(std::span(stack_).subspan(first));
    drop(first - before);
    return push(made(type, arguments, Opaque{}));
  }

  bool call(const Value& keywords) {
    const auto arguments = pop_as<Tuple>("a tuple of arguments");
    return push(made(pop(), arguments, keywords));
  }

  // What the class or function `type` would make. Objects keep what they were made of: a state dict
  // may be in there.
  Value made(const Value& type, Tuple arguments, const Value& keywords) {
    std::optional<Global> global;
    if (const auto* function = std::get_if<Function>(&type);
        function != nullptr && *function != Function::ordered_dict) {
      const Value tensor = torch_.call(*function, arguments, tuples_);
      if (std::holds_alternative<TensorRef>(tensor)) return tensor;
      if (const auto* subclass = std::get_if<Global>(&tensor)) global = *subclass;
    } else if (const auto* other = std::get_if<Global>(&type)) {
      global = *other;
    } else if (function == nullptr && !std::holds_alternative<StorageType>(type) &&
               !std::holds_alternative<ElementType>(type) &&
               !std::holds_alternative<Opaque>(type)) {
      refuse(source_, "has something else where it needs a function");
    }
    const Value object = new_dict(global);
    Items& items = dicts_.back().items;
    if (arguments.count > 0) items.emplace_back(Opaque{}, arguments);
    if (std::holds_alternative<Dict>(keywords)) items.emplace_back(Opaque{}, keywords);
    return object;
  }

  // Attributes: of an object they may be what it holds, of a dictionary nothing that counts.
  bool build(const Value& state) {
    if (std::holds_alternative<TensorRef>(top()) || std::holds_alternative<Opaque>(top()))
      return true;
    auto& object = dicts_[expect<Dict>(top(), "a dictionary", source_).index];
    if (object.type) object.items.emplace_back(Opaque{}, state);
    return true;
  }

  bool memorise(std::size_t index) {
    // Writers number their memo 0, 1, 2, ..., each entry taking more than a byte.
    if (index >= length_) refuse(source_, "numbers a value ", index);
    if (index >= memo_.size()) memo_.resize(index + 1);
    memo_[index] = top();
    return true;
  }

  Value recall(std::size_t index) const {
    if (index >= memo_.size() || !memo_[index])
      refuse(source_, "refers to value ", index, " before it");
    return *memo_[index];
  }

  Cursor in_;
  const char* begin_;
  std::size_t length_;
  const std::string& source_;
  TorchObjects torch_;
  std::vector<Value> stack_;
  std::vector<std::size_t> marks_;  // stack heights
  std::vector<std::optional<Value>> memo_;
  Tuples tuples_;
  struct Container {
    Items items;
    std::optional<Global> type;
  };
  std::vector<Container> dicts_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle
