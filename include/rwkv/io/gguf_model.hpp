// SPDX-License-Identifier: Apache-2.0
// An RWKV-7 model the way llama.cpp wants it: metadata, vocabulary, and a list of tensors that says
// which official ones each of them is made of.
#pragma once

#include <rwkv/io/gguf_names.hpp>
#include <rwkv/io/gguf_writer.hpp>
#include <rwkv/io/layout.hpp>
#include <rwkv/io/python_literal.hpp>
#include <rwkv/io/vocabulary.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

/// A tensor of a file to be written: `parts` one after the other, in C order.
struct PlannedTensor {
  TensorEntry entry;
  std::string official;  ///< the name of the first part
  std::vector<Tensor> parts;
};

namespace detail {

/// A conversation as the World models know it, in the notation of chat templates. llama.cpp
/// recognises the line of the user.
inline constexpr const char* world_chat_template =
    "{%- for message in messages -%}\n"
    "{%- if message['role'] == 'user' -%}\n"
    "{{- 'User: ' + message['content']|trim + '\\n\\n' -}}\n"
    "{%- elif message['role'] == 'system' -%}\n"
    "{{- 'System: ' + message['content']|trim + '\\n\\n' -}}\n"
    "{%- else -%}\n"
    "{{- 'Assistant: ' + message['content']|trim + '\\n\\n' -}}\n"
    "{%- endif -%}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}{{- 'Assistant:' -}}{%- endif -%}\n";

/// The text that stands for a token's bytes: the inside of a Python bytes literal. A token that
/// looks like a placeholder gets an escape more, because llama.cpp wants all texts to differ.
[[nodiscard]] inline std::string gguf_token_text(std::string_view bytes) {
  const std::string literal = python_literal(bytes);
  const std::string text = literal.substr(2, literal.size() - 3);
  if (text == "<s>") return "\\x3cs>";
  if (text.starts_with("[PAD")) return "\\x5b" + text.substr(1);
  return text;
}

/// The vocabulary for `size` tokens; ids without bytes become placeholders.
inline void add_gguf_vocabulary(GgufMetadata& to, const Vocabulary& vocabulary, std::size_t size) {
  std::vector<std::string> texts(size);
  std::vector<std::int32_t> types(size, gguf_normal_token);
  for (std::size_t id = 0; id < size; ++id) {
    const bool present = id < vocabulary.size() && !vocabulary[id].empty();
    if (present) {
      texts[id] = gguf_token_text(vocabulary[id]);
    } else if (id == 0) {
      texts[id] = "<s>";
      types[id] = gguf_control_token;
    } else {
      texts[id] = "[PAD" + std::to_string(id) + "]";
      types[id] = gguf_unused_token;
    }
  }
  const bool zero_ends_texts = types[0] == gguf_control_token;
  to.emplace_back("tokenizer.ggml.model", "rwkv");
  to.emplace_back(std::string(gguf_tokens), std::move(texts));
  to.emplace_back(std::string(gguf_token_types), std::move(types));
  if (zero_ends_texts) {
    to.emplace_back("tokenizer.ggml.bos_token_id", std::uint32_t{0});
    to.emplace_back("tokenizer.ggml.eos_token_id", std::uint32_t{0});
  }
  constexpr std::size_t blank_line = 261;  // which ends a turn, in the World vocabulary
  if (vocabulary.size() > blank_line && vocabulary[blank_line] == "\n\n") {
    to.emplace_back("tokenizer.ggml.eot_token_id", static_cast<std::uint32_t>(blank_line));
    to.emplace_back("tokenizer.chat_template", world_chat_template);
  }
}

}  // namespace detail

/// The metadata of a model, its vocabulary included. llama.cpp reads a model without one, but then
/// only knows numbers. `extended`: what it must not read, as it would compute something else.
[[nodiscard]] inline GgufMetadata gguf_metadata(const Dimensions& d, DType target,
                                                const std::string& name, bool extended,
                                                const std::optional<Vocabulary>& vocabulary,
                                                float layer_norm_epsilon = 1e-5f) {
  const auto number = [](std::size_t n) { return static_cast<std::uint32_t>(n); };
  // Without other blocks there is no value residual; block 0's placeholder has the shape of a's.
  const std::size_t value_rank = d.value_rank == 0 ? d.icl_rank : d.value_rank;
  GgufMetadata m{
      {"general.architecture", std::string(extended ? detail::gguf_extended : "rwkv7")},
      {"general.type", "model"},
      {"general.name", name},
      {"general.file_type",
       number(static_cast<std::size_t>(internal::traits_of(target).gguf_file))},
      {"general.quantization_version", std::uint32_t{2}},
      {"rwkv7.context_length", std::uint32_t{1048576}},
      {"rwkv7.embedding_length", number(d.embed)},
      {"rwkv7.block_count", number(d.layers)},
      {"rwkv7.feed_forward_length", number(d.ffn)},
      {"rwkv7.attention.head_count", std::uint32_t{0}},
      {"rwkv7.attention.layer_norm_epsilon", layer_norm_epsilon},
      {"rwkv7.wkv.head_size", number(d.head_size)},
      {"rwkv7.attention.decay_lora_rank", number(d.decay_rank)},
      {"rwkv7.attention.iclr_lora_rank", number(d.icl_rank)},
      {"rwkv7.attention.value_residual_mix_lora_rank", number(value_rank)},
      {"rwkv7.attention.gate_lora_rank", number(d.gate_rank)},
      {"rwkv7.vocab_size", number(d.vocab)},
  };
  if (vocabulary)
    detail::add_gguf_vocabulary(m, *vocabulary, d.vocab);
  else
    m.emplace_back("tokenizer.ggml.model", "none");
  return m;
}

/// The tensors of a GGUF file of `checkpoint`, which has `layout`, in the types of a model "in
/// `target`"; those named in `keep` have 16 bits where they would become blocks.
[[nodiscard]] inline std::vector<PlannedTensor> plan_gguf(const Checkpoint& checkpoint,
                                                          std::span<const LayoutEntry> layout,
                                                          DType target,
                                                          std::span<const std::string> keep) {
  std::vector<PlannedTensor> plan;
  const auto add = [&](const std::string& name, const LayoutEntry& entry, const Tensor& tensor) {
    const bool transposed = entry.role == Role::low_rank;
    LayoutEntry stored = entry;
    if (transposed) std::swap(stored.shape[0], stored.shape[1]);
    if (entry.role == Role::vector) stored.shape = {detail::element_count(entry.shape).value_or(0)};
    const bool kept =
        is_block(target) && std::find(keep.begin(), keep.end(), entry.name) != keep.end();
    const DType type = weight_type(stored, tensor.dtype, kept ? half_width(tensor.dtype) : target);
    plan.push_back({{name, type, std::move(stored.shape)},
                    entry.name,
                    {transposed ? tensor.transposed() : tensor}});
  };
  for (const LayoutEntry& entry : layout) {
    const std::string name = detail::gguf_from_official(entry.name);
    const Tensor& tensor = checkpoint.get(entry.name);
    if (!plan.empty() && plan.back().entry.name == name) {  // x_w ... x_g, after x_r
      plan.back().parts.push_back(tensor);
      plan.back().entry.shape = {plan.back().parts.size(), 1, 1, entry.shape.back()};
      continue;
    }
    add(name, entry, tensor);
    // llama.cpp asks block 0 for a value residual too, of this shape, and never uses it.
    if (entry.name.starts_with("blocks.0.att.a") && entry.name.size() == 15) {
      std::string placeholder = name;
      placeholder[placeholder.find(".time_mix_a") + 10] = 'v';
      add(placeholder, entry, tensor);
    }
  }
  return plan;
}

/// The tensors of a safetensors file under official names, all in `type`: f32, f16 or bf16.
[[nodiscard]] inline std::vector<PlannedTensor> plan_official(const Checkpoint& checkpoint,
                                                              std::span<const LayoutEntry> layout,
                                                              DType type) {
  std::vector<PlannedTensor> plan;
  for (const LayoutEntry& entry : layout)
    plan.push_back({{entry.name, type, entry.shape}, entry.name, {checkpoint.get(entry.name)}});
  return plan;
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
