// SPDX-License-Identifier: Apache-2.0
// The definitions of automata/permutations.hpp.
#pragma once

#include <rwkv/automata/permutations.hpp>
#include <rwkv/automata/weights.hpp>

#include <cmath>

namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA {

RWKV_FUNCTION io::Checkpoint compile_permutations(std::size_t n) {
  if (n < 2 || n > 7)
    fail_with(ErrorCategory::argument, "permutations of ", n, " points: from 2 to 7 are possible");
  const std::size_t order = factorial(n);
  const detail::ChannelMap map(n, n);
  Spelling spelling;
  spelling.output = Output::permutation;
  spelling.labels = order;
  for (std::size_t i = 0; i < n; ++i) spelling.begin.push_back(static_cast<Token>(order + i));
  detail::Speller speller(map, order + n);
  for (std::size_t g = 0; g < order; ++g)
    spelling.symbols.push_back(speller.spell(permutation(n, g)));

  // Point j has the code t_j, equidistant in [-1, 1]. Row i yields the code of p(i): the vector of
  // all of them is t permuted, whose mean 0 and length the group norm cannot change; what is left
  // of its scale is divided out beforehand.
  Permutation points(n);
  std::vector<double> code(n);
  double squares = 0;
  for (std::size_t j = 0; j < n; ++j) {
    points[j] = j;
    code[j] = 2 * static_cast<double>(j) / static_cast<double>(n - 1) - 1;
    squares += code[j] * code[j];
  }
  const double before_norm = std::sqrt(double{kernels::group_norm_epsilon} /
                                       (1 - squares / static_cast<double>(map.width)));
  detail::Program program{
      .states = n, .begins = points, .steps = speller.take(), .receptance = {}, .labels = {}};
  for (const double t : code) program.receptance.push_back(static_cast<float>(before_norm * t));
  // All permuted codes have one length: the largest inner product is that with the equal one.
  // Exchanging two neighbours costs (2 / (n - 1))^2.
  const double scale = detail::margin * static_cast<double>((n - 1) * (n - 1)) / 4;
  for (std::size_t g = 0; g < order; ++g) {
    detail::LabelReader reader{{}, 0};
    for (const std::size_t image : permutation(n, g)) reader.weights.push_back(scale * code[image]);
    program.labels.push_back(std::move(reader));
  }

  io::Checkpoint checkpoint =
      detail::assemble(program, map, "permutations of " + std::to_string(n) + " points");
  spelling.write(checkpoint.metadata);
  return checkpoint;
}

}  // namespace rwkv::inline RWKV_ABI::automata::inline RWKV_ISA
