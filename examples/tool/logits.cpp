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
    if (positions.empty())
      rwkv::fail_with(rwkv::ErrorCategory::argument, "--positions: \"", text, "\" names none");
  }
  return positions;
}

constexpr std::size_t most_rows = 256;

/// "seq:40,one:100": one call of 40 tokens, then 100 calls of one, `tokens` in all.
std::vector<std::size_t> parse_calls(const std::string& text, std::size_t tokens) {
  std::vector<std::size_t> calls;
  std::size_t total = 0;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    std::size_t count = 0;
    const bool known = word.starts_with("seq:") || word.starts_with("one:");
    const char* const last = word.data() + word.size();
    if (!known || std::from_chars(word.data() + 4, last, count).ptr != last || count == 0 ||
        count > tokens - total)
      rwkv::fail_with(rwkv::ErrorCategory::argument, "--calls: \"", word.substr(0, 40),
                      "\" is neither seq:N nor one:N with at most the ", tokens - total,
                      " tokens that are left");
    if (word.starts_with("seq:"))
      calls.push_back(count);
    else
      calls.insert(calls.end(), count, 1);
    total += count;
    at = end + 1;
  }
  if (total != tokens)
    rwkv::fail_with(rwkv::ErrorCategory::argument, "--calls: ", total, " tokens of ", tokens);
  return calls;
}

/// How the tokens are fed. `fixed` calls are part of what is computed and are not cut.
struct Calls {
  std::vector<std::size_t> lengths;
  bool fixed;
  [[nodiscard]] std::size_t longest() const {
    return *std::max_element(lengths.begin(), lengths.end());
  }
};

Calls calls_for(const LogitsOptions& options, std::size_t tokens, bool fixed) {
  if (!options.calls.empty()) return {parse_calls(options.calls, tokens), fixed};
  const std::size_t chunk = options.chunk != 0 ? options.chunk : fixed ? tokens : most_rows;
  Calls calls{{}, fixed};
  for (std::size_t done = 0; done < tokens; done += chunk)
    calls.lengths.push_back(std::min(chunk, tokens - done));
  return calls;
}

template <class Model, class State, class Work>
void write_logits(const LogitsOptions& options, const Model& model, State& state, Work& work,
                  rwkv::ThreadPool& pool, std::span<const rwkv::Token> tokens,
                  const std::vector<std::size_t>& positions, const Calls& calls) {
  const std::size_t vocab = model.shape().vocab();
  rwkv::io::NpyWriter out(options.out, positions.size(), vocab);

  // All positions stream to the file in order; a selection is kept until its place in the file has
  // come.
  const bool all = options.positions == "all";
  std::vector<std::size_t> wanted = positions;
  std::sort(wanted.begin(), wanted.end());
  wanted.erase(std::unique(wanted.begin(), wanted.end()), wanted.end());
  std::map<std::size_t, std::vector<float>> kept;
  std::vector<float> logits;
  Progress progress("tokens");
  std::size_t done = 0;
  for (std::size_t left : calls.lengths)
    while (left > 0) {
      std::size_t n = left;
      auto which = rwkv::Logits::none;
      const auto next = std::lower_bound(wanted.begin(), wanted.end(), done);
      const bool asked = next != wanted.end() && *next < done + n;
      if (all || (asked && calls.fixed)) {
        which = rwkv::Logits::all;
      } else if (asked) {
        n = *next - done + 1;  // cut behind the position: its logits are the last ones
        which = rwkv::Logits::last;
      }
      logits.resize(which == rwkv::Logits::all    ? n * vocab
                    : which == rwkv::Logits::last ? vocab
                                                  : 0);
      const auto slot = slot_of(state, tokens.subspan(done, n));
      model.forward(std::span(&slot, 1), which, logits, work, pool);
      if (all) {
        out.append(logits);
      } else if (which == rwkv::Logits::last) {
        kept[*next] = logits;
      } else if (which == rwkv::Logits::all) {
        for (auto it = next; it != wanted.end() && *it < done + n; ++it) {
          const auto row = std::span(logits).subspan((*it - done) * vocab, vocab);
          kept[*it].assign(row.begin(), row.end());
        }
      }
      done += n;
      left -= n;
      progress(static_cast<double>(done) / static_cast<double>(tokens.size()));
    }
  if (!all)
    for (const std::size_t p : positions) out.append(kept[p]);
  out.commit();
}

}  // namespace

void run(const LogitsOptions& options) {
  require_apart({{"--out", options.out}, {"--state-out", options.state_out}});
  check_writable(options.state_out);
  rwkv::ThreadPool pool(options.threads);
  const auto checkpoint = rwkv::io::read_checkpoint(options.model);
  require_not_over({"--out", options.out}, {{"the model", options.model},
                                            {"the model", checkpoint.source},
                                            {"--tokens", options.tokens},
                                            {"--state-in", options.state_in}});
  require_not_over({"--state-out", options.state_out}, {{"the model", options.model},
                                                        {"the model", checkpoint.source},
                                                        {"--tokens", options.tokens}});
  with_model(checkpoint, options.hybrid, pool, load_options(options), options.device,
             [&](const auto& model, auto state, const auto& make_workspace) {
               const auto tokens = parse_tokens(read_all(options.tokens), options.tokens);
               if (tokens.empty())
                 rwkv::fail_with(rwkv::ErrorCategory::argument, options.tokens, ": no tokens");
               const auto positions = parse_positions(options.positions, tokens.size());
               bool fixed = false;
               if constexpr (requires { model.hybrid(); })  // none on a device
                 fixed = model.hybrid() != nullptr &&
                         model.hybrid()->config().semantics == rwkv::HybridSemantics::package;
               const Calls calls = calls_for(options, tokens.size(), fixed);
               if (!options.state_in.empty())
                 state = model.load_state(options.state_in, state_options(options.state_layout));
               auto work = make_workspace(std::min(most_rows, calls.longest()), calls.longest());
               write_logits(options, model, state, work, pool, std::span(tokens), positions, calls);
               if (!options.state_out.empty()) model.save_state(options.state_out, state);
             });
}

}  // namespace tool
