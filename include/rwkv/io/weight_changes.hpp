// SPDX-License-Identifier: Apache-2.0
// What changes a model's tensors while they are read. adapter.hpp implements it; those who load no
// adapters do not compile it.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/io/checkpoint.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// The changes to the tensors of one model.
class WeightChanges {
 public:
  /// All changes of a matrix as one product, W + b a.
  struct Factors {
    std::vector<float> a;  ///< [rank, in]
    std::vector<float> b;  ///< [out, rank]
  };

  virtual ~WeightChanges() = default;

  /// True if the tensor is not the model's alone.
  [[nodiscard]] virtual bool touches(std::string_view name) const = 0;

  /// What changes are added to: `stored`, or the tensor that an adapter put in its place.
  [[nodiscard]] virtual const Tensor& base(std::string_view name, const Tensor& stored) const = 0;

  /// True if something is added to `base`.
  [[nodiscard]] virtual bool adds(std::string_view name) const = 0;

  /// The sum of `base` and all changes as floats in C order. Products take out * in * rank steps,
  /// divided among the executor's workers; every executor gives the same bits. Throws `Error`
  /// (numeric) for changes that are not finite.
  [[nodiscard]] virtual std::vector<float> merged(std::string_view name, const Tensor& base,
                                                  ExecutorRef exec) const = 0;

  /// The rank of all changes together, if they can stay a product beside the matrix: Bat and scaled
  /// whole tensors cannot.
  [[nodiscard]] virtual std::optional<std::size_t> rank(std::string_view name) const = 0;

  /// That product. Precondition: there is a rank.
  [[nodiscard]] virtual Factors factors(std::string_view name, const Tensor& base) const = 0;

  /// The model with all changes in it, in the types that its tensors have; blocks become f32.
  /// Memory: all tensors that are changed. Without `matrices`, the large ones (`is_large`) stay as
  /// they are.
  [[nodiscard]] virtual Checkpoint apply(Checkpoint model, bool matrices,
                                         ExecutorRef exec) const = 0;

  /// True for the matrices of the blocks, the table and the head.
  [[nodiscard]] static bool is_large(std::string_view name, const Tensor& tensor) noexcept {
    return tensor.shape.size() == 2 && name.ends_with(".weight");
  }
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI {

/// An adapter, made by `read_adapter` or `make_adapter` (adapter.hpp).
struct Adapter {
  io::Checkpoint checkpoint;
  /// 1: as trained; 0: not at all; negative: the other way. Files of RWKV-PEFT and web-rwkv do not
  /// say which alpha they were trained with: there this is alpha / rank.
  float scale = 1;
  /// Finds out what several of them, one after the other, do to a model.
  std::shared_ptr<const io::WeightChanges> (*bind)(const io::Checkpoint& model,
                                                   std::span<const Adapter> adapters) = nullptr;
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// What the adapters do to `model`; null if there are none. Throws `Error` (see adapter.hpp).
[[nodiscard]] inline std::shared_ptr<const WeightChanges> changes_to(
    const Checkpoint& model, std::span<const Adapter> adapters) {
  for (const Adapter& adapter : adapters)
    if (adapter.bind == nullptr)
      fail_with(ErrorCategory::argument, adapter.checkpoint.source,
                ": adapters are made by make_adapter or read_adapter (rwkv/adapter.hpp)");
  return adapters.empty() ? nullptr : adapters[0].bind(model, adapters);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
