// SPDX-License-Identifier: Apache-2.0
// The activations of one forward pass of a hybrid model: those of RWKV-7, which its sparse blocks
// share, and what the package's semantics decide about a call before it is run.
#pragma once

#include <rwkv/hybrid_state.hpp>
#include <rwkv/workspace.hpp>

#include <array>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// Some consecutive rows of a pass: tokens of one sequence and the state they extend.
struct HybridSegment {
  HybridState* state;
  const Token* tokens;
  std::size_t first_row;
  std::size_t rows;
};

/// What the tokens of one call read in the package's semantics.
struct PackageCall {
  enum class Reads : std::uint8_t {
    everything,  ///< all entries up to the token's own
    chunks,      ///< decode: the chosen chunks, the rest behind the last whole chunk, itself
    piece,       ///< prefill: its own piece of the call
  };
  Reads reads;
  std::size_t cached;  ///< entries before the call
  std::size_t chosen_count;
  std::array<std::size_t, HybridConfig::largest_top_k> chosen;  ///< ascending
};

}  // namespace detail

/// Scratch for passes of up to `rows()` rows, allocated once and reused. It carries nothing from
/// one call to the next.
class HybridWorkspace : public Workspace<DynamicShape> {
 public:
  /// Memory: that of a Workspace, and about 600 bytes per row. Throws std::bad_alloc.
  explicit HybridWorkspace(const HybridShape& shape, std::size_t rows = 128)
      : Workspace(with_widest_ffn(shape), rows),
        shape_(shape),
        segments_(this->rows()),
        calls_(this->rows()) {}

  [[nodiscard]] const HybridShape& shape() const noexcept { return shape_; }
  /// False for a workspace that was moved away, or to which an assignment failed.
  [[nodiscard]] bool intact() const noexcept {
    return Workspace::intact() && segments_.size() == rows() && calls_.size() == rows();
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return Workspace::bytes() + segments_.size() * sizeof(detail::HybridSegment) +
           calls_.size() * sizeof(detail::PackageCall);
  }

  /// What `bytes` says of a workspace for this shape and so many rows; SIZE_MAX for more than that.
  [[nodiscard]] static std::size_t bytes_for(const HybridShape& shape, std::size_t rows) {
    return sum_or_most(
        Workspace::bytes_for(with_widest_ffn(shape), rows),
        product_or_most((std::max<std::size_t>)(rows, 1),
                        sizeof(detail::HybridSegment) + sizeof(detail::PackageCall)));
  }

  // -- for the stages of the forward pass
  [[nodiscard]] detail::HybridSegment* segments() noexcept { return segments_.data(); }
  /// One per segment.
  [[nodiscard]] detail::PackageCall* calls() noexcept { return calls_.data(); }

 private:
  static DynamicShape with_widest_ffn(const HybridShape& shape) {
    Dimensions d = shape.dimensions();
    d.ffn = (std::max)(d.ffn, shape.sparse_ffn());
    return DynamicShape(d);
  }

  HybridShape shape_;
  std::vector<detail::HybridSegment> segments_;
  std::vector<detail::PackageCall> calls_;
};

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
