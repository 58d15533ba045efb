// SPDX-License-Identifier: Apache-2.0
// Which of a model's tensors lies where in a flat buffer, and how training treats it.
#pragma once

#include <rwkv/hybrid_shape.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/io/tensor_entry.hpp>
#include <rwkv/io/untrusted.hpp>
#include <rwkv/shape.hpp>
#include <rwkv/weights.hpp>

#include <cstdint>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// What the weights that are stored as blocks in a q8_0 model are multiplied with, and how they are
/// themselves: as they are, or rounded.
enum class Precision : std::uint8_t { exact, int8 };

/// How the optimizer treats a tensor.
enum class Group : std::uint8_t {
  matrix,  ///< the 2-D `*.weight` matrices: weight decay
  decay,   ///< `att.w0`: twice the learning rate
  rest,    ///< vectors, norms, low-rank maps
};

/// One tensor inside the flat buffer.
struct TensorInfo {
  std::string name;                ///< official, e.g. "blocks.0.att.receptance.weight"
  std::vector<std::size_t> shape;  ///< official, e.g. [1, 1, C]
  Group group = Group::rest;
  std::size_t offset = 0;  ///< in floats; a multiple of 16
  std::size_t size = 0;    ///< in floats

  /// Whether low-rank adapters change it: the large matrices of blocks.
  [[nodiscard]] bool is_adapted() const noexcept {
    return group == Group::matrix && name.starts_with("blocks.") &&
           !name.ends_with(".s_emb.weight");
  }
};

// What stands for the tensors of a block, of a sparse block, and of what is outside the blocks: P
// is an offset, a pointer, or a pointer to const.
template <class P>
using BlockTensors = rwkv::BlockTensors<P, P, NormTensors<P>>;
template <class P>
using SparseTensors = SparseBlockTensors<P, P, NormTensors<P>>;
template <class P>
using GlobalTensors = rwkv::GlobalTensors<P, NormTensors<P>>;

/// What makes a layout one of a hybrid model; by default it is not.
struct SparseLayout {
  std::size_t blocks = 0;  ///< sparse-attention blocks
  std::size_t ffn = 0;     ///< width of their channel mix
  HybridConfig config{};   ///< training uses mode, chunk and top_k
  friend bool operator==(const SparseLayout&, const SparseLayout&) = default;
};

namespace detail {

/// Shapes are compared without their ones: released files squeeze [1, 1, C] to [C].
inline std::vector<std::size_t> squeezed(std::vector<std::size_t> shape) {
  std::erase(shape, std::size_t{1});
  return shape;
}

/// The order of training, which is older than that of files: the bits of a run depend on the order
/// in which the squares of a gradient are added up.
[[nodiscard]] constexpr int place_of(std::string_view name) noexcept {
  return name.starts_with("ln1")        ? 0
         : name.starts_with("ln2")      ? 1
         : name.starts_with("att.ln_x") ? 3
         : name.starts_with("att.")     ? 2
                                        : 4;
}

}  // namespace detail

/// What is stored where. Immutable; shared by everything that has one number per parameter.
class Layout {
 public:
  /// `first_value_residual`: block 0 stores v0, v1, v2 too, as some released files do; nothing ever
  /// reads them. Throws `Error` (argument) for a shape that no model can have.
  explicit Layout(const Dimensions& d, Eigenvalues eigenvalues = Eigenvalues::standard,
                  bool first_value_residual = false, const SparseLayout& sparse = {})
      : shape_(d),
        eigenvalues_(eigenvalues),
        first_value_residual_(first_value_residual),
        sparse_(sparse) {
    if (d.layers == 0 || d.embed == 0 || d.head_size == 0 || d.embed % d.head_size != 0 ||
        d.ffn == 0 || d.vocab == 0 || d.decay_rank == 0 || d.icl_rank == 0 || d.gate_rank == 0 ||
        (d.value_rank == 0 && (d.layers > 1 || first_value_residual)))
      fail_with(ErrorCategory::argument, "no model has ", d.layers, " layers, width ", d.embed,
                ", head size ", d.head_size, ", ffn ", d.ffn, ", vocabulary ", d.vocab,
                " and ranks ", d.decay_rank, ", ", d.icl_rank, ", ", d.value_rank, ", ",
                d.gate_rank);
    if (d.deep_rank > 0x4000)  // whose square many numbers hold
      fail_with(ErrorCategory::argument, "no model has a DeepEmbed of ", d.deep_rank, " ranks");
    append(
        {}, d, [](auto f, auto& g) { for_each_global_tensor(f, g); }, globals_);
    blocks_.resize(d.layers);
    for (std::size_t i = 0; i < d.layers; ++i)
      append(
          "blocks." + std::to_string(i) + '.', d,
          [&](auto f, auto& b) {
            for_each_block_tensor(f, b);
            if (d.deep_rank > 0) for_each_deep_embed_tensor(f, b);
          },
          blocks_[i], i == 0 && !first_value_residual);
    if (sparse.blocks == 0) return;
    const HybridShape hybrid(d, sparse.blocks, sparse.ffn, sparse.config);  // checks
    interval_ = hybrid.interval();
    if (sparse.ffn == 0) fail(ErrorCategory::argument, "no model has sparse blocks of ffn 0");
    sparse_blocks_.resize(sparse.blocks);
    Dimensions sparse_d = d;
    sparse_d.ffn = sparse.ffn;
    for (std::size_t j = 0; j < sparse.blocks; ++j)
      append(
          "moba." + std::to_string(j) + '.', sparse_d,
          [](auto f, auto& b) { for_each_sparse_block_tensor(f, b); }, sparse_blocks_[j]);
  }

  [[nodiscard]] const DynamicShape& shape() const noexcept { return shape_; }
  [[nodiscard]] Eigenvalues eigenvalues() const noexcept { return eigenvalues_; }
  [[nodiscard]] bool first_value_residual() const noexcept { return first_value_residual_; }
  [[nodiscard]] const SparseLayout& sparse() const noexcept { return sparse_; }
  [[nodiscard]] std::span<const TensorInfo> tensors() const noexcept { return tensors_; }

  /// Calls rwkv(i) and sparse(j) for the blocks that run, in order (see hybrid.hpp).
  template <class Rwkv, class Sparse>
  void for_blocks(Rwkv rwkv, Sparse sparse) const {
    if (sparse_.blocks == 0)
      for (std::size_t i = 0; i < shape_.layers(); ++i) rwkv(i);
    for (std::size_t j = 0; j < sparse_.blocks; ++j) {
      for (std::size_t i = 0; i < interval_; ++i) rwkv(j * interval_ + i);
      sparse(j);
    }
  }
  /// The same, last to first.
  template <class Rwkv, class Sparse>
  void for_blocks_backward(Rwkv rwkv, Sparse sparse) const {
    if (sparse_.blocks == 0)
      for (std::size_t i = shape_.layers(); i-- > 0;) rwkv(i);
    for (std::size_t j = sparse_.blocks; j-- > 0;) {
      sparse(j);
      for (std::size_t i = interval_; i-- > 0;) rwkv(j * interval_ + i);
    }
  }
  /// Floats of the buffer: the parameters and the gaps that align them.
  [[nodiscard]] std::size_t buffer_size() const noexcept { return size_; }
  /// Number of parameters.
  [[nodiscard]] std::size_t parameters() const noexcept {
    std::size_t n = 0;
    for (const TensorInfo& t : tensors_) n += t.size;
    return n;
  }

  /// Pointers to the tensors of block i inside a buffer; absent tensors are null.
  template <class T>
  [[nodiscard]] BlockTensors<T*> block(std::size_t i, T* data) const {
    BlockTensors<T*> view{};
    for_each_block_tensor(located(data), blocks_[i], view);
    if (shape_.deep_rank() > 0) for_each_deep_embed_tensor(located(data), blocks_[i], view);
    return view;
  }
  template <class T>
  [[nodiscard]] SparseTensors<T*> sparse_block(std::size_t j, T* data) const {
    SparseTensors<T*> view{};
    for_each_sparse_block_tensor(located(data), sparse_blocks_[j], view);
    return view;
  }
  template <class T>
  [[nodiscard]] GlobalTensors<T*> globals(T* data) const {
    GlobalTensors<T*> view;
    for_each_global_tensor(located(data), globals_, view);
    return view;
  }

  friend bool operator==(const Layout& a, const Layout& b) noexcept {
    return a.shape_ == b.shape_ && a.eigenvalues_ == b.eigenvalues_ &&
           a.first_value_residual_ == b.first_value_residual_ && a.sparse_ == b.sparse_;
  }

 private:
  static constexpr std::size_t absent = dynamic;

  template <class T>
  static auto located(T* data) {
    return [data](const TensorSpec&, std::size_t offset, T*& to) {
      to = offset == absent ? nullptr : data + offset;
    };
  }

  /// Appends what `each` names and puts the offsets into `to`.
  template <class Each, class Offsets>
  void append(const std::string& prefix, const Dimensions& d, Each each, Offsets& to,
              bool without_value_residual = false) {
    for (int place = 0; place < 5; ++place)
      each(
          [&](const TensorSpec& spec, std::size_t& offset) {
            if (detail::place_of(spec.name) == place)
              offset = without_value_residual && is_value_residual(spec.name)
                           ? absent
                           : append(prefix, d, spec);
          },
          to);
  }

  std::size_t append(const std::string& prefix, const Dimensions& d, const TensorSpec& spec) {
    const bool vector = spec.role == TensorRole::vector || spec.role == TensorRole::low_rank;
    tensors_.push_back({.name = prefix + std::string(spec.name),
                        .shape = io::shape_of(spec, d),
                        .group = !vector                 ? Group::matrix
                                 : spec.name == "att.w0" ? Group::decay
                                                         : Group::rest,
                        .offset = size_,
                        .size = spec.size(d)});
    constexpr std::size_t grain = alignment / sizeof(float);
    constexpr std::size_t most = PTRDIFF_MAX / sizeof(float) / grain * grain;
    const auto size = io::detail::element_count(tensors_.back().shape);
    if (!size || *size > most - size_)
      fail_with(ErrorCategory::memory, "no memory for a tensor ", tensors_.back().name, ' ',
                io::to_string(tensors_.back().shape));
    size_ += (spec.size(d) + grain - 1) / grain * grain;
    return tensors_.back().offset;
  }

  DynamicShape shape_;
  Eigenvalues eigenvalues_;
  bool first_value_residual_;
  SparseLayout sparse_;
  std::size_t interval_ = 0;  // of a hybrid model
  std::size_t size_ = 0;
  std::vector<TensorInfo> tensors_;
  GlobalTensors<std::size_t> globals_{};
  std::vector<BlockTensors<std::size_t>> blocks_;
  std::vector<SparseTensors<std::size_t>> sparse_blocks_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
