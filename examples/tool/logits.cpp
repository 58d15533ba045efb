// SPDX-License-Identifier: Apache-2.0
#include "common.hpp"
#include <rwkv/io/npy.hpp>

#include <algorithm>
#include <map>

namespace tool {

namespace {

/// The positions in the order the user wants them.
std::vector<std::size_t> parse_positions(const std::string& text, std::size_t tokens) {
  std::vector<std::size_t> positions;
  if (text == "all") {
    for (std::size_t p = 0; p < tokens; ++p) positions.push_back(p);
  } else if (text == "last") {
    positions.push_back(tokens - 1);
  } else {
    std::string spaced = text;
    std::replace(spaced.begin(), spaced.end(), ',', ' ');
    for (const rwkv::Token p : parse_tokens(spaced, "--positions")) {
      if (p >= tokens)
        rwkv::fail_with(rwkv::ErrorCategory::argument, "--positions: ", p, " is past the ", tokens,
                        " tokens");
      positions.push_back(p);
    }
  }
  return positions;
}

}  // namespace

void run(const LogitsOptions& options) {
  constexpr std::size_t rows = 256;
  rwkv::ThreadPool pool(options.threads);
  const auto model = load(rwkv::io::read_checkpoint(options.model), pool);
  const auto tokens = parse_tokens(read_all(options.tokens), options.tokens);
  if (tokens.empty()) rwkv::fail_with(rwkv::ErrorCategory::argument, options.tokens, ": no tokens");
  const auto positions = parse_positions(options.positions, tokens.size());
  const std::size_t vocab = model.shape().vocab();

  rwkv::State state(model.shape());
  if (!options.state_in.empty()) state = model.load_state(options.state_in);
  rwkv::Workspace work(model.shape(), std::min(rows, options.chunk == 0 ? rows : options.chunk));
  rwkv::io::NpyWriter out(options.out, positions.size(), vocab);

  // All positions stream to the file in order; a selection is kept until its place in the file has
  // come.
  const bool all = options.positions == "all";
  std::vector<std::size_t> wanted = positions;
  std::sort(wanted.begin(), wanted.end());
  std::map<std::size_t, std::vector<float>> kept;
  std::vector<float> logits;
  Progress progress("tokens");
  for (std::size_t done = 0; done < tokens.size();) {
    std::size_t n = std::min(options.chunk == 0 ? rows : options.chunk, tokens.size() - done);
    auto which = rwkv::Logits::none;
    if (all) {
      which = rwkv::Logits::all;
    } else if (const auto next = std::lower_bound(wanted.begin(), wanted.end(), done);
               next != wanted.end() && *next < done + n) {
      n = *next - done + 1;  // cut behind the position: its logits are the last ones
      which = rwkv::Logits::last;
    }
    logits.resize(which == rwkv::Logits::all ? n * vocab : which == rwkv::Logits::last ? vocab : 0);
    const rwkv::Slot<> slot{&state, std::span(tokens).subspan(done, n)};
    model.forward(std::span(&slot, 1), which, logits, work, pool);
    done += n;
    if (which == rwkv::Logits::all) out.append(logits);
    if (which == rwkv::Logits::last) kept[done - 1] = logits;
    progress(static_cast<double>(done) / static_cast<double>(tokens.size()));
  }
  if (!all)
    for (const std::size_t p : positions) out.append(kept[p]);
  out.commit();
  if (!options.state_out.empty()) model.save_state(options.state_out, state);
}

}  // namespace tool
