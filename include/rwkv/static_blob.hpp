// SPDX-License-Identifier: Apache-2.0
// The weights of a static model as one piece of memory in any types, quantised ones among them: in
// flash beside the program, in a partition, in a mapped file. `rwkv export --format blob` writes
// it, with a header ("tales.hpp") that names its Shape and types. RWKV_EMBED(tales_blob, "tales.bin")
// at namespace scope links the file in; any other address will do.
//
//   const char* why = nullptr;  // gets a sentence if the blob is not for this program
//   const auto weights = tales::Weights::from(RWKV_EMBEDDED(tales_blob), &why);
//   if (weights) const rwkv::StaticModel model(*weights);
//
// Freestanding: nothing is copied, allocated or thrown.
#pragma once

#include <rwkv/kernels/one_of.hpp>
#include <rwkv/static_blob_format.hpp>
#include <rwkv/static_model.hpp>

#include <array>
#include <cstring>
#include <optional>

namespace rwkv::inline RWKV_ABI::inline RWKV_ISA {

/// A checked view of a blob whose tensors have types among `Types`. A value of two pointers.
template <class ShapeT, DType... Types>
class StaticBlob {
 public:
  using Shape = ShapeT;
  using Matrix = kernels::OneOfMatrix<Types...>;
  static_assert(Shape::is_static, "every dimension must be a constant");

  /// The weights in `bytes`, which must outlive them and begin at a multiple of 64, or nothing if
  /// they are not for this program; `why` then gets a sentence. What follows the blob in `bytes`
  /// is ignored. `tables` is the second blob of a model that was exported in two. Reads the header
  /// and the entries, not the numbers: see `intact`.
  [[nodiscard]] static std::optional<StaticBlob> from(std::span<const std::byte> bytes,
                                                      std::span<const std::byte> tables = {},
                                                      const char** why = nullptr) noexcept {
    const char* const problem = problem_with(bytes, tables);
    if (problem == nullptr) return StaticBlob(bytes.data(), tables.data());
    if (why != nullptr) *why = problem;
    return std::nullopt;
  }
  [[nodiscard]] static std::optional<StaticBlob> from(std::span<const std::byte> bytes,
                                                      const char** why) noexcept {
    return from(bytes, {}, why);
  }

  /// Whether all bytes are what they were when the blob was written. Reads all of it.
  [[nodiscard]] bool intact() const noexcept {
    const StaticBlobHeader h = header();
    return h.checksum == internal::blob_checksum(
                             h, {core_ + sizeof h, static_cast<std::size_t>(h.bytes) - sizeof h},
                             {tables_, static_cast<std::size_t>(h.table_bytes)});
  }

  /// The same as Model::weights().fingerprint() of the model that was exported.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return header().fingerprint; }

  // -- as the stages of the forward pass want to see it

  [[nodiscard]] OneOfTable<Types...> emb() const noexcept {
    return {type_of(entry(0)), data_of(entry(0))};
  }
  [[nodiscard]] NormWeights ln0() const noexcept { return norm(1, layer_norm_epsilon()); }
  [[nodiscard]] NormWeights ln_out() const noexcept { return norm(3, layer_norm_epsilon()); }
  [[nodiscard]] Matrix head() const noexcept {
    return matrix(entry(5), Shape{}.vocab(), Shape{}.embed());
  }
  [[nodiscard]] Eigenvalues eigenvalues() const noexcept {
    return (header().flags & StaticBlobHeader::extended_eigenvalues) != 0 ? Eigenvalues::extended
                                                                          : Eigenvalues::standard;
  }
  [[nodiscard]] BlockWeights<Matrix> block(std::size_t i) const noexcept {
    BlockWeights<Matrix> out{};
    std::size_t next = first_of_block(i);
    const auto view = [&](const TensorSpec& spec, auto& to) {
      const StaticBlobEntry e = entry(next++);
      if (e.type == StaticBlobEntry::absent) return;
      if constexpr (std::is_same_v<decltype(to), Matrix&>)
        to = matrix(e, spec.outputs(Shape{}.dimensions()), spec.inputs(Shape{}.dimensions()));
      else
        to = reinterpret_cast<const float*>(data_of(e));
    };
    for_each_block_tensor(view, out);
    if constexpr (Shape{}.deep_rank() > 0) for_each_deep_embed_tensor(view, out);
    set_epsilons(out, layer_norm_epsilon(), header().group_norm_epsilon);
    return out;
  }

 private:
  static constexpr std::size_t globals = global_tensors.size();
  static constexpr std::size_t entries_of_block =
      block_tensors.size() + (Shape{}.deep_rank() > 0 ? deep_embed_tensors.size() : 0);
  static constexpr std::size_t entries = globals + Shape{}.layers() * entries_of_block;
  /// Of the tensors of a block, those that block 0 lacks.
  static constexpr auto value_residual = [] {
    std::array<bool, block_tensors.size()> is{};
    for (std::size_t k = 0; k < is.size(); ++k) is[k] = is_value_residual(block_tensors[k].name);
    return is;
  }();
  static_assert(global_tensors[0].name == "emb.weight" &&
                global_tensors[1].name == "blocks.0.ln0.weight" &&
                global_tensors[3].name == "ln_out.weight" &&
                global_tensors[5].name == "head.weight");

  StaticBlob(const std::byte* core, const std::byte* tables) noexcept
      : core_(core), tables_(tables) {}

  template <class T>
  static void copy(T& to, const std::byte* from) noexcept {
#if defined(__GNUC__)
    __builtin_memcpy(&to, from, sizeof to);  // inline in freestanding programs, too
#else
    std::memcpy(&to, from, sizeof to);
#endif
  }
  [[nodiscard]] static StaticBlobHeader header_at(const std::byte* at) noexcept {
    StaticBlobHeader h;
    copy(h, at);
    return h;
  }
  [[nodiscard]] static StaticBlobEntry entry_at(const std::byte* blob, std::size_t i) noexcept {
    StaticBlobEntry e;
    copy(e, blob + sizeof(StaticBlobHeader) + i * sizeof e);
    return e;
  }
  [[nodiscard]] StaticBlobHeader header() const noexcept { return header_at(core_); }
  [[nodiscard]] StaticBlobEntry entry(std::size_t i) const noexcept { return entry_at(core_, i); }
  [[nodiscard]] float layer_norm_epsilon() const noexcept { return header().layer_norm_epsilon; }
  [[nodiscard]] static constexpr std::size_t first_of_block(std::size_t i) noexcept {
    return globals + i * entries_of_block;
  }

  [[nodiscard]] static constexpr bool is_type(std::uint32_t number, DType type) noexcept {
    return internal::traits_of(type).gguf == static_cast<int>(number);
  }
  /// The type of that number among Types.
  [[nodiscard]] static constexpr bool find_type(std::uint32_t number, DType& type) noexcept {
    number &= ~(StaticBlobEntry::in_tables | StaticBlobEntry::in_quads);
    return ((is_type(number, Types) && (type = Types, true)) || ...);
  }
  [[nodiscard]] static DType type_of(const StaticBlobEntry& e) noexcept {
    DType type = DType::f32;
    (void)find_type(e.type, type);
    return type;
  }
  [[nodiscard]] const std::byte* data_of(const StaticBlobEntry& e) const noexcept {
    if (e.type == StaticBlobEntry::absent) return nullptr;
    return ((e.type & StaticBlobEntry::in_tables) != 0 ? tables_ : core_) +
           std::size_t{e.line} * internal::blob_line;
  }
  [[nodiscard]] Matrix matrix(const StaticBlobEntry& e, std::size_t rows,
                              std::size_t cols) const noexcept {
    return {type_of(e), data_of(e), rows, cols, (e.type & StaticBlobEntry::in_quads) != 0};
  }
  [[nodiscard]] NormWeights norm(std::size_t first, float epsilon) const noexcept {
    return {reinterpret_cast<const float*>(data_of(entry(first))),
            reinterpret_cast<const float*>(data_of(entry(first + 1))), epsilon};
  }

  /// What is wrong with an entry; null: nothing.
  [[nodiscard]] static const char* problem_with(const StaticBlobEntry& e, const TensorSpec& spec,
                                                bool may_be_absent,
                                                const StaticBlobHeader& h) noexcept {
    constexpr Dimensions d = Shape{}.dimensions();
    if (e.type == StaticBlobEntry::absent)
      return may_be_absent ? nullptr : "the blob lacks a tensor of the model";
    const bool vector = spec.role == TensorRole::vector;
    const bool elsewhere = (e.type & StaticBlobEntry::in_tables) != 0;
    DType type = DType::f32;
    if (vector ? !is_type(e.type, DType::f32) : !find_type(e.type, type))
      return "a tensor of the blob has a type that this program was not compiled for";
    if (elsewhere && spec.role != TensorRole::table && spec.role != TensorRole::head)
      return "a tensor that is no table is said to be in the second blob";
    if ((e.type & StaticBlobEntry::in_quads) != 0 &&
        (vector || spec.role == TensorRole::table || !kernels::has_quads(type)))
      return "a tensor of the blob is said to be in an order that its type does not have";
    std::uint64_t size = 0;
    if (vector) {
      size = spec.size(d) * sizeof(float);
    } else if (spec.role == TensorRole::table) {
      if (extent_of(spec.axes[1], d) % block_elements(type) != 0)
        return "the table's rows are no whole blocks of its type";
      size = bytes_of(type, spec.size(d));
    } else {
      const std::size_t inputs = spec.inputs(d);
      if (is_block(type) && inputs % block_elements(type) != 0)
        return "a matrix's rows are no whole blocks of its type";
      size = kernels::packed_bytes(type, spec.outputs(d), inputs);
    }
    const std::uint64_t end = std::uint64_t{e.line} * internal::blob_line + size;
    if (end > (elsewhere ? h.table_bytes : h.bytes)) return "a tensor reaches beyond the blob";
    return nullptr;
  }

  [[nodiscard]] static const char* problem_with(std::span<const std::byte> bytes,
                                                std::span<const std::byte> tables) noexcept {
    if (bytes.size() < sizeof(StaticBlobHeader)) return "the blob is shorter than its header";
    const auto apart = [](const std::byte* p) {
      return reinterpret_cast<std::uintptr_t>(p) % internal::blob_line != 0;
    };
    if (apart(bytes.data()) || apart(tables.data()))
      return "the blob does not begin at a multiple of 64 bytes";
    const StaticBlobHeader h = header_at(bytes.data());
    for (std::size_t i = 0; i < sizeof h.magic; ++i)
      if (h.magic[i] != StaticBlobHeader::right_magic[i])
        return "this is no blob of a static model";
    if (h.version != StaticBlobHeader::right_version ||
        h.layout != std::uint32_t{kernels::panel_layout})
      return "the blob was written by another version of rwkv: export the model again";
    if (h.bytes > bytes.size() || h.table_bytes > tables.size())
      return "the blob is cut off, or its second part is missing";
    constexpr Dimensions d = Shape{}.dimensions();
    const std::size_t dimensions[] = {d.layers,     d.embed,    d.head_size,  d.ffn,      d.vocab,
                                      d.decay_rank, d.icl_rank, d.value_rank, d.gate_rank};
    for (std::size_t i = 0; i < std::size(dimensions); ++i)
      if (h.dimensions[i] != dimensions[i])
        return "the blob's model has other dimensions than this program was compiled for";
    if (h.deep_rank != d.deep_rank)
      return "the blob's model has another DeepEmbed than this program was compiled for";
    if ((h.flags & ~StaticBlobHeader::known_flags) != 0)
      return "the blob's model is of a kind that this version does not know";
    if (!(h.layer_norm_epsilon > 0 && h.layer_norm_epsilon < 1) ||
        !(h.group_norm_epsilon > 0 && h.group_norm_epsilon < 1))
      return "the blob's epsilons are not between 0 and 1";
    if (h.tensors != entries ||
        h.bytes < sizeof(StaticBlobHeader) + entries * sizeof(StaticBlobEntry))
      return "the blob does not list the tensors of the model";

    const char* problem = nullptr;
    std::size_t next = 0;
    bool may_be_absent = false;
    const auto check = [&](const TensorSpec& spec) {
      const StaticBlobEntry e = entry_at(bytes.data(), next++);
      if (problem == nullptr) problem = problem_with(e, spec, may_be_absent, h);
    };
    for (const TensorSpec& spec : global_tensors) {
      may_be_absent = next - 1 < 2 && (h.flags & StaticBlobHeader::normalised_table) != 0;
      check(spec);
    }
    for (std::size_t i = 0; i < d.layers; ++i) {
      for (std::size_t k = 0; k < block_tensors.size(); ++k) {
        may_be_absent = i == 0 && value_residual[k];
        check(block_tensors[k]);
      }
      may_be_absent = false;
      if constexpr (d.deep_rank > 0)
        for (const TensorSpec& spec : deep_embed_tensors) check(spec);
    }
    return problem;
  }

  const std::byte* core_;
  const std::byte* tables_;
};

namespace detail {

template <class Shape, DType... Types>
struct StaticView<StaticBlob<Shape, Types...>> : StaticBlob<Shape, Types...> {
  explicit StaticView(const StaticBlob<Shape, Types...>& blob) noexcept
      : StaticBlob<Shape, Types...>(blob) {}
};

}  // namespace detail

}  // namespace rwkv::inline RWKV_ABI::inline RWKV_ISA
