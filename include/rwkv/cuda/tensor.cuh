// SPDX-License-Identifier: Apache-2.0
// Products of many rows on tensor cores, for matrices of f16 and bf16. An input becomes a sum of
// two halves (or three bfloat16s), scaled by a power of two of its row, whose products with weights
// are exact; so nothing is lost but what adding up in the tensor core's order loses. That order is
// along the inputs, 16 at a time, for any number of rows: bits depend on the row alone here too.
// They are others than those of products.cuh, and may differ between generations of devices.
//
// Rows are prepared once for all matrices (normalised, mixed with the previous token's, split) as
// [part][inputs / 8][rows][8], so that 8 rows of 8 inputs are 128 bytes in a line: a fragment.
#pragma once

#include <rwkv/cuda/products.cuh>

namespace rwkv::inline RWKV_ABI::cuda::device {

/// Rows are prepared for groups of so many.
inline constexpr unsigned tensor_rows = 64;
inline constexpr unsigned most_mixes = 6;

[[nodiscard]] RWKV_ALSO_ON_DEVICE constexpr unsigned parts_of(Kind kind) {
  return kind == Kind::f16 ? 2 : 3;
}

/// One kind of input that is made of a row.
struct Mix {
  const float* mix;   ///< [inputs] of token shift; null: none
  unsigned from;      ///< where it begins in a row of x
  unsigned width;     ///< inputs
  unsigned octets;    ///< of them and the zeros behind them: a multiple of 4
  unsigned char* to;  ///< [parts][octets][rows][8]
  float* factors;     ///< [rows] what products are multiplied with
};

struct Preparation {
  Mix mixes[most_mixes];
  unsigned count;
  unsigned rows;         ///< of the pass
  unsigned padded_rows;  ///< of `to`
  Kind kind;
  Inputs inputs;
};

struct PrepareRoom {
  float sums[block_warps * 2 * 2];
  int largest;
};
inline constexpr unsigned prepare_shared_bytes = sizeof(PrepareRoom);

/// The first `parts` parts of x, the nearest 16-bit number, then what is left of it ...
RWKV_DEVICE std::uint32_t take_part(float& x, Kind kind) {
  if (kind == Kind::f16) {
    const std::uint32_t bits = float_to_half(x);
    x = add(x, -half_to_float(bits));
    return bits;
  }
  const std::uint32_t u = bits_of(x);
  const std::uint32_t bits =
      (u & 0x7fffffffu) > 0x7f800000u ? (u >> 16 | 0x40u) : (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
  x = add(x, -bfloat16_to_float(bits));
  return bits;
}

/// A block: one row.
RWKV_DEVICE void prepare(const Preparation& p, unsigned row) {
  auto& room = *reinterpret_cast<PrepareRoom*>(shared());
  let_next_start();
  wait_for_previous();
  const Inputs& in = p.inputs;
  const float* const x = in.x + row_of(in, row) * in.stride;
  float mean[2] = {0, 0}, scale[2] = {0, 0};
  bool before = false;
  const float* state = nullptr;
  if (in.weight != nullptr) {
    if (p.mixes[0].mix != nullptr) {
      before = (in.rows.places[row] & first_of_sequence) == 0;
      state = in.rows.states[row] + in.shift;
    }
    find_statistics<1>(in, row, 1, before, room.sums, mean, scale);
    if (in.statistics != nullptr && thread() == 0) {
      in.statistics[2 * row] = mean[0];
      in.statistics[2 * row + 1] = scale[0];
    }
  }
  const auto value = [&](const Mix& m, unsigned i) {
    if (i >= m.width) return 0.0f;
    if (in.weight == nullptr) return x[m.from + i];
    const float now = normalised(x[i], mean[0], scale[0], in.weight[i], in.bias[i]);
    if (m.mix == nullptr) return now;
    const float last = before ? normalised(in.x[row_of(in, row - 1) * in.stride + i], mean[1],
                                           scale[1], in.weight[i], in.bias[i])
                              : state[i];
    return fma(add(last, -now), m.mix[i], now);
  };
  const unsigned parts = parts_of(p.kind);
  for (unsigned which = 0; which < p.count; ++which) {
    const Mix& m = p.mixes[which];
    barrier();
    if (thread() == 0) room.largest = 0;
    barrier();
    int largest = 0;
    for (unsigned i = thread(); i < m.width; i += block_threads) {
      const int magnitude = static_cast<int>(bits_of(value(m, i)) & 0x7fffffffu);
      largest = magnitude > largest ? magnitude : largest;
    }
    max_shared(&room.largest, largest);
    barrier();
    // The largest number becomes one below 2^15. (Exponents that leave the range of a float, and
    // what is no number, are left alone.)
    const int exponent = room.largest >> 23;
    const bool scaled = exponent > 20 && exponent < 235;
    const float by = scaled ? float_of(static_cast<std::uint32_t>(268 - exponent) << 23) : 1.0f;
    if (thread() == 0)
      m.factors[row] = scaled ? float_of(static_cast<std::uint32_t>(exponent - 14) << 23) : 1.0f;
    for (unsigned octet = thread(); octet < m.octets; octet += block_threads) {
      float left[8];
      RWKV_CUDA_UNROLL
      for (unsigned i = 0; i < 8; ++i) left[i] = mul(value(m, octet * 8 + i), by);
      for (unsigned part = 0; part < parts; ++part) {
        uint4 packed;
        unsigned words[4];
        RWKV_CUDA_UNROLL
        for (unsigned i = 0; i < 4; ++i) {
          const std::uint32_t low = take_part(left[2 * i], p.kind);
          words[i] = low | take_part(left[2 * i + 1], p.kind) << 16;
        }
        packed.x = words[0], packed.y = words[1], packed.z = words[2], packed.w = words[3];
        const std::uint64_t place = (std::uint64_t{part} * m.octets + octet) * p.padded_rows + row;
        reinterpret_cast<uint4*>(m.to)[place] = packed;
      }
    }
  }
}

struct TensorProduct {
  const unsigned char* data;
  const unsigned char* inputs;  ///< a Mix's `to`
  const float* factors;
  float* out;
  std::uint64_t out_stride;
  std::uint64_t group_bytes;  ///< of a panel, or of a tile of 128 outputs
  unsigned outputs;
  unsigned steps;
  unsigned first_tile;
  Layout layout;
  Activation activation;
  bool add;
};

struct TensorProducts {
  TensorProduct list[most_products];
  unsigned count;
  unsigned tiles;
  unsigned rows;
  unsigned row_tiles;
  unsigned padded_rows;
  // What the channel mix leaves in the state, if this is its last product.
  float* const* states;  ///< null: it is not
  const std::uint32_t* places;
  std::uint64_t state;
  const float* statistics;
  const float *weight, *bias;
};

inline constexpr unsigned tensor_stages = 3;  // of what is on its way

template <unsigned rows, unsigned parts>
inline constexpr unsigned tensor_shared_bytes = tensor_stages*(tile_outputs* step_inputs * 2 +
                                                               parts * step_inputs * rows * 2);

/// A block: 128 outputs of `rows` rows, of which every warp has 16 `over` outputs and 8 `across`
/// rows.
template <unsigned rows, unsigned over, unsigned across, unsigned parts>
RWKV_DEVICE void multiply_on_tensor_cores(const TensorProducts& p, std::uint64_t block_index) {
  constexpr unsigned warps_over = tile_outputs / (16 * over);
  static_assert(warps_over * (rows / (8 * across)) == block_warps);
  constexpr unsigned a_bytes = tile_outputs * step_inputs * 2;
  constexpr unsigned b_bytes = parts * step_inputs * rows * 2;
  unsigned char* const memory = shared();

  const auto tile = static_cast<unsigned>(block_index / p.row_tiles);
  const unsigned first_row = static_cast<unsigned>(block_index % p.row_tiles) * rows;
  unsigned which = 0;
  while (which + 1 < p.count && p.list[which + 1].first_tile <= tile) ++which;
  const TensorProduct& product = p.list[which];
  const unsigned first_output = (tile - product.first_tile) * tile_outputs;
  const unsigned warp_output = warp() % warps_over * 16 * over;
  const unsigned warp_row = warp() / warps_over * 8 * across;
  const unsigned octets = product.steps * 4;
  const unsigned panels = (product.outputs + panel_outputs - 1) / panel_outputs;
  let_next_start();
  wait_for_previous();

  // A step of the matrix, as [16 panels][32 inputs][8 outputs], and of the rows, as
  // [parts][4 octets][rows][8 inputs].
  const auto fetch = [&](unsigned step) {
    unsigned char* const a = memory + step % tensor_stages * (a_bytes + b_bytes);
    unsigned char* const b = a + a_bytes;
    for (unsigned at = thread(); at < a_bytes / 16; at += block_threads) {
      const unsigned char* from;
      unsigned panel, input;
      if (product.layout == Layout::panels) {
        panel = at / step_inputs;
        input = at % step_inputs;
        const unsigned wanted = first_output / panel_outputs + panel;
        // Outputs past the last are computed from others and thrown away.
        const std::uint64_t group = wanted < panels ? wanted : panels - 1;
        from = product.data + group * product.group_bytes +
               (std::uint64_t{step} * step_inputs + input) * 16;
      } else {
        input = at / (tile_outputs / 8);
        panel = at % (tile_outputs / 8);
        from = product.data + (first_output / tile_outputs) * product.group_bytes +
               ((std::uint64_t{step} * step_inputs + input) * (tile_outputs / 8) + panel) * 16;
      }
      copy_soon(a + (panel * step_inputs + input) * 16, from);
    }
    for (unsigned at = thread(); at < b_bytes / 16; at += block_threads) {
      const unsigned row = at % rows;
      const unsigned octet = at / rows % 4;
      const unsigned part = at / rows / 4;
      const std::uint64_t place =
          (std::uint64_t{part} * octets + step * 4 + octet) * p.padded_rows + first_row + row;
      copy_soon(b + at * 16, product.inputs + place * 16);
    }
  };

  float sums[over][across][4];
  RWKV_CUDA_UNROLL
  for (unsigned m = 0; m < over; ++m) RWKV_CUDA_UNROLL
  for (unsigned n = 0; n < across; ++n) RWKV_CUDA_UNROLL
  for (unsigned i = 0; i < 4; ++i) sums[m][n][i] = 0;
  for (unsigned step = 0; step + 1 < tensor_stages; ++step) {
    if (step < product.steps) fetch(step);
    end_of_copies();
  }
  for (unsigned step = 0; step < product.steps; ++step) {
    wait_for_copies<tensor_stages - 2>();
    barrier();  // all have come, and nobody reads any more what is overwritten next
    if (step + tensor_stages - 1 < product.steps) fetch(step + tensor_stages - 1);
    end_of_copies();
    const unsigned char* const a = memory + step % tensor_stages * (a_bytes + b_bytes);
    const unsigned char* const b = a + a_bytes;
    RWKV_CUDA_UNROLL
    for (unsigned half = 0; half < 2; ++half) {
      std::uint32_t weights[over][4];
      RWKV_CUDA_UNROLL
      for (unsigned m = 0; m < over; ++m) {
        // Four fragments of 8 x 8: outputs 0-7 and 8-15 of inputs 0-7, then of inputs 8-15.
        const unsigned panel = (warp_output + m * 16) / 8 + (lane() / 8) % 2;
        const unsigned input = half * 16 + lane() / 16 * 8 + lane() % 8;
        load_fragments_turned(weights[m], a + (panel * step_inputs + input) * 16);
      }
      RWKV_CUDA_UNROLL
      for (unsigned part = 0; part < parts; ++part) {
        RWKV_CUDA_UNROLL
        for (unsigned n = 0; n < across; n += 2) {
          // Rows 0-7 of inputs 0-7 and 8-15, then rows 8-15; only the first where there are 8.
          const unsigned row = warp_row + n * 8 + (across > 1 ? lane() / 16 * 8 : 0) + lane() % 8;
          const unsigned octet = half * 2 + lane() / 8 % 2;
          std::uint32_t inputs[4];
          load_fragments(inputs, b + ((part * 4 + octet) * rows + row) * 16);
          RWKV_CUDA_UNROLL
          for (unsigned q = 0; q < (across > 1 ? 2 : 1); ++q) RWKV_CUDA_UNROLL
          for (unsigned m = 0; m < over; ++m) {
            if constexpr (parts == parts_of(Kind::f16))
              add_products_of_halves(sums[m][n + q], weights[m], inputs[2 * q], inputs[2 * q + 1]);
            else
              add_products_of_bfloat16s(sums[m][n + q], weights[m], inputs[2 * q],
                                        inputs[2 * q + 1]);
          }
        }
      }
    }
  }

  // Lane l has outputs l / 4 and l / 4 + 8 of rows 2 (l % 4) and 2 (l % 4) + 1.
  RWKV_CUDA_UNROLL
  for (unsigned m = 0; m < over; ++m) RWKV_CUDA_UNROLL
  for (unsigned n = 0; n < across; ++n) RWKV_CUDA_UNROLL
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned o = first_output + warp_output + m * 16 + lane() / 4 + i / 2 * 8;
    const unsigned row = first_row + warp_row + n * 8 + lane() % 4 * 2 + i % 2;
    if (o >= product.outputs || row >= p.rows) continue;
    const float sum = activated(product.activation, mul(sums[m][n][i], product.factors[row]));
    float* const to = product.out + row * product.out_stride + o;
    if (p.states != nullptr && (p.places[row] & last_of_sequence) != 0)
      p.states[row][p.state + o] =
          normalised(*to, p.statistics[2 * row], p.statistics[2 * row + 1], p.weight[o], p.bias[o]);
    *to = product.add ? add(*to, sum) : sum;
  }
}

}  // namespace rwkv::inline RWKV_ABI::cuda::device
