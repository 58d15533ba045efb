// SPDX-License-Identifier: Apache-2.0
// How a checkpoint becomes a model.
#pragma once

#include <rwkv/exec/serial.hpp>
#include <rwkv/io/weight_arena.hpp>
#include <rwkv/io/weight_changes.hpp>
#include <rwkv/kernels/quantised_activations.hpp>

#include <functional>
#include <optional>
#include <vector>

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
  /// Holds the embedding table, and those of DeepEmbed, in this type instead of the one they have in
  /// the file, or that matrix_type gives them.
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
  /// Whether passes of up to four rows leave out weights that would be multiplied with zeros, which
  /// makes nothing but the time different. Floats lose nothing by it. Matrices of q8_0 are held in
  /// another order for it (kernels/by_input.hpp), which costs long prompts a percent.
  bool skip_zeros = true;
  /// Called with the fraction done, 0 ... 1, from the loading thread. What it throws ends the
  /// loading.
  std::function<void(double)> progress = {};
  /// Asked from the loading thread, before each tensor and while a large one is quantised; true
  /// ends the loading with an Error (cancelled), and nothing stays behind.
  std::function<bool()> cancelled = {};
  /// What encodes blocks; null: what rwkv::compiled has. Set by `quantised`.
  io::Narrow narrow = nullptr;
  /// Whether `load` maps the file, of which an embedding table of 256 KiB or more is then used where
  /// it lies. If not, the file is read into memory, and nothing of it is needed once the model is
  /// loaded; meanwhile it takes its size in memory.
  bool map = true;
#if RWKV_HAS_MEMORY_RESOURCES
  /// Where the weights are put, in one allocation of `MemoryNeeded::allocated` bytes; must outlive
  /// the model and its copies. std::bad_alloc of it becomes `Error` (memory). Null: operator new,
  /// in huge pages where the system has them.
  std::pmr::memory_resource* memory = nullptr;
#endif
};

}  // namespace rwkv::inline RWKV_ABI
