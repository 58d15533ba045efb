// SPDX-License-Identifier: Apache-2.0
// The second half of the channel mix, x += Wv h, whose inputs h are mostly zeros: of a matrix that
// lies input after input, a zero is not read. A block has 128 outputs and 256 inputs; what its
// warps find is added in their order, and what the blocks of a tile find by the last of them, in
// the order of the inputs, so that nothing depends on who was first. And the embedding.
#pragma once

#include <rwkv/cuda/products.cuh>

namespace rwkv::inline RWKV_ABI::cuda::device {

/// Inputs of a block: a step for each warp.
inline constexpr unsigned slice_inputs = block_warps * warp_size;
/// Outputs of a lane.
inline constexpr unsigned lane_outputs = tile_outputs / warp_size;

struct SparseProduct {
  const unsigned char* data;
  std::uint64_t tile_bytes;
  Kind kind;
  unsigned tiles;
  unsigned slices;   ///< of the inputs
  unsigned inputs;   ///< F
  unsigned outputs;  ///< C
  unsigned rows;     ///< of the launch
  unsigned row_tiles;
  unsigned first_row;  ///< of the launch
  const float* h;      ///< [rows][h_stride]
  std::uint64_t h_stride;
  float* parts;        ///< [slices][rows][tiles * tile_outputs]
  unsigned* counters;  ///< [row_tiles][tiles], zeros
  float* x;            ///< [rows][C]
  Rows state_rows;
  std::uint64_t state;  ///< where a state keeps the previous token's input of the channel mix
  const float* statistics;
  const float *ln2_weight, *ln2_bias;
};

template <int rows>
inline constexpr unsigned sparse_shared_bytes =
    static_cast<unsigned>((block_warps * rows * (warp_size + tile_outputs)) * sizeof(float));

/// Four outputs of input `i` of a step, for lane l the outputs 4 l ...
template <Kind kind>
RWKV_DEVICE void four_outputs(const unsigned char* step, unsigned i, const float (&scales)[4],
                              float (&w)[4]) {
  if constexpr (kind == Kind::f32) {
    const uint4 p = load_once(reinterpret_cast<const uint4*>(step) + i * warp_size + lane());
    w[0] = float_of(p.x), w[1] = float_of(p.y), w[2] = float_of(p.z), w[3] = float_of(p.w);
  } else if constexpr (kind == Kind::f16 || kind == Kind::bf16) {
    const uint2 p = load_once(reinterpret_cast<const uint2*>(step) + i * warp_size + lane());
    const unsigned words[4] = {p.x & 0xffffu, p.x >> 16, p.y & 0xffffu, p.y >> 16};
    RWKV_CUDA_UNROLL
    for (int o = 0; o < 4; ++o)
      w[o] = kind == Kind::f16 ? half_to_float(words[o]) : bfloat16_to_float(words[o]);
  } else if constexpr (kind == Kind::q8_0) {
    const unsigned p = load_once(reinterpret_cast<const unsigned*>(step + tile_outputs * 2) +
                                 i * warp_size + lane());
    RWKV_CUDA_UNROLL
    for (int o = 0; o < 4; ++o) w[o] = mul(scales[o], static_cast<float>(signed_byte(p, o)));
  } else {
    const unsigned p = load_once(reinterpret_cast<const unsigned short*>(step + tile_outputs * 2) +
                                 i * warp_size + lane());
    RWKV_CUDA_UNROLL
    for (int o = 0; o < 4; ++o)
      w[o] = mul(scales[o], static_cast<float>(static_cast<int>(p >> (4 * o) & 15u) - 8));
  }
}

/// Adds the inputs of a step that are not zero in every row; h[row * 32 + i].
template <Kind kind, int rows>
RWKV_DEVICE void add_nonzero(const unsigned char* step, unsigned nonzero, const float* h,
                             float (&sums)[rows][lane_outputs]) {
  float scales[4] = {0, 0, 0, 0};
  if constexpr (kind == Kind::q8_0 || kind == Kind::q4_0) {
    const uint2 p = load_once(reinterpret_cast<const uint2*>(step) + lane());
    scales[0] = half_to_float(p.x & 0xffffu), scales[1] = half_to_float(p.x >> 16);
    scales[2] = half_to_float(p.y & 0xffffu), scales[3] = half_to_float(p.y >> 16);
  }
  constexpr int ahead = 4;
  while (nonzero != 0) {
    unsigned inputs[ahead];
    float w[ahead][4];
    int found = 0;
    RWKV_CUDA_UNROLL
    for (int q = 0; q < ahead; ++q) {
      inputs[q] = 0;
      if (nonzero == 0) continue;
      inputs[q] = lowest_bit(nonzero);
      nonzero &= nonzero - 1;
      four_outputs<kind>(step, inputs[q], scales, w[q]);
      found = q + 1;
    }
    RWKV_CUDA_UNROLL
    for (int q = 0; q < ahead; ++q) {
      if (q >= found) continue;
      RWKV_CUDA_UNROLL
      for (int r = 0; r < rows; ++r) {
        const float input = h[static_cast<unsigned>(r * warp_size) + inputs[q]];
        if (input == 0) continue;  // another row wanted it
        RWKV_CUDA_UNROLL
        for (unsigned o = 0; o < lane_outputs; ++o) sums[r][o] = fma(w[q][o], input, sums[r][o]);
      }
    }
  }
}

template <int rows>
RWKV_DEVICE void multiply_sparse(const SparseProduct& p, std::uint64_t block_index) {
  auto* const h = reinterpret_cast<float*>(shared()) + warp() * rows * warp_size;
  float* const found =
      reinterpret_cast<float*>(shared()) + block_warps * rows * warp_size;  // [warps][rows][128]

  // The slices of a tile are neighbours, so that they end together.
  const auto slice = static_cast<unsigned>(block_index % p.slices);
  const auto rest = block_index / p.slices;
  const auto row_tile = static_cast<unsigned>(rest % p.row_tiles);
  const auto tile = static_cast<unsigned>(rest / p.row_tiles);
  const unsigned first_row = p.first_row + row_tile * rows;
  const unsigned left = p.rows - row_tile * rows;
  const unsigned count = left < rows ? left : rows;
  const unsigned step = slice * block_warps + warp();
  const unsigned input = step * warp_size + lane();
  let_next_start();
  wait_for_previous();

  bool any = false;
  RWKV_CUDA_UNROLL
  for (unsigned r = 0; r < rows; ++r) {
    const float value =
        r < count && input < p.inputs ? p.h[(first_row + r) * p.h_stride + input] : 0;
    h[r * warp_size + lane()] = value;
    any = any || value != 0;
  }
  const unsigned nonzero = ballot(any);
  warp_barrier();
  float sums[rows][lane_outputs];
  RWKV_CUDA_UNROLL
  for (int r = 0; r < rows; ++r) RWKV_CUDA_UNROLL
  for (unsigned o = 0; o < lane_outputs; ++o) sums[r][o] = 0;
  if (nonzero != 0) {
    const unsigned char* const at =
        p.data + tile * p.tile_bytes + std::uint64_t{step} * step_bytes(p.kind, tile_outputs);
    switch (p.kind) {
      case Kind::f32:
        add_nonzero<Kind::f32, rows>(at, nonzero, h, sums);
        break;
      case Kind::f16:
        add_nonzero<Kind::f16, rows>(at, nonzero, h, sums);
        break;
      case Kind::bf16:
        add_nonzero<Kind::bf16, rows>(at, nonzero, h, sums);
        break;
      case Kind::q8_0:
        add_nonzero<Kind::q8_0, rows>(at, nonzero, h, sums);
        break;
      case Kind::q4_0:
        add_nonzero<Kind::q4_0, rows>(at, nonzero, h, sums);
        break;
    }
  }
  RWKV_CUDA_UNROLL
  for (unsigned r = 0; r < rows; ++r) RWKV_CUDA_UNROLL
  for (unsigned o = 0; o < lane_outputs; ++o)
    found[(warp() * rows + r) * tile_outputs + lane() * lane_outputs + o] = sums[r][o];
  barrier();
  const std::uint64_t width = std::uint64_t{p.tiles} * tile_outputs;
  const auto part = [&](std::uint64_t s, unsigned at) {
    const std::uint64_t row = row_tile * rows + at / tile_outputs;
    return p.parts + (s * p.rows + row) * width + tile * tile_outputs + at % tile_outputs;
  };
  for (unsigned at = thread(); at < count * tile_outputs; at += block_threads) {
    float sum = found[at];
    for (unsigned w = 1; w < block_warps; ++w) sum = add(sum, found[w * rows * tile_outputs + at]);
    *part(slice, at) = sum;
  }

  if (!last_of(p.counters + row_tile * p.tiles + tile, p.slices)) return;
  for (unsigned at = thread(); at < count * tile_outputs; at += block_threads) {
    const unsigned o = tile * tile_outputs + at % tile_outputs;
    if (o >= p.outputs) continue;
    const unsigned row = first_row + at / tile_outputs;
    float sum = 0;
    for (unsigned s = 0; s < p.slices; ++s) sum = add(sum, load_fresh(part(s, at)));
    float* const x = p.x + std::uint64_t{row} * p.outputs + o;
    const float before = *x;
    if ((p.state_rows.places[row] & last_of_sequence) != 0)
      p.state_rows.states[row][p.state + o] = normalised(
          before, p.statistics[2 * row], p.statistics[2 * row + 1], p.ln2_weight[o], p.ln2_bias[o]);
    *x = add(before, sum);
  }
}

/// The asked rows after the last norm.
struct Hidden {
  Inputs inputs;
  float* out;  ///< [rows][C]
};

/// A block: one row.
RWKV_DEVICE void normalise_row(const Hidden& p, unsigned row) {
  let_next_start();
  wait_for_previous();
  float mean[2], scale[2];
  find_statistics<1>(p.inputs, row, 1, false, reinterpret_cast<float*>(shared()), mean, scale);
  const float* const x = p.inputs.x + row_of(p.inputs, row) * p.inputs.stride;
  for (unsigned i = thread(); i < p.inputs.width; i += block_threads)
    p.out[std::uint64_t{row} * p.inputs.width + i] =
        normalised(x[i], mean[0], scale[0], p.inputs.weight[i], p.inputs.bias[i]);
}

struct Embedding {
  const unsigned char* table;
  Kind kind;
  const float *weight, *bias;  ///< of ln0; null: the table is normalised already
  float epsilon;
  unsigned width;
  Rows rows;
  float* x;
};

RWKV_DEVICE float element(const unsigned char* data, Kind kind, std::uint64_t at) {
  switch (kind) {
    case Kind::f16:
      return half_to_float(reinterpret_cast<const std::uint16_t*>(data)[at]);
    case Kind::bf16:
      return bfloat16_to_float(reinterpret_cast<const std::uint16_t*>(data)[at]);
    default:
      return reinterpret_cast<const float*>(data)[at];
  }
}

/// A block: one row.
RWKV_DEVICE void embed(const Embedding& p, std::uint64_t row) {
  let_next_start();
  wait_for_previous();
  auto* const room = reinterpret_cast<float*>(shared());
  const std::uint64_t first = std::uint64_t{p.rows.tokens[row]} * p.width;
  float* const x = p.x + row * p.width;
  float sum[1] = {0};
  for (unsigned i = thread(); i < p.width; i += block_threads) {
    x[i] = element(p.table, p.kind, first + i);
    sum[0] = add(sum[0], x[i]);
  }
  if (p.weight == nullptr) return;
  const auto width = static_cast<float>(p.width);
  block_sums(sum, room);
  const float mean = divide(sum[0], width);
  float squares[1] = {0};
  for (unsigned i = thread(); i < p.width; i += block_threads) {
    const float d = add(x[i], -mean);
    squares[0] = fma(d, d, squares[0]);
  }
  block_sums(squares, room + block_warps);
  const float scale = divide(1.0f, square_root(add(divide(squares[0], width), p.epsilon)));
  for (unsigned i = thread(); i < p.width; i += block_threads)
    x[i] = normalised(x[i], mean, scale, p.weight[i], p.bias[i]);
}

}  // namespace rwkv::inline RWKV_ABI::cuda::device
