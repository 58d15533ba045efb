// SPDX-License-Identifier: Apache-2.0
// Products with matrices, for any number of rows with the same bits: an output is a sum over the
// inputs of one lane (every 32nd), of the lanes of a warp, and of the warps that share a panel, in
// this order whatever the number of rows. A lane of a warp holds one input of a step and 8 outputs,
// so that weights are read in lines of 512 bytes (f16) and an input is read once for 8 outputs.
//
// Inputs of a product are made where they are loaded: normalised, and mixed with the previous
// token's, so that these rows are never written.
#pragma once

#include <rwkv/cuda/arithmetic.cuh>

namespace rwkv::inline RWKV_ABI::cuda::device {

enum class Activation : std::uint8_t { none, tanh, sigmoid, relu_squared };

RWKV_DEVICE float activated(Activation f, float x) {
  switch (f) {
    case Activation::tanh:
      return tanh(x);
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::relu_squared:
      return relu_squared(x);
    default:
      return x;
  }
}

// ---- stored weights

template <Kind kind>
struct Format;

/// 8 outputs of one input in 16 bytes.
template <class Widen>
struct Sixteens {
  using Packed = uint4;
  static RWKV_DEVICE Packed load(const unsigned char* step, unsigned of_lane) {
    return load_once(reinterpret_cast<const uint4*>(step) + of_lane);
  }
  static RWKV_DEVICE void widen(const Packed& p, float (&w)[8]) {
    const unsigned words[4] = {p.x, p.y, p.z, p.w};
    RWKV_CUDA_UNROLL
    for (int i = 0; i < 4; ++i) {
      w[2 * i] = Widen::one(words[i] & 0xffffu);
      w[2 * i + 1] = Widen::one(words[i] >> 16);
    }
  }
};
struct WidenHalf {
  static RWKV_DEVICE float one(std::uint32_t bits) { return half_to_float(bits); }
};
struct WidenBfloat16 {
  static RWKV_DEVICE float one(std::uint32_t bits) { return bfloat16_to_float(bits); }
};
template <>
struct Format<Kind::f16> : Sixteens<WidenHalf> {};
template <>
struct Format<Kind::bf16> : Sixteens<WidenBfloat16> {};

template <>
struct Format<Kind::f32> {
  struct Packed {
    uint4 low, high;
  };
  static RWKV_DEVICE Packed load(const unsigned char* step, unsigned of_lane) {
    const uint4* p = reinterpret_cast<const uint4*>(step) + 2 * of_lane;
    return {load_once(p), load_once(p + 1)};
  }
  static RWKV_DEVICE void widen(const Packed& p, float (&w)[8]) {
    const unsigned words[8] = {p.low.x,  p.low.y,  p.low.z,  p.low.w,
                               p.high.x, p.high.y, p.high.z, p.high.w};
    RWKV_CUDA_UNROLL
    for (int i = 0; i < 8; ++i) w[i] = float_of(words[i]);
  }
};

/// Integers with a scale for each output of a block of 32 inputs, which is a step.
RWKV_DEVICE void scaled(const uint4& scales, const int (&codes)[8], float (&w)[8]) {
  const unsigned words[4] = {scales.x, scales.y, scales.z, scales.w};
  RWKV_CUDA_UNROLL
  for (int i = 0; i < 8; ++i)
    w[i] = mul(half_to_float(words[i / 2] >> (i % 2 * 16) & 0xffffu), static_cast<float>(codes[i]));
}
RWKV_DEVICE int signed_byte(unsigned word, int i) {
  return static_cast<int>(word << (24 - 8 * i)) >> 24;
}

template <>
struct Format<Kind::q8_0> {
  struct Packed {
    uint4 scales;
    uint2 codes;
  };
  static RWKV_DEVICE Packed load(const unsigned char* step, unsigned of_lane) {
    return {load_once(reinterpret_cast<const uint4*>(step)),
            load_once(reinterpret_cast<const uint2*>(step + 16) + of_lane)};
  }
  static RWKV_DEVICE void widen(const Packed& p, float (&w)[8]) {
    int codes[8];
    RWKV_CUDA_UNROLL
    for (int i = 0; i < 8; ++i) codes[i] = signed_byte(i < 4 ? p.codes.x : p.codes.y, i % 4);
    scaled(p.scales, codes, w);
  }
};

template <>
struct Format<Kind::q4_0> {
  struct Packed {
    uint4 scales;
    unsigned codes;
  };
  static RWKV_DEVICE Packed load(const unsigned char* step, unsigned of_lane) {
    return {load_once(reinterpret_cast<const uint4*>(step)),
            load_once(reinterpret_cast<const unsigned*>(step + 16) + of_lane)};
  }
  static RWKV_DEVICE void widen(const Packed& p, float (&w)[8]) {
    int codes[8];
    RWKV_CUDA_UNROLL
    for (int i = 0; i < 8; ++i) codes[i] = static_cast<int>(p.codes >> (4 * i) & 15u) - 8;
    scaled(p.scales, codes, w);
  }
};

// ---- one warp and one panel

/// Adds the steps first, first + split, ... below `end` of a panel to `sums`. x[row * stride +
/// 32 * (step - base) + lane] is an input.
template <class Format, int rows>
RWKV_DEVICE void add_steps(const unsigned char* panel, std::size_t bytes_per_step, unsigned first,
                           unsigned end, unsigned split, unsigned base, const float* x,
                           unsigned stride, float (&sums)[rows * 8]) {
  constexpr unsigned ahead =
      rows > 2 || sizeof(typename Format::Packed) > 24 ? 2 : 4;  // on their way
  for (unsigned step = first; step < end; step += ahead * split) {
    typename Format::Packed packed[ahead];
    RWKV_CUDA_UNROLL
    for (unsigned q = 0; q < ahead; ++q)
      if (step + q * split < end)
        packed[q] = Format::load(panel + (step + q * split) * bytes_per_step, lane());
    RWKV_CUDA_UNROLL
    for (unsigned q = 0; q < ahead; ++q) {
      if (step + q * split >= end) continue;
      float w[8];
      Format::widen(packed[q], w);
      const float* const at = x + (step + q * split - base) * warp_size + lane();
      RWKV_CUDA_UNROLL
      for (int r = 0; r < rows; ++r) {
        const float input = at[static_cast<unsigned>(r) * stride];
        RWKV_CUDA_UNROLL
        for (int i = 0; i < 8; ++i) sums[r * 8 + i] = fma(w[i], input, sums[r * 8 + i]);
      }
    }
  }
}

template <int rows>
RWKV_DEVICE void add_steps(Kind kind, const unsigned char* panel, unsigned first, unsigned end,
                           unsigned split, unsigned base, const float* x, unsigned stride,
                           float (&sums)[rows * 8]) {
  const std::size_t bytes = step_bytes(kind, panel_outputs);
  switch (kind) {
    case Kind::f32:
      return add_steps<Format<Kind::f32>, rows>(panel, bytes, first, end, split, base, x, stride,
                                                sums);
    case Kind::f16:
      return add_steps<Format<Kind::f16>, rows>(panel, bytes, first, end, split, base, x, stride,
                                                sums);
    case Kind::bf16:
      return add_steps<Format<Kind::bf16>, rows>(panel, bytes, first, end, split, base, x, stride,
                                                 sums);
    case Kind::q8_0:
      return add_steps<Format<Kind::q8_0>, rows>(panel, bytes, first, end, split, base, x, stride,
                                                 sums);
    case Kind::q4_0:
      return add_steps<Format<Kind::q4_0>, rows>(panel, bytes, first, end, split, base, x, stride,
                                                 sums);
  }
}

/// One halving of add_lanes: of `count` sums a row, a lane keeps half and gives its neighbour the
/// others.
template <int rows, int count>
RWKV_DEVICE void halve(float (&sums)[rows * 8], unsigned mask) {
  const bool upper = (lane() & mask) != 0;
  float given[rows * count / 2];
  RWKV_CUDA_UNROLL
  for (int r = 0; r < rows; ++r) RWKV_CUDA_UNROLL
  for (int i = 0; i < count / 2; ++i)
    given[r * (count / 2) + i] = upper ? sums[r * 8 + i] : sums[r * 8 + i + count / 2];
  exchange(given, mask);
  RWKV_CUDA_UNROLL
  for (int r = 0; r < rows; ++r) RWKV_CUDA_UNROLL
  for (int i = 0; i < count / 2; ++i) {
    const float kept = upper ? sums[r * 8 + i + count / 2] : sums[r * 8 + i];
    sums[r * 8 + i] = add(kept, given[r * (count / 2) + i]);
  }
}

/// Sums over the lanes. Afterwards lane l has output (l / 4) % 8 of row r in sums[r].
template <int rows>
RWKV_DEVICE void add_lanes(float (&sums)[rows * 8], float (&out)[rows]) {
  halve<rows, 8>(sums, 16);
  halve<rows, 4>(sums, 8);
  halve<rows, 2>(sums, 4);
  RWKV_CUDA_UNROLL
  for (int r = 0; r < rows; ++r) out[r] = sums[r * 8];
  RWKV_CUDA_UNROLL
  for (unsigned mask = 2; mask > 0; mask /= 2) {
    float other[rows];
    RWKV_CUDA_UNROLL
    for (int r = 0; r < rows; ++r) other[r] = out[r];
    exchange(other, mask);
    RWKV_CUDA_UNROLL
    for (int r = 0; r < rows; ++r) out[r] = add(out[r], other[r]);
  }
}
/// The output of a panel that lane l has: lanes with bit 16 kept the upper half of 8, and so on.
RWKV_DEVICE unsigned output_of_lane() { return lane() >> 2; }

// ---- rows

/// What the rows of a pass are, in memory of the device that passes fill before they begin.
struct Rows {
  const Token* tokens;
  float* const* states;         ///< of the sequence of a row
  const std::uint32_t* places;  ///< of a row: bit 0: the first of its sequence in this pass; bit 1:
                                ///< the last
};
inline constexpr std::uint32_t first_of_sequence = 1;
inline constexpr std::uint32_t last_of_sequence = 2;

/// Where the inputs of a product come from: x as it is, or a norm of it.
struct Inputs {
  const float* x;  ///< [rows][stride]
  std::uint64_t stride;
  unsigned width;       ///< of a row that is normalised
  const float* weight;  ///< of the norm; null: none
  const float* bias;
  float epsilon;
  const std::uint32_t* chosen;  ///< which rows of x; null: row r is row r
  Rows rows;                    ///< for token shift
  std::uint64_t shift;          ///< where a state keeps the previous token's input
  float* statistics;            ///< [rows][2]: where mean and scale are left for later kernels
};

/// One product of a launch.
struct Product {
  const unsigned char* data;
  const float* mix;  ///< [inputs] of token shift; null: none
  float* out;        ///< [rows][out_stride]
  std::uint64_t out_stride;
  std::uint64_t panel_bytes;
  unsigned panels;
  unsigned outputs;
  unsigned steps;
  unsigned from;        ///< where its inputs begin in a row of x, if there is no norm
  unsigned width;       ///< and how many there are
  unsigned first_tile;  ///< the number of tiles of the products before this one
  Kind kind;
  Activation activation;
  bool add;  ///< to what is there
};

inline constexpr int most_products = 7;

struct Products {
  Product list[most_products];
  unsigned count;
  unsigned tiles;      ///< of all products together
  unsigned rows;       ///< of the launch
  unsigned row_tiles;  ///< groups of rows that share what they load
  Inputs inputs;
};

/// Floats of inputs in shared memory.
inline constexpr unsigned chunk_floats = 8192;
inline constexpr unsigned product_shared_bytes =
    (chunk_floats + block_warps * panel_outputs * 8 + block_warps * 2 * 9 + 32) * 4;

/// The place of row r in x.
RWKV_DEVICE std::uint64_t row_of(const Inputs& in, unsigned r) {
  return in.chosen == nullptr ? r : in.chosen[r];
}

/// Mean and scale of the rows [first, first + count) of x, and in [rows] those of the row before
/// `first`, if it belongs to the same sequence; by all threads of a block.
template <int rows>
RWKV_DEVICE void find_statistics(const Inputs& in, unsigned first, unsigned count, bool before,
                                 float* room, float (&mean)[rows + 1], float (&scale)[rows + 1]) {
  const float* source[rows + 1];
  RWKV_CUDA_UNROLL
  for (int r = 0; r <= rows; ++r) {
    const unsigned row = r < rows ? first + static_cast<unsigned>(r) : first - 1;
    const bool there = r < rows ? static_cast<unsigned>(r) < count : before;
    source[r] = there ? in.x + row_of(in, row) * in.stride : nullptr;
    mean[r] = scale[r] = 0;
  }
  const auto width = static_cast<float>(in.width);
  for (unsigned i = thread(); i < in.width; i += block_threads) RWKV_CUDA_UNROLL
  for (int r = 0; r <= rows; ++r)
    if (source[r] != nullptr) mean[r] = add(mean[r], source[r][i]);
  block_sums(mean, room);
  RWKV_CUDA_UNROLL
  for (int r = 0; r <= rows; ++r) mean[r] = divide(mean[r], width);
  for (unsigned i = thread(); i < in.width; i += block_threads) RWKV_CUDA_UNROLL
  for (int r = 0; r <= rows; ++r)
    if (source[r] != nullptr) {
      const float d = add(source[r][i], -mean[r]);
      scale[r] = fma(d, d, scale[r]);
    }
  block_sums(scale, room + block_warps * (rows + 1));
  RWKV_CUDA_UNROLL
  for (int r = 0; r <= rows; ++r)
    scale[r] = divide(1.0f, square_root(add(divide(scale[r], width), in.epsilon)));
}

/// A block: `panels` panels of one product for `rows` rows, each panel by 8 / panels warps.
template <int rows, int panels>
RWKV_DEVICE void multiply(const Products& p, std::uint64_t block_index) {
  constexpr unsigned split = block_warps / panels;
  constexpr unsigned chunk = chunk_floats / rows;  // inputs of a row in shared memory
  static_assert(chunk % (warp_size * split) == 0, "or the order of sums would depend on the rows");
  auto* const x = reinterpret_cast<float*>(shared());
  float* const results = x + chunk_floats;  // [split][rows][panels * 8]
  float* const room = results + block_warps * panel_outputs * 8;

  const auto tile = static_cast<unsigned>(block_index / p.row_tiles);
  const auto row_tile = static_cast<unsigned>(block_index % p.row_tiles);
  unsigned which = 0;
  while (which + 1 < p.count && p.list[which + 1].first_tile <= tile) ++which;
  const Product& product = p.list[which];
  const Inputs& in = p.inputs;
  const unsigned first_row = row_tile * rows;
  const unsigned count = p.rows - first_row < rows ? p.rows - first_row : rows;
  const unsigned panel = (tile - product.first_tile) * panels + warp() % panels;
  const unsigned part = warp() / panels;
  const unsigned char* const data = product.data + panel * product.panel_bytes;
  const bool there = panel < product.panels;

  // While the previous kernel ends, the weights can already come nearer.
  if (there) {
    const std::uint64_t share = product.panel_bytes / split;
    for (std::uint64_t at = lane() * 128; at < share && at < 8 * warp_size * 128;
         at += warp_size * 128)
      prefetch(data + part * share + at);
  }
  let_next_start();
  wait_for_previous();

  float mean[rows + 1], scale[rows + 1];
  bool before = false;
  if (in.weight != nullptr) {
    before = product.mix != nullptr && (in.rows.places[first_row] & first_of_sequence) == 0;
    find_statistics<rows>(in, first_row, count, before, room, mean, scale);
    if (in.statistics != nullptr && tile == 0 && thread() == 0)
      for (unsigned r = 0; r < rows; ++r)
        if (r < count) {
          in.statistics[2 * (first_row + r)] = mean[r];
          in.statistics[2 * (first_row + r) + 1] = scale[r];
        }
  }

  float sums[rows * 8];
  RWKV_CUDA_UNROLL
  for (int i = 0; i < rows * 8; ++i) sums[i] = 0;
  for (unsigned base = 0; base < product.steps * warp_size; base += chunk) {
    if (base != 0) barrier();  // the last chunk has been read
    const unsigned left = product.steps * warp_size - base;
    const unsigned here = left < chunk ? left : chunk;
    for (unsigned c = thread(); c < here; c += block_threads) {
      const unsigned i = base + c;
      if (i >= product.width) {
        RWKV_CUDA_UNROLL
        for (unsigned r = 0; r < rows; ++r) x[r * chunk + c] = 0;
        continue;
      }
      if (in.weight == nullptr) {
        RWKV_CUDA_UNROLL
        for (unsigned r = 0; r < rows; ++r)
          x[r * chunk + c] =
              r < count ? in.x[row_of(in, first_row + r) * in.stride + product.from + i] : 0;
        continue;
      }
      const float weight = in.weight[i];
      const float bias = in.bias[i];
      const float mix = product.mix == nullptr ? 0 : product.mix[i];
      float last = before ? normalised(in.x[row_of(in, first_row - 1) * in.stride + i], mean[rows],
                                       scale[rows], weight, bias)
                          : 0;
      RWKV_CUDA_UNROLL
      for (unsigned r = 0; r < rows; ++r) {
        if (r >= count) {
          x[r * chunk + c] = 0;
          continue;
        }
        const unsigned row = first_row + r;
        const float now =
            normalised(in.x[row_of(in, row) * in.stride + i], mean[r], scale[r], weight, bias);
        if (product.mix == nullptr) {
          x[r * chunk + c] = now;
          continue;
        }
        if ((in.rows.places[row] & first_of_sequence) != 0)
          last = in.rows.states[row][in.shift + i];
        x[r * chunk + c] = fma(add(last, -now), mix, now);
        last = now;
      }
    }
    barrier();
    const unsigned base_step = base / warp_size;
    if (there)
      add_steps<rows>(product.kind, data, base_step + part, base_step + here / warp_size, split,
                      base_step, x, chunk, sums);
  }

  float out[rows];
  add_lanes<rows>(sums, out);
  if (lane() % 4 == 0) RWKV_CUDA_UNROLL
  for (unsigned r = 0; r < rows; ++r)
    results[(part * rows + r) * (panels * 8) + warp() % panels * 8 + output_of_lane()] = out[r];
  barrier();
  const unsigned first_output = (tile - product.first_tile) * panels * 8;
  for (unsigned at = thread(); at < rows * panels * 8; at += block_threads) {
    const unsigned r = at / (panels * 8);
    const unsigned o = first_output + at % (panels * 8);
    if (r >= count || o >= product.outputs) continue;
    float sum = results[at];
    for (unsigned s = 1; s < split; ++s) sum = add(sum, results[s * rows * panels * 8 + at]);
    sum = activated(product.activation, sum);
    float* const to = product.out + (first_row + r) * product.out_stride + o;
    *to = product.add ? add(*to, sum) : sum;
  }
}

}  // namespace rwkv::inline RWKV_ABI::cuda::device
