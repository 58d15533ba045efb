// SPDX-License-Identifier: Apache-2.0
// RWKV-7 models on a CUDA device, with the nouns of the CPU:
//
//   const auto model = rwkv::CudaModel::load("model.pth");
//   rwkv::CudaState state = model.initial_state();
//   rwkv::CudaWorkspace work(model);
//   std::span<const float> logits = model.forward(state, tokens, work);
//   rwkv::generate(model, state, work, tokenizer, "Once upon a time");
//
// What runs on the device is one more translation unit, rwkv/cuda/rwkv_cuda.cu, which nvcc compiles
// and the program links: with CMake the target rwkv::cuda (-DRWKV_CUDA=ON). This header is for any
// compiler and includes nothing of CUDA.
//
// The bits of a sequence are its own here too: they do not depend on how its prompt is cut, on what
// else is in the batch, on its size, or on whether passes are replayed. They are not the CPU's,
// whose sums have another order.
#pragma once

#include <rwkv/cuda/engine.hpp>
#include <rwkv/exec/serial.hpp>
#include <rwkv/kernels/quantised_layout.hpp>
#include <rwkv/model.hpp>
#include <rwkv/sampler.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

namespace detail {

/// The weights of a model as a device wants them: where everything lies, and the copying.
class CudaPacking {
 public:
  explicit CudaPacking(const io::StoredWeights& weights);
  /// Of these dimensions, without numbers.
  CudaPacking(const Dimensions& dimensions, DType type);
  [[nodiscard]] const cuda::Plan& plan() const noexcept { return plan_; }
  void copy(cuda::Upload& to) const;
  void random(cuda::Upload& to, std::uint64_t seed, bool sparse) const;

 private:
  struct Part {
    cuda::Matrix to;
    AnyMatrix from;
  };
  struct Row {
    cuda::Vector to;
    const float* from;
    std::size_t size;
  };

  void set(const Dimensions& dimensions, DType table, const NormWeights& ln0);
  void add(const BlockWeights<AnyMatrix>& block);
  void finish(const NormWeights& ln_out, const AnyMatrix& head);
  cuda::Vector vector(const float* from, std::size_t size);
  cuda::Matrix matrix(const AnyMatrix& from, cuda::Layout layout, const char* what);
  std::uint64_t take(std::uint64_t bytes);

  AnyTable table_;
  cuda::Plan plan_;
  std::vector<Part> parts_;
  std::vector<Row> rows_;
};

}  // namespace detail

class CudaModel;

/// The state of one sequence on a device, a value: a copy is a fork, assigning it back a rewind.
/// One thread at a time may change it.
class CudaState {
 public:
  CudaState(const CudaState& other)
      : shape_(other.shape_),
        model_(other.model_),
        memory_(other.memory_ ? cuda::copy_of(*other.memory_) : nullptr) {}
  CudaState(CudaState&&) noexcept = default;
  CudaState& operator=(const CudaState& other) {
    if (this == &other) return *this;
    if (memory_ != nullptr && other.memory_ != nullptr && model_ == other.model_)
      cuda::copy(*other.memory_, *memory_);
    else
      memory_ = other.memory_ ? cuda::copy_of(*other.memory_) : nullptr;
    shape_ = other.shape_;
    model_ = other.model_;
    return *this;
  }
  CudaState& operator=(CudaState&&) noexcept = default;
  ~CudaState() = default;

  /// False after it was moved from.
  [[nodiscard]] bool intact() const noexcept { return memory_ != nullptr; }
  [[nodiscard]] const DynamicShape& shape() const noexcept { return shape_; }

  /// The same state on the CPU, bit for bit. Throws Error (argument) if this one was moved away.
  [[nodiscard]] State<> download() const {
    require_intact();
    State<> state(shape_);
    cuda::download(*memory_, state.values().data());
    return state;
  }
  /// Takes over a state of the CPU, bit for bit. Throws Error (shape) for one of another shape, and
  /// (argument) if either was moved away.
  void upload(const State<>& state) {
    require_intact();
    internal::check_state(shape_, state, "the state");
    cuda::upload(*memory_, state.values().data());
  }
  /// Back to the beginning of a text: zeros.
  void reset() { upload(State<>(shape_)); }

  /// Same shape and the same bits. A state that was moved away has no bits.
  friend bool operator==(const CudaState& a, const CudaState& b) {
    if (!(a.shape_ == b.shape_) || a.intact() != b.intact()) return false;
    return !a.intact() || a.download() == b.download();
  }

 private:
  friend class CudaModel;
  void require_intact() const {
    if (!intact()) fail(ErrorCategory::argument, "the state was moved away");
  }
  CudaState(DynamicShape shape, const std::shared_ptr<const cuda::Loaded>& model)
      : shape_(shape), model_(model.get()), memory_(cuda::make_state(model)) {}

  DynamicShape shape_;
  const cuda::Loaded* model_ = nullptr;  // which memory_ keeps
  std::shared_ptr<cuda::Memory> memory_;
};

/// Tokens to append to a sequence on the device, and its state. The states of a batch are distinct
/// objects.
struct CudaSlot {
  CudaState* state = nullptr;
  std::span<const Token> tokens;
  /// For Logits::chosen, as those of a Slot.
  std::span<const std::size_t> positions = {};
};

/// As slot_of of the CPU's states (forward.hpp).
[[nodiscard]] inline CudaSlot slot_of(CudaState& state, std::span<const Token> tokens,
                                      std::span<const std::size_t> positions = {}) {
  return {&state, tokens, positions};
}

struct CudaOptions {
  int device = 0;
};

/// How matrices of f16 and bf16 are multiplied with. Either way the bits of a sequence are its own.
enum class CudaArithmetic : std::uint8_t {
  /// With f32 throughout, in an order that is the same on every device. Fast for few rows.
  plain,
  /// On tensor cores, with inputs split into two halves or three bfloat16s so that nothing is lost
  /// to rounding them. For many rows: prompts, and batches of tens of sequences. Bits differ from
  /// those of `plain`, and may differ between generations of devices. Needs compute capability 8.0.
  tensor,
};

struct CudaWorkspaceOptions {
  std::size_t rows = 128;  ///< that go through the model together at most
  bool graphs = true;      ///< passes of one token for each sequence are recorded and replayed
  CudaArithmetic arithmetic = CudaArithmetic::plain;
};

class CudaWorkspace;

/// Draws the tokens of one sequence on the device: exactly those that a Sampler with the same
/// options draws from the same logits. A value: a copy is a fork that draws the same. One thread at
/// a time.
class CudaSampler {
 public:
  /// Throws Error (argument) if an option is out of range.
  explicit CudaSampler(const CudaModel& model, const SamplerOptions& options = {});
  CudaSampler(const CudaSampler& other)
      : model_(other.model_), draws_(other.draws_ ? cuda::copy_of(*other.draws_) : nullptr) {}
  CudaSampler(CudaSampler&&) noexcept = default;
  CudaSampler& operator=(const CudaSampler& other) { return *this = CudaSampler(other); }
  CudaSampler& operator=(CudaSampler&&) noexcept = default;
  ~CudaSampler() = default;

  /// Draws a token and counts it; logits [V] of the host. Throws Error (numeric) for NaN or
  /// +infinity among the logits, or if every token is out, and (argument) for other sizes.
  [[nodiscard]] Token sample(std::span<const float> logits, CudaWorkspace& work) {
    return draw(logits, work, false);
  }
  /// The same for logits in memory of the device.
  [[nodiscard]] Token sample_on_device(std::span<const float> logits, CudaWorkspace& work) {
    return draw(logits, work, true);
  }

 private:
  friend class CudaModel;
  [[nodiscard]] Token draw(std::span<const float> logits, CudaWorkspace& work, bool on_device);

  std::shared_ptr<const cuda::Loaded> model_;
  std::shared_ptr<cuda::Draws> draws_;
};

/// A sequence that goes on by itself: see CudaModel::decode.
struct CudaSequence {
  CudaState* state = nullptr;
  CudaSampler* sampler = nullptr;
  Token last = 0;  ///< the token to go on from, which the state has not consumed
};

/// A model on a device. Copies share the weights. Any number of threads may run it at once, each
/// with its own states and workspace; models on several devices, or several on one, do not know of
/// each other.
class CudaModel {
 public:
  using Shape = DynamicShape;

  /// From weights in memory, which may be dropped afterwards. Throws Error: unsupported for types
  /// that do not run on the device (f32, f16, bf16, q8_0 and q4_0 do) and heads of a size other
  /// than 16, 32, 64 and 128, memory before anything is allocated if it does not fit, io for what
  /// the device says.
  explicit CudaModel(const io::StoredWeights& weights, const CudaOptions& options = {});
  explicit CudaModel(const Model<>& model, const CudaOptions& options = {})
      : CudaModel(model.weights(), options) {}
  explicit CudaModel(const io::Checkpoint& checkpoint, const LoadOptions& load = {},
                     const CudaOptions& options = {}, ExecutorRef exec = {})
      : CudaModel(io::StoredWeights(checkpoint, load, exec), options) {}

  /// A model for measurements, whose numbers (f32, f16 or bf16) are made on the device. `sparse`:
  /// nearly nine tenths of the inputs of ffn.value are zero, as in released models, not half.
  [[nodiscard]] static CudaModel random(const Dimensions& dimensions, DType type,
                                        std::uint64_t seed = 1, bool sparse = true,
                                        const CudaOptions& options = {});

#if !defined(RWKV_NO_IO) && !defined(RWKV_NO_FILES)
  /// Any supported file or folder, as Model::load.
  [[nodiscard]] static CudaModel load(const std::filesystem::path& path,
                                      const LoadOptions& load = {}, const CudaOptions& options = {},
                                      ExecutorRef exec = {}) {
    return CudaModel(
        io::read_checkpoint(path, load.map ? io::FileAccess::map : io::FileAccess::read), load,
        options, exec);
  }

  /// As Model::save_state: the file is the same.
  void save_state(const std::filesystem::path& path, const CudaState& state,
                  const io::Metadata& notes = {}) const {
    internal::check_state(shape_, state, "the state");
    io::save_state(path, state.download(), fingerprint_, notes);
  }
  /// As Model::load_state.
  [[nodiscard]] CudaState load_state(const std::filesystem::path& path,
                                     const io::StateOptions& options = {}) const {
    CudaState state(shape_, loaded_);
    state.upload(io::read_state(path, shape_, fingerprint_, options));
    return state;
  }
#endif

  [[nodiscard]] const DynamicShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }
  /// Bytes on the device.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return cuda::plan_of(*loaded_).bytes; }
  /// As the translation unit knows it.
  [[nodiscard]] const std::shared_ptr<const cuda::Loaded>& loaded() const noexcept {
    return loaded_;
  }

  /// The state before the first token: zeros, or what the model's file has for it.
  [[nodiscard]] CudaState initial_state() const {
    CudaState state(shape_, loaded_);
    if (initial_ != nullptr) state.upload(*initial_);
    return state;
  }

  /// Appends `tokens` to the sequence and returns the logits [V] after the last one, in memory of
  /// the host; they live in the workspace until it is used again. Throws Error (argument) for no
  /// tokens or a token outside the vocabulary, before anything has changed. (The executor is for
  /// programs that run either kind of model.)
  std::span<const float> forward(CudaState& state, std::span<const Token> tokens,
                                 CudaWorkspace& work, ExecutorRef exec = {}) const;

  /// Advances a batch of sequences together and writes the rows that `which` says to `out`, memory
  /// of the host, as Model::forward, and returns when it is done. Throws Error (argument, shape)
  /// before anything has changed: a slot without tokens, a token outside the vocabulary, a state of
  /// another model or twice in the batch, outputs of another size; (io) if the device fails, after
  /// which states are undefined.
  void forward(std::span<const CudaSlot> slots, Logits which, const Outputs& out,
               CudaWorkspace& work, ExecutorRef exec = {}) const {
    (void)exec;
    run(slots, which, out, work, false);
  }
  /// The same with `out` in memory of the device.
  void forward_on_device(std::span<const CudaSlot> slots, Logits which, const Outputs& out,
                         CudaWorkspace& work) const {
    run(slots, which, out, work, true);
  }

  /// Feeds each sequence its last token, draws the next one from the logits, feeds that, and so on,
  /// without a word from the host in between. Returns `steps` tokens of each sequence, the first of
  /// all, then the second of all ... and leaves the last ones in `last`; the states have consumed
  /// all but those. Throws Error as forward does; (argument) for more sequences than the workspace
  /// has rows; (numeric) as Sampler does, after which states and samplers are undefined.
  std::vector<Token> decode(std::span<CudaSequence> sequences, std::size_t steps,
                            CudaWorkspace& work) const;

 private:
  CudaModel() = default;
  void check(std::span<const CudaSlot> slots, Logits which, const Outputs& out,
             const CudaWorkspace& work) const;
  void run(std::span<const CudaSlot> slots, Logits which, const Outputs& out, CudaWorkspace& work,
           bool on_device) const;

  DynamicShape shape_;
  std::uint64_t fingerprint_ = 0;
  std::shared_ptr<const State<>> initial_;  // null: zeros
  std::shared_ptr<const cuda::Loaded> loaded_;
};

/// What passes need on a device: a stream, memory for `rows` rows, recorded passes. One thread at a
/// time.
class CudaWorkspace {
 public:
  /// Throws Error (memory) before anything is allocated if it does not fit, (argument) for no rows.
  explicit CudaWorkspace(const CudaModel& model, const CudaWorkspaceOptions& options = {})
      : shape_(model.shape()),
        rows_(checked(options.rows)),
        logits_(shape_.vocab()),
        work_(cuda::make_work(model.loaded(), {options.rows, options.graphs,
                                               options.arithmetic == CudaArithmetic::tensor})) {}
  CudaWorkspace(const CudaModel& model, std::size_t rows)
      : CudaWorkspace(model, CudaWorkspaceOptions{.rows = rows}) {}

  [[nodiscard]] const DynamicShape& shape() const noexcept { return shape_; }
  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  /// False after it was moved from.
  [[nodiscard]] bool intact() const noexcept { return work_ != nullptr; }
  [[nodiscard]] std::span<float> logits() noexcept { return logits_; }
  /// As the translation unit knows it.
  [[nodiscard]] cuda::Work& work() noexcept { return *work_; }

 private:
  static std::size_t checked(std::size_t rows) {
    constexpr std::size_t most = std::size_t{1} << 20;
    if (rows == 0 || rows > most)
      fail_with(ErrorCategory::argument, "a workspace of ", rows, " rows: 1 to ", most, " can be");
    return rows;
  }

  DynamicShape shape_;
  std::size_t rows_;
  std::vector<float> logits_;
  std::shared_ptr<cuda::Work> work_;
};

// ---- definitions

namespace detail {

inline std::uint64_t CudaPacking::take(std::uint64_t bytes) {
  return std::exchange(plan_.bytes, plan_.bytes + (bytes + 255) / 256 * 256);
}

inline cuda::Vector CudaPacking::vector(const float* from, std::size_t size) {
  if (from == nullptr) return cuda::nowhere;
  const cuda::Vector to = take(size * sizeof(float));
  rows_.push_back({to, from, size});
  return to;
}

inline cuda::Matrix CudaPacking::matrix(const AnyMatrix& from, cuda::Layout layout,
                                        const char* what) {
  cuda::Matrix to;
  switch (from.type) {
    case DType::f32:
      to.kind = cuda::Kind::f32;
      break;
    case DType::f16:
      to.kind = cuda::Kind::f16;
      break;
    case DType::bf16:
      to.kind = cuda::Kind::bf16;
      break;
    case DType::q8_0:
      to.kind = cuda::Kind::q8_0;
      break;
    case DType::q4_0:
      to.kind = cuda::Kind::q4_0;
      break;
    default:
      fail_with(ErrorCategory::unsupported, what, " is held as ", std::string(name_of(from.type)),
                ", which does not run on a CUDA device: f32, f16, bf16, q8_0 and q4_0 do "
                "(LoadOptions::matrix_type holds matrices in another type)");
  }
  if (from.low_rank != nullptr)
    fail_with(ErrorCategory::unsupported, "an adapter stands beside ", what, ", which is held as ",
              std::string(name_of(from.type)),
              "; on a CUDA device adapters need matrices of floats");
  to.layout = layout;
  to.outputs = from.rows;
  to.inputs = from.cols;
  to.at = take(to.bytes());
  parts_.push_back({to, from});
  return to;
}

inline void CudaPacking::set(const Dimensions& d, DType table, const NormWeights& ln0) {
  plan_.layers = d.layers;
  plan_.embed = d.embed;
  plan_.head_size = d.head_size;
  plan_.ffn = d.ffn;
  plan_.vocab = d.vocab;
  plan_.decay_rank = d.decay_rank;
  plan_.icl_rank = d.icl_rank;
  plan_.value_rank = d.value_rank;
  plan_.gate_rank = d.gate_rank;
  plan_.table_kind = table == DType::f16    ? cuda::Kind::f16
                     : table == DType::bf16 ? cuda::Kind::bf16
                                            : cuda::Kind::f32;
  plan_.table =
      take(std::uint64_t{d.vocab} * d.embed * (plan_.table_kind == cuda::Kind::f32 ? 4 : 2));
  plan_.ln0_weight = vector(ln0.weight, d.embed);
  plan_.ln0_bias = vector(ln0.bias, d.embed);
}

inline void CudaPacking::add(const BlockWeights<AnyMatrix>& from) {
  const TimeMixWeights<AnyMatrix>& a = from.att;
  const std::size_t c = plan_.embed;
  using enum cuda::Layout;
  cuda::Block to;
  to.ln1_weight = vector(from.ln1.weight, c);
  to.ln1_bias = vector(from.ln1.bias, c);
  to.ln2_weight = vector(from.ln2.weight, c);
  to.ln2_bias = vector(from.ln2.bias, c);
  to.x_r = vector(a.x_r, c);
  to.x_w = vector(a.x_w, c);
  to.x_k = vector(a.x_k, c);
  to.x_v = vector(a.x_v, c);
  to.x_a = vector(a.x_a, c);
  to.x_g = vector(a.x_g, c);
  to.w0 = vector(a.w0, c);
  to.a0 = vector(a.a0, c);
  to.v0 = vector(a.v0, c);
  to.k_k = vector(a.k_k, c);
  to.k_a = vector(a.k_a, c);
  to.r_k = vector(a.r_k, c);
  to.ln_x_weight = vector(a.ln_x.weight, c);
  to.ln_x_bias = vector(a.ln_x.bias, c);
  to.ffn_x_k = vector(from.ffn.x_k, c);
  to.receptance = matrix(a.receptance, panels, "att.receptance");
  to.key = matrix(a.key, panels, "att.key");
  to.value = matrix(a.value, panels, "att.value");
  to.output = matrix(a.output, panels, "att.output");
  to.w1 = matrix(a.w1, panels, "att.w1");
  to.a1 = matrix(a.a1, panels, "att.a1");
  to.g1 = matrix(a.g1, panels, "att.g1");
  to.w2 = matrix(a.w2, panels, "att.w2");
  to.a2 = matrix(a.a2, panels, "att.a2");
  to.g2 = matrix(a.g2, panels, "att.g2");
  if (a.v0 != nullptr) {
    to.v1 = matrix(a.v1, panels, "att.v1");
    to.v2 = matrix(a.v2, panels, "att.v2");
  }
  to.ffn_key = matrix(from.ffn.key, panels, "ffn.key");
  to.ffn_value = matrix(from.ffn.value, by_input, "ffn.value");
  plan_.blocks.push_back(to);
}

inline void CudaPacking::finish(const NormWeights& ln_out, const AnyMatrix& head) {
  plan_.ln_out_weight = vector(ln_out.weight, plan_.embed);
  plan_.ln_out_bias = vector(ln_out.bias, plan_.embed);
  plan_.head = matrix(head, cuda::Layout::panels, "head");
}

inline CudaPacking::CudaPacking(const io::StoredWeights& weights) : table_(weights.emb()) {
  if (weights.sparse_blocks() > 0)
    fail(ErrorCategory::unsupported, "RWKV-X models do not run on a CUDA device");
  if (weights.dimensions().deep_rank > 0)
    fail(ErrorCategory::unsupported, "models with DeepEmbed do not run on a CUDA device");
  plan_.layer_norm_epsilon = weights.norms().layer_norm_epsilon;
  plan_.group_norm_epsilon = weights.norms().group_norm_epsilon;
  plan_.extended = weights.eigenvalues() == Eigenvalues::extended;
  set(weights.dimensions(), weights.emb().type, weights.ln0());
  for (std::size_t i = 0; i < plan_.layers; ++i) add(weights.block(i));
  finish(weights.ln_out(), weights.head());
}

inline CudaPacking::CudaPacking(const Dimensions& d, DType type) {
  plan_.layer_norm_epsilon = kernels::layer_norm_epsilon;
  plan_.group_norm_epsilon = kernels::group_norm_epsilon;
  static constexpr float there = 0;  // only that it is there counts
  const float* const p = &there;
  const NormWeights norm{p, p};
  const std::size_t c = d.embed;
  const auto matrix_of = [type](std::size_t outputs, std::size_t inputs) {
    return AnyMatrix{type, nullptr, outputs, inputs};
  };
  set(d, type, norm);
  for (std::size_t i = 0; i < d.layers; ++i) {
    BlockWeights<AnyMatrix> b{};
    b.ln1 = b.ln2 = b.att.ln_x = norm;
    auto& a = b.att;
    a.x_r = a.x_w = a.x_k = a.x_v = a.x_a = a.x_g = a.w0 = a.a0 = p;
    a.k_k = a.k_a = a.r_k = b.ffn.x_k = p;
    a.v0 = i > 0 ? p : nullptr;
    a.receptance = a.key = a.value = a.output = matrix_of(c, c);
    a.w1 = matrix_of(d.decay_rank, c);
    a.a1 = matrix_of(d.icl_rank, c);
    a.v1 = matrix_of(d.value_rank, c);
    a.g1 = matrix_of(d.gate_rank, c);
    a.w2 = matrix_of(c, d.decay_rank);
    a.a2 = matrix_of(c, d.icl_rank);
    a.v2 = matrix_of(c, d.value_rank);
    a.g2 = matrix_of(c, d.gate_rank);
    b.ffn.key = matrix_of(d.ffn, c);
    b.ffn.value = matrix_of(c, d.ffn);
    add(b);
  }
  finish(norm, matrix_of(d.vocab, c));
}

/// Where element W[o][i] of a packed matrix of floats begins.
inline const std::byte* packed_element(const AnyMatrix& m, std::size_t o, std::size_t i) noexcept {
  using namespace kernels;
  const PanelPlace place = panel_place(o / panel_rows, panels_for(m.rows), m.cols);
  return static_cast<const std::byte*>(m.data) +
         (place.first + i * place.stride + o % panel_rows) * size_of(m.type);
}

/// A tile of 16 outputs and 32 inputs of a packed matrix of blocks: 16 halves, then codes.
struct PackedTile {
  PackedTile(const AnyMatrix& m, std::size_t o, std::size_t step) noexcept {
    using namespace kernels;
    const QuantisedLayout layout = layout_of(m.type);
    bits = layout.bits;
    by_input = m.by_input;
    if (by_input) {
      const std::byte* const group = static_cast<const std::byte*>(m.data) +
                                     o / ByInput::outputs * ByInput::group_bytes(m.cols);
      data =
          group + ByInput::scales(step) + o / panel_rows % ByInput::panels * layout.code_offset();
      codes = group + ByInput::codes(m.cols, step);
      return;
    }
    data = static_cast<const std::byte*>(m.data) + o / panel_rows * layout.bytes_per_panel(m.cols) +
           step * layout.tile_bytes();
    codes = data + layout.code_offset();
  }
  /// The bits of the scale of an output.
  void scale(std::size_t o, std::byte* out) const noexcept {
    std::memcpy(out, data + 2 * (o % kernels::panel_rows), 2);
  }
  /// Its code at an input: see kernels/quantised_layout.hpp, kernels/by_input.hpp.
  [[nodiscard]] unsigned code(std::size_t o, std::size_t i) const noexcept {
    if (by_input) {
      const std::size_t lane = o % kernels::panel_rows;
      const std::size_t panel = o / kernels::panel_rows % kernels::ByInput::panels;
      return std::to_integer<unsigned>(
          codes[i * kernels::ByInput::line + 16 * (lane / 4) + 4 * panel + lane % 4]);
    }
    const std::size_t group = i / 4;
    const std::size_t in_line = o % kernels::panel_rows * 4 + i % 4;
    if (bits == 8) return std::to_integer<unsigned>(codes[group * 64 + in_line]);
    const auto both = std::to_integer<unsigned>(codes[group % 4 * 64 + in_line]);
    return group < 4 ? both & 15u : both >> 4;
  }

  const std::byte* data;
  const std::byte* codes;
  unsigned bits;
  bool by_input;
};

/// Steps [first, end) of a group of outputs as the device has them; `out` is zeros.
inline void pack_steps(const AnyMatrix& from, const cuda::Matrix& to, std::size_t group,
                       std::size_t first, std::size_t end, std::byte* out) {
  const std::size_t outputs = to.group();
  const std::size_t first_output = group * outputs;
  const std::size_t here = (std::min<std::size_t>)(outputs, from.rows - first_output);
  const std::size_t bytes = cuda::step_bytes(to.kind, outputs);
  const bool blocks = is_block(from.type);
  for (std::size_t step = first; step < end; ++step, out += bytes) {
    const std::size_t inputs =
        (std::min<std::size_t>)(cuda::step_inputs, from.cols - step * cuda::step_inputs);
    for (std::size_t q = 0; q < here; ++q) {
      const std::size_t o = first_output + q;
      if (!blocks) {
        const std::size_t size = size_of(from.type);
        const std::byte* element = packed_element(from, o, step * cuda::step_inputs);
        const std::size_t stride =
            inputs > 1 ? static_cast<std::size_t>(
                             packed_element(from, o, step * cuda::step_inputs + 1) - element)
                       : 0;
        for (std::size_t i = 0; i < inputs; ++i, element += stride)
          std::memcpy(out + (i * outputs + q) * size, element, size);
        continue;
      }
      const PackedTile tile(from, o, step);
      tile.scale(o, out + 2 * q);
      std::byte* const codes = out + 2 * outputs;
      for (std::size_t i = 0; i < inputs; ++i) {
        const unsigned code = tile.code(o, i);
        const std::size_t at = i * outputs + q;
        if (tile.bits == 8)
          codes[at] = static_cast<std::byte>(code);
        else
          codes[at / 2] |= static_cast<std::byte>(code << (at % 2 * 4));
      }
    }
  }
}

inline void CudaPacking::copy(cuda::Upload& to) const {
  const std::size_t c = plan_.embed;
  if (plan_.table_kind == cuda::Kind::f32) {
    std::vector<float> row(c);
    for (std::size_t token = 0; token < plan_.vocab; ++token) {
      table_.row(token, c, row.data());
      to.write(plan_.table + std::uint64_t{token} * c * sizeof(float), row.data(),
               c * sizeof(float));
    }
  } else {
    to.write(plan_.table, table_.data, plan_.vocab * c * 2);
  }
  for (const Row& row : rows_) to.write(row.to, row.from, row.size * sizeof(float));
  std::vector<std::byte> packed;
  for (const Part& part : parts_) {
    const std::size_t bytes = cuda::step_bytes(part.to.kind, part.to.group());
    // Groups together that make a piece worth copying, or pieces of a large one.
    const std::size_t steps = part.to.steps();
    const std::size_t most = (std::max<std::size_t>)(1, (std::size_t{1} << 22) / bytes);
    const std::size_t together = (std::max<std::size_t>)(1, most / steps);
    for (std::size_t group = 0; group < part.to.groups(); group += together) {
      const std::size_t groups = (std::min<std::size_t>)(together, part.to.groups() - group);
      for (std::size_t step = 0; step < steps; step += most) {
        const std::size_t end = groups > 1 ? steps : (std::min)(step + most, steps);
        packed.assign(groups * (end - step) * bytes, std::byte{});
        for (std::size_t g = 0; g < groups; ++g)
          pack_steps(part.from, part.to, group + g, step, end,
                     packed.data() + g * (end - step) * bytes);
        to.write(part.to.at + group * part.to.group_bytes() + step * bytes, packed.data(),
                 packed.size());
      }
    }
  }
}

inline void CudaPacking::random(cuda::Upload& to, std::uint64_t seed, bool sparse) const {
  to.random(plan_.table, plan_.table_kind, std::uint64_t{plan_.vocab} * plan_.embed, ++seed, 0, 1);
  for (const Row& row : rows_) to.random(row.to, cuda::Kind::f32, row.size, ++seed, 0.5f, 0.25f);
  for (const Part& part : parts_) {
    const auto inputs = static_cast<float>(part.to.inputs);
    const float scale = 1.0f / std::sqrt(inputs);
    // Channels of a released model's channel mix are mostly below zero. Here all inputs have a
    // mean of 0.5 and a spread of about 0.5, and a common negative part of the weights does it.
    const bool key = part.to.outputs == plan_.ffn && part.to.inputs == plan_.embed;
    const float centre = sparse && key ? -0.95f * scale / std::sqrt(inputs) : 0.0f;
    to.random(part.to.at, part.to.kind, part.to.bytes() / (part.to.kind == cuda::Kind::f32 ? 4 : 2),
              ++seed, centre, scale);
  }
}

}  // namespace detail

inline CudaModel CudaModel::random(const Dimensions& dimensions, DType type, std::uint64_t seed,
                                   bool sparse, const CudaOptions& options) {
  if (type != DType::f32 && type != DType::f16 && type != DType::bf16)
    fail_with(ErrorCategory::argument, "random weights cannot be ", std::string(name_of(type)));
  const detail::CudaPacking packing(dimensions, type);
  CudaModel model;
  model.shape_ = DynamicShape(dimensions);
  model.loaded_ = cuda::load(packing.plan(), options.device,
                             [&](cuda::Upload& upload) { packing.random(upload, seed, sparse); });
  return model;
}

inline CudaModel::CudaModel(const io::StoredWeights& weights, const CudaOptions& options)
    : shape_(weights.dimensions()), fingerprint_(weights.fingerprint()) {
  State<> initial(shape_);
  weights.start(initial);
  if (!(initial == State<>(shape_))) initial_ = std::make_shared<const State<>>(std::move(initial));
  const detail::CudaPacking packing(weights);
  loaded_ = cuda::load(packing.plan(), options.device,
                       [&](cuda::Upload& upload) { packing.copy(upload); });
}

inline std::span<const float> CudaModel::forward(CudaState& state, std::span<const Token> tokens,
                                                 CudaWorkspace& work, ExecutorRef exec) const {
  const CudaSlot slot{&state, tokens};
  forward(std::span(&slot, 1), Logits::last, work.logits(), work, exec);
  return work.logits();
}

inline void CudaModel::check(std::span<const CudaSlot> slots, Logits which, const Outputs& out,
                             const CudaWorkspace& work) const {
  detail::check_batch(shape_, slots, which, out, work);
  for (std::size_t s = 0; s < slots.size(); ++s)
    if (slots[s].state->model_ != loaded_.get())
      fail_with(ErrorCategory::argument, "the state of slot ", s,
                " belongs to another model on the device");
}

inline void CudaModel::run(std::span<const CudaSlot> slots, Logits which, const Outputs& out,
                           CudaWorkspace& work, bool on_device) const {
  check(slots, which, out, work);
  std::vector<cuda::Segment> segments;
  segments.reserve(slots.size());
  for (const CudaSlot& slot : slots)
    segments.push_back({slot.state->memory_.get(), slot.tokens, slot.positions});
  cuda::forward(work.work(), *loaded_, segments,
                which == Logits::none   ? cuda::Asked::none
                : which == Logits::last ? cuda::Asked::last
                : which == Logits::all  ? cuda::Asked::all
                                        : cuda::Asked::chosen,
                out.logits.empty() ? nullptr : out.logits.data(),
                out.hidden.empty() ? nullptr : out.hidden.data(), on_device);
}

inline std::vector<Token> CudaModel::decode(std::span<CudaSequence> sequences, std::size_t steps,
                                            CudaWorkspace& work) const {
  std::vector<CudaSlot> slots;
  std::vector<cuda::Sequence> given;
  std::vector<const cuda::Draws*> samplers;
  for (const CudaSequence& s : sequences) {
    if (s.state == nullptr || s.sampler == nullptr)
      fail(ErrorCategory::argument, "a sequence needs a state and a sampler");
    slots.push_back({s.state, std::span(&s.last, 1)});
    if (s.sampler->model_ != loaded_)
      fail(ErrorCategory::argument, "a sampler was made for another model on the device");
    given.push_back({s.state->memory_.get(), s.sampler->draws_.get(), s.last});
    samplers.push_back(s.sampler->draws_.get());
  }
  check(slots, Logits::none, {}, work);
  std::sort(samplers.begin(), samplers.end());
  if (std::adjacent_find(samplers.begin(), samplers.end()) != samplers.end())
    fail(ErrorCategory::argument, "two sequences have the same sampler");
  std::vector<Token> tokens(steps * sequences.size());
  cuda::decode(work.work(), *loaded_, given, steps, tokens.data());
  if (steps > 0)
    for (std::size_t s = 0; s < sequences.size(); ++s)
      sequences[s].last = tokens[(steps - 1) * sequences.size() + s];
  return tokens;
}

inline CudaSampler::CudaSampler(const CudaModel& model, const SamplerOptions& options)
    : model_(model.loaded()) {
  options.validate();
  const std::size_t vocab = model.shape().vocab();
  cuda::Drawing d;
  d.temperature = options.temperature;
  d.top_p = options.top_p;
  d.presence_penalty = options.presence_penalty;
  d.frequency_penalty = options.frequency_penalty;
  d.penalty_decay = options.penalty_decay;
  d.top_k = options.top_k;
  d.weight_scale = FixedExp(1).scale();
  d.tempered_scale = options.temperature > 0 ? FixedExp(options.temperature).scale() : 0;
  d.farthest =
      options.min_p > 0 ? FixedExp(1).farthest(options.min_p) : (std::numeric_limits<float>::max)();
  d.seed = options.seed;
  d.exp_steps = detail::fixed_exp_steps;
  const auto mark = [vocab](std::vector<std::uint32_t>& bits, Token token) {
    bits.resize((vocab + 31) / 32);
    if (token < vocab) bits[token / 32] |= std::uint32_t{1} << token % 32;
  };
  for (const Token token : options.banned) mark(d.banned, token);
  if (options.uncounted)
    for (const Token token : *options.uncounted) mark(d.uncounted, token);
  d.biases = options.bias;
  std::stable_sort(d.biases.begin(), d.biases.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  draws_ = cuda::make_draws(model_, d);
}

inline Token CudaSampler::draw(std::span<const float> logits, CudaWorkspace& work, bool on_device) {
  if (draws_ == nullptr) fail(ErrorCategory::argument, "the sampler was moved away");
  if (logits.size() != work.shape().vocab())
    fail_with(ErrorCategory::argument, logits.size(), " logits of a vocabulary of ",
              work.shape().vocab());
  return cuda::draw(work.work(), *model_, *draws_, logits.data(), on_device);
}

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
