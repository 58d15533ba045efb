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
    const Expected* tensor = of_block;
    std::size_t next = first_of_block(i);
    const auto view = [&](const TensorSpec&, auto& to) {
      const StaticBlobEntry e = entry(next++);
      const Expected& expected = *tensor++;
      if (e.type == StaticBlobEntry::absent) return;
      if constexpr (std::is_same_v<decltype(to), Matrix&>)
        to = matrix(e, expected.rows, expected.cols);
      else
        to = reinterpret_cast<const float*>(data_of(e));
    };
    for_each_block_tensor(view, out);
    if constexpr (Shape{}.deep_rank() > 0) {
      tensor = of_deep_embed;
      for_each_deep_embed_tensor(view, out);
    }
    set_epsilons(out, layer_norm_epsilon(), header().group_norm_epsilon);
    return out;
  }

 private:
  static constexpr std::size_t globals = global_tensors.size();
  static constexpr std::size_t entries_of_block =
      block_tensors.size() + (Shape{}.deep_rank() > 0 ? deep_embed_tensors.size() : 0);
  static constexpr std::size_t entries = globals + Shape{}.layers() * entries_of_block;

  /// What is to be known of tensors, and of types, when the program runs: without their names.
  struct Expected {
    std::uint32_t rows, cols;  ///< of vectors: 1, numbers
    TensorRole role;
    bool value_residual;  ///< block 0 lacks it
  };
  struct Known {
    std::uint32_t number;  ///< in GGUF files
    std::uint32_t block_elements, block_bytes;
    std::uint32_t panel_bytes;  ///< of 16 outputs and a block
    DType type;
    bool quads;
  };
  static constexpr Expected expected_of(const TensorSpec& spec) noexcept {
    constexpr Dimensions d = Shape{}.dimensions();
    const bool vector = spec.role == TensorRole::vector;
    return {static_cast<std::uint32_t>(vector ? 1 : spec.outputs(d)),
            static_cast<std::uint32_t>(vector ? spec.size(d) : spec.inputs(d)), spec.role,
            is_value_residual(spec.name)};
  }
  template <std::size_t N>
  struct Tensors {
    Expected list[N];
    constexpr explicit Tensors(const std::array<TensorSpec, N>& specs) noexcept : list{} {
      for (std::size_t i = 0; i < N; ++i) list[i] = expected_of(specs[i]);
    }
    constexpr operator const Expected*() const noexcept { return list; }
  };
  static constexpr Tensors<globals> of_model{global_tensors};
  static constexpr Tensors<block_tensors.size()> of_block{block_tensors};
  static constexpr Tensors<deep_embed_tensors.size()> of_deep_embed{deep_embed_tensors};
  static constexpr Known known[] = {
      {static_cast<std::uint32_t>(internal::traits_of(Types).gguf),
       static_cast<std::uint32_t>(block_elements(Types)),
       static_cast<std::uint32_t>(block_bytes(Types)),
       static_cast<std::uint32_t>(kernels::detail::panel_block_bytes<Types>), Types,
       kernels::has_quads(Types)}...};
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

  /// The type of that number among Types; null: none of them.
  [[nodiscard]] static const Known* find_type(std::uint32_t number) noexcept {
    number &= ~(StaticBlobEntry::in_tables | StaticBlobEntry::in_quads);
    for (const Known& type : known)
      if (type.number == number) return &type;
    return nullptr;
  }
  [[nodiscard]] static DType type_of(const StaticBlobEntry& e) noexcept {
    return find_type(e.type)->type;
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

  /// What is wrong with an entry, which the model has or which is to be `absent`; null: nothing.
  [[nodiscard]] static const char* problem_with(const StaticBlobEntry& e, const Expected& tensor,
                                                bool absent, const StaticBlobHeader& h) noexcept {
    constexpr auto f32 = static_cast<std::uint32_t>(internal::traits_of(DType::f32).gguf);
    if (e.type == StaticBlobEntry::absent)
      return absent ? nullptr : "the blob lacks a tensor of the model";
    if (absent) return "the blob has a tensor that its model does not have";
    const bool vector = tensor.role == TensorRole::vector;
    const bool table = tensor.role == TensorRole::table;
    const bool elsewhere = (e.type & StaticBlobEntry::in_tables) != 0;
    const Known* const type = vector ? nullptr : find_type(e.type);
    if (vector ? e.type != f32 : type == nullptr)
      return "a tensor of the blob has a type that this program was not compiled for";
    if (elsewhere && !table && tensor.role != TensorRole::head)
      return "a tensor that is no table is said to be in the second blob";
    const bool in_quads = (e.type & StaticBlobEntry::in_quads) != 0;
    const bool few =
        type != nullptr && type->block_elements == 1 && kernels::few_enough_for_quads(tensor.rows);
    if (in_quads && (vector || table || !(type->quads || few)))
      return "a tensor of the blob is said to be in an order that its type does not have";
    if (type != nullptr && !table && kernels::only_quads(type->type) && !in_quads)
      return "a matrix of the blob is in panels, for which this program has no kernel";
    std::uint64_t size = 0;
    if (vector) {
      size = std::uint64_t{tensor.cols} * sizeof(float);
    } else {
      if (tensor.cols % type->block_elements != 0)
        return table ? "the table's rows are no whole blocks of its type"
                     : "a matrix's rows are no whole blocks of its type";
      const std::uint32_t blocks = tensor.cols / type->block_elements;
      const std::size_t rows = table ? tensor.rows : kernels::quad_column(tensor.rows);
      size = std::uint64_t{blocks} *
             (table || (in_quads && few)
                  ? std::uint64_t{rows} * type->block_bytes
                  : std::uint64_t{kernels::panels_for(rows)} * type->panel_bytes);
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
    const auto check = [&](const Expected& tensor, bool absent) {
      const StaticBlobEntry e = entry_at(bytes.data(), next++);
      if (problem == nullptr) problem = problem_with(e, tensor, absent, h);
    };
    const bool normalised = (h.flags & StaticBlobHeader::normalised_table) != 0;
    for (std::size_t k = 0; k < globals; ++k)
      check(of_model[k], normalised && (k == 1 || k == 2));  // ln0
    for (std::size_t i = 0; i < d.layers; ++i) {
      for (const Expected& tensor : of_block.list) check(tensor, i == 0 && tensor.value_residual);
      if constexpr (d.deep_rank > 0)
        for (const Expected& tensor : of_deep_embed.list) check(tensor, false);
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
