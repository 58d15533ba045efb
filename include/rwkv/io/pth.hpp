// SPDX-License-Identifier: Apache-2.0
// Official RWKV checkpoints: torch.save of a dictionary of tensors, that is a ZIP archive with a
// pickle (names, shapes, strides) and one uncompressed entry per storage. Nothing is copied.
#pragma once

#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/find_state_dict.hpp>
#include <rwkv/io/pickle.hpp>
#include <rwkv/io/zip.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// True if `bytes` begin like a ZIP archive.
[[nodiscard]] inline bool is_zip(std::span<const std::byte> bytes) noexcept {
  return bytes.size() >= 4 && std::memcmp(bytes.data(), "PK\3\4", 4) == 0;
}

/// True if `bytes` begin like a file of torch.save before version 1.6, which was no archive.
[[nodiscard]] inline bool is_legacy_pth(std::span<const std::byte> bytes) noexcept {
  constexpr std::string_view magic = "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19";
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

namespace detail {

/// Reads a .pth archive.
class PthReader {
 public:
  PthReader(std::span<const std::byte> bytes, const std::string& source)
      : source_(source), entries_(ZipReader(bytes, source).read()), file_size_(bytes.size()) {}

  [[nodiscard]] Checkpoint read() {
    pickle::Machine machine(find_pickle(), source_,
                            [this](std::string_view key, DType dtype, std::uint64_t count) {
                              return find_storage(key, dtype, count);
                            });
    const auto root = machine.run();
    const auto* outermost = std::get_if<pickle::Dict>(&root);
    if (outermost == nullptr && !std::holds_alternative<pickle::Tuple>(root))
      refuse("the pickle does not hold a dictionary");
    const auto found = pickle::find_state_dict(machine, root);

    Checkpoint checkpoint;
    checkpoint.source = source_;
    checkpoint.format = "pth";
    checkpoint.in_place = false;
    std::uint64_t total = 0;
    const auto add = [&](std::string_view name, const pickle::Value& value) {
      if (!is_wanted(machine, found, name, value)) return;
      const Tensor tensor = machine.tensor(std::get<pickle::TensorRef>(value));
      total += tensor.size() * size_of(tensor.dtype);
      if (total / most_sharing > file_size_)
        refuse("its tensors share their storages more than ", most_sharing, " times over");
      if (!checkpoint.tensors.emplace(name, tensor).second)
        refuse_tensor(ErrorCategory::format, source_, name, " occurs twice");
    };
    const auto chosen = found.value.value_or(root);
    if (const auto* dict = std::get_if<pickle::Dict>(&chosen)) {
      std::int64_t number = 0;  // of a list; a dictionary may have numbers for keys
      for (const auto& [key, value] : machine.items(*dict)) {
        const auto* own = std::get_if<std::int64_t>(&key);
        if (const auto* name = std::get_if<std::string_view>(&key))
          add(*name, value);
        else if (!found.named)
          add(std::to_string(own != nullptr ? *own : number), value);
        ++number;
      }
    } else {
      std::size_t number = 0;
      for (const pickle::Value& value : machine.tuples()[std::get<pickle::Tuple>(chosen)])
        add(std::to_string(number++), value);
    }
    if (!found.is_model && outermost != nullptr && machine.is_object(*outermost))
      fail_with(ErrorCategory::unsupported, source_, ": this file holds an object of ",
                printable(machine.class_of(*outermost)),
                " and no state dict: save what its state_dict() returns");
    if (checkpoint.tensors.empty()) refuse("there are no tensors in this file");
    return checkpoint;
  }

 private:
  // Tied weights may appear under several names, but a small file cannot pretend to be a large one.
  static constexpr std::size_t most_sharing = 4;

  template <class... Why>
  [[noreturn]] void refuse(const Why&... why) const {
    fail_with(ErrorCategory::format, source_, ": ", why...);
  }

  // "<any directory>/data.pkl"; that directory also holds "data/<key>".
  std::span<const std::byte> find_pickle() {
    constexpr std::string_view file = "data.pkl";
    const std::span<const std::byte>* found = nullptr;
    for (const auto& [name, data] : entries_) {
      const auto slash = name.find('/');
      const std::size_t begin = slash == std::string::npos ? 0 : slash + 1;
      if (std::string_view(name).substr(begin) != file) continue;
      if (found != nullptr) refuse("there are two entries called data.pkl");
      found = &data;
      root_ = name.substr(0, begin);
    }
    if (found == nullptr)
      refuse("this ZIP archive has no data.pkl, so torch.save did not write it");
    // A hundred bytes per tensor are usual; the machine's memory is a multiple of this.
    constexpr std::size_t longest = std::size_t{4} << 20;
    if (found->size() > longest) refuse("the pickle has ", found->size(), " bytes");
    if (const auto order = entries_.find(root_ + "byteorder"); order != entries_.end()) {
      constexpr std::string_view little = "little";
      if (order->second.size() != little.size() ||
          std::memcmp(order->second.data(), little.data(), little.size()) != 0)
        fail_with(ErrorCategory::unsupported, source_, ": the tensors are not little-endian");
    }
    return *found;
  }

  std::span<const std::byte> find_storage(std::string_view key, DType dtype,
                                          std::uint64_t count) const {
    constexpr std::size_t longest = 64;  // keys are numbers
    const auto entry = entries_.find(root_ + "data/" + std::string(key.substr(0, longest)));
    if (key.size() > longest || entry == entries_.end())
      refuse("storage ", printable(key), " is missing");
    const auto bytes = entry->second;
    if (bytes.size() / size_of(dtype) != count)
      refuse("storage ", printable(key), " has ", bytes.size(), " bytes, not ", count,
             " elements of type ", std::string(name_of(dtype)));
    return bytes;
  }

  // Whether `value` is a tensor that counts. Beside a model's weights, what has a type that nobody
  // here knows does not; a weight that has one, or is no plain tensor, is refused.
  bool is_wanted(const pickle::Machine& machine, const pickle::StateDict& found,
                 std::string_view name, const pickle::Value& value) const {
    const auto needed = [&] { return !found.is_model || known_name(name).has_value(); };
    if (const auto* object = std::get_if<pickle::Dict>(&value)) {
      if (found.is_model && machine.is_object(*object) && needed())
        refuse_tensor(ErrorCategory::unsupported, source_, name, " is made by ",
                      printable(machine.class_of(*object)),
                      " and no plain tensor: gather or convert it, and save a state dict of plain "
                      "tensors");
      return false;
    }
    const auto* ref = std::get_if<pickle::TensorRef>(&value);
    if (ref == nullptr) return false;
    const auto unknown = machine.unknown_type(*ref);
    if (unknown && needed())
      refuse_tensor(ErrorCategory::unsupported, source_, name, " has elements of ",
                    printable(*unknown), ", which is not supported");
    return !unknown;
  }

  const std::string& source_;
  ZipEntries entries_;
  std::size_t file_size_;
  std::string root_;
};

}  // namespace detail

/// Reads a file written by torch.save, whose content is `bytes`, which must outlive the result: the
/// dictionary in it that looks most like a model (`find_state_dict`), at any depth and under any
/// key. Whatever else there is (step counts, optimiser states, objects of any class) is left out
/// and not looked at. Without names of RWKV, that is the dictionary, list or tuple with the most
/// tensors; those without names are called "0", "1", ... Views keep their strides, and tensors
/// that share a storage keep sharing it. Throws `Error` (format) for a damaged file and
/// (unsupported) for compressed entries, for weights that are no plain tensors, and for the format
/// before torch 1.6. Time and memory O(pickle + entries).
[[nodiscard]] inline Checkpoint read_pth(std::span<const std::byte> bytes,
                                         const std::string& source) {
  if (is_legacy_pth(bytes))
    fail_with(ErrorCategory::unsupported, source,
              ": this is the torch.save format from before torch 1.6; load it with torch and save "
              "it again");
  return detail::PthReader(bytes, source).read();
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
