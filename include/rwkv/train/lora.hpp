// SPDX-License-Identifier: Apache-2.0
// Low-rank adapters on the big matrices: W becomes W + (alpha / rank) B A, with A [rank, in] and
// B [out, rank] trained and W frozen.
#pragma once

#include <rwkv/train/parameters.hpp>

#include <filesystem>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// The adapters of one model: of receptance, key, value, output and of both matrices of the channel
/// mix in every block. A value type.
class Lora {
 public:
  struct Options {
    std::size_t rank = 8;
    float alpha = 16.0f;
  };

  /// One adapted matrix; A and B lie in `values()`.
  struct Adapter {
    TensorInfo base;
    std::size_t a = 0;  ///< offset of A [rank, in]
    std::size_t b = 0;  ///< offset of B [out, rank]
    /// "blocks.0.att.key" for blocks.0.att.key.weight
    [[nodiscard]] std::string name() const {
      return base.name.substr(0, base.name.size() - std::string_view(".weight").size());
    }
    [[nodiscard]] std::size_t out() const noexcept { return base.shape[0]; }
    [[nodiscard]] std::size_t in() const noexcept { return base.shape[1]; }
  };

  /// A is random, B zero: training starts at the base model. Throws `Error` (argument) for a rank
  /// of 0 or past the sides of a matrix, and an alpha that is not positive and finite.
  Lora(const Layout& layout, const Options& options, std::uint64_t seed);

  [[nodiscard]] const Options& options() const noexcept { return options_; }
  [[nodiscard]] std::span<const Adapter> adapters() const noexcept { return adapters_; }
  [[nodiscard]] std::span<float> values() noexcept { return {values_.data(), values_.size()}; }
  [[nodiscard]] std::span<const float> values() const noexcept {
    return {values_.data(), values_.size()};
  }

  /// merged = base with every adapter added in. Throws `Error` (shape, argument) for parameters of
  /// another model.
  void merge(const Parameters& base, Parameters& merged) const;

  /// Gradients of A and B, in the order of `values()`, from the gradient of the merged matrices.
  /// Throws as `merge`, and (argument) unless `out` is as large as `values()`.
  void gradient(const Parameters& merged_gradient, std::span<float> out) const;

  /// Writes `<matrix>.lora_A` [rank, in] and `<matrix>.lora_B` [out, rank], with rank and alpha as
  /// metadata, atomically. Throws `Error` (io).
  void write(const std::filesystem::path& path) const;

  /// Reads what `write` wrote, for a model of this layout. Throws `Error` (format, shape) naming
  /// the tensor.
  [[nodiscard]] static Lora read(const io::Checkpoint& c, const Layout& layout);

 private:
  Options options_;
  Layout layout_;
  std::vector<Adapter> adapters_;
  Buffer<float, dynamic> values_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/train/lora.ipp>
#endif
