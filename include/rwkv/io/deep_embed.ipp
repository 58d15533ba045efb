// SPDX-License-Identifier: Apache-2.0
// The definitions of io/deep_embed.hpp.
#pragma once

#include <rwkv/io/deep_embed.hpp>
#include <rwkv/kernels/chosen.hpp>
#include <rwkv/kernels/pack_panels.hpp>

namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA {

namespace detail {

/// Rows of a matrix: all of a large table, decoded for every layer, would take memory and time.
[[nodiscard]] inline std::vector<float> rows_of(const Tensor& t, std::size_t first,
                                                std::size_t count) {
  Tensor part = t;
  part.shape[0] = count;
  if (t.contiguous()) {
    part.bytes = t.bytes.subspan(bytes_of(t.dtype, first * t.shape[1]));
    return part.values<float>();
  }
  std::vector<float> out(part.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] =
        t.at_offset<float>((first + i / t.shape[1]) * t.stride[0] + i % t.shape[1] * t.stride[1]);
  return out;
}

}  // namespace detail

RWKV_FUNCTION const Tensor& deep_residual_of(const Checkpoint& c, const Dimensions& d,
                                             std::size_t layer) {
  const std::string name = "blocks." + std::to_string(layer) + ".ffn.s_emb_x.weight";
  const Tensor& stored = c.get(name);
  check_shape(c, name, stored, {d.deep_rank * d.deep_rank, d.embed});
  if (!is_float(stored.dtype) && !is_block(stored.dtype))
    fail_with(ErrorCategory::unsupported, c.source, ": tensor ", name, " has elements of type ",
              std::string(name_of(stored.dtype)));
  return stored;
}

RWKV_FUNCTION void refuse_changed_residual(const Checkpoint& c, const Dimensions& d,
                                           const WeightChanges* changes) {
  if (changes == nullptr) return;
  const auto check = [&](const std::string& name) {
    if (changes->touches(name))
      fail_with(ErrorCategory::unsupported, c.source, ": an adapter changes ", name,
                ", of which the tables of DeepEmbed are made: convert the model without it first");
  };
  check("emb.weight");
  for (std::size_t i = 0; i < d.layers; ++i)
    check("blocks." + std::to_string(i) + ".ffn.s_emb_x.weight");
}

RWKV_FUNCTION void add_deep_residual(const Checkpoint& c, const Dimensions& d,
                                     const NormWeights& ln0, std::size_t layer,
                                     std::span<float> table, ExecutorRef exec,
                                     const std::function<void()>& between) {
  const std::size_t width = d.deep_rank * d.deep_rank;
  const Tensor& stored = deep_residual_of(c, d, layer);
  const Tensor& emb = c.get("emb.weight");
  std::vector<float> packed(kernels::panel_elements(width, d.embed));
  const Range panels{0, kernels::panels_for(width)};
  {
    const std::vector<float> matrix = stored.values<float>();
    kernels::pack_panels<float>(reinterpret_cast<const std::byte*>(matrix.data()), d.embed, 1,
                                width, d.embed, panels, packed.data());
  }
  const AnyMatrix product{DType::f32, packed.data(), width, d.embed, kernels::Inputs::exact};
  constexpr std::size_t at_once = 64, round = 64 * at_once;
  for (std::size_t begin = 0; begin < d.vocab; begin += round) {
    const std::size_t end = begin + (std::min)(round, d.vocab - begin);
    exec.parallel((end - begin + at_once - 1) / at_once, [&](std::size_t part) {
      const std::size_t first = begin + part * at_once;
      const std::size_t count = (std::min)(at_once, end - first);
      std::vector<float> x = detail::rows_of(emb, first, count), y(count * width);
      for (float* row = x.data(); ln0.weight != nullptr && row < x.data() + x.size();
           row += d.embed)
        kernels::normalise<simd::Chosen>(row, ln0.weight, ln0.bias, ln0.epsilon, row, d.embed);
      kernels::multiply<simd::Chosen>(product, panels, kernels::ProductInputs{x.data(), d.embed},
                                      count, y.data(), width);
      kernels::add<simd::Chosen>(y.data(), table.data() + first * width, y.size());
    });
    if (between) between();
  }
  if (c.release) c.release(stored.bytes);
}

}  // namespace rwkv::inline RWKV_ABI::io::inline RWKV_ISA
