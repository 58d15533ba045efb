// SPDX-License-Identifier: Apache-2.0
// What lies between rwkv/cuda.hpp and the CUDA translation unit: plain types and a few functions,
// the same for every compiler, instruction set and form of the library. Programs use rwkv/cuda.hpp.
#pragma once

#include <rwkv/core/config.hpp>

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#if defined(__CUDACC__)
#define RWKV_ALSO_ON_DEVICE __host__ __device__
#else
#define RWKV_ALSO_ON_DEVICE
#endif

namespace rwkv::inline RWKV_ABI::cuda {

/// How the numbers of a matrix are stored on the device.
enum class Kind : std::uint8_t { f32, f16, bf16, q8_0, q4_0 };

/// Inputs that are multiplied in one step of a warp. Matrices have whole steps; what is missing is
/// zero.
inline constexpr unsigned step_inputs = 32;
/// Outputs of a panel: what one lane of a warp sums up of an input at once.
inline constexpr unsigned panel_outputs = 8;
/// Outputs of a tile of a matrix that lies input after input.
inline constexpr unsigned tile_outputs = 128;

/// Which of two layouts a matrix has.
///   panels    8 outputs after 8 outputs; of each, input after input
///   by_input  128 outputs after 128 outputs; of each, input after input: an input that is zero is
///             not read at all
/// Blocks of 32 inputs (q8_0, q4_0) begin with the scales of their outputs, as halves; the codes of
/// q4_0 are in pairs, the output of the lower number in the lower half of the byte.
enum class Layout : std::uint8_t { panels, by_input };

[[nodiscard]] constexpr std::size_t round_up(std::size_t n, std::size_t to) noexcept {
  return (n + to - 1) / to * to;
}

/// Bytes of one step of 32 inputs of `outputs` outputs.
[[nodiscard]] RWKV_ALSO_ON_DEVICE constexpr std::size_t step_bytes(Kind kind,
                                                                   std::size_t outputs) noexcept {
  switch (kind) {
    case Kind::f32:
      return step_inputs * outputs * 4;
    case Kind::q8_0:
      return outputs * 2 + step_inputs * outputs;
    case Kind::q4_0:
      return outputs * 2 + step_inputs * outputs / 2;
    default:
      return step_inputs * outputs * 2;
  }
}

/// A matrix in a model's memory: `outputs` x `inputs` at `at` bytes from its beginning.
struct Matrix {
  Kind kind = Kind::f32;
  Layout layout = Layout::panels;
  std::uint64_t at = 0;
  std::size_t outputs = 0;
  std::size_t inputs = 0;

  [[nodiscard]] constexpr std::size_t group() const noexcept {
    return layout == Layout::panels ? panel_outputs : tile_outputs;
  }
  [[nodiscard]] constexpr std::size_t groups() const noexcept {
    return (outputs + group() - 1) / group();
  }
  [[nodiscard]] constexpr std::size_t steps() const noexcept {
    return (inputs + step_inputs - 1) / step_inputs;
  }
  /// Of a panel or a tile.
  [[nodiscard]] constexpr std::uint64_t group_bytes() const noexcept {
    return std::uint64_t{steps()} * step_bytes(kind, group());
  }
  [[nodiscard]] constexpr std::uint64_t bytes() const noexcept { return groups() * group_bytes(); }
};

/// Numbers per channel, by their place in the model's memory. `nowhere` where there are none.
using Vector = std::uint64_t;
inline constexpr Vector nowhere = ~std::uint64_t{0};

struct Block {
  Vector ln1_weight = nowhere, ln1_bias = nowhere, ln2_weight = nowhere, ln2_bias = nowhere;
  Vector x_r = nowhere, x_w = nowhere, x_k = nowhere, x_v = nowhere, x_a = nowhere, x_g = nowhere;
  Vector w0 = nowhere, a0 = nowhere, v0 = nowhere, k_k = nowhere, k_a = nowhere, r_k = nowhere;
  Vector ln_x_weight = nowhere, ln_x_bias = nowhere, ffn_x_k = nowhere;
  Matrix receptance, key, value, output, w1, a1, v1, g1, w2, a2, v2, g2, ffn_key, ffn_value;
};

/// Everything about a model but its numbers.
struct Plan {
  std::size_t layers = 0, embed = 0, head_size = 0, ffn = 0, vocab = 0;
  std::size_t decay_rank = 0, icl_rank = 0, value_rank = 0, gate_rank = 0;
  float layer_norm_epsilon = 0, group_norm_epsilon = 0;
  bool extended = false;
  Kind table_kind = Kind::f32;  ///< f32, f16 or bf16
  std::uint64_t table = 0;      ///< [V][C]
  Vector ln0_weight = nowhere, ln0_bias = nowhere;
  Vector ln_out_weight = nowhere, ln_out_bias = nowhere;
  Matrix head;
  std::vector<Block> blocks;
  std::uint64_t bytes = 0;  ///< of the model's memory

  [[nodiscard]] std::size_t layer_state() const noexcept { return embed * (2 + head_size); }
  /// Floats of a state, as rwkv::State has them.
  [[nodiscard]] std::size_t state() const noexcept { return layers * layer_state(); }
};

/// Takes the numbers of a model to the device, piece by piece.
class Upload {
 public:
  virtual ~Upload() = default;
  /// `size` bytes to `at` bytes from the beginning of the model's memory. The data may be changed
  /// as soon as it returns.
  virtual void write(std::uint64_t at, const void* data, std::size_t size) = 0;
  /// Fills `count` numbers of a plain kind, made on the device, evenly spread in [-scale, scale]
  /// around `centre`.
  virtual void random(std::uint64_t at, Kind kind, std::uint64_t count, std::uint64_t seed,
                      float centre, float scale) = 0;
};

/// A model on a device. Any number of threads may use it.
struct Loaded;
/// The state of one sequence on a device.
struct Memory;
/// A stream and the memory that passes need.
struct Work;

/// What a device is.
struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;
  int multiprocessors = 0;
  std::uint64_t memory = 0;       ///< bytes
  std::uint64_t free_memory = 0;  ///< bytes
  int driver = 0;                 ///< 13000 is 13.0
  int runtime = 0;
};

/// Tokens to append to a sequence.
struct Segment {
  Memory* state = nullptr;
  std::span<const Token> tokens;
  std::span<const std::size_t> positions;  ///< for Asked::chosen: ascending indices into `tokens`
};

/// The rows that are wanted.
enum class Asked : std::uint8_t { none, last, all, chosen };

/// How tokens are drawn: SamplerOptions, with what is a list there as arrays.
struct Drawing {
  float temperature = 1, top_p = 1, presence_penalty = 0, frequency_penalty = 0, penalty_decay = 1;
  float farthest = 0;  ///< the largest distance that min_p leaves
  std::uint64_t top_k = 0;
  double weight_scale = 0;    ///< FixedExp's for temperature 1
  double tempered_scale = 0;  ///< and for this temperature
  std::uint64_t seed = 0;
  std::span<const std::uint32_t> exp_steps;     ///< [256] FixedExp's table
  std::vector<std::pair<Token, float>> biases;  ///< by token
  std::vector<std::uint32_t> banned;            ///< bit per token
  std::vector<std::uint32_t> uncounted;         ///< bit per token
};

/// Options, occurrences and random numbers of a sequence, on a device.
struct Draws;

/// A sequence that goes on by itself.
struct Sequence {
  Memory* state = nullptr;
  Draws* draws = nullptr;
  Token last = 0;  ///< which the state has not consumed
};

// The functions of the translation unit. All throw Error: argument, memory, and io for what the
// device or its driver say.
[[nodiscard]] int device_count();
[[nodiscard]] DeviceInfo device_info(int device);
/// Bytes per second that a device reads and writes together when it copies `bytes` within its
/// memory.
[[nodiscard]] double copy_speed(int device, std::uint64_t bytes);
[[nodiscard]] std::shared_ptr<const Loaded> load(Plan plan, int device,
                                                 const std::function<void(Upload&)>& fill);
[[nodiscard]] const Plan& plan_of(const Loaded& model);
[[nodiscard]] int device_of(const Loaded& model);

/// All zeros.
[[nodiscard]] std::shared_ptr<Memory> make_state(const std::shared_ptr<const Loaded>& model);
[[nodiscard]] std::shared_ptr<Memory> copy_of(const Memory& state);
void copy(const Memory& from, Memory& to);
void upload(Memory& to, const float* from);
void download(const Memory& from, float* to);

struct WorkSettings {
  std::size_t rows = 0;  ///< that go through the model together at most
  bool graphs = true;    ///< replay passes of one token per sequence
  bool tensor = false;   ///< multiply f16 and bf16 matrices on tensor cores
};
[[nodiscard]] std::uint64_t work_bytes(const Plan& plan, const WorkSettings& settings);
[[nodiscard]] std::shared_ptr<Work> make_work(const std::shared_ptr<const Loaded>& model,
                                              const WorkSettings& settings);
/// Runs a batch and waits for it. `logits` and `hidden` are memory of the host, or of the device if
/// `on_device`; what is null is not wanted.
void forward(Work& work, const Loaded& model, std::span<const Segment> segments, Asked asked,
             float* logits, float* hidden, bool on_device);

[[nodiscard]] std::shared_ptr<Draws> make_draws(const std::shared_ptr<const Loaded>& model,
                                                const Drawing& drawing);
[[nodiscard]] std::shared_ptr<Draws> copy_of(const Draws& draws);
/// Draws a token, and counts it, from logits [V] of the host or the device.
[[nodiscard]] Token draw(Work& work, const Loaded& model, Draws& draws, const float* logits,
                         bool on_device);
/// Feeds each sequence its last token, draws the next one and so on; `tokens` is
/// [steps][sequences].
void decode(Work& work, const Loaded& model, std::span<const Sequence> sequences, std::size_t steps,
            Token* tokens);

}  // namespace rwkv::inline RWKV_ABI::cuda
