// SPDX-License-Identifier: Apache-2.0
// The pickle of a .pth file without the archive around it, where mutations reach further. Every
// storage it asks for is there.
#include "reader.hpp"
#include <rwkv/io/find_state_dict.hpp>

#include <array>

namespace {

rwkv::io::Checkpoint run_pickle(std::span<const std::byte> bytes) {
  namespace pickle = rwkv::io::detail::pickle;
  static constexpr std::array<std::byte, 256> storage{};
  const std::string source = "file";
  pickle::Machine machine(
      bytes, source, [](std::string_view, rwkv::DType dtype, std::uint64_t count) {
        const auto size = rwkv::io::detail::checked_product(static_cast<std::size_t>(count),
                                                            rwkv::size_of(dtype));
        return std::span(storage).first(std::min(size.value_or(0), storage.size()));
      });
  const auto root = machine.run();
  rwkv::io::Checkpoint checkpoint;
  const auto add = [&](const pickle::Value& value) {
    if (const auto* ref = std::get_if<pickle::TensorRef>(&value))
      checkpoint.tensors.emplace(std::to_string(checkpoint.tensors.size()), machine.tensor(*ref));
  };
  const auto found = pickle::find_state_dict(machine, root).value.value_or(root);
  if (const auto* dict = std::get_if<pickle::Dict>(&found))
    for (const auto& [key, value] : machine.items(*dict)) add(value);
  else if (const auto* tuple = std::get_if<pickle::Tuple>(&found))
    for (const pickle::Value& value : machine.tuples()[*tuple]) add(value);
  return checkpoint;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  return fuzz::run(data, size, run_pickle);
}
