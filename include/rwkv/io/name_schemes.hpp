// SPDX-License-Identifier: Apache-2.0
// What programs call the tensors of an RWKV-7 model, word by word: any of them in any place, behind
// any prefix. A file in which two words mean the same tensor is refused, not guessed at.
//
//   official          emb, blocks.0.{ln0, ln1, ln2}, att.{w1, receptance, ...}, ffn.{key, value}
//   nn.Linear         official, but att.w1.weight [D, C], att.w2.weight [C, D], att.w2.bias
//   fla               embeddings, layers.0.{pre_norm, attn_norm, ffn_norm}, attn.r_proj,
//                     attn.w_lora.lora.0.weight [D, C], attn.x_x [6, C] (early versions)
//   rwkv-rs           embed_tokens, embedding_norm, layers.0.{input_layernorm,
//                     post_attention_layernorm}, linear_attn.r_proj, mlp.{up_proj, down_proj}
#pragma once

#include <rwkv/io/official_names.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail {

/// A name of any scheme, taken apart.
struct KnownName {
  /// What stands before the model's own part of the name, wrappers left out: "model." or nothing.
  std::string prefix;
  /// `transposed` says what the scheme would have; only low-rank matrices have it.
  OfficialName official;
  bool of_block = false;     ///< one of the tensors of a block, other than its norms
  bool fla = false;          ///< by a word that only fla uses
  bool from_layers = false;  ///< "layers.0." instead of "blocks.0."
};

/// True for the components that training and compiling put between the parts of a name.
[[nodiscard]] inline bool is_wrapper(std::string_view component) noexcept {
  return component.starts_with('_') || component == "module" || component == "base_layer";
}

/// `name` without its wrappers: "blocks.0._fsdp_wrapped_module.att.k_k" -> "blocks.0.att.k_k".
[[nodiscard]] inline std::string without_wrappers(std::string_view name) {
  std::string out;
  for (;;) {
    const auto dot = name.find('.');
    const auto component = name.substr(0, dot);
    const bool last = dot == std::string_view::npos;
    if (last || !is_wrapper(component)) out += component;
    if (last) return out;
    if (!is_wrapper(component)) out += '.';
    name.remove_prefix(dot + 1);
  }
}

/// The second of the pair whose first is `word`.
template <std::size_t N>
[[nodiscard]] constexpr std::string_view translated(
    const std::array<std::pair<std::string_view, std::string_view>, N>& words,
    std::string_view word) noexcept {
  for (const auto& [from, to] : words)
    if (word == from) return to;
  return {};
}

using Words = std::pair<std::string_view, std::string_view>;

inline constexpr std::array<Words, 13> global_words{{{"emb", "emb"},
                                                     {"embeddings", "emb"},
                                                     {"embed_tokens", "emb"},
                                                     {"embedding", "emb"},
                                                     {"ln0", "blocks.0.ln0"},
                                                     {"pre_norm", "blocks.0.ln0"},
                                                     {"pre_ln", "blocks.0.ln0"},
                                                     {"embedding_norm", "blocks.0.ln0"},
                                                     {"ln_out", "ln_out"},
                                                     {"norm", "ln_out"},
                                                     {"final_norm", "ln_out"},
                                                     {"head", "head"},
                                                     {"lm_head", "head"}}};
inline constexpr std::array<Words, 10> norm_words{{{"ln0", "ln0"},
                                                   {"pre_norm", "ln0"},
                                                   {"pre_ln", "ln0"},
                                                   {"ln1", "ln1"},
                                                   {"attn_norm", "ln1"},
                                                   {"input_layernorm", "ln1"},
                                                   {"ln2", "ln2"},
                                                   {"ffn_norm", "ln2"},
                                                   {"mlp_norm", "ln2"},
                                                   {"post_attention_layernorm", "ln2"}}};
inline constexpr std::array<Words, 7> mixer_words{{{"att", "att"},
                                                   {"attn", "att"},
                                                   {"linear_attn", "att"},
                                                   {"attention", "att"},
                                                   {"ffn", "ffn"},
                                                   {"mlp", "ffn"},
                                                   {"feed_forward", "ffn"}}};
inline constexpr std::array<Words, 5> attention_words{{{"r_proj", "receptance"},
                                                       {"k_proj", "key"},
                                                       {"v_proj", "value"},
                                                       {"o_proj", "output"},
                                                       {"g_norm", "ln_x"}}};
inline constexpr std::array<Words, 4> channel_mix_words{
    {{"up_proj", "key"}, {"k_proj", "key"}, {"down_proj", "value"}, {"v_proj", "value"}}};

/// The official name of a tensor of the time mix, called `name` within it.
[[nodiscard]] inline std::optional<OfficialName> official_in_attention(std::string_view name) {
  const std::string att = "att." + std::string(name);
  if (find_block_tensor(att) != nullptr || name == "time_state") return OfficialName{att};
  if (name == "x_x" || name == "x_rwkvag") return OfficialName{.name = "att.", .fused = true};
  const auto dot = name.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view word = name.substr(0, dot);
  const std::string_view part = name.substr(dot + 1);
  if (const auto official = translated(attention_words, word); !official.empty()) {
    if (part != "weight" && (part != "bias" || official != "ln_x")) return std::nullopt;
    return OfficialName{"att." + std::string(official) + '.' + std::string(part)};
  }
  // w1.weight, w2.weight, w2.bias; w_lora.lora.0.weight, w_lora.lora.2.weight, w_lora.lora.2.bias
  const bool linear = is_low_rank("att." + std::string(word));
  const bool fla = word.ends_with("_lora") && is_low_rank("att." + std::string(word, 0, 1) + '1');
  if ((!linear && !fla) || (fla && (word.size() != 6 || !part.starts_with("lora."))))
    return std::nullopt;
  const std::string letter = "att." + std::string(word, 0, 1);
  const auto is = [&](char number, std::string_view kind) {
    if (linear) return word[1] == number && part == kind;
    const char index = number == '1' ? '0' : '2';
    return part.size() == 7 + kind.size() && part[5] == index && part[6] == '.' &&
           part.substr(7) == kind;
  };
  if (is('1', "weight")) return OfficialName{letter + '1', true};
  if (is('2', "weight")) return OfficialName{letter + '2', true};
  if (is('2', "bias") && letter != "att.g") return OfficialName{letter + '0'};
  return std::nullopt;
}

/// The official name of a tensor called `name` within a block.
[[nodiscard]] inline std::optional<OfficialName> official_in_block(std::string_view name) {
  const auto dot = name.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view word = name.substr(0, dot);
  const std::string_view part = name.substr(dot + 1);
  if (const auto norm = translated(norm_words, word); !norm.empty()) {
    if (part != "weight" && part != "bias") return std::nullopt;
    return OfficialName{std::string(norm) + '.' + std::string(part)};
  }
  const std::string_view mixer = translated(mixer_words, word);
  if (mixer == "att") return official_in_attention(part);
  if (mixer != "ffn") return std::nullopt;
  std::string ffn = "ffn." + std::string(part);
  if (find_block_tensor(ffn) != nullptr || ffn == deep_residual_name)
    return OfficialName{std::move(ffn)};
  if (ffn == "ffn.s1.weight" || ffn == "ffn.s2.weight")  // of nn.Linear
    return OfficialName{ffn.substr(0, 6), true};
  constexpr std::string_view weight = ".weight";
  if (!part.ends_with(weight)) return std::nullopt;
  const auto official = translated(channel_mix_words, part.substr(0, part.size() - weight.size()));
  if (official.empty()) return std::nullopt;
  return OfficialName{"ffn." + std::string(official) + std::string(weight)};
}

/// Where the last "<word>.<number>." of `name` begins, `word` being one of two; npos without one.
[[nodiscard]] inline std::size_t last_numbered(std::string_view name, std::string_view word,
                                               std::string_view other = {}) {
  for (std::size_t end = name.size(); end > 0;) {
    const std::size_t dot = name.substr(0, end).rfind('.');
    const std::size_t begin = dot == std::string_view::npos ? 0 : dot + 1;
    for (const std::string_view w : {word, other})
      if (!w.empty() && name.substr(begin).starts_with(w) && begin + w.size() < name.size() &&
          name[begin + w.size()] == '.' && split_block(name.substr(begin), std::string(w) + '.'))
        return begin;
    if (begin == 0) break;
    end = dot;
  }
  return std::string_view::npos;
}

/// What `name` means, if it is one that any scheme has.
[[nodiscard]] inline std::optional<KnownName> known_name(std::string_view stored) {
  constexpr std::size_t longest = 256;
  if (stored.size() > longest) return std::nullopt;
  const std::string name = without_wrappers(stored);
  const std::string_view view = name;
  if (const std::size_t at = last_numbered(view, "blocks", "layers"); at != std::string::npos) {
    const bool layers = view.substr(at).starts_with("layers");
    const auto block = split_block(view.substr(at), layers ? "layers." : "blocks.");
    std::string_view rest = block->second;  // behind the block's number, a wrapper of any name
    for (;;) {
      if (auto official = official_in_block(rest)) {
        const std::string_view within = official->name;
        const bool of_block = within.starts_with("att.") || within == "ffn.x_k";
        official->name.insert(0, "blocks." + std::string(block->first) + '.');
        return KnownName{name.substr(0, at), *std::move(official), of_block,
                         rest.starts_with("attn."), layers};
      }
      const auto dot = rest.find('.');
      if (dot == std::string_view::npos || !translated(mixer_words, rest.substr(0, dot)).empty())
        break;
      rest.remove_prefix(dot + 1);
    }
  }
  for (const std::string_view part : {".weight", ".bias"}) {
    if (!view.ends_with(part)) continue;
    const std::string_view stem = view.substr(0, view.size() - part.size());
    const auto dot = stem.rfind('.');
    const std::size_t begin = dot == std::string_view::npos ? 0 : dot + 1;
    const auto official = translated(global_words, stem.substr(begin));
    if (official.empty() || (part == ".bias" && (official == "emb" || official == "head"))) break;
    return KnownName{name.substr(0, begin), {std::string(official) + std::string(part)}};
  }
  return std::nullopt;
}

/// True if `name` is of numbers that training keeps beside a model: gradients, moments and the
/// like, which have the names of the tensors they belong to.
[[nodiscard]] inline bool is_of_training(std::string_view name) {
  constexpr std::array<std::string_view, 14> words{
      "grad",        "grads",          "gradient",      "gradients", "exp_avg", "exp_avg_sq",
      "max_exp_avg", "first_moment",   "second_moment", "optimizer", "optim",   "optimizer_states",
      "momentum",    "momentum_buffer"};
  for (;;) {
    const auto dot = name.find('.');
    if (std::find(words.begin(), words.end(), name.substr(0, dot)) != words.end()) return true;
    if (dot == std::string_view::npos) return false;
    name.remove_prefix(dot + 1);
  }
}

/// True for the names of numbers that training notes down: "global_step", "best_loss".
[[nodiscard]] inline bool is_note(std::string_view name) {
  name.remove_prefix(name.find_last_of("._") + 1);  // npos + 1 is 0
  for (const std::string_view word : {"step", "steps", "epoch", "epochs", "iter", "iteration",
                                      "loss", "lr", "rate", "seed", "version"})
    if (name == word) return true;
  return false;
}

/// True for running averages of the weights, which are a second model beside the first.
[[nodiscard]] inline bool is_average(std::string_view prefix) {
  return prefix.find("ema.") != std::string_view::npos ||
         prefix.find("ema_") != std::string_view::npos ||
         prefix.find("swa_") != std::string_view::npos;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA::detail
