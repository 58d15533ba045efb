// SPDX-License-Identifier: Apache-2.0
// The definitions of io/describe.hpp.
#pragma once

#include <rwkv/io/describe.hpp>
#include <rwkv/io/untrusted.hpp>

#include <array>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// Words in tensor names that say what a file is; the first that occurs anywhere decides.
struct Telltale {
  std::string_view part;
  std::string_view meaning;
};

inline constexpr std::string_view beside_its_model =
    ": it changes a model's weights and is given with --adapter beside that model";

/// The name of a tensor with `part` in its name, or nothing.
[[nodiscard]] inline std::string_view tensor_with(const Checkpoint& c, std::string_view part) {
  for (const auto& [name, tensor] : c.tensors)
    if (name.find(part) != std::string::npos) return name;
  return {};
}

/// What programs call their adapters.
inline constexpr std::array<Telltale, 9> adapter_marks{{{"lora_magnitude_vector", "a DoRA adapter"},
                                                        {".lora_A", "a LoRA adapter"},
                                                        {".lora_B", "a LoRA adapter"},
                                                        {".lora.0", "a LoRA adapter"},
                                                        {".bone", "a Bone adapter"},
                                                        {".disha", "a DiSHA adapter"},
                                                        {".miss", "a MiSS adapter"},
                                                        {".hada_w1", "a LoHa adapter"},
                                                        {".lokr_w1", "a LoKr adapter"}}};

}  // namespace detail

RWKV_FUNCTION std::string describe(const Checkpoint& c) {
  const auto has = [&](std::string_view part) { return !detail::tensor_with(c, part).empty(); };
  const auto naming = [&](std::string_view part, std::string_view meaning) {
    return "this is " + std::string(meaning) + " (it has " +
           detail::printable(detail::tensor_with(c, part)) + ")";
  };
  if (c.tensors.empty()) return "it has no tensors";
  for (const auto& [part, meaning] : detail::adapter_marks)
    if (has(part)) return naming(part, meaning) + std::string(detail::beside_its_model);

  bool states = true, training = true, numbers = c.tensors.size() % 3 == 0;
  for (const auto& [name, tensor] : c.tensors) {
    numbers &= name.find_first_not_of("0123456789") == std::string::npos;
    states &= name.ends_with("time_state");
    training &= name.find("exp_avg") != std::string::npos ||
                name.find("moment") != std::string::npos || name.starts_with("grad") ||
                name.starts_with("optim") || name == "step";
  }
  if (states)
    return "this is a tuned state: it is given with --state-in beside the model that it was tuned "
           "for";
  if (training)
    return naming("", "what an optimiser keeps beside a model") + ": the weights are elsewhere";
  if (numbers || has("att.wkv") || has(".k_cache") || has("att.x_prev"))
    return "this is the state of a sequence: it is given with --state-in beside its model";

  // Earlier RWKV, under official names or those of Hugging Face.
  if (has("time_maa_") || has("time_decay_w1"))
    return naming(has("time_maa_") ? "time_maa_" : "time_decay_w1", "an RWKV-6 model") +
           "; only RWKV-7 and RWKV-X are supported";
  if (has("time_decay")) {
    const Tensor& decay = c.tensors.find(detail::tensor_with(c, "time_decay"))->second;
    std::size_t dimensions = 0;
    for (const std::size_t d : decay.shape) dimensions += d != 1;
    const bool fifth = has("time_faaaa") || has("ln_x.weight") || dimensions > 1;
    return naming("time_decay", fifth ? "an RWKV-5 model" : "an RWKV-4 model") +
           "; only RWKV-7 and RWKV-X are supported";
  }

  if (has("att.k_a") || has("att.w1") || has("att.x_r"))
    return "this is a part of an RWKV-7 model: there is no tensor blocks.0.att.r_k";
  static constexpr std::array<detail::Telltale, 8> kinds{{{"mixer.A_log", "a Mamba model"},
                                                          {"self_attn", "a transformer"},
                                                          {".q_proj.", "a transformer"},
                                                          {".c_attn.", "a transformer"},
                                                          {"query_key_value", "a transformer"},
                                                          {".attention.query", "a transformer"},
                                                          {".wq.", "a transformer"},
                                                          {"unet", "a model of images"}}};
  for (const auto& [part, meaning] : kinds)
    if (has(part)) return naming(part, meaning) + "; only RWKV-7 and RWKV-X are supported";
  return "none of its " + std::to_string(c.tensors.size()) +
         " tensors has a name of RWKV-7 (there is no blocks.0.att.r_k; the first is " +
         detail::printable(c.tensors.begin()->first) + ")";
}

RWKV_FUNCTION void refuse_extra_tensor(const Checkpoint& c, std::string_view name,
                                       const Tensor& tensor) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  std::string what;
  for (const auto& [part, meaning] : detail::adapter_marks)
    if (what.empty() && has(part))
      what = "that of " + std::string(meaning) +
             ", saved together with a model: merge it, or save the two apart";
  if (what.empty() && (has(".ffn.s_emb") || has(".ffn.s0") || has(".ffn.s1") || has(".ffn.s2"))) {
    if (has(".ffn.s_emb_x") && c.find("blocks.0.ffn.s_emb_x.weight") == nullptr)
      what = "the second part of a table of DeepEmbed (RWKV-7a), which block 0 lacks";
    else if (c.find("blocks.0.ffn.s1") == nullptr)
      what = "a part of DeepEmbed (RWKV-7a), and blocks.0.ffn.s1 is missing";
    else
      what = "not a part of this model's DeepEmbed (RWKV-7a); is this a variant of it?";
  }
  if (what.empty() && has(".qkv."))
    what = "a part of deep-embed attention: this is an RWKV-7b model, which is not supported";
  if (what.empty() && has("rosa"))
    what = "a part of ROSA: this is an RWKV-8 model, which is not supported";
  if (what.empty()) what = "not part of RWKV-7; is this a variant of it?";
  fail_with(ErrorCategory::unsupported, c.source, ": tensor ", detail::printable(name), " ",
            to_string(tensor.shape), " is ", what);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
