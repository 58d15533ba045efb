// SPDX-License-Identifier: Apache-2.0
// The hybrid model as a whole: bits depend on the tokens alone, states are values and survive
// files, memory is bounded, and files that do not fit are refused with a sentence.
#include "support/sample_hybrid.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/model.hpp>

#include <doctest/doctest.h>

#include <random>

namespace {

using rwkv::CacheType;
using rwkv::HybridConfig;
using rwkv::HybridModel;
using rwkv::HybridSlot;
using rwkv::HybridState;
using rwkv::HybridWorkspace;
using rwkv::Token;

HybridConfig small(CacheType type = CacheType::f32) {
  HybridConfig c;
  c.chunk = 8;
  c.top_k = 2;
  c.max_cache = 40;
  c.min_cache = 24;
  c.window = 9;
  c.cache_type = type;
  return c;
}

std::vector<Token> text(std::size_t n, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<Token> tokens(n);
  for (Token& t : tokens) t = static_cast<Token>(random() % test::hybrid_sizes.vocab);
  return tokens;
}

std::vector<float> all_logits(const HybridModel& model, HybridState& state,
                              std::span<const Token> tokens, std::size_t rows) {
  HybridWorkspace work(model.shape(), rows);
  std::vector<float> logits(tokens.size() * model.shape().vocab());
  const HybridSlot slot{&state, tokens};
  model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
  return logits;
}

/// The sentence of the error that f throws; empty if it throws none.
template <class F>
std::string sentence(F&& f) {
  try {
    f();
  } catch (const rwkv::Error& e) {
    return e.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("the bits of a sequence do not depend on chunking, batching or threads") {
  rwkv::ThreadPool two(2);
  rwkv::ThreadPool five({.threads = 5, .oversubscribe = true});
  const auto checkpoint = test::sample_hybrid();
  const auto tokens = text(150);
  for (const auto type : {CacheType::f32, CacheType::f16, CacheType::int8}) {
    const HybridModel model(checkpoint, small(type));
    HybridState state(model.shape());
    const auto whole = all_logits(model, state, tokens, tokens.size());
    for (const std::size_t rows : {1u, 2u, 7u, 64u}) {
      CAPTURE(rows);
      HybridState other(model.shape());
      CHECK(all_logits(model, other, tokens, rows) == whole);
      CHECK(other == state);
    }

    std::mt19937 random(2);
    const std::size_t vocab = model.shape().vocab();
    for (rwkv::ThreadPool* pool : {&two, &five}) {
      HybridWorkspace work(model.shape(), 48);
      HybridState mine(model.shape());
      std::vector<HybridState> others(3, mine);
      for (std::size_t done = 0; done < tokens.size();) {
        const std::size_t n = std::min<std::size_t>(1 + random() % 50, tokens.size() - done);
        std::vector<std::vector<Token>> noise(others.size());
        std::vector<HybridSlot> slots;
        for (std::size_t s = 0; s < others.size(); ++s) {
          noise[s] = text(1 + random() % 40, static_cast<unsigned>(random()));
          slots.push_back({&others[s], noise[s]});
        }
        const std::size_t place = random() % (slots.size() + 1);
        slots.insert(slots.begin() + static_cast<std::ptrdiff_t>(place),
                     HybridSlot{&mine, std::span(tokens).subspan(done, n)});
        std::vector<float> logits(slots.size() * vocab);
        model.forward(slots, rwkv::Logits::last, logits, work, *pool);
        done += n;
        const auto got = std::span(logits).subspan(place * vocab, vocab);
        const auto expected = std::span(whole).subspan((done - 1) * vocab, vocab);
        CHECK(std::memcmp(got.data(), expected.data(), got.size_bytes()) == 0);
      }
      CHECK(mine == state);
    }
  }
}

TEST_CASE("a copy is a fork, and assigning it back a rewind") {
  const HybridModel model(test::sample_hybrid(), small());
  HybridState state(model.shape());
  all_logits(model, state, text(70), 16);
  const HybridState fork = state;
  CHECK(fork == state);
  const auto first = all_logits(model, state, text(60, 2), 16);
  CHECK_FALSE(fork == state);
  state = fork;
  CHECK(fork == state);
  CHECK(all_logits(model, state, text(60, 2), 16) == first);
  state.reset();
  CHECK(state == HybridState(model.shape()));
  HybridState fresh(model.shape());
  CHECK(all_logits(model, state, text(90, 3), 16) == all_logits(model, fresh, text(90, 3), 16));
}

TEST_CASE("states survive files, wherever they are cut") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "state.safetensors";
  const auto checkpoint = test::sample_hybrid();
  const auto tokens = text(120);
  for (const auto type : {CacheType::f32, CacheType::f16, CacheType::int8}) {
    const HybridModel model(checkpoint, small(type));
    for (const std::size_t cut : {0u, 5u, 31u, 33u, 40u, 41u, 100u}) {
      CAPTURE(cut);
      HybridState state(model.shape());
      if (cut > 0) all_logits(model, state, std::span(tokens).first(cut), 32);
      model.save_state(path, state);
      HybridState back = model.load_state(path);
      CHECK(back == state);
      const auto rest = std::span(tokens).subspan(cut);
      CHECK(all_logits(model, back, rest, 32) == all_logits(model, state, rest, 32));
      CHECK(back == state);
    }
  }
}

TEST_CASE("state files that do not fit are refused") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "state.safetensors";
  const auto checkpoint = test::sample_hybrid();
  const HybridModel model(checkpoint, small());
  HybridState state(model.shape());
  all_logits(model, state, text(38), 32);
  model.save_state(path, state);

  HybridConfig other = small();
  other.chunk = 16;
  CHECK(contains(sentence([&] { (void)HybridModel(checkpoint, other).load_state(path); }),
                 "made with chunk 8, the model has 16"));
  const HybridModel stranger(test::sample_hybrid(1), small());
  CHECK(contains(sentence([&] { (void)stranger.load_state(path); }), "another model"));

  const auto whole = rwkv::io::read_checkpoint(path);
  CHECK(whole.find("moba.1.votes") != nullptr);
  const auto refusal = [&](auto spoil) {
    rwkv::io::Checkpoint c = whole;
    spoil(c);
    return sentence([&] {
      (void)rwkv::io::hybrid_state_from(c, model.shape(), model.weights().fingerprint());
    });
  };
  CHECK(refusal([](auto&) {}).empty());
  for (const char* name : {"k_cache", "v_cache", "ffn.x_prev", "votes"}) {
    const std::string tensor = std::string("moba.1.") + name;
    CHECK(contains(refusal([&](auto& c) { c.tensors.erase(tensor); }), tensor));
    CHECK(contains(refusal([&](auto& c) {
                     test::replace(c, tensor, {3, 5}, std::vector<float>(15, 1.0f));
                   }),
                   name == std::string("k_cache") ? "k_cache" : tensor));
    CHECK(contains(refusal([&](auto& c) {
                     auto values = c.get(tensor).values();
                     values[2] = std::nanf("");
                     test::replace(c, tensor, c.get(tensor).shape, values);
                   }),
                   "not finite"));
  }
  CHECK(contains(refusal([&](auto& c) {
                   test::replace(c, "moba.0.k_cache", {41, 128}, std::vector<float>(41 * 128));
                 }),
                 "at most 40 entries"));
  CHECK(contains(refusal([&](auto& c) { c.tensors["moba.2.k_cache"] = c.get("moba.1.k_cache"); }),
                 "tensors where a state"));
}

TEST_CASE("a capped cache stops growing") {
  for (const auto type : {CacheType::f32, CacheType::f16, CacheType::int8}) {
    const HybridModel model(test::sample_hybrid(), small(type));
    HybridState state(model.shape());
    all_logits(model, state, text(60), 8);
    const std::size_t bytes = state.bytes();
    all_logits(model, state, text(400, 2), 8);
    CHECK(state.bytes() == bytes);
    CHECK(state.cache(0).size() <= 40);
    CHECK(state.cache(1).size() == state.cache(0).size());
  }
}

TEST_CASE("blocks left over by the division never run") {
  const HybridModel model(test::sample_hybrid(), small());
  REQUIRE(model.shape().layers() == 3);
  CHECK(model.shape().interval() == 1);
  HybridState state(model.shape());
  all_logits(model, state, text(10), 8);
  const auto zero = [](std::span<const float> values) {
    return std::all_of(values.begin(), values.end(), [](float v) { return v == 0.0f; });
  };
  CHECK_FALSE(zero(state.rwkv().ffn_x_prev(1)));
  CHECK(zero(state.rwkv().ffn_x_prev(2)));
}

TEST_CASE("without sparse blocks it is RWKV-7") {
  const auto checkpoint = test::sample_checkpoint(test::hybrid_sizes);
  const rwkv::Model<> plain(checkpoint);
  const HybridModel hybrid(checkpoint);
  rwkv::State a(plain.shape());
  HybridState b(hybrid.shape());
  rwkv::Workspace plain_work(plain.shape());
  HybridWorkspace work(hybrid.shape());
  const auto tokens = text(20);
  const auto want = plain.forward(a, tokens, plain_work);
  const auto got = hybrid.forward(b, tokens, work);
  CHECK(std::equal(want.begin(), want.end(), got.begin(), got.end()));
  CHECK(b.rwkv() == a);
}

TEST_CASE("Model refuses a hybrid file and names HybridModel") {
  CHECK(contains(sentence([] { rwkv::Model<> model(test::sample_hybrid()); }), "HybridModel"));
}

TEST_CASE("every tensor of a sparse block is needed and must have its shape") {
  const auto whole = test::sample_hybrid();
  for (const auto& entry : whole.tensors) {
    const std::string& name = entry.first;
    const rwkv::io::Tensor& original = entry.second;
    if (!name.starts_with("moba.")) continue;
    CAPTURE(name);
    rwkv::io::Checkpoint c = whole;
    c.tensors.erase(name);
    CHECK(contains(sentence([&] { HybridModel model(c); }), name));
    auto shape = original.shape;
    ++shape[0];
    std::size_t size = 1;
    for (const std::size_t n : shape) size *= n;
    test::replace(c, name, shape, std::vector<float>(size, 0.5f));
    CHECK(contains(sentence([&] { HybridModel model(c); }), "sample: tensor moba."));
  }
  rwkv::io::Checkpoint extra = whole;
  extra.tensors["moba.0.att.x_r"] = whole.get("moba.0.ffn.x_k");
  CHECK(contains(sentence([&] { HybridModel model(extra); }), "moba.0.att.x_r"));
  rwkv::io::Checkpoint gap = whole;
  gap.tensors["moba.3.ln1.weight"] = whole.get("moba.0.ln1.weight");
  CHECK(contains(sentence([&] { HybridModel model(gap); }), "moba.3.ln1.weight"));
  test::SampleSizes narrow = test::hybrid_sizes;
  narrow.embed = 96;
  CHECK(contains(sentence([&] { HybridModel model(test::sample_hybrid(1, narrow)); }),
                 "96 channels"));
}

TEST_CASE("published names are read from files, wrapped or not, and the configuration with them") {
  const test::TemporaryDirectory folder;
  const auto path = folder.path() / "hybrid.safetensors";
  const auto samples = test::sample_model(test::hybrid_sizes);
  const auto blocks = test::sample_sparse_blocks(2, 128, 160);
  const HybridModel want(test::sample_hybrid(), small());
  HybridState state(want.shape());
  const auto logits = all_logits(want, state, text(60), 32);
  for (const std::string wrapper : {"", "module.", "model."}) {
    CAPTURE(wrapper);
    std::vector<rwkv::io::NamedTensor> tensors;
    for (const auto& t : samples)
      tensors.push_back(rwkv::io::named_tensor(wrapper + "rwkv." + t.name, t.shape,
                                               std::span<const float>(t.values)));
    for (const auto& t : blocks)
      tensors.push_back(
          rwkv::io::named_tensor(wrapper + t.name, t.shape, std::span<const float>(t.values)));
    rwkv::io::Metadata metadata;
    rwkv::io::add_hybrid_config(metadata, small());
    rwkv::io::write_safetensors(path, tensors, metadata);
    const HybridModel model = HybridModel::load(path);
    CHECK(model.config() == small());
    CHECK(model.weights().fingerprint() == want.weights().fingerprint());
    HybridState other(model.shape());
    CHECK(all_logits(model, other, text(60), 32) == logits);
    CHECK(contains(sentence([&] { (void)rwkv::load(path); }), "HybridModel"));
    CHECK(HybridModel::load(path, HybridConfig{}).config() == HybridConfig{});
  }
}

TEST_CASE("hyper-parameters that make no sense are refused") {
  const auto refusal = [](auto change) {
    HybridConfig c = small();
    change(c);
    return sentence([&] { c.validate("here"); });
  };
  CHECK(refusal([](auto&) {}).empty());
  CHECK(contains(refusal([](auto& c) { c.chunk = 0; }), "here: chunk is 0"));
  CHECK(contains(refusal([](auto& c) { c.top_k = 0; }), "topk is 0"));
  CHECK(contains(refusal([](auto& c) { c.top_k = 65; }), "topk is 65"));
  CHECK(contains(refusal([](auto& c) { c.window = 0; }), "window 0"));
  CHECK(contains(refusal([](auto& c) { c.window = 24; }), "window 24"));
  CHECK(contains(refusal([](auto& c) { c.min_cache = 40; }), "min 40"));
  CHECK(refusal([](auto& c) { c.window = 16; }).empty());
  CHECK(contains(refusal([](auto& c) { c.window = 17; }),
                 "window 17, min 24, max 40 where 0 < window < min and min + window <= max"));
  CHECK(refusal([](auto& c) {
          c.window = 17, c.semantics = rwkv::HybridSemantics::package;
        }).empty());
  CHECK(refusal([](auto& c) { c.max_cache = 0, c.window = 0; }).empty());

  HybridConfig c;
  CHECK(contains(sentence([&] { c.set("topp", "3", "here"); }), "\"topp\" is no hyper-parameter"));
  CHECK(contains(sentence([&] { c.set("chunk", "3.5", "here"); }), "not a number"));
  CHECK(contains(sentence([&] { c.set("chunk", "-3", "here"); }), "not a number"));
  CHECK(contains(sentence([&] { c.set("attn_mode", "dense", "here"); }), "sparse, full"));
  HybridConfig copy;
  for (const auto& [key, value] : small(CacheType::int8).items()) copy.set(key, value, "here");
  CHECK(copy == small(CacheType::int8));
}

TEST_CASE("a batch that does not fit changes nothing") {
  HybridConfig config = small();
  config.semantics = rwkv::HybridSemantics::package;
  const HybridModel model(test::sample_hybrid(), config);
  HybridWorkspace work(model.shape(), 16);
  HybridState state(model.shape());
  const HybridState before = state;
  CHECK(contains(sentence([&] { model.forward(state, text(17), work); }), "16 rows"));
  const std::vector<Token> unknown{1, 99};
  CHECK(contains(sentence([&] { model.forward(state, unknown, work); }), "token 99"));
  const HybridModel paper(test::sample_hybrid(), small());
  CHECK(contains(sentence([&] { paper.forward(state, text(2), work); }), "another shape"));
  CHECK(state == before);
}
