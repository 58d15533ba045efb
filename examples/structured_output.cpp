// SPDX-License-Identifier: Apache-2.0
// Texts of a guaranteed form: one sequence by `generate`, then several in one batch, each with its
// own constraint and its own sampler.
//
//   structured_output MODEL
#include <rwkv/generate.hpp>
#include <rwkv/grammar.hpp>
#include <rwkv/model.hpp>

#include <iostream>

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "usage: structured_output MODEL\n";
    return 2;
  }
  const auto checkpoint = rwkv::io::read_checkpoint(argv[1]);
  const rwkv::Model<> model(checkpoint);
  const auto tokenizer = rwkv::Tokenizer::from_checkpoint(checkpoint);
  const rwkv::TokenTrie tokens(tokenizer);  // once for a vocabulary
  rwkv::Workspace work(model.shape(), 64);

  // By properties in their order, without white space: most of the text is forced, and read in
  // passes of many tokens.
  const auto person = rwkv::Grammar::from_json_schema(
      R"({"type": "object", "properties": {
            "name": {"type": "string", "pattern": "^[A-Z][a-z]{2,9}$"},
            "age": {"type": "integer", "minimum": 1, "maximum": 120},
            "mood": {"enum": ["happy", "sad", "angry"]}},
          "required": ["name", "age", "mood"], "additionalProperties": false})",
      rwkv::JsonOptions::compact());
  rwkv::State state(model.initial_state());
  rwkv::GenerateOptions options;
  options.constraint = person.constraint(tokens);
  options.sampler.seed = 1;
  const auto result = rwkv::generate(model, state, work, tokenizer, "The king's son: ", options);
  std::cout << result.text << '\n';

  // The same by hand for a batch.
  const char* const forms[] = {"The (old|young) (king|queen) [a-z ]{5,20}\\.",
                               "\"[A-Z][a-z]+, [a-z ]{3,12}[!?]\" said the (fox|wolf)\\."};
  constexpr std::size_t count = std::size(forms);
  std::vector<rwkv::State<>> states(count, model.initial_state());
  std::vector<rwkv::Constraint> constraints;
  for (const char* form : forms)
    constraints.push_back(rwkv::Grammar::from_regex(form).constraint(tokens));
  std::vector<rwkv::Sampler> samplers(count, rwkv::Sampler({.seed = 2}));
  std::vector<std::vector<rwkv::Token>> next(count, tokenizer.encode("\n"));
  std::vector<std::string> texts(count);
  rwkv::TokenMask mask;
  for (std::vector<std::size_t> open{0, 1}; !open.empty();) {
    std::vector<rwkv::Slot<>> slots;
    for (const std::size_t s : open) slots.push_back({&states[s], next[s]});
    const std::size_t vocab = model.shape().vocab();
    std::vector<float> logits(open.size() * vocab);
    model.forward(slots, rwkv::Logits::last, logits, work);
    std::vector<std::size_t> still_open;
    for (std::size_t row = 0; row < open.size(); ++row) {
      const std::size_t s = open[row];
      constraints[s].allowed(mask);
      if (mask.none()) continue;  // complete: nothing can follow
      const rwkv::Token token =
          samplers[s].sample(std::span(logits).subspan(row * vocab, vocab), mask);
      constraints[s].accept(token);
      texts[s] += tokenizer.token_bytes(token);
      next[s] = {token};
      still_open.push_back(s);
    }
    open = still_open;
  }
  for (const std::string& text : texts) std::cout << text << '\n';
} catch (const rwkv::Error& error) {
  std::cerr << "error: " << error.what() << '\n';
  return 1;
}
