// SPDX-License-Identifier: Apache-2.0
// Compiled models against the automata they were compiled from, on every prefix of long words.
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include "support/static_weights.hpp"
#include <rwkv/automata.hpp>
#include <rwkv/io/safetensors_writer.hpp>

#include <doctest/doctest.h>

namespace {

using namespace rwkv::automata;
using rwkv::Token;

Dfa random_dfa(test::Random& random, std::size_t states, std::size_t symbols) {
  std::vector<StateId> next(states * symbols);
  for (StateId& q : next) q = static_cast<StateId>(random.below(states));
  std::vector<bool> accepting(states);
  for (std::size_t q = 0; q < states; ++q) accepting[q] = random.below(2) == 0;
  return Dfa(symbols, next, accepting, static_cast<StateId>(random.below(states)));
}

std::vector<Symbol> random_word(test::Random& random, std::size_t symbols, std::size_t length) {
  std::vector<Symbol> word(length);
  for (Symbol& s : word) s = static_cast<Symbol>(random.below(symbols));
  return word;
}

/// Prefixes of `word` after which the model's label is not the automaton's.
std::size_t mistakes(const Dfa& dfa, Recogniser& model, const std::vector<Symbol>& word) {
  std::vector<std::size_t> labels(word.size());
  model.reset();
  const auto label_of = [&](StateId q) {
    return model.spelling().output == Output::state ? q : std::size_t{dfa.accepting(q)};
  };
  std::size_t wrong = model.label() != label_of(dfa.start());
  model.feed(word, labels);
  StateId q = dfa.start();
  for (std::size_t i = 0; i < word.size(); ++i) {
    q = dfa.next(q, word[i]);
    wrong += labels[i] != label_of(q);
  }
  return wrong + (word.empty() ? 0 : model.label() != labels.back());
}

/// True if the recurrent state holds only zeros and, in `ones` places, exactly 1.
bool is_exact(const Recogniser& model, std::size_t ones) {
  std::size_t found = 0;
  for (const float s : model.state().wkv(0)) {
    if (s != 0.0f && s != 1.0f) return false;
    found += s == 1.0f;
  }
  return found == ones;
}

template <class F>
rwkv::Error error_of(F&& f) {
  try {
    f();
  } catch (const rwkv::Error& e) {
    return e;
  }
  FAIL("no error");
  return {rwkv::ErrorCategory::io, ""};
}

/// The checkpoint with each of its own tensors and metadata, read back from a file's bytes.
rwkv::io::Checkpoint through_file(const rwkv::io::Checkpoint& checkpoint,
                                  std::vector<std::byte>& bytes) {
  std::vector<rwkv::io::NamedTensor> tensors;
  for (const auto& [name, t] : checkpoint.tensors)
    tensors.push_back({name, t.dtype, t.shape, t.bytes});
  bytes = rwkv::io::serialize_safetensors(tensors, checkpoint.metadata);
  return rwkv::io::read_checkpoint(bytes, "memory");
}

}  // namespace

TEST_CASE("random automata: the model accepts exactly the prefixes that the DFA accepts") {
#if defined(RWKV_TEST_SANITIZER)
  constexpr std::size_t automata = 100;
#else
  constexpr std::size_t automata = 800;
#endif
  test::Random random(6);
  std::size_t symbols_read = 0, wrong = 0, inexact = 0;
  for (std::size_t trial = 0; trial < automata; ++trial) {
    const Dfa dfa = random_dfa(random, 2 + random.below(11), 1 + random.below(4));
    const Output output = trial % 4 == 0 ? Output::state : Output::acceptance;
    Recogniser model(compile(dfa, output));
    const auto word = random_word(random, dfa.symbols(), trial % 100 == 0 ? 20'000 : 300);
    wrong += mistakes(dfa, model, word);
    symbols_read += word.size();
    bool has_zero_row = true;  // a sink is the row of zeros
    for (const float s : model.state().wkv(0)) has_zero_row &= s == 0.0f;
    inexact += !is_exact(model, has_zero_row ? 0 : 1);
  }
  MESSAGE(symbols_read << " symbols");
  CHECK(wrong == 0);
  CHECK(inexact == 0);
}

TEST_CASE("regular expressions: text in, verdict out, at every prefix") {
  test::Random random(7);
  const struct {
    const char* pattern;
    const char* letters;
  } cases[] = {
      {"(ab|ba)*", "ab"},
      {"(a|b)*abba(a|b)*", "ab"},
      {"(0|1(01*0)*1)+", "01"},
      {"(aaa|aaaaa)*", "a"},
      {"[a-c]*(abc|cab)[a-c]{2}", "abc"},
      {"((a|bb)(b|aa))*", "ab"},
      {"[^a]*(a[^a]*a[^a]*)*", "ab\n\xff"},
      {"\"([^\"\\\\]|\\\\.)*\"", "\"\\ab"},
      {"-?(0|[1-9]\\d*)(\\.\\d+)?([eE][+-]?\\d+)?", "-0123.eE+"},
      {".*", "a\n"},
      {"", "a"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.pattern);
    const Dfa dfa = from_regex(c.pattern);
    Recogniser model(compile(dfa));
    const std::string letters = c.letters;
    std::size_t wrong = 0, accepted = 0;
    for (std::size_t trial = 0; trial < 40; ++trial) {
      std::string text(random.below(60), ' ');
      for (char& byte : text) byte = letters[random.below(letters.size())];
      std::vector<std::size_t> labels(text.size());
      model.reset();
      wrong += model.accepted() != dfa.accepts("");
      model.feed(text, labels);
      for (std::size_t i = 0; i < text.size(); ++i) {
        wrong += (labels[i] == 1) != dfa.accepts(std::string_view(text).substr(0, i + 1));
        accepted += labels[i];
      }
      wrong += model.accepted() != dfa.accepts(text);
    }
    CHECK(wrong == 0);
    CHECK((accepted > 0 || *c.pattern == '\0'));
  }
}

TEST_CASE("counters and parity stay exact over long words") {
  test::Random random(8);
  for (const std::size_t n : {2u, 3u, 7u, 24u}) {
    std::vector<StateId> next;
    std::vector<bool> accepting;
    for (std::size_t q = 0; q < n; ++q) {  // symbol 0 counts, symbol 1 does not
      next.push_back(static_cast<StateId>((q + 1) % n));
      next.push_back(static_cast<StateId>(q));
      accepting.push_back(q == 0);
    }
    const Dfa dfa(2, next, accepting);
    for (const Output output : {Output::acceptance, Output::state}) {
      Recogniser model(compile(dfa, output));
      CHECK(mistakes(dfa, model, random_word(random, 2, 20000)) == 0);
      CHECK(is_exact(model, 1));
    }
  }
}

TEST_CASE("permutations of n points are multiplied without an error") {
  test::Random random(9);
  for (const std::size_t n : {2u, 3u, 4u, 5u, 6u}) {
    CAPTURE(n);
    Recogniser model(compile_permutations(n));
    CHECK(model.label() == 0);
    const auto word = random_word(random, factorial(n), n == 5 ? 20000 : 2000);
    std::vector<std::size_t> labels(word.size());
    model.feed(word, labels);
    Permutation product = permutation(n, 0);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < word.size(); ++i) {
      product = then(product, permutation(n, word[i]));
      wrong += labels[i] != rank_of(product);
    }
    CHECK(wrong == 0);
    CHECK(is_exact(model, n));
    for (std::size_t i = 0; i < n; ++i)  // S[value i][key p(i)] = 1
      CHECK(model.state().wkv(0)[product[i] * model.model().shape().head_size() + i] == 1.0f);
  }
}

TEST_CASE("ranks number the permutations in lexicographic order") {
  for (const std::size_t n : {1u, 2u, 3u, 4u, 5u}) {
    Permutation p(n);
    for (std::size_t i = 0; i < n; ++i) p[i] = i;
    for (std::size_t rank = 0; rank < factorial(n); ++rank) {
      CHECK(permutation(n, rank) == p);
      CHECK(rank_of(p) == rank);
      std::next_permutation(p.begin(), p.end());
    }
  }
  CHECK(then({1, 2, 0}, {0, 2, 1}) == Permutation{2, 1, 0});
}

TEST_CASE("the label leads all logits by a wide margin, and labels as inputs change nothing") {
  test::Random random(10);
  const auto check = [&](const rwkv::io::Checkpoint& checkpoint, std::size_t symbols) {
    const rwkv::Model<> model(checkpoint);
    const Spelling spelling = Spelling::read(checkpoint);
    Recogniser recogniser(checkpoint);
    rwkv::State state(model.shape());
    rwkv::Workspace work(model.shape(), 16);
    auto logits = model.forward(state, spelling.begin, work);
    double least = 1e9;
    std::size_t wrong = 0;
    for (const Symbol s : random_word(random, symbols, 60)) {
      recogniser.feed(std::vector{s});
      logits = model.forward(state, spelling.symbols[s], work);
      for (std::size_t repeat = 0; repeat < 2; ++repeat) {
        const float best = logits[recogniser.label()];
        for (std::size_t t = 0; t < logits.size(); ++t)
          if (t != recogniser.label()) least = std::min(least, double{best} - double{logits[t]});
        const std::vector<Token> label{static_cast<Token>(recogniser.label())};
        logits = model.forward(state, label, work);
      }
      wrong += !test::same_bits(state.wkv(0), recogniser.state().wkv(0));
    }
    CHECK(least > 14.9);
    CHECK(wrong == 0);
  };
  for (std::size_t trial = 0; trial < 40; ++trial) {
    const Dfa dfa = random_dfa(random, 1 + random.below(30), 1 + random.below(3));
    check(compile(dfa, Output::acceptance), dfa.symbols());
    check(compile(dfa, Output::state), dfa.symbols());
  }
  check(compile(from_regex("(a|b)*abba")), 3);
  check(compile(from_regex("[ab]*abba[\\s\\S]*")), 3);  // both a rejecting and an accepting sink
  check(compile_permutations(5), 120);
}

TEST_CASE("as many states as fit") {
  // Symbol i exchanges state 0 and state i + 1; the last symbol leads into a sink.
  const std::size_t n = 504;
  const auto automaton = [](std::size_t live) {
    std::vector<StateId> next;
    for (std::size_t q = 0; q <= live; ++q)
      for (std::size_t s = 0; s < live; ++s) {
        StateId to = static_cast<StateId>(q);
        if (q < live && s + 1 == live) to = static_cast<StateId>(live);
        if (q < live && s + 1 < live && q == 0) to = static_cast<StateId>(s + 1);
        if (q < live && s + 1 < live && q == s + 1) to = 0;
        next.push_back(to);
      }
    return Dfa(live, next, std::vector<bool>(live + 1));
  };
  const Dfa dfa = automaton(n);
  const auto checkpoint = compile(dfa, Output::state);
  Recogniser model(checkpoint);
  CHECK(model.model().shape().embed() == 512);
  std::vector<Symbol> word;
  for (std::size_t s = 0; s + 1 < n; s += 7) word.insert(word.end(), 2, static_cast<Symbol>(s));
  CHECK(mistakes(dfa, model, word) == 0);
  CHECK(is_exact(model, 1));
  model.feed(std::vector{static_cast<Symbol>(n - 1), Symbol{3}});
  CHECK(model.label() == n);
  CHECK(is_exact(model, 0));

  const auto error = error_of([&] { (void)compile(automaton(n + 1)); });
  CHECK(error.category() == rwkv::ErrorCategory::argument);
  CHECK(std::string(error.what()).find("505 states is too large to compile; 504 fit") !=
        std::string::npos);
}

TEST_CASE("cutting a word into pieces changes no bit") {
  test::Random random(11);
  const auto checkpoint = compile_permutations(5);
  const auto word = random_word(random, 120, 700);
  Recogniser whole(checkpoint);
  whole.feed(word);
  for (const std::size_t rows : {1u, 5u, 64u}) {
    Recogniser pieces(checkpoint, {}, rows);
    for (std::size_t done = 0; done < word.size();) {
      const std::size_t n = std::min(word.size() - done, random.below(40));
      std::vector<std::size_t> labels(n);
      pieces.feed(std::span(word).subspan(done, n), labels);
      done += n;
      if (n > 0) CHECK(pieces.label() == labels.back());
    }
    CHECK(pieces.label() == whole.label());
    CHECK(pieces.state() == whole.state());
  }
  // A copy goes its own way.
  Recogniser copy = whole;
  copy.feed(std::vector<Symbol>{1});
  CHECK(copy.label() != whole.label());
  whole.feed(std::vector<Symbol>{1});
  CHECK(copy.label() == whole.label());
}

TEST_CASE("a compiled automaton survives its file, in every type of matrix") {
  test::Random random(12);
  const Dfa dfa = from_regex("(a|b)*a(a|b){3}|c+");
  const auto checkpoint = compile(dfa);
  std::vector<std::byte> bytes;
  const auto read = through_file(checkpoint, bytes);
  CHECK(read.metadata == checkpoint.metadata);
  CHECK(Spelling::read(read) == Spelling::read(checkpoint));
  CHECK(read.metadata.at("rwkv.eigenvalues") == "extended");
  for (const auto type : {rwkv::DType::f32, rwkv::DType::f16, rwkv::DType::bf16}) {
    rwkv::LoadOptions options;
    options.matrix_type = type;
    options.table_type = type;
    Recogniser a(checkpoint, options), b(read, options);
    CHECK(a.model().weights().fingerprint() == b.model().weights().fingerprint());
    const auto word = random_word(random, dfa.symbols(), 3000);
    CHECK(mistakes(dfa, a, word) == 0);
    CHECK(mistakes(dfa, b, word) == 0);
    CHECK(a.state() == b.state());
  }
}

TEST_CASE("a static model runs a compiled automaton") {
  const Dfa dfa(2, {0, 1, 1, 0}, {true, false}, 0, Alphabet("ab"));  // an even number of b
  const auto checkpoint = compile(dfa);
  const rwkv::Model<> model(checkpoint);
  using Shape = rwkv::Shape<1, 16, 16, 1, 5, 1, 2, 0, 1>;
  const auto weights = test::static_weights<Shape, float>(model.weights());
  const rwkv::StaticModel parity(*weights);
  rwkv::State<Shape> state;
  rwkv::Workspace<Shape, 1> work;
  const Spelling spelling = Spelling::read(checkpoint);
  parity.forward(state, spelling.begin, work);
  test::Random random(13);
  bool even = true;
  std::size_t wrong = 0;
  for (const Symbol s : random_word(random, 2, 5000)) {
    even ^= s == 1;
    wrong += (rwkv::argmax(parity.forward(state, spelling.symbols[s], work)) == 1) != even;
  }
  CHECK(wrong == 0);
}

TEST_CASE("wrong input is refused before anything changes") {
  Recogniser model(compile(Dfa(2, {0, 1, 1, 0}, {true, false}, 0, Alphabet("ab"))));
  model.feed("ab");
  const auto before = model.state();
  std::vector<std::size_t> labels(2);
  CHECK(error_of([&] { model.feed("abc"); }).category() == rwkv::ErrorCategory::argument);
  CHECK(error_of([&] {
          model.feed(std::vector<Symbol>{0, 2});
        }).category() == rwkv::ErrorCategory::argument);
  CHECK(error_of([&] { model.feed("aba", labels); }).category() == rwkv::ErrorCategory::argument);
  CHECK(model.state() == before);
  CHECK_FALSE(model.accepted());
  model.feed("");
  CHECK_FALSE(model.accepted());
  model.reset();
  CHECK(model.accepted());

  CHECK(error_of([] { (void)Recogniser(compile_permutations(2)).accepted(); }).category() ==
        rwkv::ErrorCategory::argument);
  CHECK(error_of([] { (void)compile_permutations(8); }).category() ==
        rwkv::ErrorCategory::argument);
  CHECK(error_of([] { (void)compile(Dfa(1, {0}, {true}), Output::permutation); }).category() ==
        rwkv::ErrorCategory::argument);
}

TEST_CASE("damaged metadata are refused") {
  const auto good = compile(from_regex("(ab)*"));
  const auto refused = [&](const char* part, const char* value) {
    auto bad = good;
    if (value == nullptr)
      bad.metadata.erase(std::string("rwkv.automaton") + part);
    else
      bad.metadata[std::string("rwkv.automaton") + part] = value;
    const auto error = error_of([&] { Recogniser{bad}; });
    CHECK(error.category() == rwkv::ErrorCategory::format);
    CHECK(std::string(error.what()).find("rwkv.automaton") != std::string::npos);
  };
  for (const char* part : {"", ".labels", ".begin", ".symbols", ".alphabet"})
    refused(part, nullptr);
  refused("", "oracle");
  for (const char* value : {"", "0", "2 2", "two", "2 ", "-1", "1000"}) refused(".labels", value);
  for (const char* value : {"", " ", "2  2", "4294967296", "77", "2,3"}) refused(".begin", value);
  for (const char* value : {"", "3\n", "\n3", "3 4\n77\n5", "3x"}) refused(".symbols", value);
  for (const char* value : {"", "0 1 2", "nonsense"}) refused(".alphabet", value);
  auto bytes = good.metadata.at("rwkv.automaton.alphabet");
  refused(".alphabet", ("9" + bytes).c_str());
  refused(".alphabet", (bytes + " 0").c_str());
}
