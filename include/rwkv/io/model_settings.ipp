// SPDX-License-Identifier: Apache-2.0
// The definitions of io/model_settings.hpp.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/model_settings.hpp>
#include <rwkv/io/untrusted.hpp>

#include <algorithm>
#include <array>
#include <memory>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// What a file says under a key, and where, for messages.
struct Stated {
  std::string where;
  std::string value;
};

/// The value of config.json's `key`, or of the same key among the file's own metadata.
[[nodiscard]] inline std::optional<Stated> stated(const Checkpoint& c, std::string_view key) {
  if (const auto it = c.metadata.find("config." + std::string(key)); it != c.metadata.end())
    return Stated{"config.json says " + std::string(key), it->second};
  if (const auto it = c.metadata.find(key); it != c.metadata.end())
    return Stated{"metadata says " + std::string(key), it->second};
  return std::nullopt;
}

/// `stated.value` as a number; throws if it is none.
template <class T>
[[nodiscard]] T number(const Checkpoint& c, const Stated& stated) {
  const auto value = internal::parse<T>(stated.value);
  if (!value)
    fail_with(ErrorCategory::format, c.source, ": ", stated.where, " = ", printable(stated.value),
              ", which is not a number that it can be");
  return *value;
}

/// A number of which several keys may speak, all of them saying the same.
class Agreed {
 public:
  explicit Agreed(const Checkpoint& c) : c_(c) {}

  void read(std::string_view key) {
    const auto said = stated(c_, key);
    if (!said) return;
    const auto value = static_cast<float>(detail::number<double>(c_, *said));
    if (!(value > 0 && value < 1))
      fail_with(ErrorCategory::format, c_.source, ": ", said->where, " = ", printable(said->value),
                ", which is no epsilon of a norm");
    if (value_ && *value_ != value)
      fail_with(ErrorCategory::format, c_.source, ": ", first_.where, " = ", first_.value, ", but ",
                said->where, " = ", said->value);
    value_ = value;
    first_ = *said;
  }

  [[nodiscard]] std::optional<float> value() const noexcept { return value_; }

 private:
  const Checkpoint& c_;
  std::optional<float> value_;
  Stated first_;
};

[[nodiscard]] inline std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

[[nodiscard]] inline bool is_rwkv7_type(std::string_view type) {
  std::string plain;
  for (const char c : lower(type))
    if (c != '-' && c != '_' && c != '.') plain += c;
  static constexpr std::array<std::string_view, 8> known{
      "rwkv", "rwkv7", "rwkv7a", "rwkvv7", "rwkv7goose", "rwkv7world", "rwkvx", "rwkv7x"};
  return plain.starts_with("rwkv7g1") ||
         std::find(known.begin(), known.end(), plain) != known.end();
}

/// Refuses settings that change what a model computes from what its tensors say.
inline void refuse_other_mathematics(const Checkpoint& c) {
  const auto refuse = [&](const Stated& said, const char* why) {
    fail_with(ErrorCategory::unsupported, c.source, ": ", said.where, " = ", printable(said.value),
              why);
  };
  if (const auto said = stated(c, "model_type"); said && !is_rwkv7_type(said->value))
    refuse(*said, ", which is no RWKV-7 model as released");
  static constexpr std::array<std::string_view, 7> activations{
      "sqrelu", "relu2", "relu^2", "relu_squared", "squared_relu", "relu_square", "reluSquared"};
  for (const char* key : {"hidden_act", "activation", "activation_function"})
    if (const auto said = stated(c, key);
        said && std::find(activations.begin(), activations.end(), said->value) == activations.end())
      refuse(*said, "; RWKV-7's channel mix has squared ReLU");
  // Parts that RWKV-7 does not have: off, nothing or empty.
  const bool deep_embed = c.find("blocks.0.ffn.s_emb.weight") != nullptr;
  for (const char* key : {"use_deep_embed", "deep_embed", "use_deepembed", "use_rosa", "rosa",
                          "use_rms_norm", "attn", "attn_layers", "attention_layers", "num_experts",
                          "final_logit_softcapping", "logits_soft_cap"})
    if (const auto said = stated(c, key);
        said && said->value != "false" && said->value != "0" && said->value != "none" &&
        !(deep_embed && std::string_view(key).find("deep") != std::string_view::npos))
      refuse(*said, ", which RWKV-7 does not have");
  for (const char* key : {"logit_scale", "embedding_multiplier", "residual_multiplier"})
    if (const auto said = stated(c, key); said && number<double>(c, *said) != 1)
      refuse(*said, ", which RWKV-7 does not have");
  // Which program computes the recurrence is no matter, which recurrence is.
  if (const auto said = stated(c, "wkv_mode"))
    for (const char* other : {"wkv4", "wkv5", "wkv6", "v4", "v5", "v6"})
      if (lower(said->value).find(other) != std::string::npos)
        refuse(*said, ", which is another recurrence than RWKV-7's");
}

/// Heads for an r_k that has one dimension: of the size that the file says, else of that of all
/// released models.
inline void divide_into_heads(Checkpoint& c) {
  for (auto& [name, tensor] : c.tensors) {
    if (!name.ends_with(".att.r_k") || tensor.shape.size() != 1) continue;
    std::optional<Stated> said = stated(c, "head_dim");
    for (const char* other : {"head_size", "head_size_a"})
      if (!said) said = stated(c, other);
    const auto n = said ? static_cast<std::size_t>(number<std::uint64_t>(c, *said)) : 64;
    if (n == 0 || tensor.shape[0] % n != 0)
      refuse_tensor(ErrorCategory::format, c.source, name, " has ", tensor.shape[0],
                    " elements, which are no heads of ", n,
                    " (head_dim in a config.json beside the model says of how many)");
    tensor.shape[0] /= n;
    tensor.shape.push_back(n);
    tensor.stride.push_back(tensor.stride[0]);
    tensor.stride[0] *= n;
  }
}

/// Norms without biases: zeros in their places, if all norms of the kind are without.
inline void fill_biases(Checkpoint& c, bool per_head) {
  constexpr std::string_view weight = ".weight";
  std::vector<std::string> missing;
  for (const auto& [name, tensor] : c.tensors) {
    if (!name.ends_with(weight)) continue;
    const std::string_view stem = std::string_view(name).substr(0, name.size() - weight.size());
    const std::string_view norm = stem.substr(stem.rfind('.') + 1);
    const bool layer_norm = stem == "ln_out" || (stem.starts_with("blocks.") &&
                                                 (norm == "ln0" || norm == "ln1" || norm == "ln2"));
    if (per_head ? norm != "ln_x" : !layer_norm) continue;
    missing.emplace_back(stem);
    if (c.find(missing.back() + ".bias") != nullptr) return;
  }
  static constexpr float zero = 0.0f;
  for (const std::string& stem : missing)
    c.tensors[stem + ".bias"] = {
        DType::f32, {c.get(stem + ".weight").size()}, {0}, std::as_bytes(std::span(&zero, 1))};
}

}  // namespace detail

RWKV_FUNCTION void state_settings(Checkpoint& c, bool fla) {
  detail::refuse_other_mathematics(c);
  detail::divide_into_heads(c);
  const auto is = [&](const char* key, std::string_view value) {
    const auto said = detail::stated(c, key);
    return said && said->value == value;
  };

  NormSettings settings;
  detail::Agreed layer_norm(c);
  for (const std::string_view key :
       {std::string_view("norm_eps"), std::string_view("norm_epsilon"),
        std::string_view("layer_norm_epsilon"), std::string_view("layer_norm_eps"),
        std::string_view("rwkv7.attention.layer_norm_epsilon"), layer_norm_key})
    layer_norm.read(key);
  detail::Agreed group_norm(c);
  for (const std::string_view key :
       {std::string_view("group_norm_eps"), std::string_view("group_norm_epsilon"),
        std::string_view("head_norm_eps"), std::string_view("ln_x_eps"),
        std::string_view("rwkv7.attention.group_norm_epsilon"), group_norm_key})
    group_norm.read(key);
  settings.layer_norm_epsilon = layer_norm.value().value_or(settings.layer_norm_epsilon);
  if (group_norm.value()) {
    settings.group_norm_epsilon = *group_norm.value();
  } else if (const auto divisor = detail::stated(c, "head_size_divisor")) {
    const double number = detail::number<double>(c, *divisor);  // as in RWKV's own training program
    settings.group_norm_epsilon = static_cast<float>(1e-5 * number * number);
  } else if (const auto norm = detail::stated(c, "norm_eps"); fla && norm) {
    const auto& heads = c.get("blocks.0.att.r_k").shape;
    const double size = heads.empty() ? 0 : static_cast<double>(heads.back());
    settings.group_norm_epsilon = static_cast<float>(size * detail::number<double>(c, *norm));
  }

  const bool has_norm =
      c.find("blocks.0.ln0.weight") != nullptr || c.find("blocks.0.ln0.bias") != nullptr;
  const bool fused = is("embedding_layer_norm_fused", "true");
  if (has_norm && (fused || is(embedding_norm_key.data(), "none")))
    fail_with(ErrorCategory::format, c.source,
              ": the table is said to be normalised already, but there is blocks.0.ln0");
  settings.normalised_table = !has_norm && !is("embedding_layer_norm_fused", "false");
  for (const std::string_view key : {layer_norm_key, group_norm_key, embedding_norm_key})
    c.metadata.erase(std::string(key));
  add_norm_settings(c.metadata, settings);

  detail::fill_biases(c, false);
  detail::fill_biases(c, true);
  const Tensor* const table = c.find("emb.weight");
  const Tensor* const head = c.find("head.weight");
  if (table == nullptr) return;
  // A file of rwkv.cpp says nowhere how many tensors it has: one without a head is cut off.
  if (head == nullptr && !is("tie_word_embeddings", "false") && c.format != "ggmf") {
    if (settings.normalised_table)
      fail_with(ErrorCategory::format, c.source,
                ": there is no head.weight, and the table cannot serve as the head, because it was "
                "normalised (there is no blocks.0.ln0)");
    c.tensors.emplace("head.weight", Tensor(*table));
  } else if (head != nullptr && is("tie_word_embeddings", "true") &&
             (head->shape != table->shape || head->dtype != table->dtype ||
              head->stride != table->stride ||
              !std::equal(head->bytes.begin(), head->bytes.end(), table->bytes.begin(),
                          table->bytes.end()))) {
    fail_with(ErrorCategory::format, c.source,
              ": tie_word_embeddings says that the head is the table, but the file has another "
              "head.weight");
  }
}

RWKV_FUNCTION NormSettings norm_settings_of(const Checkpoint& c) {
  NormSettings settings;
  detail::Agreed layer_norm(c);
  layer_norm.read(layer_norm_key);
  detail::Agreed group_norm(c);
  group_norm.read(group_norm_key);
  settings.layer_norm_epsilon = layer_norm.value().value_or(settings.layer_norm_epsilon);
  settings.group_norm_epsilon = group_norm.value().value_or(settings.group_norm_epsilon);
  if (const auto norm = c.metadata.find(embedding_norm_key); norm != c.metadata.end()) {
    settings.normalised_table = norm->second == "none";
    if (!settings.normalised_table && norm->second != "ln0")
      fail_with(ErrorCategory::unsupported, c.source, ": ", std::string(embedding_norm_key), " is ",
                detail::printable(norm->second), " (known: ln0, none)");
  }
  return settings;
}

RWKV_FUNCTION void add_norm_settings(Metadata& metadata, const NormSettings& settings) {
  const NormSettings official;
  const auto add = [&](std::string_view key, float value, float usual) {
    if (value == usual) return;
    std::string text;
    internal::Part(value).append_to(text);
    metadata.insert_or_assign(std::string(key), std::move(text));
  };
  add(layer_norm_key, settings.layer_norm_epsilon, official.layer_norm_epsilon);
  add(group_norm_key, settings.group_norm_epsilon, official.group_norm_epsilon);
  if (settings.normalised_table) metadata.insert_or_assign(std::string(embedding_norm_key), "none");
}

RWKV_FUNCTION void check_stated_dimensions(const Checkpoint& c, const Dimensions& d) {
  enum What { embed, head_size, heads, ffn, vocab, decay, icl, value, gate, layers };
  const std::size_t actual[] = {
      d.embed,      d.head_size, d.embed / d.head_size, d.ffn,       d.vocab,
      d.decay_rank, d.icl_rank,  d.value_rank,          d.gate_rank, d.layers};
  static constexpr struct {
    std::string_view key;
    What what;
  } keys[] = {{"hidden_size", embed},
              {"n_embd", embed},
              {"attention_hidden_size", embed},
              {"value_dim", embed},
              {"key_dim", embed},
              {"rwkv7.embedding_length", embed},
              {"head_dim", head_size},
              {"head_size", head_size},
              {"head_size_a", head_size},
              {"rwkv7.wkv.head_size", head_size},
              {"num_heads", heads},
              {"num_attention_heads", heads},
              {"n_head", heads},
              {"intermediate_size", ffn},
              {"dim_ffn", ffn},
              {"rwkv7.feed_forward_length", ffn},
              {"vocab_size", vocab},
              {"rwkv7.vocab_size", vocab},
              {"decay_low_rank_dim", decay},
              {"rwkv7.attention.decay_lora_rank", decay},
              {"a_low_rank_dim", icl},
              {"rwkv7.attention.iclr_lora_rank", icl},
              {"v_low_rank_dim", value},
              {"rwkv7.attention.value_residual_mix_lora_rank", value},
              {"gate_low_rank_dim", gate},
              {"rwkv7.attention.gate_lora_rank", gate},
              {"num_hidden_layers", layers},
              {"n_layer", layers},
              {"rwkv7.block_count", layers}};
  const bool hybrid = c.find("moba.0.ln1.weight") != nullptr;
  for (const auto& [key, what] : keys) {
    // Block 0 alone has no value residual; what a hybrid model counts as layers is not settled.
    if ((what == value && d.layers == 1) || (what == layers && hybrid)) continue;
    const auto said = detail::stated(c, key);
    if (!said || said->value == "[...]") continue;
    const auto number = detail::number<std::uint64_t>(c, *said);
    if (number != actual[what])
      fail_with(ErrorCategory::format, c.source, ": ", said->where, " = ", number,
                ", but the tensors have ", actual[what]);
  }
}

RWKV_FUNCTION std::vector<std::string> kept_matrices(const Metadata& metadata) {
  std::vector<std::string> kept;
  const auto it = metadata.find(keep_key);
  if (it == metadata.end()) return kept;
  std::string_view names = it->second;
  for (bool more = true; more;) {
    const std::size_t end = names.find(',');
    kept.emplace_back(names.substr(0, end));
    more = end != std::string_view::npos;
    if (more) names.remove_prefix(end + 1);
  }
  return kept;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
