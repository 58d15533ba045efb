// SPDX-License-Identifier: Apache-2.0
// A program of micro-steps becomes the weights of an RWKV-7 model of one layer and one head, with
// extended eigenvalues. Nothing is trained, and nothing of the model is special.
//
// A token's embedding is an instruction: the signs of kappa_hat, a code for its kind, and
// constants. Every instruction is a vector of small integers with sum 0 and the same sum of
// squares, chosen such that layer norm divides by a power of two: the norms are exact, and so is
// all that follows.
//
//   channel                       content of an instruction
//   0 ... states-1, then u and v  its key; the keys of the recurrence are these channels
//   one                           -1
//   code, three channels          kind (see `Instruction`)
//   begin, one per row            -1 if the token begins this row
//   two channels of +2, -2        where log2 C is even: the sum of squares must be C 4^j, and is 16
//                                 with them, 8 without
//   read, one per row             0; the time mix adds what it reads from row i of the state
#pragma once

#include <rwkv/automata/factor.hpp>
#include <rwkv/io/checkpoint.hpp>
#include <rwkv/kernels/norm.hpp>

#include <bit>
#include <map>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA::detail {

/// By how much the label's logit leads all others, up to a factor of at least 0.94.
inline constexpr double margin = 16;

/// How a label is read off the recurrence: its logit is weights . x + constant, up to that factor,
/// x_i being the group norm of what row i of the state yields.
struct LabelReader {
  std::vector<double> weights;  // one per row
  double constant;
};

/// What is to be compiled. Tokens: the labels, then the begins of the rows, then the steps.
struct Program {
  std::size_t states;               // channels that carry states of the automaton
  std::vector<std::size_t> begins;  // the state in which row i of the matrix begins
  std::vector<MicroStep> steps;
  std::vector<float> receptance;  // by state; row i yields the number of the state it is in
  std::vector<LabelReader> labels;
};

/// The largest width; wider models would be possible, but 20 C^2 bytes of weights are read per
/// step.
inline constexpr std::size_t largest_width = 512;

/// Where everything is.
struct ChannelMap {
  std::size_t states, rows;
  std::size_t width;  // C = N

  [[nodiscard]] static constexpr std::size_t filling_of(std::size_t c) noexcept {
    return std::countr_zero(c) % 2 == 0 ? 2 : 0;
  }
  /// Channels beside those of the states.
  [[nodiscard]] static constexpr std::size_t overhead(std::size_t row_count,
                                                      std::size_t c) noexcept {
    return 6 + 2 * row_count + filling_of(c);
  }

  ChannelMap(std::size_t state_count, std::size_t row_count)
      : states(state_count), rows(row_count), width(16) {
    const std::size_t most = largest_width - overhead(rows, largest_width);
    if (states > most)
      fail_with(ErrorCategory::argument, "an automaton of ", states,
                " states is too large to compile; ", most, " fit");
    while (width < states + overhead(rows, width)) width *= 2;
  }

  [[nodiscard]] std::size_t u() const noexcept { return states; }
  [[nodiscard]] std::size_t v() const noexcept { return states + 1; }
  [[nodiscard]] std::size_t keys() const noexcept { return states + 2; }
  [[nodiscard]] std::size_t one() const noexcept { return states + 2; }
  [[nodiscard]] std::size_t code() const noexcept { return states + 3; }
  [[nodiscard]] std::size_t begin(std::size_t row) const noexcept { return states + 6 + row; }
  [[nodiscard]] std::size_t filling() const noexcept { return begin(rows); }
  [[nodiscard]] std::size_t read(std::size_t row) const noexcept {
    return filling() + filling_of(width) + row;
  }
  /// sqrt(C / sum of squares of an instruction), a power of two
  [[nodiscard]] float root() const noexcept {
    return static_cast<float>(std::size_t{1} << (std::countr_zero(width) - 3) / 2);
  }
};

/// Keys and code of the kinds of instructions. In every row: key + code - 1 (channel `one`)
/// [- 1 (channel `begin`)] = 0, and the squares add up to 8.
struct Instruction {
  std::array<int, 4> key;
  std::array<int, 3> code;
};
namespace instructions {
inline constexpr Instruction reflect{{1, -1, 1, -1}, {1, 1, -1}};
inline constexpr Instruction average{{1, -1, 1, -1}, {1, -1, 1}};
inline constexpr Instruction grow{{1, 1, -1, 1}, {1, -1, -1}};
inline constexpr Instruction erase{{2, 0, 0, 0}, {-1, 1, -1}};
inline constexpr Instruction begin{{2, 0, 0, 0}, {1, -1, 0}};
// Acts on u, which is empty.
inline constexpr Instruction nothing{{2, 0, 0, 0}, {1, -1, -1}};
}  // namespace instructions

// a = 2 sigmoid(...) as linear functions of the code, for states and for u, v. +-40 saturates:
// sigmoid(40) = 1 and sigmoid(-40) = 4e-18, which vanishes when added to the 1/2 it meets.
//                    reflect  average  grow  erase
//   on states           40       40    -40     0
//   on u and v          40      -40     40     .
inline constexpr float rate_of_states = 20;
inline constexpr std::array<float, 3> rate_of_states_by_code{20, 40, 40};
inline constexpr std::array<float, 3> rate_of_spare_by_code{0, 0, -40};

/// The residual stream carries instructions this many times larger, which makes layer norm's
/// epsilon vanish beside the variance.
inline constexpr float amplitude = 1024;

[[nodiscard]] constexpr const Instruction& instruction_of(MicroStep::Kind kind) noexcept {
  switch (kind) {
    case MicroStep::Kind::reflect:
      return instructions::reflect;
    case MicroStep::Kind::average:
      return instructions::average;
    case MicroStep::Kind::grow:
      return instructions::grow;
    default:
      return instructions::erase;
  }
}

/// Owns the tensors it adds to a checkpoint.
class CheckpointBuilder {
 public:
  explicit CheckpointBuilder(std::string source) {
    checkpoint_.source = std::move(source);
    checkpoint_.format = "automaton";
  }

  /// A tensor of equal values, to be written through the result.
  std::vector<float>& add(const std::string& name, std::vector<std::size_t> shape,
                          float value = 0) {
    io::Tensor tensor;
    tensor.shape = std::move(shape);
    tensor.stride = io::c_order(tensor.shape);
    auto values = std::make_shared<std::vector<float>>(tensor.size(), value);
    tensor.bytes = std::as_bytes(std::span(*values));
    checkpoint_.storage.push_back(values);
    checkpoint_.tensors.insert_or_assign(name, std::move(tensor));
    return *values;
  }

  void add_norm(const std::string& name, std::size_t n, float weight) {
    add(name + ".weight", {n}, weight);
    add(name + ".bias", {n});
  }

  [[nodiscard]] io::Checkpoint take() { return std::move(checkpoint_); }

 private:
  io::Checkpoint checkpoint_;
};

/// emb.weight, row by row.
inline void write_instructions(const Program& program, const ChannelMap& map,
                               std::vector<float>& table) {
  std::size_t token = 0;
  const auto write = [&](const Instruction& kind, std::span<const std::size_t> channels) {
    float* const row = table.data() + token++ * map.width;
    for (std::size_t i = 0; i < 4; ++i)
      row[channels[i]] += amplitude * static_cast<float>(kind.key[i]);
    for (std::size_t i = 0; i < 3; ++i)
      row[map.code() + i] = amplitude * static_cast<float>(kind.code[i]);
    row[map.one()] = -amplitude;
    if (ChannelMap::filling_of(map.width) > 0) {
      row[map.filling()] = 2 * amplitude;
      row[map.filling() + 1] = -2 * amplitude;
    }
    return row;
  };
  const auto only = [](std::size_t c) { return std::array{c, c, c, c}; };
  for (std::size_t i = 0; i < program.labels.size(); ++i)
    write(instructions::nothing, only(map.u()));
  for (std::size_t i = 0; i < program.begins.size(); ++i)
    write(instructions::begin, only(program.begins[i]))[map.begin(i)] = -amplitude;
  for (const MicroStep& step : program.steps) write(instruction_of(step.kind), step.channels);
}

inline void write_time_mix(const Program& program, const ChannelMap& map,
                           CheckpointBuilder& tensors) {
  const std::size_t c = map.width;
  const std::string att = "blocks.0.att.";
  for (const char* mu : {"x_r", "x_w", "x_k", "x_v", "x_a", "x_g"})
    tensors.add(att + mu, {1, 1, c});

  // w = exp(-exp(-1/2) sigmoid(-40)) = 1, g = 2 sigmoid(0) = 1
  tensors.add(att + "w0", {1, 1, c}, -40);
  tensors.add(att + "w1", {c, 1});
  tensors.add(att + "w2", {1, c});
  tensors.add(att + "g1", {c, 1});
  tensors.add(att + "g2", {1, c}, 2);

  auto& a0 = tensors.add(att + "a0", {1, 1, c});
  auto& a1 = tensors.add(att + "a1", {c, 2});
  auto& a2 = tensors.add(att + "a2", {2, c});
  for (std::size_t i = 0; i < 3; ++i) {
    a1[(map.code() + i) * 2] = rate_of_states_by_code[i];
    a1[(map.code() + i) * 2 + 1] = rate_of_spare_by_code[i];
  }
  for (std::size_t q = 0; q < map.states; ++q) a0[q] = rate_of_states, a2[q] = 1;
  a2[c + map.u()] = a2[c + map.v()] = 1;

  tensors.add(att + "k_k", {1, 1, c}, 1);
  tensors.add(att + "k_a", {1, 1, c});
  tensors.add(att + "r_k", {1, c});
  auto& receptance = tensors.add(att + "receptance.weight", {c, c});
  auto& key = tensors.add(att + "key.weight", {c, c});
  auto& value = tensors.add(att + "value.weight", {c, c});
  auto& output = tensors.add(att + "output.weight", {c, c});
  for (std::size_t q = 0; q < map.states; ++q)
    receptance[q * c + map.one()] = -program.receptance[q];
  for (std::size_t i = 0; i < map.keys(); ++i) key[i * c + i] = 1;
  for (std::size_t i = 0; i < map.rows; ++i) {
    value[i * c + map.begin(i)] = -0.5f;  // k = 2 at the state where row i begins, v = 1/2
    output[map.read(i) * c + i] = amplitude;
  }
  tensors.add_norm(att + "ln_x", c, 1);
}

/// head.weight. What a reader asks for is said in terms of the read channels; ln_out subtracts the
/// mean, which they change, so that sum / C has to be given back.
inline void write_head(const Program& program, const ChannelMap& map, std::vector<float>& head) {
  const auto width = static_cast<double>(map.width);
  const auto rows = static_cast<double>(map.rows);
  const auto write = [&](std::size_t token, const LabelReader& reader) {
    double wanted = -reader.constant;  // channel `one` is -1
    for (const double weight : reader.weights) wanted += weight;
    const double sum = wanted / (1 - rows / width);
    float* const row = head.data() + token * map.width;
    for (std::size_t i = 0; i < map.rows; ++i)
      row[map.read(i)] = static_cast<float>(reader.weights[i] + sum / width);
    row[map.one()] = static_cast<float>(-reader.constant);
  };
  const LabelReader never{std::vector<double>(map.rows, 0.0), -margin};
  const std::size_t labels = program.labels.size();
  for (std::size_t i = 0; i < labels; ++i) write(i, program.labels[i]);
  for (std::size_t i = labels; i < head.size() / map.width; ++i) write(i, never);
}

/// A checkpoint with official tensor names.
[[nodiscard]] inline io::Checkpoint assemble(const Program& program, const ChannelMap& map,
                                             std::string source) {
  const std::size_t c = map.width;
  const std::size_t vocab = program.labels.size() + program.begins.size() + program.steps.size();
  CheckpointBuilder tensors(std::move(source));
  write_instructions(program, map, tensors.add("emb.weight", {vocab, c}));
  tensors.add_norm("blocks.0.ln0", c, amplitude / map.root());
  tensors.add_norm("blocks.0.ln1", c, 1 / map.root());
  write_time_mix(program, map, tensors);
  tensors.add_norm("blocks.0.ln2", c, 1);
  tensors.add("blocks.0.ffn.x_k", {1, 1, c});
  tensors.add("blocks.0.ffn.key.weight", {1, c});
  tensors.add("blocks.0.ffn.value.weight", {c, 1});
  tensors.add_norm("ln_out", c, 1);
  write_head(program, map, tensors.add("head.weight", {vocab, c}));
  io::Checkpoint checkpoint = tensors.take();
  checkpoint.metadata.emplace("rwkv.eigenvalues", "extended");
  return checkpoint;
}

/// Collects the micro-steps of all symbols; each different one becomes one token.
class Speller {
 public:
  Speller(const ChannelMap& map, std::size_t first_token) : map_(map), first_token_(first_token) {}

  /// The tokens that take the content of every state x to f(x); at least one.
  [[nodiscard]] std::vector<Token> spell(std::span<const std::size_t> f) {
    std::vector<Token> tokens;
    for (const Move& move : factor(f))
      for (const MicroStep& step : micro_steps(move, map_.u(), map_.v())) {
        const auto [found, added] = numbers_.emplace(step, steps_.size());
        if (added) steps_.push_back(step);
        tokens.push_back(static_cast<Token>(first_token_ + found->second));
      }
    if (tokens.empty()) tokens.push_back(0);  // a label: changes nothing
    return tokens;
  }

  [[nodiscard]] std::vector<MicroStep> take() { return std::move(steps_); }

 private:
  ChannelMap map_;
  std::size_t first_token_;
  std::map<MicroStep, std::size_t> numbers_;
  std::vector<MicroStep> steps_;
};

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA::detail
