// SPDX-License-Identifier: Apache-2.0
// The definitions of io/deep_embed.hpp.
#pragma once

#include <rwkv/io/deep_embed.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/pack_panels.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

RWKV_FUNCTION void add_deep_residual(const Checkpoint& c, const Dimensions& d,
                                     const NormWeights& ln0, std::size_t layer,
                                     std::span<float> table, ExecutorRef exec) {
  const std::string name = "blocks." + std::to_string(layer) + ".ffn.s_emb_x.weight";
  const std::size_t width = d.deep_rank * d.deep_rank;
  const Tensor& stored = c.get(name);
  check_shape(c, name, stored, {width, d.embed});
  const std::vector<float> matrix = stored.values<float>();
  const std::vector<float> rows = c.get("emb.weight").values<float>();
  std::vector<float> packed(kernels::panel_elements(width, d.embed));
  const Range panels{0, kernels::panels_for(width)};
  kernels::pack_panels<float>(reinterpret_cast<const std::byte*>(matrix.data()), d.embed, 1, width,
                              d.embed, panels, packed.data());
  const AnyMatrix product{DType::f32, packed.data(), width, d.embed, kernels::Inputs::exact};
  constexpr std::size_t at_once = 64;
  exec.parallel((d.vocab + at_once - 1) / at_once, [&](std::size_t part) {
    const std::size_t first = part * at_once;
    const std::size_t count = (std::min)(at_once, d.vocab - first);
    std::vector<float> x(rows.data() + first * d.embed, rows.data() + (first + count) * d.embed);
    std::vector<float> y(count * width);
    for (float* row = x.data(); ln0.weight != nullptr && row < x.data() + x.size(); row += d.embed)
      kernels::normalise<simd::Chosen>(row, ln0.weight, ln0.bias, ln0.epsilon, row, d.embed);
    kernels::multiply<simd::Chosen>(product, panels, kernels::ProductInputs{x.data(), d.embed},
                                    count, y.data(), width);
    kernels::add<simd::Chosen>(y.data(), table.data() + first * width, y.size());
  });
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
