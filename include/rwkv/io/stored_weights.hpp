// SPDX-License-Identifier: Apache-2.0
// Checkpoint -> weights: reads the dimensions off the tensor shapes, checks every tensor, and packs
// matrices for the kernels. Matrices keep the type they are stored in; vectors are widened to
// float, and so are low-rank maps stored in blocks.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/io/model_settings.hpp>
#include <rwkv/io/weight_changes.hpp>
#include <rwkv/kernels/any_matrix.hpp>
#include <rwkv/kernels/table.hpp>
#include <rwkv/shape.hpp>
#include <rwkv/weights.hpp>

#include <algorithm>
#include <functional>
#include <memory>
#include <new>
#include <utility>

#if __has_include(<memory_resource>)
#include <memory_resource>
#endif
#if defined(__cpp_lib_memory_resource)
#define RWKV_HAS_MEMORY_RESOURCES 1
#else  // libc++ before 16
#define RWKV_HAS_MEMORY_RESOURCES 0
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Calls sink(bytes) with consecutive pieces of `tensor` as elements of `type`: io/narrow.hpp.
using Narrow = void (*)(const Tensor& tensor, DType type, std::string_view source,
                        std::string_view name, ExecutorRef exec,
                        const std::function<void(std::span<const std::byte>)>& sink);

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

namespace rwkv::inline RWKV_ABI {

/// How a checkpoint becomes a model.
struct LoadOptions {
  /// Holds the matrices in this type instead of the one they have in the file. f32, f16, bf16: all
  /// of them. A block type (q8_0, q4_k, ...): quantises the model as it is loaded, to the same bits
  /// as convert.hpp would write to a GGUF file of that type, so that io/weight_types.hpp says what
  /// each tensor becomes, the table included; one thread encodes 10 to 60 million numbers per
  /// second. Of models of blocks, those that have their type already stay as they are. Header-only
  /// programs say `quantised(type)` (quantised.hpp) instead: who does not quantise does not compile
  /// how.
  std::optional<DType> matrix_type = {};
  /// Holds the embedding table in this type instead of the one it has in the file, or that
  /// matrix_type gives it.
  std::optional<DType> table_type = {};
  /// What matrices are multiplied with. `rounded`: those of block types with 8-bit inputs. `exact`:
  /// with the inputs as they are, which is two to three times slower and computes what the same
  /// weights would as floats. `fastest`: also bf16 with inputs of bf16, on processors that multiply
  /// those; bf16 models then differ between processors as much as quantised ones from floats.
  kernels::Inputs inputs = kernels::Inputs::rounded;
  /// Added to the model's tensors (adapter.hpp), one after the other. Matrices of floats take them
  /// up, rounded to their type; beside matrices of blocks they stay products of their own, which
  /// costs what these cost and loses nothing. Bat and scaled whole tensors need matrices of floats.
  std::vector<Adapter> adapters = {};
  /// Called with the fraction done, 0 ... 1, from the loading thread. What it throws ends the
  /// loading.
  std::function<void(double)> progress = {};
  /// Asked from the loading thread, before each tensor and while a large one is quantised; true
  /// ends the loading with an Error (cancelled), and nothing stays behind.
  std::function<bool()> cancelled = {};
  /// What encodes blocks; null: what rwkv::compiled has. Set by `quantised`.
  io::Narrow narrow = nullptr;
  /// Whether `load` maps the file, of which the embedding table is then used where it lies. If not,
  /// the file is read into memory, and nothing of it is needed once the model is loaded; meanwhile
  /// it takes its size in memory.
  bool map = true;
#if RWKV_HAS_MEMORY_RESOURCES
  /// Where the weights are put, in one allocation of `MemoryNeeded::allocated` bytes; must outlive
  /// the model and its copies. std::bad_alloc of it becomes `Error` (memory). Null: operator new,
  /// in huge pages where the system has them.
  std::pmr::memory_resource* memory = nullptr;
#endif
};

}  // namespace rwkv::inline RWKV_ABI

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

#if RWKV_HAS_MEMORY_RESOURCES
using MemoryResource = std::pmr::memory_resource;
#else
struct MemoryResource;
#endif

/// The memory of a model's weights: one block, of which tensors are handed out one behind the
/// other, most of them being too small for huge pages of their own. Weights are streamed once per
/// token, and with 4 KiB pages every 64th cache line would wait for an address translation.
class WeightArena {
 public:
  /// Without memory: counts what is asked for.
  WeightArena() = default;
  /// `bytes`: what such an arena counted. From operator new if `resource` is null. Throws Error
  /// (memory).
  WeightArena(std::size_t bytes, MemoryResource* resource);

  /// `count` numbers, not initialised, from the beginning of a cache line on; null where only
  /// counted. Precondition: no more in all than were counted.
  template <class T>
  T* allocate(std::size_t count) {
    static_assert(sizeof(T) <= alignment);
    constexpr std::size_t line = alignment / sizeof(T);
    return reinterpret_cast<T*>(lines(count / line + (count % line != 0)));
  }

  /// Bytes handed out so far.
  [[nodiscard]] std::size_t used() const noexcept { return used_; }

 private:
  struct Free {
    MemoryResource* resource;
    std::size_t bytes;
    std::size_t align;
    void operator()(std::byte* p) const noexcept;
  };

  [[nodiscard]] std::byte* lines(std::size_t count);

  std::unique_ptr<std::byte, Free> block_{nullptr, Free{nullptr, 0, alignment}};
  std::size_t used_ = 0;
};

}  // namespace detail

/// The dimensions of an RWKV-7 checkpoint, from its tensor shapes. Throws Error (format,
/// unsupported), also if the file states others.
[[nodiscard]] RWKV_FUNCTION Dimensions dimensions_of(const Checkpoint& c);

/// How many sparse-attention blocks a checkpoint has: `moba.0.`, `moba.1.`, ... 0 for RWKV-7.
[[nodiscard]] RWKV_FUNCTION std::size_t sparse_blocks_of(const Checkpoint& c);

/// Which kind of model the caller can run.
enum class Architecture : std::uint8_t { rwkv7, hybrid };

/// What the weights of a model take when they are loaded.
struct WeightSizes {
  std::size_t parameters = 0;       ///< StoredWeights::parameters
  std::size_t bytes = 0;            ///< StoredWeights::bytes
  std::size_t bytes_per_token = 0;  ///< StoredWeights::bytes_per_token
  std::size_t in_place = 0;    ///< of `bytes`: the embedding table, if it is used where it lies
  std::size_t sparse_ffn = 0;  ///< StoredWeights::sparse_ffn
  std::size_t allocated = 0;   ///< the one allocation for all that is not used in place
};

/// A model's parameters in memory: what the views of weights.hpp point into. Immutable, movable.
class StoredWeights {
 public:
  /// Reads and checks every tensor of the checkpoint. The embedding table stays where it is, if the
  /// checkpoint says that it may (`Checkpoint::in_place`) and its layout allows it; everything else
  /// is copied. Throws Error.
  explicit StoredWeights(const Checkpoint& c, const LoadOptions& options = {},
                         ExecutorRef exec = {}, Architecture architecture = Architecture::rwkv7)
      : StoredWeights(c, options, exec, architecture, false) {}

  /// The sizes of what that constructor would make, without reading an element. It checks what can
  /// be checked so: names, shapes and types. Throws Error.
  [[nodiscard]] static WeightSizes sizes(const Checkpoint& c, const LoadOptions& options = {},
                                         Architecture architecture = Architecture::rwkv7);

  [[nodiscard]] const Dimensions& dimensions() const noexcept { return dimensions_; }
  [[nodiscard]] Eigenvalues eigenvalues() const noexcept { return eigenvalues_; }
  [[nodiscard]] const NormSettings& norms() const noexcept { return norms_; }
  [[nodiscard]] const AnyTable& emb() const noexcept { return emb_; }
  [[nodiscard]] const NormWeights& ln0() const noexcept { return ln0_; }
  [[nodiscard]] const BlockWeights<AnyMatrix>& block(std::size_t i) const noexcept {
    return blocks_[i];
  }
  /// The sparse-attention blocks of a hybrid model.
  [[nodiscard]] std::size_t sparse_blocks() const noexcept { return sparse_blocks_.size(); }
  [[nodiscard]] const SparseBlockWeights<AnyMatrix>& sparse_block(std::size_t j) const noexcept {
    return sparse_blocks_[j];
  }
  /// Width of the sparse blocks' channel mix; 0 without sparse blocks.
  [[nodiscard]] std::size_t sparse_ffn() const noexcept {
    return sparse_blocks_.empty() ? 0 : sparse_blocks_[0].ffn.key.rows;
  }
  [[nodiscard]] const NormWeights& ln_out() const noexcept { return ln_out_; }
  [[nodiscard]] const AnyMatrix& head() const noexcept { return head_; }

  /// Puts the model's own initial state, if it has one, into a state before the first token.
  template <class State>
  void start(State& state) const noexcept {
    const std::size_t layer = dimensions_.embed * dimensions_.head_size;
    for (std::size_t i = 0; i < dimensions_.layers && initial_ != nullptr; ++i)
      std::copy_n(initial_ + i * layer, layer, state.wkv(i).begin());
  }

  /// Numbers in the model, block 0's unused value residual not counted.
  [[nodiscard]] std::size_t parameters() const noexcept { return parameters_; }
  /// Bytes of all parameters as they are held in memory.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_ + table_bytes() + state_bytes_; }
  /// Bytes that one decoded token reads: everything but the embedding table, of which it reads one
  /// row.
  [[nodiscard]] std::size_t bytes_per_token() const noexcept {
    return bytes_ + bytes_of(emb_.type, dimensions_.embed);
  }
  /// Identifies the model a state belongs to: a hash of the dimensions and of every vector. Storing
  /// the matrices in another type does not change it.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }

  /// Throws Error (io) if the embedding table is used in a mapped file that has become shorter.
  /// Models call it before each pass.
  void check_file() const {
    if (check_file_) check_file_();
  }

 private:
  StoredWeights(const Checkpoint& c, const LoadOptions& options, ExecutorRef exec,
                Architecture architecture, bool only_measure);

  [[nodiscard]] std::size_t table_bytes() const noexcept {
    return bytes_of(emb_.type, dimensions_.vocab * dimensions_.embed);
  }

  void read_eigenvalues(const Checkpoint& c);
  void hash(std::uint64_t word) noexcept { fingerprint_ = (fingerprint_ ^ word) * 0x100000001b3u; }

  class Builder;

  Dimensions dimensions_;
  NormSettings norms_;
  Eigenvalues eigenvalues_ = Eigenvalues::standard;
  AnyTable emb_;
  NormWeights ln0_;
  std::vector<BlockWeights<AnyMatrix>> blocks_;
  std::vector<SparseBlockWeights<AnyMatrix>> sparse_blocks_;
  NormWeights ln_out_;
  AnyMatrix head_;
  detail::WeightArena memory_;
  std::vector<std::unique_ptr<const LowRank>> beside_;  // what matrices of blocks point to
  std::vector<std::shared_ptr<const void>> storage_;    // of the table, if it is in place
  std::function<void()> check_file_;                    // likewise
  const float* initial_ = nullptr;                      // [L][H][N key][N value], or null
  bool in_place_ = false;                               // the table
  std::size_t parameters_ = 0;
  std::size_t bytes_ = 0;
  std::size_t state_bytes_ = 0;  // of initial_
  std::uint64_t fingerprint_ = 0xcbf29ce484222325u;
};

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA

#if RWKV_HEADER_ONLY
#include <rwkv/io/stored_weights.ipp>
#endif
