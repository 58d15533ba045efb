// SPDX-License-Identifier: Apache-2.0
// All parameters of a model in one flat buffer, with a table that says which official name lives
// where. The same class holds gradients and optimizer moments: whatever has one number per
// parameter.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/hybrid_shape.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/shape.hpp>
#include <rwkv/weights.hpp>

#include <array>

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
};

/// The tensors of one block. P is what stands for a tensor: an offset, a pointer, a pointer to
/// const.
template <class P>
struct BlockTensors {
  P ln1_weight, ln1_bias;            // [C]
  P x_r, x_w, x_k, x_v, x_a, x_g;    // [C]
  P w0, w1, w2;                      // [C], [C, Dw], [Dw, C]
  P a0, a1, a2;                      // [C], [C, Da], [Da, C]
  P v0, v1, v2;                      // [C], [C, Dv], [Dv, C]
  P g1, g2;                          // [C, Dg], [Dg, C]
  P k_k, k_a, r_k;                   // [C]
  P receptance, key, value, output;  // [C, C]
  P ln_x_weight, ln_x_bias;          // [C]
  P ln2_weight, ln2_bias;            // [C]
  P ffn_x_k, ffn_key, ffn_value;     // [C], [F, C], [C, F]
};

/// The tensors of one sparse block of a hybrid model.
template <class P>
struct SparseTensors {
  P ln1_weight, ln1_bias;            // [C]
  P receptance, key, value, output;  // [C, C]
  P ln2_weight, ln2_bias;            // [C]
  P ffn_x_k, ffn_key, ffn_value;     // [C], [F, C], [C, F] with the sparse blocks' F

  /// The channel mix, as that of an RWKV-7 block; the rest is null.
  [[nodiscard]] BlockTensors<P> channel_mix() const {
    BlockTensors<P> b{};
    b.ln2_weight = ln2_weight;
    b.ln2_bias = ln2_bias;
    b.ffn_x_k = ffn_x_k;
    b.ffn_key = ffn_key;
    b.ffn_value = ffn_value;
    return b;
  }
};

/// What makes a layout one of a hybrid model; by default it is not.
struct SparseLayout {
  std::size_t blocks = 0;  ///< sparse-attention blocks
  std::size_t ffn = 0;     ///< width of their channel mix
  HybridConfig config{};   ///< training uses mode, chunk and top_k
  friend bool operator==(const SparseLayout&, const SparseLayout&) = default;
};

/// The tensors outside the blocks (ln0 is stored as `blocks.0.ln0`).
template <class P>
struct GlobalTensors {
  P emb;                         // [V, C]
  P ln0_weight, ln0_bias;        // [C]
  P ln_out_weight, ln_out_bias;  // [C]
  P head;                        // [V, C]
};

namespace detail {

/// The shapes that occur, spelt as the checkpoint stores them.
enum class Form : std::uint8_t {
  norm,       // [C]
  vector,     // [1, 1, C]
  heads,      // [H, N]
  square,     // [C, C]
  ffn_key,    // [F, C]
  ffn_value,  // [C, F]
  w1,
  w2,
  a1,
  a2,
  v1,
  v2,
  g1,
  g2,          // [C, D], [D, C]
  vocabulary,  // [V, C]
};

template <class P>
struct BlockMember {
  P BlockTensors<P>::*member;
  const char* name;
  Form form;
};

/// The one place that knows names and shapes of a block's tensors.
template <class P>
inline constexpr auto block_members = [] {
  using B = BlockTensors<P>;
  return std::array{
      BlockMember<P>{&B::ln1_weight, "ln1.weight", Form::norm},
      BlockMember<P>{&B::ln1_bias, "ln1.bias", Form::norm},
      BlockMember<P>{&B::ln2_weight, "ln2.weight", Form::norm},
      BlockMember<P>{&B::ln2_bias, "ln2.bias", Form::norm},
      BlockMember<P>{&B::x_r, "att.x_r", Form::vector},
      BlockMember<P>{&B::x_w, "att.x_w", Form::vector},
      BlockMember<P>{&B::x_k, "att.x_k", Form::vector},
      BlockMember<P>{&B::x_v, "att.x_v", Form::vector},
      BlockMember<P>{&B::x_a, "att.x_a", Form::vector},
      BlockMember<P>{&B::x_g, "att.x_g", Form::vector},
      BlockMember<P>{&B::w0, "att.w0", Form::vector},
      BlockMember<P>{&B::w1, "att.w1", Form::w1},
      BlockMember<P>{&B::w2, "att.w2", Form::w2},
      BlockMember<P>{&B::a0, "att.a0", Form::vector},
      BlockMember<P>{&B::a1, "att.a1", Form::a1},
      BlockMember<P>{&B::a2, "att.a2", Form::a2},
      BlockMember<P>{&B::v0, "att.v0", Form::vector},
      BlockMember<P>{&B::v1, "att.v1", Form::v1},
      BlockMember<P>{&B::v2, "att.v2", Form::v2},
      BlockMember<P>{&B::g1, "att.g1", Form::g1},
      BlockMember<P>{&B::g2, "att.g2", Form::g2},
      BlockMember<P>{&B::k_k, "att.k_k", Form::vector},
      BlockMember<P>{&B::k_a, "att.k_a", Form::vector},
      BlockMember<P>{&B::r_k, "att.r_k", Form::heads},
      BlockMember<P>{&B::receptance, "att.receptance.weight", Form::square},
      BlockMember<P>{&B::key, "att.key.weight", Form::square},
      BlockMember<P>{&B::value, "att.value.weight", Form::square},
      BlockMember<P>{&B::output, "att.output.weight", Form::square},
      BlockMember<P>{&B::ln_x_weight, "att.ln_x.weight", Form::norm},
      BlockMember<P>{&B::ln_x_bias, "att.ln_x.bias", Form::norm},
      BlockMember<P>{&B::ffn_x_k, "ffn.x_k", Form::vector},
      BlockMember<P>{&B::ffn_key, "ffn.key.weight", Form::ffn_key},
      BlockMember<P>{&B::ffn_value, "ffn.value.weight", Form::ffn_value},
  };
}();

template <class P>
struct SparseMember {
  P SparseTensors<P>::*member;
  const char* name;
  Form form;
};

template <class P>
inline constexpr auto sparse_members = [] {
  using S = SparseTensors<P>;
  return std::array{
      SparseMember<P>{&S::ln1_weight, "ln1.weight", Form::norm},
      SparseMember<P>{&S::ln1_bias, "ln1.bias", Form::norm},
      SparseMember<P>{&S::ln2_weight, "ln2.weight", Form::norm},
      SparseMember<P>{&S::ln2_bias, "ln2.bias", Form::norm},
      SparseMember<P>{&S::receptance, "att.receptance.weight", Form::square},
      SparseMember<P>{&S::key, "att.key.weight", Form::square},
      SparseMember<P>{&S::value, "att.value.weight", Form::square},
      SparseMember<P>{&S::output, "att.output.weight", Form::square},
      SparseMember<P>{&S::ffn_x_k, "ffn.x_k", Form::vector},
      SparseMember<P>{&S::ffn_key, "ffn.key.weight", Form::ffn_key},
      SparseMember<P>{&S::ffn_value, "ffn.value.weight", Form::ffn_value},
  };
}();

template <class P>
struct GlobalMember {
  P GlobalTensors<P>::*member;
  const char* name;
  Form form;
};

template <class P>
inline constexpr auto global_members = [] {
  using G = GlobalTensors<P>;
  return std::array{
      GlobalMember<P>{&G::emb, "emb.weight", Form::vocabulary},
      GlobalMember<P>{&G::ln0_weight, "blocks.0.ln0.weight", Form::norm},
      GlobalMember<P>{&G::ln0_bias, "blocks.0.ln0.bias", Form::norm},
      GlobalMember<P>{&G::ln_out_weight, "ln_out.weight", Form::norm},
      GlobalMember<P>{&G::ln_out_bias, "ln_out.bias", Form::norm},
      GlobalMember<P>{&G::head, "head.weight", Form::vocabulary},
  };
}();

inline std::vector<std::size_t> shape_of(Form form, const Dimensions& d) {
  switch (form) {
    case Form::norm:
      return {d.embed};
    case Form::vector:
      return {1, 1, d.embed};
    case Form::heads:
      return {d.embed / d.head_size, d.head_size};
    case Form::square:
      return {d.embed, d.embed};
    case Form::ffn_key:
      return {d.ffn, d.embed};
    case Form::ffn_value:
      return {d.embed, d.ffn};
    case Form::w1:
      return {d.embed, d.decay_rank};
    case Form::w2:
      return {d.decay_rank, d.embed};
    case Form::a1:
      return {d.embed, d.icl_rank};
    case Form::a2:
      return {d.icl_rank, d.embed};
    case Form::v1:
      return {d.embed, d.value_rank};
    case Form::v2:
      return {d.value_rank, d.embed};
    case Form::g1:
      return {d.embed, d.gate_rank};
    case Form::g2:
      return {d.gate_rank, d.embed};
    case Form::vocabulary:
      return {d.vocab, d.embed};
  }
  return {};
}

constexpr bool is_matrix(Form form) {
  return form == Form::square || form == Form::ffn_key || form == Form::ffn_value ||
         form == Form::vocabulary;
}

constexpr bool is_value_residual(std::string_view name) {
  return name == "att.v0" || name == "att.v1" || name == "att.v2";
}

inline std::size_t product(const std::vector<std::size_t>& shape) {
  std::size_t n = 1;
  for (const std::size_t d : shape) n *= d;
  return n;
}

/// Shapes are compared without their ones: released files squeeze [1, 1, C] to [C].
inline std::vector<std::size_t> squeezed(std::vector<std::size_t> shape) {
  std::erase(shape, std::size_t{1});
  return shape;
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
    for (const auto& m : detail::global_members<std::size_t>)
      globals_.*m.member = append(m.name, m.form);
    blocks_.resize(d.layers);
    for (std::size_t i = 0; i < d.layers; ++i)
      for (const auto& m : detail::block_members<std::size_t>)
        blocks_[i].*m.member = i == 0 && !first_value_residual && detail::is_value_residual(m.name)
                                   ? absent
                                   : append("blocks." + std::to_string(i) + "." + m.name, m.form);
    if (sparse.blocks == 0) return;
    const HybridShape hybrid(d, sparse.blocks, sparse.ffn, sparse.config);  // checks
    interval_ = hybrid.interval();
    if (sparse.ffn == 0) fail(ErrorCategory::argument, "no model has sparse blocks of ffn 0");
    sparse_blocks_.resize(sparse.blocks);
    for (std::size_t j = 0; j < sparse.blocks; ++j)
      for (const auto& m : detail::sparse_members<std::size_t>)
        sparse_blocks_[j].*m.member = append("moba." + std::to_string(j) + "." + m.name, m.form);
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
    BlockTensors<T*> view;
    for (std::size_t m = 0; m < detail::block_members<T*>.size(); ++m) {
      const std::size_t offset = blocks_[i].*detail::block_members<std::size_t>[m].member;
      view.*detail::block_members<T*>[m].member = offset == absent ? nullptr : data + offset;
    }
    return view;
  }
  template <class T>
  [[nodiscard]] SparseTensors<T*> sparse_block(std::size_t j, T* data) const {
    SparseTensors<T*> view;
    for (std::size_t m = 0; m < detail::sparse_members<T*>.size(); ++m)
      view.*detail::sparse_members<T*>[m].member =
          data + sparse_blocks_[j].*detail::sparse_members<std::size_t>[m].member;
    return view;
  }
  template <class T>
  [[nodiscard]] GlobalTensors<T*> globals(T* data) const {
    GlobalTensors<T*> view;
    for (std::size_t m = 0; m < detail::global_members<T*>.size(); ++m)
      view.*detail::global_members<T*>[m].member =
          data + globals_.*detail::global_members<std::size_t>[m].member;
    return view;
  }

  friend bool operator==(const Layout& a, const Layout& b) noexcept {
    return a.shape_ == b.shape_ && a.eigenvalues_ == b.eigenvalues_ &&
           a.first_value_residual_ == b.first_value_residual_ && a.sparse_ == b.sparse_;
  }

 private:
  static constexpr std::size_t absent = dynamic;

  std::size_t append(std::string name, detail::Form form) {
    TensorInfo t;
    t.group = detail::is_matrix(form)     ? Group::matrix
              : name.ends_with(".att.w0") ? Group::decay
                                          : Group::rest;
    Dimensions d = shape_.dimensions();
    if (name.starts_with("moba.")) d.ffn = sparse_.ffn;
    t.name = std::move(name);
    t.shape = detail::shape_of(form, d);
    t.offset = size_;
    t.size = detail::product(t.shape);
    constexpr std::size_t grain = alignment / sizeof(float);
    size_ += (t.size + grain - 1) / grain * grain;
    tensors_.push_back(std::move(t));
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

/// One float per parameter: weights, a gradient, a moment. A value type.
class Parameters {
 public:
  /// All zeros.
  explicit Parameters(std::shared_ptr<const Layout> layout)
      : layout_(std::move(layout)), data_(layout_->buffer_size()) {}

  [[nodiscard]] const Layout& layout() const noexcept { return *layout_; }
  [[nodiscard]] const std::shared_ptr<const Layout>& shared_layout() const noexcept {
    return layout_;
  }
  [[nodiscard]] const DynamicShape& shape() const noexcept { return layout_->shape(); }

  /// The whole buffer; the floats between tensors are zero and stay zero.
  [[nodiscard]] std::span<float> values() noexcept { return {data_.data(), data_.size()}; }
  [[nodiscard]] std::span<const float> values() const noexcept {
    return {data_.data(), data_.size()};
  }
  [[nodiscard]] std::span<float> values(const TensorInfo& t) noexcept {
    return values().subspan(t.offset, t.size);
  }
  [[nodiscard]] std::span<const float> values(const TensorInfo& t) const noexcept {
    return values().subspan(t.offset, t.size);
  }

  [[nodiscard]] BlockTensors<float*> block(std::size_t i) noexcept {
    return layout_->block(i, data_.data());
  }
  [[nodiscard]] BlockTensors<const float*> block(std::size_t i) const noexcept {
    return layout_->block(i, static_cast<const float*>(data_.data()));
  }
  [[nodiscard]] SparseTensors<float*> sparse_block(std::size_t j) noexcept {
    return layout_->sparse_block(j, data_.data());
  }
  [[nodiscard]] SparseTensors<const float*> sparse_block(std::size_t j) const noexcept {
    return layout_->sparse_block(j, static_cast<const float*>(data_.data()));
  }
  [[nodiscard]] GlobalTensors<float*> globals() noexcept { return layout_->globals(data_.data()); }
  [[nodiscard]] GlobalTensors<const float*> globals() const noexcept {
    return layout_->globals(static_cast<const float*>(data_.data()));
  }

  void set_zero() noexcept { std::fill_n(data_.data(), data_.size(), 0.0f); }

 private:
  std::shared_ptr<const Layout> layout_;
  Buffer<float, dynamic> data_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
