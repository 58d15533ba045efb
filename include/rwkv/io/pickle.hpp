// SPDX-License-Identifier: Apache-2.0
// The pickled state dict inside a .pth file. A pickle is a program; this machine runs only the
// instructions and calls only the few functions that torch.save writes for a dictionary of tensors.
// Everything else is refused by name, so a file can do nothing but describe tensors.
#pragma once

#include <rwkv/io/torch_objects.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle {

/// Runs a pickle. Time and memory are O(pickle).
class Machine {
 public:
  Machine(std::span<const std::byte> pickle, const std::string& source, FindStorage find_storage)
      : in_(pickle, source),
        length_(pickle.size()),
        source_(source),
        torch_(source, std::move(find_storage)) {}

  /// The value that the pickle describes.
  [[nodiscard]] Value run() {
    while (step(next<std::uint8_t>())) {
    }
    return pop();
  }

  [[nodiscard]] const Items& items(Dict dict) const { return dicts_[dict.index]; }
  [[nodiscard]] const Tensor& tensor(TensorRef ref) const { return torch_[ref]; }

 private:
  // Executes one instruction; false after the last one.
  bool step(unsigned opcode) {
    switch (opcode) {
      case 0x80: {  // PROTO
        const unsigned protocol = next<std::uint8_t>();
        if (protocol < 2 || protocol > 4)
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
      case ']':   // EMPTY_LIST
        return push(Opaque{});
      case 'G':  // BINFLOAT
        next<double>();
        return push(Opaque{});
      case 'J':  // BININT
        return push(std::int64_t{next<std::int32_t>()});
      case 'K':  // BININT1
        return push(std::int64_t{next<std::uint8_t>()});
      case 'M':  // BININT2
        return push(std::int64_t{next<std::uint16_t>()});
      case 0x8a:  // LONG1
        return push(long_integer(next<std::uint8_t>()));
      case 0x8b:  // LONG4
        return push(long_integer(next<std::uint32_t>()));
      case 0x8c:  // SHORT_BINUNICODE
        return push(text(next<std::uint8_t>()));
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
      case '}':  // EMPTY_DICT
        return push(new_dict());
      case 's':  // SETITEM
        return set_items(depth(2));
      case 'u':  // SETITEMS
        return set_items(above_mark());
      case 'a':  // APPEND: the elements of lists are dropped
        return drop(depth(1));
      case 'e':  // APPENDS
        return drop(above_mark());
      case 'c': {  // GLOBAL
        const auto module = line();
        return push(torch_.named(module, line()));
      }
      case 0x93: {  // STACK_GLOBAL
        const auto name = pop_as<std::string_view>("a name");
        return push(torch_.named(pop_as<std::string_view>("a module"), name));
      }
      case 'R':  // REDUCE
        return call();
      case 'b':  // BUILD: attributes of a dictionary, which no tensor depends on
        pop();
        expect<Dict>(top(), "a dictionary", source_);
        return true;
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

  std::int64_t long_integer(std::uint32_t length) {
    if (length > 8) refuse(source_, "holds an integer of ", length, " bytes");
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

  Value new_dict() {
    dicts_.emplace_back();
    return Dict{static_cast<std::uint32_t>(dicts_.size() - 1)};
  }

  bool set_items(std::size_t first) {
    if ((stack_.size() - first) % 2 != 0) refuse(source_, "has a key without a value");
    if (first == floor()) refuse(source_, "sets items of nothing");
    Items& items = dicts_[expect<Dict>(stack_[first - 1], "a dictionary", source_).index];
    for (std::size_t i = first; i < stack_.size(); i += 2)
      items.emplace_back(stack_[i], stack_[i + 1]);
    return drop(first);
  }

  bool call() {
    const auto arguments = tuples_[pop_as<Tuple>("a tuple of arguments")];
    const auto function = pop_as<Function>("a function");
    if (function != Function::ordered_dict) return push(torch_.call(function, arguments, tuples_));
    if (!arguments.empty())
      refuse(source_, "passes ", arguments.size(), " arguments to OrderedDict");
    return push(new_dict());
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
  std::size_t length_;
  const std::string& source_;
  TorchObjects torch_;
  std::vector<Value> stack_;
  std::vector<std::size_t> marks_;  // stack heights
  std::vector<std::optional<Value>> memo_;
  Tuples tuples_;
  std::vector<Items> dicts_;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail::pickle
