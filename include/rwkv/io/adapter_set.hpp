// SPDX-License-Identifier: Apache-2.0
// The changes that adapters make to a model (adapter.hpp).
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/float_bytes.hpp>
#include <rwkv/io/name_schemes.hpp>
#include <rwkv/io/weight_changes.hpp>

#include <cmath>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// What the tensors of adapters are called after the module that they belong to.
enum class AdapterPart : std::uint8_t {
  none,
  a,            // LoRA's A [rank, in]
  b,            // LoRA's B [out, rank]
  embedding_a,  // of a table [V, C]: A [rank, V]
  embedding_b,  // B [C, rank]
  initial_a,    // the factors that PiSSA began with: what training took out of the model
  initial_b,
  alpha,           // a number
  rows_or_bat,     // RWKV-PEFT: MiSS in two dimensions, Bat in three
  hf_rows_or_bat,  // the same of Hugging Face
  whole,           // a tensor in place of the model's
  original,        // what a whole tensor is in place of
  refused,
};

struct AdapterName {
  std::string module;
  AdapterPart part = AdapterPart::whole;
  std::string_view refused = {};  // what kind of adapter this is part of
};

struct AdapterWord {
  std::string_view word;
  AdapterPart part;
  std::string_view refused = {};
};

inline constexpr std::array<AdapterWord, 24> adapter_parts{{
    {"lora_A", AdapterPart::a},
    {"lora_B", AdapterPart::b},
    {"lora_embedding_A", AdapterPart::embedding_a},
    {"lora_embedding_B", AdapterPart::embedding_b},
    {"init_lora_A", AdapterPart::initial_a},
    {"init_lora_B", AdapterPart::initial_b},
    {"alpha", AdapterPart::alpha},
    {"disha", AdapterPart::rows_or_bat},
    {"bone", AdapterPart::rows_or_bat},
    {"miss_block", AdapterPart::hf_rows_or_bat},
    {"bone_block", AdapterPart::hf_rows_or_bat},
    {"lora_magnitude_vector", AdapterPart::refused, "DoRA"},
    {"lora_m", AdapterPart::refused, "DoRA"},
    {"lora_E", AdapterPart::refused, "AdaLoRA"},
    {"lora_ga", AdapterPart::refused, "LoRA-GA"},
    {"hada_w1_a", AdapterPart::refused, "LoHa"},
    {"hada_w1_b", AdapterPart::refused, "LoHa"},
    {"lokr_w1", AdapterPart::refused, "LoKr"},
    {"lokr_w2", AdapterPart::refused, "LoKr"},
    {"oft_R", AdapterPart::refused, "OFT"},
    {"oft_r", AdapterPart::refused, "OFT"},
    {"ia3_l", AdapterPart::refused, "IA3"},
    {"vera_lambda_b", AdapterPart::refused, "VeRA"},
    {"vera_lambda_d", AdapterPart::refused, "VeRA"},
}};

/// Takes a name apart: <module>.<word>, behind which Hugging Face writes the adapter's name and
/// "weight".
[[nodiscard]] inline AdapterName adapter_name(std::string_view name) {
  for (std::size_t begin = 0; begin < name.size();) {
    const std::size_t dot = (std::min)(name.find('.', begin), name.size());
    const std::string_view word = name.substr(begin, dot - begin);
    for (const AdapterWord& known : adapter_parts)
      if (word == known.word && begin > 0) {
        const std::string_view rest = dot < name.size() ? name.substr(dot + 1) : std::string_view();
        AdapterName out{std::string(name.substr(0, begin - 1)), known.part, known.refused};
        if (rest.ends_with("bias")) out = {out.module, AdapterPart::refused, "LoRA with biases"};
        return out;
      }
    begin = dot + 1;
  }
  // Whole tensors behind what Hugging Face wraps them in, perhaps with the adapter's name.
  std::string whole(name);
  if (whole.find(".original_module.") != std::string::npos) return {whole, AdapterPart::original};
  constexpr std::string_view saved = ".modules_to_save", base = ".base_layer";
  if (const std::size_t at = whole.find(saved); at != std::string::npos) {
    whole.erase(at, saved.size());
    const std::size_t next = whole.find('.', at + 1);
    if (next != std::string::npos) whole.erase(at, next - at);
  }
  if (const std::size_t at = whole.find(base); at != std::string::npos)
    whole.erase(at, base.size());
  return {whole};
}

/// The tensor of the model that `name` means, behind any wrapper and in any naming scheme; nothing
/// if there is none.
[[nodiscard]] inline std::optional<OfficialName> adapted_tensor(const Checkpoint& base,
                                                                std::string_view name) {
  if (auto known = known_name(name); known && base.find(known->official.name) != nullptr)
    return std::move(known->official);
  for (std::size_t begin = 0; begin < name.size();) {  // what has a name of its own: moba.0....
    const std::string_view rest = name.substr(begin);
    if (base.find(rest) != nullptr) return OfficialName{std::string(rest)};
    const std::size_t dot = name.find('.', begin);
    if (dot == std::string_view::npos) break;
    begin = dot + 1;
  }
  return std::nullopt;
}

[[nodiscard]] inline std::optional<double> number_in(const Metadata& metadata,
                                                     std::string_view key) {
  const auto it = metadata.find(key);
  if (it == metadata.end()) return std::nullopt;
  return internal::parse<double>(it->second);
}

}  // namespace detail

/// What several adapters, one after the other, make of the tensors of a model. Keeps their files
/// open.
class AdapterSet final : public WeightChanges {
 public:
  /// `base` has official names. Time O(names).
  AdapterSet(const Checkpoint& base, std::span<const Adapter> adapters);

  [[nodiscard]] bool touches(std::string_view name) const override {
    return changes_.contains(name);
  }
  [[nodiscard]] const Tensor& base(std::string_view name, const Tensor& stored) const override {
    const auto it = changes_.find(name);
    return it != changes_.end() && it->second.replacement ? *it->second.replacement : stored;
  }
  [[nodiscard]] bool adds(std::string_view name) const override {
    const auto it = changes_.find(name);
    return it != changes_.end() && !it->second.added.empty();
  }
  [[nodiscard]] std::vector<float> merged(std::string_view name, const Tensor& base,
                                          ExecutorRef exec) const override;
  [[nodiscard]] std::optional<std::size_t> rank(std::string_view name) const override;
  [[nodiscard]] Factors factors(std::string_view name, const Tensor& base) const override;
  [[nodiscard]] Checkpoint apply(Checkpoint model, bool matrices, ExecutorRef exec) const override;

 private:
  enum class Kind : std::uint8_t {
    product,     // first [rank, in], second [out, rank]
    rows,        // first [r, out]
    bat,         // first [in / r, r, r]
    bat_by_out,  // first [out / r, r, r]: Hugging Face's
    mixture,     // first, of the shape of the tensor itself
  };
  struct Change {
    Kind kind;
    Tensor first;
    Tensor second;
    float factor;
    std::string source;
  };
  struct Changes {
    std::optional<Tensor> replacement;
    std::vector<Change> added;
  };
  class Reader;

  std::map<std::string, Changes, std::less<>> changes_;
  std::vector<std::shared_ptr<const void>> storage_;
};

/// Reads one adapter after the other.
class AdapterSet::Reader {
  using OfficialName = detail::OfficialName;

 public:
  Reader(AdapterSet& set, const Checkpoint& model, const Adapter& adapter)
      : to(set), base(model), from(adapter.checkpoint), scale(adapter.scale) {}

  void read() {
    if (!std::isfinite(scale))
      fail_with(ErrorCategory::argument, from.source, ": an adapter's scale is not finite");
    check_settings();
    bool adapts = false;
    std::map<std::string, Pair> pairs;  // by module, in the order of names
    for (const auto& [name, tensor] : from.tensors) {
      const detail::AdapterName parts = detail::adapter_name(name);
      using Part = detail::AdapterPart;
      if (parts.part == Part::refused)
        refuse(ErrorCategory::unsupported, name, " belongs to an adapter of the kind ",
               std::string(parts.refused),
               ", which is not computed here; merge it into its model "
               "where it was trained");
      if (parts.part == Part::original) continue;
      adapts = adapts || parts.part != Part::whole;
      if (parts.part == Part::whole) {
        whole(name, parts.module, tensor);
        continue;
      }
      Pair& pair = pairs[parts.module];
      if (pair.name.empty()) pair.name = name;
      set_part(pair, parts.part, name, tensor);
    }
    if (!adapts)
      fail_with(ErrorCategory::format, from.source, ": this is no adapter: none of its ",
                from.tensors.size(), " tensors is called lora_A, lora_B, disha or the like");
    for (const auto& [module, pair] : pairs) add(module, pair);
    to.storage_.insert(to.storage_.end(), from.storage.begin(), from.storage.end());
  }

 private:
  struct Pair {
    std::string name;  // of the first tensor, for messages
    const Tensor *a = nullptr, *b = nullptr;
    const Tensor *initial_a = nullptr, *initial_b = nullptr;
    const Tensor* block = nullptr;
    bool hugging_face = false;
    bool embedding = false;
    std::optional<double> alpha;
  };

  template <class... Why>
  [[noreturn]] void refuse(ErrorCategory category, std::string_view name, const Why&... why) const {
    detail::refuse_tensor(category, from.source, name, why...);
  }

  // What `read_adapter` found beside the tensors (adapter_config.json).
  void check_settings() const {
    const auto is = [&](std::string_view key, std::string_view value) {
      const auto it = from.metadata.find(key);
      return it != from.metadata.end() && it->second == value;
    };
    const auto unsupported = [&](std::string_view what) {
      fail_with(ErrorCategory::unsupported, from.source, ": this adapter ", std::string(what),
                ", which is not computed here; merge it into its model where it was trained");
    };
    if (is("peft.use_dora", "true")) unsupported("is a DoRA (use_dora)");
    if (is("peft.fan_in_fan_out", "true")) unsupported("is of transposed layers (fan_in_fan_out)");
    if (is("peft.lora_bias", "true")) unsupported("has biases (lora_bias)");
    if (is("peft.use_qalora", "true")) unsupported("pools its inputs (use_qalora)");
    if (const auto it = from.metadata.find("peft.peft_type");
        it != from.metadata.end() && it->second != "LORA" && it->second != "MISS" &&
        it->second != "BONE")
      unsupported("is of the type " + detail::printable(it->second));
    if (const auto it = from.metadata.find("peft.init_lora_weights");
        it != from.metadata.end() && it->second != "true" && it->second != "false" &&
        it->second != "gaussian" && it->second != "eva" && it->second != "orthogonal")
      unsupported("was trained on a model that had been changed before (init_lora_weights is " +
                  detail::printable(it->second) + ")");
  }

  void set_part(Pair& pair, detail::AdapterPart part, const std::string& name,
                const Tensor& tensor) const {
    using Part = detail::AdapterPart;
    if (!is_float(tensor.dtype) && part != Part::alpha)
      refuse(ErrorCategory::unsupported, name, " has elements of type ",
             std::string(name_of(tensor.dtype)));
    const auto put = [&](const Tensor*& place) {
      if (place != nullptr) refuse(ErrorCategory::format, name, " is there twice");
      place = &tensor;
    };
    switch (part) {
      case Part::embedding_a:
        pair.embedding = true;
        [[fallthrough]];
      case Part::a:
        return put(pair.a);
      case Part::embedding_b:
        pair.embedding = true;
        [[fallthrough]];
      case Part::b:
        return put(pair.b);
      case Part::initial_a:
        return put(pair.initial_a);
      case Part::initial_b:
        return put(pair.initial_b);
      case Part::alpha:
        if (tensor.size() != 1)
          refuse(ErrorCategory::format, name, " has shape ", to_string(tensor.shape),
                 " where one number was expected");
        pair.alpha = tensor.at_offset<double>(0);
        return;
      case Part::hf_rows_or_bat:
        pair.hugging_face = true;
        [[fallthrough]];
      default:
        return put(pair.block);
    }
  }

  [[nodiscard]] OfficialName target(const std::string& module, const std::string& name) const {
    for (const std::string& candidate : {module + ".weight", module})
      if (auto official = detail::adapted_tensor(base, candidate); official && !official->fused)
        return *std::move(official);
    refuse(ErrorCategory::format, name, " is for ", detail::printable(module), ", which the model ",
           base.source, " does not have");
  }

  void add(const std::string& module, const Pair& pair) {
    const OfficialName official = target(module, pair.name);
    if (pair.block != nullptr) block(official, pair);
    if (pair.a != nullptr || pair.b != nullptr)
      product(official, pair, pair.a, pair.b, scale * factor(module, pair));
    if (pair.initial_a != nullptr || pair.initial_b != nullptr)
      product(official, pair, pair.initial_a, pair.initial_b, -scale);
    if (pair.block == nullptr && pair.a == nullptr && pair.b == nullptr &&
        pair.initial_a == nullptr && pair.initial_b == nullptr)
      refuse(ErrorCategory::format, pair.name, " is the alpha of an adapter that is not there");
  }

  // alpha / rank, or 1 where no alpha is known.
  [[nodiscard]] float factor(const std::string& module, const Pair& pair) const {
    std::optional<double> alpha = pair.alpha;
    if (!alpha)
      for (const auto& [key, value] : from.metadata) {
        constexpr std::string_view pattern = "peft.alpha_pattern.";
        if (!key.starts_with(pattern)) continue;
        const std::string_view name = std::string_view(key).substr(pattern.size());
        const bool whole = module == name;
        const bool end = module.size() > name.size() && module.ends_with(name) &&
                         module[module.size() - name.size() - 1] == '.';
        if (!whole && !end) continue;
        // PEFT takes the first in the file, which the metadata do not know.
        if (const auto other = detail::number_in(from.metadata, key); alpha && alpha != other)
          refuse(ErrorCategory::format, pair.name, " has several alphas: more than one pattern of ",
                 "alpha_pattern fits it");
        else
          alpha = other;
      }
    if (!alpha) alpha = detail::number_in(from.metadata, "peft.lora_alpha");
    if (!alpha) alpha = detail::number_in(from.metadata, "rwkv.lora_alpha");
    const auto* a = pair.a;
    if (!alpha || a == nullptr || a->shape.empty() || a->shape[0] == 0) return 1.0f;
    const auto rank = static_cast<double>(a->shape.size() == 1 ? 1 : a->shape[0]);
    const auto root = from.metadata.find("peft.use_rslora");
    const bool stabilised = root != from.metadata.end() && root->second == "true";
    return static_cast<float>(*alpha / (stabilised ? std::sqrt(rank) : rank));
  }

  void product(const OfficialName& official, const Pair& pair, const Tensor* a, const Tensor* b,
               float f) {
    if (a == nullptr || b == nullptr)
      refuse(ErrorCategory::format, pair.name, " is one half of an adapter whose other half (lora_",
             a == nullptr ? "A" : "B", ") is not there");
    const Tensor& w = base.get(official.name);
    const Tensor row = matrix_of(*a, true), column = matrix_of(*b, false);
    Tensor first, second;
    const auto fits = [&](bool turned) {  // (B A)^T = A^T B^T
      first = turned ? column.transposed() : row;
      second = turned ? row.transposed() : column;
      return w.shape.size() == 2 && first.shape.size() == 2 && second.shape.size() == 2 &&
             first.shape[0] == second.shape[1] && first.shape[0] > 0 &&
             first.shape[1] == w.shape[1] && second.shape[0] == w.shape[0];
    };
    // Low-rank maps are adapted as nn.Linear has them, or as they are stored.
    const bool turned = official.transposed != pair.embedding;
    if (!fits(turned) && !(is_low_rank(official) && fits(!turned)))
      refuse(ErrorCategory::shape, pair.name, ": A ", to_string(a->shape), " and B ",
             to_string(b->shape), " do not make a change of ", official.name, " ",
             to_string(w.shape));
    append(official.name, {Kind::product, std::move(first), std::move(second), f, from.source});
  }

  // A factor with dimensions of 1 around it, or (of rank 1) without one.
  [[nodiscard]] static Tensor matrix_of(Tensor t, bool row) {
    if (t.shape.size() != 1) return detail::as_matrix(std::move(t), false);
    const std::size_t n = t.shape[0], step = t.stride[0];
    t.shape = row ? std::vector<std::size_t>{1, n} : std::vector<std::size_t>{n, 1};
    t.stride = row ? std::vector<std::size_t>{n * step, step} : std::vector<std::size_t>{step, 1};
    return t;
  }

  void block(const OfficialName& official, const Pair& pair) {
    const Tensor& w = base.get(official.name);
    const Tensor& d = *pair.block;
    if (official.transposed)
      refuse(ErrorCategory::unsupported, pair.name, " changes a low-rank map by blocks");
    const auto fits = [&]() -> std::optional<Kind> {
      if (w.shape.size() != 2) return std::nullopt;
      const std::size_t out = w.shape[0];
      const std::size_t in = w.shape[1];
      if (d.shape.size() == 2 && d.shape[1] == out && d.shape[0] > 0 && d.shape[0] <= in)
        return Kind::rows;
      if (d.shape.size() != 3 || d.shape[1] == 0 || d.shape[1] != d.shape[2]) return std::nullopt;
      const std::size_t r = d.shape[1];
      if (in % r != 0 || out % r != 0 || d.shape[0] != (pair.hugging_face ? out : in) / r)
        return std::nullopt;
      return pair.hugging_face ? Kind::bat_by_out : Kind::bat;
    }();
    if (!fits)
      refuse(ErrorCategory::shape, pair.name, " of shape ", to_string(d.shape), " does not fit ",
             official.name, " ", to_string(w.shape));
    append(official.name, {*fits, d, {}, scale, from.source});
  }

  void whole(const std::string& name, const std::string& module, const Tensor& tensor) {
    const auto official = detail::adapted_tensor(base, module);
    if (!official && (!is_float(tensor.dtype) || (tensor.size() <= 1 && detail::is_note(name))))
      return;  // what training noted down
    if (!official || official->fused)
      refuse(ErrorCategory::format, name, " is neither part of an adapter nor of the model ",
             base.source);
    if (!is_float(tensor.dtype))
      refuse(ErrorCategory::unsupported, name, " has elements of type ",
             std::string(name_of(tensor.dtype)));
    const Tensor& w = base.get(official->name);
    Tensor mine = official->transposed ? tensor.transposed() : tensor;
    if (mine.shape != w.shape && is_low_rank(*official)) mine = mine.transposed();
    if (w.shape.size() == 3) mine = detail::as_row(std::move(mine));
    if (mine.size() != w.size() ||
        (mine.shape != w.shape && w.shape.size() == 2 && w.shape[0] != 1 && w.shape[1] != 1))
      refuse(ErrorCategory::shape, name, " of shape ", to_string(tensor.shape), " does not fit ",
             official->name, " ", to_string(w.shape));
    if (scale == 1.0f)
      to.changes_[official->name] = {std::move(mine), {}};
    else
      append(official->name, {Kind::mixture, std::move(mine), {}, scale, from.source});
  }

  [[nodiscard]] static bool is_low_rank(const OfficialName& official) {
    const auto block = detail::split_block(official.name, "blocks.");
    return block && detail::is_low_rank(block->second);
  }

  void append(const std::string& name, Change change) {
    if (change.factor != 0.0f) to.changes_[name].added.push_back(std::move(change));
  }

  AdapterSet& to;
  const Checkpoint& base;
  const Checkpoint& from;
  float scale;
};

inline AdapterSet::AdapterSet(const Checkpoint& base, std::span<const Adapter> adapters) {
  for (const Adapter& adapter : adapters) Reader(*this, base, adapter).read();
}

namespace detail {

/// The numbers of a tensor of an adapter.
[[nodiscard]] inline std::vector<float> adapter_values(const Tensor& t, const std::string& source,
                                                       std::string_view name) {
  auto values = t.values<float>();
  for (const float v : values)
    if (!std::isfinite(v))
      refuse_tensor(ErrorCategory::numeric, source, name,
                    ": the adapter has a number that is not finite");
  return values;
}

}  // namespace detail

inline std::vector<float> AdapterSet::merged(std::string_view name, const Tensor& base,
                                             ExecutorRef exec) const {
  std::vector<float> w = base.values<float>();
  const auto it = changes_.find(name);
  if (it == changes_.end()) return w;
  const bool matrix = base.shape.size() == 2;
  const std::size_t in = matrix ? base.shape[1] : w.size();
  const std::size_t out = matrix ? base.shape[0] : 1;
  const auto each_row = [&](std::size_t grain, auto&& f) {
    const std::size_t workers =
        (std::max<std::size_t>)(1, (std::min)(exec.concurrency(), out / grain));
    exec.parallel(workers, [&](std::size_t worker) {
      const Range mine = share(out / grain, workers, worker);
      for (std::size_t o = mine.begin * grain; o < mine.end * grain; ++o) f(o, w.data() + o * in);
    });
  };
  for (const Change& c : it->second.added) {
    const std::vector<float> d = detail::adapter_values(c.first, c.source, name);
    switch (c.kind) {
      case Kind::product: {
        const std::vector<float> b = detail::adapter_values(c.second, c.source, name);
        const std::size_t rank = c.first.shape[0];
        each_row(1, [&](std::size_t o, float* row) {
          for (std::size_t k = 0; k < rank; ++k) {
            const float factor = c.factor * b[o * rank + k];
            const float* const a = d.data() + k * in;
            for (std::size_t i = 0; i < in; ++i) row[i] += factor * a[i];
          }
        });
        break;
      }
      case Kind::rows: {
        const std::size_t r = c.first.shape[0];
        each_row(1, [&](std::size_t o, float* row) {
          for (std::size_t i = 0; i < in; ++i) row[i] += c.factor * d[i % r * out + o];
        });
        break;
      }
      case Kind::bat:
      case Kind::bat_by_out: {
        const std::size_t r = c.first.shape[1];
        each_row(r, [&](std::size_t o, float* row) {
          std::vector<float> before(r);
          for (std::size_t block = 0; block < in / r; ++block) {
            const std::size_t which = c.kind == Kind::bat ? block : o / r;
            const float* const m = d.data() + which * r * r;
            float* const at = row + block * r;
            std::copy(at, at + r, before.begin());
            for (std::size_t j = 0; j < r; ++j) {
              float sum = m[o % r * r + j];
              for (std::size_t k = 0; k < r; ++k) sum += before[k] * m[k * r + j];
              at[j] += c.factor * sum;
            }
          }
        });
        break;
      }
      case Kind::mixture:
        for (std::size_t i = 0; i < w.size(); ++i) w[i] += c.factor * (d[i] - w[i]);
        break;
    }
  }
  return w;
}

inline std::optional<std::size_t> AdapterSet::rank(std::string_view name) const {
  std::size_t rank = 0;
  for (const Change& c : changes_.find(name)->second.added) {
    if (c.kind != Kind::product && c.kind != Kind::rows) return std::nullopt;
    rank += c.first.shape[0];
  }
  return rank;
}

inline AdapterSet::Factors AdapterSet::factors(std::string_view name, const Tensor& base) const {
  const std::size_t total = *rank(name);
  const std::size_t out = base.shape[0];
  const std::size_t in = base.shape[1];
  Factors all;
  all.a.resize(total * in);
  all.b.resize(out * total);
  std::size_t begin = 0;
  for (const Change& c : changes_.find(name)->second.added) {
    const std::size_t rank = c.first.shape[0];
    const std::vector<float> first = detail::adapter_values(c.first, c.source, name);
    if (c.kind == Kind::product) {
      const std::vector<float> b = detail::adapter_values(c.second, c.source, name);
      std::copy(first.begin(), first.end(),
                all.a.begin() + static_cast<std::ptrdiff_t>(begin * in));
      for (std::size_t o = 0; o < out; ++o)
        for (std::size_t k = 0; k < rank; ++k)
          all.b[o * total + begin + k] = c.factor * b[o * rank + k];
    } else {  // sums of every rank-th input
      for (std::size_t i = 0; i < in; ++i) all.a[(begin + i % rank) * in + i] = 1.0f;
      for (std::size_t o = 0; o < out; ++o)
        for (std::size_t k = 0; k < rank; ++k)
          all.b[o * total + begin + k] = c.factor * first[k * out + o];
    }
    begin += rank;
  }
  return all;
}

inline Checkpoint AdapterSet::apply(Checkpoint model, bool matrices, ExecutorRef exec) const {
  for (const auto& [name, unused] : changes_) {
    const auto it = model.tensors.find(name);
    if (it == model.tensors.end() || (!matrices && is_large(name, it->second))) continue;
    Tensor t = base(name, it->second);
    if (adds(name)) {
      const DType type = is_float(t.dtype) && t.dtype != DType::f64 ? t.dtype : DType::f32;
      const auto values = merged(name, t, exec);
      auto bytes = std::make_shared<std::vector<std::byte>>(bytes_of(type, values.size()));
      detail::narrow_to(type, values, bytes->data());
      t = {type, t.shape, c_order(t.shape), *bytes};
      model.storage.push_back(std::move(bytes));
    }
    it->second = std::move(t);
  }
  model.storage.insert(model.storage.end(), storage_.begin(), storage_.end());
  return model;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
