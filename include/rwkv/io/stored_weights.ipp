// SPDX-License-Identifier: Apache-2.0
// The definitions of io/stored_weights.hpp.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/io/deep_embed.hpp>
#include <rwkv/io/describe.hpp>
#include <rwkv/io/stored_weights.hpp>
#include <rwkv/io/weight_types.hpp>
#include <rwkv/kernels/pack_panels.hpp>
#include <rwkv/kernels/quantised_formats.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <new>
#include <set>

#if !RWKV_HEADER_ONLY
#include <rwkv/io/narrow.hpp>
#endif

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// Takes tensors out of a checkpoint one by one and remembers which.
class StoredWeights::Builder {
 public:
  /// `only_measure`: nothing is read and all pointers are null, but everything is checked and
  /// counted.
  Builder(StoredWeights& weights, const Checkpoint& c, const LoadOptions& o, ExecutorRef e,
          bool only_measure)
      : to(weights),
        from(c),
        options(o),
        exec(e),
        changes(changes_to(c, o.adapters)),
        encode(o.narrow),
        quantise(o.matrix_type && is_block(*o.matrix_type)),
        measure(only_measure),
        deep_residual(weights.dimensions_.deep_rank > 0 && has_deep_residual(c)) {
    if (deep_residual) refuse_changed_residual(c, weights.dimensions_, changes.get());
    if (quantise) kept = kept_matrices(c.metadata);
#if !RWKV_HEADER_ONLY
    if (encode == nullptr) encode = &narrow_pieces;
#endif
    if (encode == nullptr && (quantise || (o.table_type && is_block(*o.table_type))))
      fail(ErrorCategory::argument,
           "weights are quantised by rwkv::quantised(type), from rwkv/quantised.hpp");
  }

  const Tensor& take(const std::string& name) {
    check_cancelled();
    const Tensor& t = from.get(name);
    if (!is_float(t.dtype) && !is_block(t.dtype))
      fail_with(ErrorCategory::unsupported, from.source, ": tensor ", name,
                " has elements of type ", std::string(name_of(t.dtype)));
    taken.insert(name);
    return t;
  }

  void check_cancelled() const {
    if (options.cancelled && !measure && options.cancelled())
      fail_with(ErrorCategory::cancelled, from.source, ": loading was cancelled");
  }

  /// Says that of `t` this share is done, and with it all tensors before.
  void report(const Tensor& t, double share = 1) {
    if (!options.progress || measure) return;
    if (total == 0)
      for (const auto& [name, tensor] : from.tensors)
        total += bytes_of(tensor.dtype, tensor.size());
    const std::size_t bytes = bytes_of(t.dtype, t.size());
    options.progress((static_cast<double>(bytes_done) + share * static_cast<double>(bytes)) /
                     static_cast<double>(total));
    if (share == 1) bytes_done += bytes;
  }

  /// The tensor to which adapters add something, or nothing.
  const Tensor& base(const std::string& name) {
    const Tensor& t = take(name);
    return changes == nullptr ? t : changes->base(name, t);
  }
  [[nodiscard]] bool adds(std::string_view name) const {
    return changes != nullptr && changes->adds(name);
  }

  const float* vector(const std::string& name, std::size_t n) {
    const Tensor& t = base(name);
    if (t.size() != n)
      fail_with(ErrorCategory::format, from.source, ": tensor ", name, " has shape ",
                to_string(t.shape), " where ", n, " numbers were expected");
    to.parameters_ += n;
    to.bytes_ += n * sizeof(float);
    float* out = to.memory_.allocate<float>(n);
    if (measure) return nullptr;
    const std::vector<float> values =
        adds(name) ? changes->merged(name, t, exec) : t.values<float>();
    std::copy(values.begin(), values.end(), out);
    for (const float v : values) to.hash(std::bit_cast<std::uint32_t>(v));
    report(t);
    return out;
  }

  NormWeights norm(const std::string& name, std::size_t n) {
    const float* const weight = vector(name + ".weight", n);
    return {weight, vector(name + ".bias", n), to.norms_.layer_norm_epsilon};
  }

  /// A matrix with `rows` outputs and `cols` inputs; `input_first` if it is stored as [inputs,
  /// outputs], which low-rank maps are.
  /// `zeros`: most of what it is multiplied with is zero.
  AnyMatrix matrix(const std::string& name, std::size_t rows, std::size_t cols, bool input_first,
                   bool zeros = false) {
    const Tensor& stored = base(name);
    check_shape(from, name, stored, {input_first ? cols : rows, input_first ? rows : cols});
    const Tensor t = input_first ? stored.transposed() : stored;
    const DType type = matrix_type(name, t, input_first);
    // Low-rank maps are small and sensitive: their inputs are never rounded.
    AnyMatrix m{type, nullptr, rows, cols, input_first ? kernels::Inputs::exact : options.inputs};
    zeros = zeros && options.skip_zeros;
    m.by_input = zeros && kernels::ByInput::exists(type, rows);
    to.parameters_ += rows * cols;
    to.bytes_ += kernels::packed_bytes(type, rows, cols);
    const bool as_it_is = is_block(type) && t.dtype == type && t.contiguous();
    if (as_it_is && adds(name)) m.low_rank = beside(name, stored);
    if (measure) {
      (void)to.memory_.allocate<std::byte>(kernels::packed_bytes(type, rows, cols));
      return m;
    }
    if (as_it_is) {
      pack_blocks(m, t.bytes);
    } else if (quantise) {
      const std::vector<std::byte> bytes = narrowed(name, stored, input_first, type);
      if (is_block(type))
        pack_blocks(m, bytes);
      else
        m.data = pack(type, {type, {rows, cols}, c_order({rows, cols}), bytes});
    } else if (is_block(t.dtype) || adds(name)) {
      const std::vector<float> decoded =
          adds(name) ? changes->merged(name, stored, exec) : stored.values<float>();
      Tensor floats{DType::f32, stored.shape, c_order(stored.shape),
                    std::as_bytes(std::span(decoded))};
      m.data = pack(type, input_first ? floats.transposed() : floats);
    } else {
      m.data = pack(type, t);
    }
    if (zeros && !is_block(type)) m.skips_zeros = is_finite(m);
    if (from.release)
      from.release(stored.bytes);  // of a mapped file, or memory peaks at two models
    report(t);
    return m;
  }

  /// A tensor with what adapters add to it, as elements of `type` in C order, rounded as a
  /// conversion would; transposed if `input_first`.
  std::vector<std::byte> narrowed(const std::string& name, const Tensor& stored, bool input_first,
                                  DType type) {
    const std::vector<float> sum =
        adds(name) ? changes->merged(name, stored, exec) : std::vector<float>();
    const Tensor whole = !adds(name) ? stored
                                     : Tensor{DType::f32, stored.shape, c_order(stored.shape),
                                              std::as_bytes(std::span(sum))};
    return narrowed(name, input_first ? whole.transposed() : whole, type);
  }
  /// The tensor itself, likewise.
  std::vector<std::byte> narrowed(const std::string& name, const Tensor& whole, DType type) {
    std::vector<std::byte> out;
    out.reserve(bytes_of(type, whole.size()));
    encode(whole, type, from.source, name, exec, [&](std::span<const std::byte> piece) {
      out.insert(out.end(), piece.begin(), piece.end());
      check_cancelled();
      if (out.size() < out.capacity())
        report(from.get(name),
               static_cast<double>(out.size()) / static_cast<double>(out.capacity()));
    });
    return out;
  }

  /// What a tensor becomes in a model that is quantised.
  [[nodiscard]] DType quantised_type(Role role, const std::string& name, const Tensor& t) const {
    const bool keep = std::find(kept.begin(), kept.end(), name) != kept.end();
    return weight_type(role, name, t.shape.back(), t.dtype,
                       keep ? half_width(t.dtype) : *options.matrix_type);
  }

  /// The type that a matrix is held in. Low-rank maps are never held in blocks: their inputs
  /// would have to be rounded.
  [[nodiscard]] DType matrix_type(const std::string& name, const Tensor& t, bool low_rank) const {
    if (quantise)
      return quantised_type(low_rank                ? Role::low_rank
                            : name == "head.weight" ? Role::head
                                                    : Role::matrix,
                            name, t);
    if (options.matrix_type) return *options.matrix_type;
    const bool as_floats =
        t.dtype == DType::f64 || (is_block(t.dtype) && (low_rank || !t.contiguous()));
    return as_floats ? DType::f32 : t.dtype;
  }

  void pack_blocks(AnyMatrix& m, std::span<const std::byte> blocks) {
    auto* out = to.memory_.allocate<std::byte>(kernels::packed_bytes(m.type, m.rows, m.cols));
    m.data = out;
    const std::size_t row_bytes = bytes_of(m.type, m.cols), panels = kernels::panels_for(m.rows);
    const std::size_t together = kernels::panels_together(m);
    const std::size_t pieces = m.by_input ? panels / together : panels;
    const std::size_t workers = kernels_workers(m.rows * m.cols, pieces);
    std::atomic<bool> finite = true;
    exec.parallel(workers, [&](std::size_t worker) {
      const Range mine = share(pieces, workers, worker);
      if (!kernels::orders_by_input || !m.by_input)
        kernels::pack_quantised(m.type, blocks.data(), row_bytes, m.rows, m.cols, mine, out);
      else if (!kernels::pack_by_input(m.type, blocks.data(), row_bytes, m.cols, mine, out))
        finite = false;
    });
    m.skips_zeros = m.by_input && finite;
  }

  /// The adapters of a matrix of blocks.
  const LowRank* beside(const std::string& name, const Tensor& t) {
    const auto rank = changes->rank(name);
    if (!rank)
      fail_with(ErrorCategory::unsupported, from.source, ": an adapter changes all of ", name,
                ", which is held as ", std::string(name_of(t.dtype)),
                "; hold matrices as floats, or convert the model of floats with the adapter");
    const auto factors = measure ? WeightChanges::Factors() : changes->factors(name, t);
    const auto factor = [&](const std::vector<float>& values, std::size_t rows, std::size_t cols) {
      to.parameters_ += rows * cols;
      to.bytes_ += kernels::packed_bytes(DType::f32, rows, cols);
      AnyMatrix m{DType::f32, nullptr, rows, cols, kernels::Inputs::exact};
      if (measure)
        (void)to.memory_.allocate<float>(kernels::panel_elements(rows, cols));
      else
        m.data = pack<float>(
            {DType::f32, {rows, cols}, c_order({rows, cols}), std::as_bytes(std::span(values))});
      return m;
    };
    to.beside_.push_back(std::make_unique<const LowRank>(
        LowRank{factor(factors.a, *rank, t.shape[1]), factor(factors.b, t.shape[0], *rank)}));
    return to.beside_.back().get();
  }

  /// Low-rank products need room in the workspace.
  void check_room(std::string_view where, std::initializer_list<const AnyMatrix*> together,
                  std::size_t room) const {
    std::size_t rank = 0;
    for (const AnyMatrix* m : together) rank += m->low_rank == nullptr ? 0 : m->low_rank->a.rows;
    if (rank > room)
      fail_with(ErrorCategory::unsupported, from.source, ": adapters of ", std::string(where),
                " have a rank of ", rank, " together, and ", room,
                " is the most beside matrices of blocks; hold matrices as floats");
  }

  const void* pack(DType type, const Tensor& t) {
    switch (type) {
      case DType::f16:
        return pack<half>(t);
      case DType::bf16:
        return pack<bfloat16>(t);
      default:
        return pack<float>(t);
    }
  }

  template <class T>
  const T* pack(const Tensor& t) {
    const std::size_t rows = t.shape[0];
    const std::size_t cols = t.shape[1];
    T* out = to.memory_.allocate<T>(kernels::panel_elements(rows, cols));
    const std::size_t panels = kernels::panels_for(rows);
    const std::size_t workers = kernels_workers(rows * cols, panels);
    exec.parallel(workers, [&](std::size_t worker) {
      const Range mine = share(panels, workers, worker);
      if (t.dtype == dtype_of<T>)
        kernels::pack_panels<T>(t.bytes.data(), t.stride[0], t.stride[1], rows, cols, mine, out);
      else
        convert(t, mine, out);
    });
    return out;
  }

  [[nodiscard]] std::size_t kernels_workers(std::size_t elements, std::size_t panels) const {
    const std::size_t wanted = 1 + elements / (std::size_t{1} << 16);
    return (std::min)({wanted, panels, static_cast<std::size_t>(exec.concurrency())});
  }

  template <class T>
  static void convert(const Tensor& t, Range panels, T* out) {
    const std::size_t cols = t.shape[1];
    for (std::size_t o = panels.begin * kernels::panel_rows; o < panels.end * kernels::panel_rows;
         ++o) {
      const auto place =
          kernels::panel_place(o / kernels::panel_rows, kernels::panels_for(t.shape[0]), cols);
      T* const row = out + place.first + o % kernels::panel_rows;
      for (std::size_t i = 0; i < cols; ++i) {
        const float value =
            o < t.shape[0] ? t.at_offset<float>(o * t.stride[0] + i * t.stride[1]) : 0.0f;
        row[i * place.stride] = narrow<T>(value);
      }
    }
  }

  template <class T>
  static T narrow(float value) {
    if constexpr (std::is_same_v<T, half>)
      return to_half(value);
    else if constexpr (std::is_same_v<T, bfloat16>)
      return to_bfloat16(value);
    else
      return value;
  }

  /// Whether no element of a packed matrix of floats is infinite or NaN.
  [[nodiscard]] bool is_finite(const AnyMatrix& m) const {
    const auto look = [&]<class Bits>(Bits exponent) {
      constexpr std::size_t at_once = 64;
      const std::size_t pieces = kernels::panel_elements(m.rows, m.cols) / kernels::panel_rows;
      const std::size_t workers = kernels_workers(m.rows * m.cols, pieces);
      std::atomic<bool> finite = true;
      exec.parallel(workers, [&](std::size_t worker) {
        const Range mine = share(pieces * kernels::panel_rows, workers, worker, at_once);
        const auto* const all = static_cast<const Bits*>(m.data);
        Bits carries = 0;  // of an exponent of ones and its lowest bit
        const auto lowest = static_cast<Bits>(exponent & (~exponent + 1u));
        std::size_t i = mine.begin;
        for (; i + at_once <= mine.end; i += at_once)
          for (std::size_t k = 0; k < at_once; ++k)
            carries |= static_cast<Bits>((all[i + k] & exponent) + lowest);
        for (; i < mine.end; ++i) carries |= static_cast<Bits>((all[i] & exponent) + lowest);
        if (carries >> (8 * sizeof(Bits) - 1) != 0) finite = false;
      });
      return finite.load();
    };
    switch (m.type) {
      case DType::f16:
        return look(std::uint16_t{0x7c00});
      case DType::bf16:
        return look(std::uint16_t{0x7f80});
      default:
        return look(std::uint32_t{0x7f800000});
    }
  }

  /// A table of rows of `cols` numbers: the embedding's or, of DeepEmbed, that of a layer.
  AnyTable table(const std::string& name, std::size_t cols, std::size_t layer = dynamic) {
    const Tensor& stored = base(name);
    const Dimensions& d = to.dimensions_;
    check_shape(from, name, stored, {d.vocab, cols});
    const bool completed = layer != dynamic && deep_residual;
    const bool changed = adds(name) || completed;
    std::vector<float> values;
    if (changed && !measure) {
      values = adds(name) ? changes->merged(name, stored, exec) : stored.values<float>();
      if (completed)
        add_deep_residual(from, d, to.ln0_, layer, values, exec, [this] { check_cancelled(); });
    }
    const Tensor t = !changed ? stored
                              : Tensor{DType::f32, stored.shape, c_order(stored.shape),
                                       std::as_bytes(std::span(values))};
    const bool as_floats = stored.dtype == DType::f64 || (changed && is_block(stored.dtype));
    const DType natural = as_floats ? DType::f32 : stored.dtype;
    std::optional<DType> asked = options.table_type;
    if (asked && is_block(*asked))
      asked = fitting_type(*asked, cols).value_or(half_width(stored.dtype));
    else if (!asked && quantise)
      asked = quantised_type(Role::table, name, stored);
    const DType type = asked.value_or(natural);
    const bool as_stored = !changed && (changes == nullptr || !changes->touches(name)) &&
                           t.contiguous() && t.dtype == type;
    // A mapped file is asked for its size before each pass: not for a table so small.
    constexpr std::size_t worth_asking = std::size_t{256} << 10;
    const bool in_place = from.in_place && (!from.check || t.bytes.size() >= worth_asking);
    const bool stays =
        in_place && !from.storage.empty() && as_stored &&
        (is_block(type) || reinterpret_cast<std::uintptr_t>(t.bytes.data()) % size_of(type) == 0);
    AnyTable table{as_stored || asked || !is_block(type) ? type : DType::f32};
    const std::size_t n = d.vocab * cols, size = bytes_of(table.type, n);
    to.table_bytes_ += size;
    if (stays) {
      table.data = t.bytes.data();
      to.in_place_ += size;
      to.storage_ = from.storage;
      to.check_file_ = from.check;
    } else if (measure) {
      (void)to.memory_.allocate<std::byte>(size);
    } else if (as_stored) {
      std::byte* const out = to.memory_.allocate<std::byte>(size);
      std::copy_n(t.bytes.data(), size, out);
      table.data = out;
    } else if (quantise || is_block(table.type)) {
      const std::vector<std::byte> bytes = narrowed(name, t, table.type);
      auto* const out = to.memory_.allocate<std::byte>(bytes.size());
      std::copy(bytes.begin(), bytes.end(), out);
      table.data = out;
    } else {
      switch (table.type) {
        case DType::f16:
          table.data = copy_table<half>(t, n);
          break;
        case DType::bf16:
          table.data = copy_table<bfloat16>(t, n);
          break;
        default:
          table.data = copy_table<float>(t, n);
          break;
      }
    }
    to.parameters_ += n;
    if (completed && !measure && from.release) from.release(stored.bytes);
    report(stored);
    return table;
  }

  void embedding() {
    const Dimensions& d = to.dimensions_;
    to.emb_ = table("emb.weight", d.embed);
    for (const std::size_t n : {d.layers, d.embed, d.head_size, d.ffn, d.vocab}) to.hash(n);
  }

  void deep_embed(const std::string& prefix, std::size_t i, BlockWeights<AnyMatrix>& block) {
    const Dimensions& d = to.dimensions_;
    const std::size_t numbers = d.deep_rank * d.deep_rank;
    const AnyTable t = table(prefix + "ffn.s_emb.weight", numbers, i);
    block.ffn.s_emb = {t.type, t.data, d.vocab, numbers};
    block.ffn.s1 = matrix(prefix + "ffn.s1", d.deep_rank, d.embed, true);
    block.ffn.s2 = matrix(prefix + "ffn.s2", d.ffn, d.deep_rank, true);
    block.ffn.s0 = vector(prefix + "ffn.s0", d.ffn);
    if (!deep_residual) return;
    taken.insert(prefix + "ffn.s_emb_x.weight");
    report(deep_residual_of(from, d, i));
  }

  template <class T>
  const T* copy_table(const Tensor& t, std::size_t n) {
    T* out = to.memory_.allocate<T>(n);
    if (is_block(t.dtype)) {
      const std::vector<float> decoded = t.values<float>();
      std::transform(decoded.begin(), decoded.end(), out, narrow<T>);
      return out;
    }
    for (std::size_t i = 0; i < n; ++i)
      out[i] = narrow<T>(
          t.at_offset<float>(i / t.shape[1] * t.stride[0] + i % t.shape[1] * t.stride[1]));
    return out;
  }

  void load(const std::string& name, const TensorSpec& spec, const Dimensions& d, const float*& v) {
    v = vector(name, spec.size(d));
  }
  void load(const std::string& name, const TensorSpec& spec, const Dimensions& d, AnyMatrix& m) {
    m = matrix(name, spec.outputs(d), spec.inputs(d), spec.role == TensorRole::low_rank,
               spec.name == "ffn.value.weight");
  }

  BlockWeights<AnyMatrix> block(std::size_t i) {
    const Dimensions& d = to.dimensions_;
    const std::string prefix = "blocks." + std::to_string(i) + ".";
    BlockWeights<AnyMatrix> b{};
    const auto read = [&](const TensorSpec& spec, auto& tensor) {
      load(prefix + std::string(spec.name), spec, d, tensor);
    };
    if (i > 0) {
      for_each_block_tensor(read, b);
    } else {  // block 0 defines v_first; if it carries a value residual, nothing uses it
      for_each_block_tensor<false>(read, b);
      for_each_value_residual_tensor([&](const TensorSpec& spec) {
        const std::string name = prefix + std::string(spec.name);
        if (const Tensor* unused = from.find(name)) {
          taken.insert(name);
          report(*unused);
        }
      });
    }
    if (d.deep_rank > 0) deep_embed(prefix, i, b);
    set_epsilons(b, to.norms_.layer_norm_epsilon, to.norms_.group_norm_epsilon);
    const std::size_t ranks = d.decay_rank + d.icl_rank + d.value_rank + d.gate_rank;
    check_room(prefix + "att", {&b.att.receptance, &b.att.key, &b.att.value},
               d.ffn > ranks ? d.ffn - ranks : 0);
    check_room(prefix + "att.output", {&b.att.output}, d.embed);
    check_room(prefix + "ffn.key", {&b.ffn.key}, d.embed);
    check_room(prefix + "ffn.value", {&b.ffn.value}, d.embed);
    return b;
  }

  /// A tuned state inside the model, [H, N value, N key] per block.
  void initial_state() {
    const auto name = [](std::size_t i) {
      return "blocks." + std::to_string(i) + ".att.time_state";
    };
    if (from.find(name(0)) == nullptr) return;
    const std::size_t n = to.dimensions_.head_size;
    const std::size_t size = to.dimensions_.embed * n;
    float* const all = to.memory_.allocate<float>(to.dimensions_.layers * size);
    to.initial_ = all;
    for (std::size_t i = 0; i < to.dimensions_.layers; ++i) {
      const Tensor& t = take(name(i));
      if (t.size() != size)
        fail_with(ErrorCategory::format, from.source, ": tensor ", name(i), " has shape ",
                  to_string(t.shape), " where ", size, " numbers were expected");
      to.state_bytes_ += size * sizeof(float);
      if (measure) continue;
      const std::vector<float> values = t.values<float>();
      float* const out = all + i * size;
      for (std::size_t at = 0; at < size; ++at) {
        if (!std::isfinite(values[at]))
          fail_with(ErrorCategory::numeric, from.source, ": tensor ", name(i),
                    " contains a number that is not finite");
        out[at / (n * n) * n * n + at % n * n + at / n % n] = values[at];
      }
      report(t);
    }
  }

  SparseBlockWeights<AnyMatrix> sparse_block(std::size_t j) {
    const std::size_t c = to.dimensions_.embed;
    const std::string prefix = "moba." + std::to_string(j) + ".";
    const Tensor& first_key = from.get("moba.0.ffn.key.weight");
    Dimensions d = to.dimensions_;
    d.ffn = first_key.shape.empty() ? 0 : first_key.shape[0];
    SparseBlockWeights<AnyMatrix> b{};
    for_each_sparse_block_tensor(
        [&](const TensorSpec& spec, auto& tensor) {
          load(prefix + std::string(spec.name), spec, d, tensor);
        },
        b);
    b.ln1.epsilon = b.ln2.epsilon = to.norms_.layer_norm_epsilon;
    check_room(prefix + "att", {&b.att.receptance, &b.att.key, &b.att.value}, c);
    for (const AnyMatrix* m : {&b.att.output, &b.ffn.key, &b.ffn.value}) check_room(prefix, {m}, c);
    return b;
  }

  /// A tensor nobody asked for belongs to an architecture this library does not compute: ignoring
  /// it would give wrong logits without a word.
  void refuse_unknown() const {
    for (const auto& [name, tensor] : from.tensors)
      if (!taken.contains(name)) refuse_extra_tensor(from, name, tensor);
    for (const std::string& name : kept)
      if (!taken.contains(name) || from.get(name).shape.size() != 2)
        fail_with(ErrorCategory::format, from.source, ": metadata ", std::string(keep_key),
                  " names ", detail::printable(name), ", which is no matrix of this model");
  }

 private:
  StoredWeights& to;
  const Checkpoint& from;
  const LoadOptions& options;
  ExecutorRef exec;
  std::shared_ptr<const WeightChanges> changes;  // null: none
  Narrow encode;
  bool quantise;                  // to blocks
  std::vector<std::string> kept;  // 16 bits, where others become blocks
  bool measure;
  bool deep_residual;  // tables of DeepEmbed are in two parts
  std::set<std::string, std::less<>> taken;
  std::size_t bytes_done = 0;
  std::size_t total = 0;
};

RWKV_FUNCTION WeightSizes StoredWeights::sizes(const Checkpoint& c, const LoadOptions& options,
                                               Architecture architecture) {
  const StoredWeights w(c, options, {}, architecture, true);
  return {w.parameters(), w.bytes(),      w.bytes_per_token(),
          w.in_place_,    w.sparse_ffn(), w.memory_.used()};
}

RWKV_FUNCTION StoredWeights::StoredWeights(const Checkpoint& c, const LoadOptions& options,
                                           ExecutorRef exec, Architecture architecture,
                                           bool only_measure)
    : dimensions_(dimensions_of(c)), norms_(norm_settings_of(c)) {
  if (architecture == Architecture::rwkv7 && sparse_blocks_of(c) > 0)
    fail_with(ErrorCategory::unsupported, c.source,
              ": this is an RWKV-X model (it has moba.0...): use rwkv::HybridModel from "
              "rwkv/hybrid.hpp instead of rwkv::Model");
  for (const auto& type : {options.matrix_type, options.table_type}) {
    if (type && static_cast<std::size_t>(*type) >= internal::dtypes)
      fail_with(ErrorCategory::argument, "weights cannot be stored as type number ",
                static_cast<std::size_t>(*type), ", which is none");
    if (type && !is_block(*type) && (!is_float(*type) || *type == DType::f64))
      fail_with(ErrorCategory::argument, "weights cannot be stored as ",
                std::string(name_of(*type)));
  }
  read_eigenvalues(c);
  if (!only_measure) {
    detail::MemoryResource* resource = nullptr;
#if RWKV_HAS_MEMORY_RESOURCES
    resource = options.memory;
#endif
    memory_ = detail::WeightArena(sizes(c, options, architecture).allocated, resource);
  }
  Builder build{*this, c, options, exec, only_measure};
  build.embedding();
  if (!norms_.normalised_table) ln0_ = build.norm("blocks.0.ln0", dimensions_.embed);
  blocks_.reserve(dimensions_.layers);
  for (std::size_t i = 0; i < dimensions_.layers; ++i) blocks_.push_back(build.block(i));
  for (std::size_t j = 0; j < sparse_blocks_of(c); ++j)
    sparse_blocks_.push_back(build.sparse_block(j));
  ln_out_ = build.norm("ln_out", dimensions_.embed);
  head_ = build.matrix("head.weight", dimensions_.vocab, dimensions_.embed, false);
  build.check_room("head", {&head_}, dimensions_.embed);
  build.initial_state();
  build.refuse_unknown();
  if (norms_ != NormSettings{})  // a state belongs to what the model computes
    for (const std::uint32_t word : {std::bit_cast<std::uint32_t>(norms_.layer_norm_epsilon),
                                     std::bit_cast<std::uint32_t>(norms_.group_norm_epsilon),
                                     std::uint32_t{norms_.normalised_table}})
      hash(word);
}

RWKV_FUNCTION void StoredWeights::read_eigenvalues(const Checkpoint& c) {
  const auto it = c.metadata.find("rwkv.eigenvalues");
  if (it == c.metadata.end() || it->second == "standard") return;
  if (it->second != "extended")
    fail_with(ErrorCategory::unsupported, c.source, ": rwkv.eigenvalues is \"", it->second,
              "\" (known: standard, extended)");
  eigenvalues_ = Eigenvalues::extended;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
