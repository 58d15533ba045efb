// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/io/state_tensors.hpp>
#include <rwkv/train/model_file.hpp>
#include <rwkv/train/objective.hpp>

namespace tool {

namespace {

namespace io = rwkv::io;
namespace train = rwkv::train;

/// The tokens as one sample per row.
std::vector<train::Sample> cut_rows(std::span<const rwkv::Token> tokens, const Gradients& o,
                                    const rwkv::State<>& initial) {
  const std::size_t length = tokens.size() / o.rows;
  if (tokens.size() % o.rows != 0 || length < 2)
    rwkv::fail_with(rwkv::ErrorCategory::argument, o.tokens, ": ", tokens.size(),
                    " tokens are not ", o.rows, " rows of equal length and at least two tokens");
  std::vector<train::Sample> samples(o.rows);
  for (std::size_t row = 0; row < o.rows; ++row) {
    samples[row].tokens = tokens.subspan(row * length, length);
    samples[row].initial = &initial;
  }
  return samples;
}

/// A state as three tensors, each stacked over the layers.
struct StackedState {
  std::vector<float> att_x_prev;  // [L, C]
  std::vector<float> wkv;         // [L, H, N value, N key]
  std::vector<float> ffn_x_prev;  // [L, C]

  explicit StackedState(const rwkv::State<>& state) {
    const rwkv::DynamicShape& shape = state.shape();
    std::vector<float> heads(shape.embed() * shape.head_size());
    for (std::size_t i = 0; i < shape.layers(); ++i) {
      const auto append = [](std::vector<float>& to, std::span<const float> part) {
        to.insert(to.end(), part.begin(), part.end());
      };
      io::detail::transpose_heads(state.wkv(i), heads, shape.heads(), shape.head_size());
      append(att_x_prev, state.att_x_prev(i));
      append(wkv, heads);
      append(ffn_x_prev, state.ffn_x_prev(i));
    }
  }
};

void write(const std::string& path, double loss, const train::Parameters& gradient,
           const rwkv::State<>& state_gradient) {
  const auto loss32 = static_cast<float>(loss);
  const StackedState stacked(state_gradient);
  const rwkv::DynamicShape& s = gradient.shape();
  std::vector<io::NamedTensor> tensors;
  const auto add = [&](const std::string& name, std::vector<std::size_t> shape,
                       std::span<const float> values) {
    tensors.push_back(io::named_tensor(name, std::move(shape), values));
  };
  add("loss", {1}, std::span(&loss32, 1));
  for (const train::TensorInfo& t : gradient.layout().tensors())
    add("grad." + t.name, t.shape, gradient.values(t));
  add("grad_state0.att_x_prev", {s.layers(), s.embed()}, stacked.att_x_prev);
  add("grad_state0.wkv", {s.layers(), s.heads(), s.head_size(), s.head_size()}, stacked.wkv);
  add("grad_state0.ffn_x_prev", {s.layers(), s.embed()}, stacked.ffn_x_prev);
  io::write_safetensors(path, tensors);
}

}  // namespace

void run(const Gradients& o) {
  check_writable(o.out);
  rwkv::ThreadPool pool(o.threads);
  const io::Checkpoint checkpoint =
      with_adapters(io::read_checkpoint(o.model), read_adapters(o.adapters));
  require_not_over({"--out", o.out}, {{"the model", o.model},
                                      {"the model", checkpoint.source},
                                      {"--tokens", o.tokens},
                                      {"--state-in", o.state_in}});
  const train::Parameters parameters = train::read_parameters(checkpoint);
  rwkv::State initial(parameters.shape());
  if (!o.state_in.empty())
    initial = io::read_state(o.state_in, parameters.shape(),
                             io::StoredWeights(checkpoint, {}, pool).fingerprint(),
                             state_options(o.state_layout));
  const std::vector<rwkv::Token> tokens = parse_tokens(read_all(o.tokens), o.tokens);
  const std::vector<train::Sample> samples = cut_rows(tokens, o, initial);

  train::Parameters gradient(parameters.shared_layout());
  rwkv::State state_gradient(parameters.shape());
  train::Objective objective(parameters.shared_layout(), {.l2wrap = o.l2wrap});
  const double loss = objective.gradient(
      parameters, samples, {.parameters = &gradient, .initial = &state_gradient}, pool);
  if (!std::isfinite(loss))
    rwkv::fail_with(rwkv::ErrorCategory::numeric, o.model, ": the loss is ", loss);
  write(o.out, loss, gradient, state_gradient);
}

}  // namespace tool
