// SPDX-License-Identifier: Apache-2.0
// From the names that programs give to the tensors of a model (io/name_schemes.hpp) to the official
// ones. What a name is follows from its words. Behind which prefix the model is (`model.`,
// `module._orig_mod.rwkv7.`, one never seen) follows from where most names that belong to RWKV-7
// are; the head, the table and the last norm may also be elsewhere.
#pragma once

#include <rwkv/io/model_settings.hpp>
#include <rwkv/io/name_schemes.hpp>
#include <rwkv/io/widen.hpp>

#include <set>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

using Names = std::set<std::string, std::less<>>;

/// The names of a file, understood as those of one model.
class ModelNames {
 public:
  struct Entry {
    std::string stored;
    std::optional<KnownName> known;
  };

  explicit ModelNames(const Checkpoint& checkpoint) : source_(checkpoint.source) {
    entries_.reserve(checkpoint.tensors.size());
    for (const auto& [name, tensor] : checkpoint.tensors)
      entries_.push_back({name, known_name(name)});
    find_prefix();
    for (const Entry& entry : entries_) {
      if (!entry.known || entry.known->prefix != prefix_ || is_of_training(entry.stored)) continue;
      present_.insert(entry.known->official.name);
      is_model_ |= entry.known->official.name.ends_with(".att.r_k");
      is_fla_ |= entry.known->fla;
      layers_ |= entry.known->from_layers;
    }
    for (const Entry& entry : entries_)
      if (is_outside(entry)) add_outside(entry);
  }

  [[nodiscard]] const std::vector<Entry>& entries() const noexcept { return entries_; }
  /// Whether any name belongs to RWKV-7.
  [[nodiscard]] bool found() const noexcept { return found_; }
  /// Whether there is an RWKV-7 model, not only a state or an adapter.
  [[nodiscard]] bool is_model() const noexcept { return is_model_; }
  [[nodiscard]] bool is_fla() const noexcept { return is_model_ && is_fla_; }
  /// Whether every tensor behind the prefix must be one of RWKV-7. Official files are not held to
  /// that here: states and adapters look like them.
  [[nodiscard]] bool is_strict() const noexcept { return is_model_ && layers_; }

  /// What `entry` is called in this model; nothing if it belongs to no scheme.
  [[nodiscard]] const OfficialName* official(const Entry& entry) const {
    if (!found_ || !entry.known || is_of_training(entry.stored)) return nullptr;
    if (entry.known->prefix == prefix_) return &entry.known->official;
    if (is_model_)
      for (const Outside& outside : outside_)
        if (outside.name == entry.known->official.name) {
          // One candidate, or the only one among several that lies on the way to the blocks.
          const Entry* chosen = outside.count == 1        ? outside.any
                                : outside.near_count == 1 ? outside.near_one
                                                          : nullptr;
          return chosen == &entry ? &entry.known->official : nullptr;
        }
    return nullptr;
  }

  /// `stored` without the model's prefix, or that of the sparse blocks of RWKV-X.
  [[nodiscard]] std::string bare(const std::string& stored) const {
    const std::string name = without_wrappers(stored);
    if (const auto sparse = last_numbered(name, "moba"); sparse != std::string::npos)
      if (is_model_) return name.substr(sparse);
    if (is_of_training(stored)) return stored;
    if (stored.starts_with(prefix_)) return stored.substr(prefix_.size());
    return !prefix_.empty() && name.starts_with(prefix_) ? name.substr(prefix_.size()) : stored;
  }

  [[nodiscard]] bool behind_prefix(const std::string& stored) const {
    return without_wrappers(stored).starts_with(prefix_);
  }

 private:
  void find_prefix() {
    std::map<std::string, std::size_t, std::less<>> votes;
    for (const Entry& entry : entries_)
      if (entry.known && entry.known->of_block && !is_of_training(entry.stored))
        ++votes[entry.known->prefix];
    std::size_t best = 0;
    const std::string* equal = nullptr;
    for (const bool average : {true, false})  // so that an average never wins over another
      for (const auto& [prefix, count] : votes) {
        if (is_average(prefix) != average) continue;
        const bool better = !found_ || count > best || is_average(prefix_) != average;
        if (better) {
          prefix_ = prefix;
          best = count;
          found_ = true;
        }
        equal = better ? nullptr : count == best ? &prefix : equal;
      }
    if (equal != nullptr)
      fail_with(ErrorCategory::unsupported, source_, ": this file holds several models, behind ",
                printable(prefix_), " and ", printable(*equal),
                "; save the one that is meant by itself");
  }

  // The table, the head or the last norm outside of what wraps the blocks.
  [[nodiscard]] bool is_outside(const Entry& entry) const {
    if (!entry.known || entry.known->prefix == prefix_ || is_of_training(entry.stored))
      return false;
    const std::string& name = entry.known->official.name;
    const bool global = !name.starts_with("blocks.") || name.starts_with("blocks.0.ln0.");
    return global && !present_.contains(name);
  }

  // The tensors of one meaning there: there are no more than six meanings.
  struct Outside {
    std::string_view name;
    std::size_t count = 0, near_count = 0;
    const Entry *any = nullptr, *near_one = nullptr;
  };

  void add_outside(const Entry& entry) {
    const std::string& name = entry.known->official.name;
    std::size_t i = 0;
    while (i < outside_.size() && outside_[i].name != name) ++i;
    if (i == outside_.size()) outside_.push_back({name});
    Outside& outside = outside_[i];
    outside.any = &entry;
    ++outside.count;
    if (!prefix_.starts_with(entry.known->prefix)) return;
    outside.near_one = &entry;
    ++outside.near_count;
  }

  const std::string& source_;
  std::vector<Entry> entries_;
  std::string prefix_;
  Names present_;
  std::vector<Outside> outside_;
  bool found_ = false;  // whether any name belongs to RWKV
  bool is_model_ = false;
  bool is_fla_ = false;
  bool layers_ = false;
};

/// Which way low-rank matrices lie, as far as the shapes tell: w1 is [C, D] in official files and
/// [D, C] in others. Nothing if D = C throughout.
[[nodiscard]] inline std::optional<bool> low_rank_transposed(const Checkpoint& checkpoint) {
  const Tensor* embedding = checkpoint.find("emb.weight");
  if (embedding == nullptr || embedding->shape.size() != 2) return std::nullopt;
  const std::size_t embed = embedding->shape[1];
  const std::string* official = nullptr;
  const std::string* transposed = nullptr;
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const auto block = split_block(name, "blocks.");
    if (!block || !is_low_rank(block->second) || tensor.shape.size() != 2) continue;
    if (block->second.starts_with("ffn.")) continue;  // see deep_transposed
    const bool first = name.back() == '1';
    const std::size_t outer = tensor.shape[first ? 0 : 1];
    const std::size_t inner = tensor.shape[first ? 1 : 0];
    if (outer == embed && inner != embed) official = &name;
    if (inner == embed && outer != embed) transposed = &name;
  }
  if (official != nullptr && transposed != nullptr)
    fail_with(ErrorCategory::format, checkpoint.source, ": tensor ", printable(*transposed),
              " is transposed, but ", printable(*official), " is not");
  if (official == nullptr && transposed == nullptr) return std::nullopt;
  return transposed != nullptr;
}

/// The same of DeepEmbed's ffn.s1 [C, R] or ffn.s2 [R, F] alone: web-rwkv leaves them.
[[nodiscard]] inline std::optional<bool> deep_transposed(const Checkpoint& checkpoint,
                                                         std::string_view name,
                                                         const Tensor& tensor) {
  const bool first = name.back() == '1';
  const Tensor* const key =
      checkpoint.find(std::string(name.substr(0, name.size() - 2)) + "key.weight");  // [F, C]
  if (key == nullptr || key->shape.size() != 2) return std::nullopt;
  const std::size_t side = key->shape[first ? 1 : 0];
  const bool here = tensor.shape[first ? 0 : 1] == side;
  const bool there = tensor.shape[first ? 1 : 0] == side;
  return here == there ? std::nullopt : std::optional(there);
}

/// Turns the low-rank matrices the official way: by their shapes, or, where these do not tell, if
/// their names say so (`by_name`). A state beside transposed official names is transposed too.
inline void turn_low_rank(Checkpoint& checkpoint, const Names& by_name) {
  const std::optional<bool> by_shape = low_rank_transposed(checkpoint);
  for (auto& [name, tensor] : checkpoint.tensors) {
    const auto block = split_block(name, "blocks.");
    if (!block) continue;
    const bool low_rank = is_low_rank(block->second);
    if (by_name.contains(name) && tensor.shape.size() != 2)
      refuse_tensor(ErrorCategory::format, checkpoint.source, name, " has shape ",
                    to_string(tensor.shape), " and is no matrix");
    if (low_rank && tensor.shape.size() == 2) {
      const bool deep = block->second.starts_with("ffn.");
      if ((deep ? deep_transposed(checkpoint, name, tensor) : by_shape)
              .value_or(by_name.contains(name)))
        tensor = tensor.transposed();
    } else if (block->second == "att.time_state" && by_name.empty() && by_shape.value_or(false)) {
      tensor = tensor.transposed();
    }
  }
}

/// "...lora.0" and "...lora.1" are web-rwkv's lora_A, transposed, and lora_B.
[[nodiscard]] inline OfficialName official_adapter(const std::string& name) {
  constexpr std::string_view lora_a = ".lora.0";
  constexpr std::string_view lora_b = ".lora.1";
  if (last_numbered(name, "blocks") == std::string::npos) return {name};
  if (name.ends_with(lora_a))
    return {name.substr(0, name.size() - lora_a.size()) + ".lora_A", true};
  if (name.ends_with(lora_b)) return {name.substr(0, name.size() - lora_b.size()) + ".lora_B"};
  return {name};
}

}  // namespace detail

/// `checkpoint` under official names: the schemes of io/name_schemes.hpp and RWKV-X are recognised
/// behind any prefix and mapped, vectors become [1, 1, C], and nothing is copied. The sparse blocks
/// of RWKV-X keep their `moba.<j>.` names, as do names that belong to no scheme (states, optimiser
/// data); beside a model, gradients and moments are left out, and beside anything of RWKV-7,
/// tensors of integers, of no elements, and single numbers called after steps, losses and the like.
/// Weights in floats of 8 bits are widened, which does copy. Throws `Error` (format) when names
/// collide or orientations contradict each other, (unsupported) for a tensor in a file with
/// `layers.` that RWKV-7 does not have, and for two models in one file.
///
/// What the file leaves out is filled in as it is meant: a head that is the table, norms without
/// biases. What its metadata says about the mathematics is put under this library's own keys (see
/// `state_settings`).
[[nodiscard]] inline Checkpoint to_official_names(Checkpoint checkpoint) {
  const detail::ModelNames names(checkpoint);
  auto tensors = std::exchange(checkpoint.tensors, {});
  detail::Names transposed_by_name;
  detail::Names scales;
  for (const auto& [name, tensor] : tensors)
    if (is_float8(tensor.dtype))
      for (const auto scale : {detail::find_beside(tensors, name, detail::scale_names),
                               detail::find_beside(tensors, name, detail::input_scale_names)})
        if (scale != tensors.end()) scales.insert(scale->first);
  for (const auto& entry : names.entries()) {
    const Tensor& tensor = tensors.find(entry.stored)->second;
    if (scales.contains(entry.stored)) continue;
    if (const detail::OfficialName* official = names.official(entry)) {
      if (official->transposed) transposed_by_name.insert(official->name);
      const detail::OfficialName name{.name = official->name, .fused = official->fused};
      if (is_float8(tensor.dtype)) {
        const auto scale = detail::find_beside(tensors, entry.stored, detail::scale_names);
        detail::add_official(checkpoint, name,
                             detail::widened(checkpoint, entry.stored, tensor,
                                             scale == tensors.end() ? nullptr : &scale->second));
      } else {
        detail::add_official(checkpoint, name, tensor);
      }
      continue;
    }
    const bool weight = (is_float(tensor.dtype) || is_block(tensor.dtype)) && tensor.size() > 0 &&
                        !(tensor.size() == 1 && detail::is_note(entry.stored));
    if (names.found() && !weight) continue;
    if (names.is_model() && detail::is_of_training(entry.stored)) continue;
    if (names.is_strict() && names.behind_prefix(entry.stored))
      detail::refuse_tensor(ErrorCategory::unsupported, checkpoint.source, entry.stored,
                            " is not part of an RWKV-7 model");
    detail::add_official(checkpoint, detail::official_adapter(names.bare(entry.stored)), tensor);
  }
  detail::turn_low_rank(checkpoint, transposed_by_name);
  if (names.is_model()) state_settings(checkpoint, names.is_fla());
  return checkpoint;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
