// SPDX-License-Identifier: Apache-2.0
// One forward and backward pass of the whole network over a handful of sequences, on one thread.
#pragma once

#include <rwkv/train/channel_mix.hpp>
#include <rwkv/train/head.hpp>
#include <rwkv/train/sparse_attention.hpp>
#include <rwkv/train/time_mix.hpp>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

/// The memory of a pass: everything the backward pass reads, and scratch. Kept between passes.
class Pass {
 public:
  /// Makes room for passes of up to that size. The only member that allocates.
  void reserve(const Layout& layout, std::size_t rows, std::size_t checkpoints) {
    const DynamicShape& shape = layout.shape();
    const SparseLayout& sparse = layout.sparse();
    if (laid_out_ && shape == shape_ && sparse == sparse_ && rows <= rows_ &&
        checkpoints <= checkpoints_)
      return;
    laid_out_ = false;  // until there was memory for all of it
    shape_ = shape;
    sparse_ = sparse;
    Dimensions d = shape.dimensions();
    d.ffn = sparse.ffn;
    sparse_shape_ = DynamicShape(d);
    rows_ = (std::max)(rows, rows_);
    checkpoints_ = (std::max)(checkpoints, checkpoints_);
    time_mix_.resize(shape.layers());
    channel_mix_.resize(shape.layers());
    sparse_attention_.resize(sparse.blocks);
    sparse_channel_mix_.resize(sparse.blocks);
    arena_.lay_out([&](Arena& arena) {
      x_ = arena.take(rows_ * shape.embed());
      dv_first_ = arena.take(rows_ * shape.embed());
      embedding_ = ShiftedNormTape(arena, rows_, shape.embed());
      for (std::size_t i = 0; i < shape.layers(); ++i) {
        time_mix_[i] = TimeMixTape(arena, rows_, checkpoints_, shape, i == 0);
        channel_mix_[i] = ChannelMixTape(arena, rows_, shape);
      }
      for (std::size_t j = 0; j < sparse.blocks; ++j) {
        sparse_attention_[j] = SparseAttentionTape(arena, rows_, shape.embed());
        sparse_channel_mix_[j] = ChannelMixTape(arena, rows_, sparse_shape_);
      }
      norm_scratch_ = ShiftedNormScratch(arena, rows_, shape.embed());
      time_mix_scratch_ = TimeMixScratch(arena, rows_, shape);
      channel_mix_scratch_ =
          ChannelMixScratch(arena, sparse.ffn > shape.ffn() ? sparse_shape_ : shape);
      if (sparse.blocks > 0)
        sparse_scratch_ = SparseAttentionScratch(arena, rows_, shape.embed(), sparse.config.chunk);
      head_scratch_ = HeadScratch(arena, shape);
    });
    laid_out_ = true;
  }

  /// Runs `rows` forward and, if `task.gradient`, backward. `tokens`: one per row, ids within the
  /// vocabulary. Parameter gradients are added to `gradient` if not null, state gradients as `rows`
  /// says. Returns the weighted sum of the rows' losses.
  double run(const Parameters& parameters, const Rows& rows, std::span<const Token> tokens,
             const HeadTask& task, Parameters* gradient) {
    RWKV_ASSERT(rows.count <= rows_ && rows.checkpoints <= checkpoints_);
    const DynamicShape& shape = parameters.shape();
    const std::size_t c = shape.embed();
    const GlobalTensors<const float*> p = parameters.globals();
    const GlobalTensors<float*> g = gradient ? gradient->globals() : GlobalTensors<float*>{};

    embed_forward(p, tokens, embedding_, x_, c);
    beginnings_ = rows;  // sparse blocks know nothing of initial states
    for (SequenceRows& sequence : beginnings_.sequences)
      sequence.initial = nullptr,
      sequence.initial_gradient = sequence.initial_gradient_sum = nullptr;
    parameters.layout().for_blocks(
        [&](std::size_t i) {
          time_mix(parameters, rows, i).forward(x_);
          channel_mix_forward(shape, parameters.block(i), rows, tokens, i, x_, channel_mix_[i],
                              norm_scratch_, channel_mix_scratch_);
        },
        [&](std::size_t j) {
          sparse_attention(parameters, j).forward(x_);
          channel_mix_forward(sparse_shape_, parameters.sparse_block(j), beginnings_, tokens, 0, x_,
                              sparse_channel_mix_[j], norm_scratch_, channel_mix_scratch_);
        });
    const double loss = head_rows(shape, p, x_, rows.count, task, head_scratch_, g);
    if (!task.gradient) return loss;

    std::fill_n(dv_first_, rows.count * c, 0.0f);
    parameters.layout().for_blocks_backward(
        [&](std::size_t i) {
          const auto dblock = gradient ? gradient->block(i) : BlockTensors<float*>{};
          channel_mix_backward(shape, parameters.block(i), rows, tokens, i, x_, channel_mix_[i],
                               norm_scratch_, channel_mix_scratch_, dblock);
          time_mix(parameters, rows, i).backward(x_, dv_first_, dblock);
        },
        [&](std::size_t j) {
          const auto dblock = gradient ? gradient->sparse_block(j) : SparseTensors<float*>{};
          channel_mix_backward(sparse_shape_, parameters.sparse_block(j), beginnings_, tokens, 0,
                               x_, sparse_channel_mix_[j], norm_scratch_, channel_mix_scratch_,
                               dblock);
          sparse_attention(parameters, j).backward(x_, dblock);
        });
    if (gradient != nullptr) embed_backward(p, tokens, embedding_, x_, c, g);
    return loss;
  }

 private:
  [[nodiscard]] TimeMix time_mix(const Parameters& parameters, const Rows& rows,
                                 std::size_t i) const {
    return {parameters.layout(),
            parameters.block(i),
            rows,
            i,
            i > 0 ? time_mix_[0].v : nullptr,
            time_mix_[i],
            norm_scratch_,
            time_mix_scratch_};
  }

  [[nodiscard]] SparseAttention sparse_attention(const Parameters& parameters,
                                                 std::size_t j) const {
    return {parameters.layout().sparse().config,
            parameters.sparse_block(j),
            beginnings_,
            shape_.embed(),
            sparse_attention_[j],
            sparse_scratch_};
  }

  DynamicShape shape_;
  SparseLayout sparse_;
  DynamicShape sparse_shape_;  // with the sparse blocks' ffn
  Rows beginnings_;            // the rows without their initial states
  std::size_t rows_ = 0;
  std::size_t checkpoints_ = 0;
  bool laid_out_ = false;
  Arena arena_;
  float* x_ = nullptr;         // [R, C] residual stream; backward: its gradient
  float* dv_first_ = nullptr;  // [R, C]
  ShiftedNormTape embedding_;
  std::vector<TimeMixTape> time_mix_;
  std::vector<ChannelMixTape> channel_mix_;
  ShiftedNormScratch norm_scratch_;
  TimeMixScratch time_mix_scratch_;
  ChannelMixScratch channel_mix_scratch_;
  HeadScratch head_scratch_;
  std::vector<SparseAttentionTape> sparse_attention_;
  std::vector<ChannelMixTape> sparse_channel_mix_;
  SparseAttentionScratch sparse_scratch_;
};

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
