// SPDX-License-Identifier: Apache-2.0
// The definitions of train/lora.hpp.
#pragma once

#include <rwkv/core/parse.hpp>
#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/train/algebra.hpp>
#include <rwkv/train/lora.hpp>
#include <rwkv/train/random.hpp>
#include <rwkv/train/read_tensor.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA {

RWKV_FUNCTION Lora::Lora(const Layout& layout, const Options& options, std::uint64_t seed)
    : options_(options), layout_(layout) {
  if (options.rank == 0) fail_with(ErrorCategory::argument, "the rank of a low-rank adapter is 0");
  if (!std::isfinite(options.alpha) || options.alpha <= 0)
    fail_with(ErrorCategory::argument, "alpha of a low-rank adapter is ", options.alpha,
              ", not a number above 0");
  constexpr std::size_t grain = alignment / sizeof(float);
  std::size_t size = 0;
  const auto take = [&size](std::size_t n) {
    const std::size_t at = size;
    size += (n + grain - 1) / grain * grain;
    return at;
  };
  for (const TensorInfo& t : layout.tensors())
    if (t.is_adapted()) {
      if (options.rank > (std::min)(t.shape[0], t.shape[1]))
        fail_with(ErrorCategory::argument, "the rank of a low-rank adapter is ", options.rank, ": ",
                  t.name, " of ", t.shape[0], " x ", t.shape[1], " has none as high");
      const std::size_t a = take(options.rank * t.shape[1]);
      adapters_.push_back({t, a, take(options.rank * t.shape[0])});
    }
  values_ = Buffer<float, dynamic>(size);
  Random random(seed);
  for (const Adapter& x : adapters_) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(x.in()));
    for (std::size_t i = 0; i < options.rank * x.in(); ++i)
      values_.data()[x.a + i] = static_cast<float>(bound * (2.0 * random.uniform() - 1.0));
  }
}

RWKV_FUNCTION void Lora::merge(const Parameters& base, Parameters& merged) const {
  detail::require_layout(base, layout_, "the parameters");
  detail::require_layout(merged, layout_, "the merged parameters");
  for (const Adapter& x : adapters_) {
    const float* w = base.values(x.base).data();
    float* out = merged.values(x.base).data();
    multiply(values_.data() + x.b, values_.data() + x.a, out, x.out(), options_.rank, x.in());
    const float scale = options_.alpha / static_cast<float>(options_.rank);
    kernels::map<Lanes>({0, x.base.size}, [=]<class V>(std::size_t i) {
      fma(V::load(out + i), V::broadcast(scale), V::load(w + i)).store(out + i);
    });
  }
}

RWKV_FUNCTION void Lora::gradient(const Parameters& merged_gradient, std::span<float> out) const {
  detail::require_layout(merged_gradient, layout_, "the gradients");
  if (out.size() != values_.size())
    fail_with(ErrorCategory::argument, "room for ", out.size(), " numbers of ", values_.size());
  const float scale = options_.alpha / static_cast<float>(options_.rank);
  for (const Adapter& x : adapters_) {
    const float* dw = merged_gradient.values(x.base).data();
    float *da = out.data() + x.a, *db = out.data() + x.b;
    std::fill_n(da, options_.rank * x.in(), 0.0f);
    add_outer(values_.data() + x.b, dw, da, x.out(), options_.rank, x.in());
    multiply_transposed(dw, values_.data() + x.a, db, x.out(), x.in(), options_.rank);
    for (std::size_t i = 0; i < options_.rank * x.in(); ++i) da[i] *= scale;
    for (std::size_t i = 0; i < options_.rank * x.out(); ++i) db[i] *= scale;
  }
}

RWKV_FUNCTION void Lora::write(const std::filesystem::path& path) const {
  std::vector<io::NamedTensor> tensors;
  for (const Adapter& x : adapters_) {
    tensors.push_back(io::named_tensor<float>(x.name() + ".lora_A", {options_.rank, x.in()},
                                              values().subspan(x.a, options_.rank * x.in())));
    tensors.push_back(io::named_tensor<float>(x.name() + ".lora_B", {x.out(), options_.rank},
                                              values().subspan(x.b, options_.rank * x.out())));
  }
  char alpha[32];  // the shortest text that means it
  const char* const end = std::to_chars(alpha, alpha + sizeof alpha, options_.alpha).ptr;
  io::write_safetensors(path, tensors,
                        {{"rwkv.kind", "lora"},
                         {"rwkv.lora_rank", std::to_string(options_.rank)},
                         {"rwkv.lora_alpha", std::string(static_cast<const char*>(alpha), end)}});
}

RWKV_FUNCTION Lora Lora::read(const io::Checkpoint& c, const Layout& layout) {
  const auto number = [&c]<class T>(const char* key, T) {
    const auto it = c.metadata.find(key);
    const auto value = it == c.metadata.end() ? std::nullopt : internal::parse<T>(it->second);
    if (!value || !(*value > 0) || *value > (std::numeric_limits<T>::max)())
      fail_with(ErrorCategory::format, c.source, ": the metadata ", key,
                " is missing or not a positive number");
    return *value;
  };
  const Options options{number("rwkv.lora_rank", std::size_t{}), number("rwkv.lora_alpha", 0.0f)};
  for (const TensorInfo& t : layout.tensors()) {  // before memory for such a rank is asked for
    if (!t.is_adapted()) continue;
    const std::string name = Adapter{t}.name() + ".lora_A";
    const io::Tensor& a = c.get(name);
    if (a.shape.empty() || a.shape[0] != options.rank)
      fail_with(ErrorCategory::shape, c.source, ": tensor ", name, " has shape ",
                io::to_string(a.shape), " where the metadata say rank ", options.rank);
  }
  Lora lora(layout, options, 0);
  const std::size_t rank = lora.options_.rank;
  for (const Adapter& x : lora.adapters_) {
    detail::read_tensor(c, x.name() + ".lora_A", {rank, x.in()},
                        lora.values().subspan(x.a, rank * x.in()));
    detail::read_tensor(c, x.name() + ".lora_B", {x.out(), rank},
                        lora.values().subspan(x.b, rank * x.out()));
  }
  return lora;
}

}  // namespace rwkv::inline RWKV_ABI::train::inline RWKV_ISA
