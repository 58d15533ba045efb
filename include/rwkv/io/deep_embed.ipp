// SPDX-License-Identifier: Apache-2.0
// The definitions of io/deep_embed.hpp.
#pragma once

#include <rwkv/core/buffer.hpp>
#include <rwkv/io/deep_embed.hpp>
#include <rwkv/io/model_settings.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/pack_panels.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

RWKV_FUNCTION std::size_t deep_rank_of(const Checkpoint& c) {
  bool any = false;
  for (const TensorSpec& spec : deep_embed_tensors)
    any |= c.find("blocks.0." + std::string(spec.name)) != nullptr;
  if (!any) return 0;
  const auto side = [&](const char* name, std::size_t dimension) {
    const auto& shape = c.get(name).shape;
    if (shape.size() != 2 || shape[dimension] == 0)
      fail_with(ErrorCategory::format, c.source, ": tensor ", name, " has shape ", to_string(shape),
                " where a matrix was expected");
    return shape[dimension];
  };
  const std::size_t rank = side("blocks.0.ffn.s1", 1);
  const std::size_t numbers = side("blocks.0.ffn.s_emb.weight", 1);
  constexpr std::size_t most = std::size_t{1} << 15;  // whose square 32 bits hold
  if (rank > most || numbers != rank * rank)
    fail_with(ErrorCategory::format, c.source, ": tensor blocks.0.ffn.s_emb.weight has ", numbers,
              " numbers per token, which are no matrix of ", rank, " by ", rank,
              ", the rank of blocks.0.ffn.s1");
  return rank;
}

RWKV_FUNCTION std::string deep_residual_name(std::size_t layer) {
  return "blocks." + std::to_string(layer) + ".ffn.s_emb_x.weight";
}

RWKV_FUNCTION bool has_deep_residual(const Checkpoint& c, const Dimensions& d) {
  if (d.deep_rank == 0) return false;
  const bool has = c.find(deep_residual_name(0)) != nullptr;
  for (std::size_t i = 1; i < d.layers; ++i)
    if ((c.find(deep_residual_name(i)) != nullptr) != has)
      fail_with(ErrorCategory::format, c.source, ": there is ", has ? "no" : "a", " tensor ",
                deep_residual_name(i), ", but ", has ? "one" : "none", " of block 0");
  return has;
}

RWKV_FUNCTION void add_deep_residual(const Checkpoint& c, const Dimensions& d, std::size_t layer,
                                     std::span<float> table, ExecutorRef exec) {
  const std::string name = deep_residual_name(layer);
  const std::size_t width = d.deep_rank * d.deep_rank;
  const Tensor& stored = c.get(name);
  if (stored.shape != std::vector<std::size_t>{width, d.embed})
    fail_with(ErrorCategory::format, c.source, ": tensor ", name, " has shape ",
              to_string(stored.shape), " where [", width, ", ", d.embed, "] was expected");
  const std::vector<float> matrix = stored.values<float>();
  const std::vector<float> rows = c.get("emb.weight").values<float>();
  const NormSettings norms = norm_settings_of(c);
  std::vector<float> weight, bias;
  if (!norms.normalised_table) {
    weight = c.get("blocks.0.ln0.weight").values<float>();
    bias = c.get("blocks.0.ln0.bias").values<float>();
    if (weight.size() != d.embed || bias.size() != d.embed)
      fail_with(ErrorCategory::format, c.source, ": blocks.0.ln0 has ", weight.size(),
                " weights and ", bias.size(), " biases for ", d.embed, " channels");
  }
  Buffer<float, dynamic> packed(kernels::panel_elements(width, d.embed));
  const Range panels{0, kernels::panels_for(width)};
  kernels::pack_panels<float>(std::as_bytes(std::span(matrix)).data(), d.embed, 1, width, d.embed,
                              panels, packed.data());
  const AnyMatrix product{DType::f32, packed.data(), width, d.embed, kernels::Inputs::exact};
  constexpr std::size_t at_once = 64;
  exec.parallel((d.vocab + at_once - 1) / at_once, [&](std::size_t part) {
    const std::size_t first = part * at_once;
    const std::size_t count = (std::min)(at_once, d.vocab - first);
    std::vector<float> x(count * d.embed), y(count * width);
    for (std::size_t m = 0; m < count; ++m) {
      const float* const row = rows.data() + (first + m) * d.embed;
      float* const to = x.data() + m * d.embed;
      if (weight.empty())
        std::copy_n(row, d.embed, to);
      else
        kernels::normalise<simd::Chosen>(row, weight.data(), bias.data(), norms.layer_norm_epsilon,
                                         to, d.embed);
    }
    kernels::multiply<simd::Chosen>(product, panels, kernels::ProductInputs{x.data(), d.embed},
                                    count, y.data(), width);
    kernels::add<simd::Chosen>(y.data(), table.data() + first * width, y.size());
  });
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
