// SPDX-License-Identifier: Apache-2.0
// Models on the emulated device: against float64 goldens, the promise that bits depend on the
// sequence alone, states as values, and what is refused.
#include "support/golden.hpp"
#include "support/numbers.hpp"
#include "support/sample_checkpoint.hpp"
#include "support/sanitizers.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/cuda.hpp>
#include <rwkv/generate_batch.hpp>
#include <rwkv/quant/quantise.hpp>

#include <doctest/doctest.h>

#include <cuda/emulated/cuda_runtime.h>
#include <random>

namespace {

using rwkv::Token;

std::vector<float> all_logits(const rwkv::CudaModel& model, rwkv::CudaState& state,
                              std::span<const Token> tokens, std::size_t rows, bool graphs = true) {
  rwkv::CudaWorkspace work(model, {.rows = rows, .graphs = graphs});
  std::vector<float> logits(tokens.size() * model.shape().vocab());
  const rwkv::CudaSlot slot{&state, tokens};
  model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
  return logits;
}

/// The same in calls of `chunk` tokens.
std::vector<float> in_chunks(const rwkv::CudaModel& model, rwkv::CudaState& state,
                             std::span<const Token> tokens, std::size_t chunk) {
  rwkv::CudaWorkspace work(model, chunk);
  std::vector<float> logits;
  std::vector<float> some;
  for (std::size_t done = 0; done < tokens.size(); done += chunk) {
    const auto part = tokens.subspan(done, std::min(chunk, tokens.size() - done));
    const rwkv::CudaSlot slot{&state, part};
    some.resize(part.size() * model.shape().vocab());
    model.forward(std::span(&slot, 1), rwkv::Logits::all, some, work);
    logits.insert(logits.end(), some.begin(), some.end());
  }
  return logits;
}

using test::same_bits;

rwkv::CudaModel small_model() {
  return rwkv::CudaModel(
      golden::read(std::filesystem::path(RWKV_TEST_DATA) / "golden_l2_c32_f32.model.safetensors"));
}

std::vector<Token> some_tokens(std::size_t count, std::size_t vocab, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::vector<Token> tokens(count);
  for (Token& token : tokens) token = static_cast<Token>(random() % vocab);
  return tokens;
}

/// A model whose rows are whole blocks of 32, with the large matrices in `type`.
rwkv::io::Checkpoint quantised(rwkv::DType type) {
  auto c = test::sample_checkpoint({.layers = 2,
                                    .embed = 64,
                                    .head_size = 32,
                                    .ffn = 288,
                                    .vocab = 45,
                                    .decay = 7,
                                    .icl = 5,
                                    .value = 3,
                                    .gate = 33});
  for (auto& [name, tensor] : c.tensors) {
    if (name.size() < 7 || !name.ends_with(".weight") || tensor.shape.size() != 2) continue;
    auto values = tensor.values();
    for (float& value : values) value /= 16;
    if (name == "emb.weight") {
      test::replace(c, name, tensor.shape, values);
      continue;
    }
    auto bytes = std::make_shared<std::vector<std::byte>>(
        rwkv::quant::quantise(values, tensor.shape[0], tensor.shape[1], type));
    tensor.dtype = type;
    tensor.bytes = *bytes;
    c.storage.push_back(std::move(bytes));
  }
  return c;
}

/// The sentence of the error that `f` throws; it must be of this category.
template <class F>
std::string sentence(rwkv::ErrorCategory category, F&& f) {
  try {
    f();
  } catch (const rwkv::Error& e) {
    CHECK(e.category() == category);
    return e.what();
  }
  return "no error";
}

bool holds(const std::string& text, std::string_view part) {
  if (text.find(part) != std::string::npos) return true;
  MESSAGE(text);
  return false;
}

}  // namespace

TEST_CASE("logits and states on the emulated device agree with float64 goldens") {
  for (const auto& c : golden::cases()) {
    CAPTURE(c.name);
    const auto want = golden::read(c.golden);
    const rwkv::CudaModel model(golden::read(c.model));
    auto tokens = golden::tokens(want, "tokens");
    auto positions = want.get("positions").values<std::size_t>();
    const auto logits64 = want.get("logits").values<double>();
    const std::size_t vocab = model.shape().vocab();

    // Every thread is emulated: long texts take long.
    constexpr std::size_t bearable = test::sanitized ? 12 : 24;
    const bool whole = tokens.size() <= bearable;
    if (!whole) tokens.resize(bearable);
    while (positions.back() >= tokens.size()) positions.pop_back();
    rwkv::CudaState state = model.initial_state();
    const auto logits = all_logits(model, state, tokens, 64);
    double worst = 0;
    for (std::size_t p = 0; p < positions.size(); ++p)
      worst = std::max(
          worst,
          golden::max_error(std::span(logits).subspan(positions[p] * vocab, vocab),
                            {logits64.begin() + static_cast<std::ptrdiff_t>(p * vocab),
                             logits64.begin() + static_cast<std::ptrdiff_t>((p + 1) * vocab)}));
    MESSAGE(c.name << ": largest logit error " << worst);
    CHECK(worst <= 5e-5);
    if (whole) {
      const auto final_error =
          golden::state_error(state.download(), golden::state(want, "final.", model.shape()));
      CHECK(final_error.shift <= 2e-5);
      CHECK(final_error.wkv <= 1e-5);
    }

    // A run from a random state.
    rwkv::CudaState given = model.initial_state();
    given.upload(golden::state(want, "init.state_in.", model.shape()));
    const auto init_logits = all_logits(model, given, golden::tokens(want, "init.tokens"), 64);
    CHECK(golden::max_error(init_logits, want.get("init.logits").values<double>()) <= 5e-5);
    const auto init_error = golden::state_error(
        given.download(), golden::state(want, "init.state_out.", model.shape()));
    CHECK(init_error.shift <= 2e-5);
    CHECK(init_error.wkv <= 1e-5);
  }
}

TEST_CASE("the bits of a sequence on the device do not depend on what is computed beside it") {
  for (const auto& c : golden::cases()) {
    if (c.model.string().find("golden_") == std::string::npos) continue;  // ours are enough
    CAPTURE(c.name);
    const rwkv::CudaModel model(golden::read(c.model));
    auto tokens = golden::tokens(golden::read(c.golden), "tokens");
    tokens.resize(test::sanitized ? 12 : 30);
    const std::size_t vocab = model.shape().vocab();
    rwkv::CudaState state = model.initial_state();
    const auto whole = all_logits(model, state, tokens, tokens.size());

    for (const std::size_t chunk : {1u, 3u, 7u}) {
      if (test::sanitized && chunk != 3) continue;
      CAPTURE(chunk);
      emulator::set_seed(chunk);
      rwkv::CudaState other = model.initial_state();
      CHECK(same_bits(in_chunks(model, other, tokens, chunk), whole));
      CHECK(other == state);
    }

    // Random cuts, with other sequences beside this one.
    std::mt19937 random(1);
    rwkv::CudaWorkspace work(model, 40);
    rwkv::CudaState mine = model.initial_state();
    std::vector<rwkv::CudaState> others(3, mine);
    for (std::size_t done = 0; done < tokens.size();) {
      const std::size_t n = std::min<std::size_t>(1 + random() % 40, tokens.size() - done);
      std::vector<std::vector<Token>> noise(others.size());
      std::vector<rwkv::CudaSlot> slots;
      for (std::size_t s = 0; s < others.size(); ++s) {
        for (std::size_t t = 1 + random() % 20; t > 0; --t)
          noise[s].push_back(static_cast<Token>(random() % vocab));
        slots.push_back({&others[s], noise[s]});
      }
      const std::size_t place = random() % (slots.size() + 1);
      slots.insert(slots.begin() + static_cast<std::ptrdiff_t>(place),
                   rwkv::CudaSlot{&mine, std::span(tokens).subspan(done, n)});
      std::vector<float> logits(slots.size() * vocab);
      model.forward(slots, rwkv::Logits::last, logits, work);
      done += n;
      CHECK(same_bits(std::span(logits).subspan(place * vocab, vocab),
                      std::span(whole).subspan((done - 1) * vocab, vocab)));
    }
    CHECK(mine == state);
  }
}

TEST_CASE("batches of any number of sequences have the bits of each alone, recorded or not") {
  const rwkv::CudaModel model = small_model();
  const std::size_t vocab = model.shape().vocab();
  constexpr std::size_t most = 13;
  std::vector<std::vector<float>> alone;
  std::vector<std::vector<Token>> texts;
  for (std::size_t s = 0; s < most; ++s) {
    texts.push_back(some_tokens(4, vocab, static_cast<unsigned>(s)));
    rwkv::CudaState state = model.initial_state();
    alone.push_back(all_logits(model, state, texts.back(), 4, false));
  }
  for (const bool graphs : {false, true}) {
    rwkv::CudaWorkspace work(model, {.rows = 16, .graphs = graphs});
    const std::size_t replayed = emulator::device().graph_launches;
    for (const std::size_t sequences : {2u, 4u, 8u, 9u, 13u}) {
      std::vector<rwkv::CudaState> states(sequences, model.initial_state());
      for (std::size_t t = 0; t < 4; ++t) {
        std::vector<rwkv::CudaSlot> slots;
        for (std::size_t s = 0; s < sequences; ++s)
          slots.push_back({&states[s], std::span(texts[s]).subspan(t, 1)});
        std::vector<float> logits(sequences * vocab);
        model.forward(slots, rwkv::Logits::last, logits, work);
        for (std::size_t s = 0; s < sequences; ++s)
          CHECK(same_bits(std::span(logits).subspan(s * vocab, vocab),
                          std::span(alone[s]).subspan(t * vocab, vocab)));
      }
    }
    // The first pass of each size is neither recorded nor replayed.
    CHECK(emulator::device().graph_launches - replayed == (graphs ? 15 : 0));
  }
}

TEST_CASE("rows past those of a workspace go in passes") {
  const rwkv::CudaModel model = small_model();
  const std::size_t vocab = model.shape().vocab();
  const auto one = some_tokens(11, vocab, 1);
  const auto two = some_tokens(5, vocab, 2);
  rwkv::CudaState a = model.initial_state();
  rwkv::CudaState b = a;
  const auto a_logits = all_logits(model, a, one, 16);
  const auto b_logits = all_logits(model, b, two, 16);
  rwkv::CudaState c = model.initial_state();
  rwkv::CudaState d = c;
  const rwkv::CudaSlot slots[] = {{&c, one}, {&d, two}};
  rwkv::CudaWorkspace work(model, 4);
  std::vector<float> last(2 * vocab);
  model.forward(slots, rwkv::Logits::last, last, work);
  CHECK(same_bits(std::span(last).first(vocab), std::span(a_logits).last(vocab)));
  CHECK(same_bits(std::span(last).last(vocab), std::span(b_logits).last(vocab)));
  CHECK(c == a);
  CHECK(d == b);
  std::vector<float> nothing;
  model.forward(slots, rwkv::Logits::none, nothing, work);
  CHECK(!(c == a));
}

TEST_CASE("rows of chosen positions, and hidden states, are those among all") {
  const auto path = std::filesystem::path(RWKV_TEST_DATA) / "golden_l2_c32_f32.model.safetensors";
  const rwkv::Model<> cpu = rwkv::load(path);
  const rwkv::CudaModel model(cpu);
  const std::size_t vocab = model.shape().vocab();
  const std::size_t embed = model.shape().embed();
  const auto one = some_tokens(9, vocab, 1);
  const auto two = some_tokens(5, vocab, 2);
  rwkv::CudaState a = model.initial_state();
  rwkv::CudaState b = a;
  const auto a_logits = all_logits(model, a, one, 16);
  const auto b_logits = all_logits(model, b, two, 16);
  const std::size_t a_positions[] = {0, 4, 8};
  const std::size_t b_positions[] = {2};
  for (const std::size_t rows : {4u, 16u}) {
    rwkv::CudaState c = model.initial_state();
    rwkv::CudaState d = c;
    const rwkv::CudaSlot slots[] = {{&c, one, a_positions}, {&d, two, b_positions}};
    rwkv::CudaWorkspace work(model, rows);
    std::vector<float> logits(4 * vocab);
    std::vector<float> hidden(4 * embed);
    model.forward(slots, rwkv::Logits::chosen, {logits, hidden}, work);
    const auto row = [&](std::size_t i) { return std::span(logits).subspan(i * vocab, vocab); };
    for (std::size_t i = 0; i < 3; ++i)
      CHECK(same_bits(row(i), std::span(a_logits).subspan(a_positions[i] * vocab, vocab)));
    CHECK(same_bits(row(3), std::span(b_logits).subspan(2 * vocab, vocab)));
    CHECK(c == a);

    // Hidden states alone, and what the CPU says they are.
    rwkv::CudaState e = model.initial_state();
    rwkv::CudaState f = e;
    const rwkv::CudaSlot again[] = {{&e, one, a_positions}, {&f, two, b_positions}};
    std::vector<float> alone(4 * embed);
    model.forward(again, rwkv::Logits::chosen, {{}, alone}, work);
    CHECK(same_bits(alone, hidden));
    rwkv::State<> g = cpu.initial_state();
    rwkv::State<> h = g;
    const rwkv::Slot<> on_cpu[] = {{&g, one, a_positions}, {&h, two, b_positions}};
    rwkv::Workspace<> cpu_work(cpu.shape(), 16);
    std::vector<float> want(4 * embed);
    cpu.forward(on_cpu, rwkv::Logits::chosen, {{}, want}, cpu_work);
    for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::abs(want[i] - hidden[i]) <= 1e-5f);
  }
}

TEST_CASE("texts of many sequences at once on the device are those of each alone") {
  const rwkv::CudaModel model(test::sample_checkpoint(
      {.layers = 1, .embed = 32, .head_size = 16, .ffn = 40, .vocab = 256}));
  const auto tokenizer = rwkv::Tokenizer::bytes();
  rwkv::CudaWorkspace work(model, 8);
  const auto options = [](std::uint64_t seed) {
    rwkv::GenerateOptions o;
    o.max_tokens = 3 + seed;
    o.sampler.seed = seed;
    o.stop_tokens.clear();
    return o;
  };
  std::vector<rwkv::CudaState> states(3, model.initial_state());
  rwkv::GenerateBatch batch(model, tokenizer);
  for (std::size_t s = 0; s < states.size(); ++s)
    batch.add(states[s], std::string(1 + 3 * s, 'a'), options(s));
  batch.run(work);
  for (std::size_t s = 0; s < states.size(); ++s) {
    rwkv::CudaState state = model.initial_state();
    const auto alone =
        rwkv::generate(model, state, work, tokenizer, std::string(1 + 3 * s, 'a'), options(s));
    CHECK(batch.take(s).tokens == alone.tokens);
    CHECK(state == states[s]);
  }
}

TEST_CASE("states on the device are values") {
  const auto path = std::filesystem::path(RWKV_TEST_DATA) / "golden_l3_c48_bf16.model.safetensors";
  const rwkv::Model<> cpu = rwkv::load(path);
  const rwkv::CudaModel model(cpu);
  rwkv::CudaWorkspace work(model, 8);
  const auto tokens = some_tokens(5, model.shape().vocab());
  rwkv::CudaState state = model.initial_state();
  CHECK(state.download() == cpu.initial_state());
  model.forward(state, tokens, work);
  rwkv::CudaState fork = state;
  CHECK(fork == state);
  model.forward(fork, std::span(tokens).first(1), work);
  CHECK(!(fork == state));
  const rwkv::CudaState kept = fork;
  fork = state;
  CHECK(fork == state);
  model.forward(fork, std::span(tokens).first(1), work);
  CHECK(fork == kept);
  rwkv::CudaState moved = std::move(fork);
  CHECK(moved == kept);
  moved.reset();
  CHECK(moved.download() == rwkv::State<>(model.shape()));

  // To the CPU and back, and through files of either.
  rwkv::State<> down = state.download();
  moved.upload(down);
  CHECK(moved == state);
  const test::TemporaryDirectory folder;
  model.save_state(folder / "device.safetensors", state);
  CHECK(cpu.load_state(folder / "device.safetensors") == down);
  cpu.save_state(folder / "cpu.safetensors", down);
  CHECK(model.load_state(folder / "cpu.safetensors") == state);
  const rwkv::DynamicShape other({.layers = 1, .embed = 48, .head_size = 16});
  CHECK(holds(sentence(rwkv::ErrorCategory::shape, [&] { moved.upload(rwkv::State<>(other)); }),
              "another shape"));
  CHECK(!fork.intact());
  CHECK(!(fork == state));
  CHECK(
      holds(sentence(rwkv::ErrorCategory::argument, [&] { (void)fork.download(); }), "moved away"));
  CHECK(holds(sentence(rwkv::ErrorCategory::argument,
                       [&] { model.save_state(folder / "none.safetensors", fork); }),
              "moved away"));
  rwkv::CudaSequence nobody;
  CHECK(holds(sentence(rwkv::ErrorCategory::argument,
                       [&] { (void)model.decode(std::span(&nobody, 1), 1, work); }),
              "needs a state and a sampler"));
}

TEST_CASE("a tuned state inside a model is where its texts begin on the device too") {
  auto c = test::sample_checkpoint({.layers = 1, .embed = 32, .head_size = 16});
  std::vector<float> values(2 * 16 * 16);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  test::replace(c, "blocks.0.att.time_state", {2, 16, 16}, values);
  const rwkv::Model<> cpu(c);
  CHECK(rwkv::CudaModel(cpu).initial_state().download() == cpu.initial_state());
}

TEST_CASE("every type of weights computes on the device what it does on the CPU") {
  const auto close = [](const rwkv::io::Checkpoint& c, const rwkv::LoadOptions& options) {
    const rwkv::Model<> cpu(c, options);
    const rwkv::CudaModel model(cpu);
    const auto tokens = some_tokens(6, model.shape().vocab());
    rwkv::State<> cpu_state = cpu.initial_state();
    rwkv::Workspace cpu_work(cpu.shape(), 8);
    std::vector<float> want(tokens.size() * model.shape().vocab());
    const rwkv::Slot<> slot{&cpu_state, tokens};
    cpu.forward(std::span(&slot, 1), rwkv::Logits::all, want, cpu_work);
    rwkv::CudaState state = model.initial_state();
    const auto got = all_logits(model, state, tokens, 3);
    float largest = 0;
    float error = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(want[i]));
      error = std::max(error, std::abs(want[i] - got[i]));
    }
    MESSAGE("largest logit " << largest << ", error " << error);
    CHECK(error <= 2e-5f * std::max(1.0f, largest));
  };
  for (const auto type : {rwkv::DType::q8_0, rwkv::DType::q4_0}) {
    CAPTURE(rwkv::name_of(type));
    close(quantised(type), {.inputs = rwkv::kernels::Inputs::exact});
  }
  for (const auto type : {rwkv::DType::f32, rwkv::DType::f16, rwkv::DType::bf16}) {
    CAPTURE(rwkv::name_of(type));
    close(quantised(rwkv::DType::q8_0), {.matrix_type = type, .table_type = type});
  }
}

TEST_CASE("a batch that does not fit the model is refused before anything has changed") {
  using rwkv::ErrorCategory;
  const rwkv::CudaModel model = small_model();
  const rwkv::CudaModel other = small_model();
  const std::size_t vocab = model.shape().vocab();
  rwkv::CudaWorkspace work(model, 4);
  rwkv::CudaWorkspace other_work(other, 4);
  rwkv::CudaState state = model.initial_state();
  rwkv::CudaState foreign = other.initial_state();
  const std::vector<Token> good{1, 2};
  const std::vector<Token> bad{1, static_cast<Token>(vocab)};
  std::vector<float> logits(vocab);
  const auto run = [&](std::vector<rwkv::CudaSlot> slots, std::size_t room,
                       rwkv::CudaWorkspace& in) {
    logits.resize(room);
    model.forward(slots, rwkv::Logits::last, logits, in);
  };
  CHECK(holds(sentence(ErrorCategory::argument,
                       [&] {
                         run({{&state, bad}}, vocab, work);
                       }),
              "is outside the vocabulary of"));
  CHECK(holds(sentence(ErrorCategory::argument,
                       [&] {
                         run({{&state, {}}}, vocab, work);
                       }),
              "slot 0 has no tokens"));
  CHECK(holds(sentence(ErrorCategory::argument,
                       [&] {
                         run({{&state, good}}, vocab - 1, work);
                       }),
              "room for"));
  CHECK(holds(sentence(ErrorCategory::argument,
                       [&] {
                         run({{&foreign, good}}, vocab, work);
                       }),
              "the state of slot 0 belongs to another model"));
  CHECK(holds(sentence(ErrorCategory::argument,
                       [&] {
                         run({{&state, good}, {&state, good}}, 2 * vocab, work);
                       }),
              "slots 0 and 1 have the same state"));
  CHECK(holds(sentence(ErrorCategory::argument,
                       [&] {
                         run({{&state, good}}, vocab, other_work);
                       }),
              "another model"));
  CHECK(holds(sentence(ErrorCategory::argument, [&] { rwkv::CudaWorkspace(model, 0); }), "0 rows"));
  CHECK(state == model.initial_state());
}

TEST_CASE("models that a device does not run are refused by what is wrong with them") {
  using rwkv::ErrorCategory;
  const auto load = [](const rwkv::io::Checkpoint& c) { const rwkv::CudaModel model(c); };
  CHECK(holds(sentence(ErrorCategory::unsupported, [&] { load(test::sample_checkpoint()); }),
              "heads of 4 channels do not run"));
  CHECK(holds(sentence(ErrorCategory::unsupported, [&] { load(quantised(rwkv::DType::q5_0)); }),
              "att.receptance is held as q5_0"));
}

TEST_CASE("what goes wrong with devices is a sentence") {
  using rwkv::ErrorCategory;
  emulator::Device& device = emulator::device();
  const emulator::Device before = device;
  const auto allocations = device.allocations;
  const auto load = [](int number) {
    return [number] {
      const rwkv::CudaModel model(golden::read(std::filesystem::path(RWKV_TEST_DATA) /
                                               "golden_l2_c32_f32.model.safetensors"),
                                  {}, {.device = number});
    };
  };
  CHECK(holds(sentence(ErrorCategory::argument, load(3)), "there is no CUDA device 3"));
  CHECK(holds(sentence(ErrorCategory::argument, load(-1)), "there is no CUDA device -1"));
  device.devices = 0;
  CHECK(holds(sentence(ErrorCategory::unsupported, load(0)), "no CUDA device that works"));
  CHECK(rwkv::cuda::device_count() == 0);
  device.devices = before.devices;
  device.driver = 12040;
  CHECK(holds(sentence(ErrorCategory::unsupported, load(0)),
              "the CUDA driver is of version 12.4, and this program needs 13.0"));
  device.driver = before.driver;

  device.memory = device.used + 50'000;
  CHECK(holds(sentence(ErrorCategory::memory, load(0)), "the model needs 0.0 GB"));
  CHECK(device.allocations == allocations);
  device.memory = before.memory;
  {
    const rwkv::CudaModel model = small_model();
    CHECK(rwkv::cuda::device_info(0).name == "emulated");
    device.memory = device.used + 50'000;
    CHECK(holds(sentence(ErrorCategory::memory, [&] { rwkv::CudaWorkspace(model, 64); }),
                "the memory of passes needs"));
    device.memory = before.memory;

    rwkv::CudaWorkspace work(model, 4);
    rwkv::CudaState state = model.initial_state();
    const std::vector<Token> tokens{1};
    for (const auto error : {cudaErrorLaunchFailure, cudaErrorInvalidValue}) {
      device.fail_next_launch = error;
      CHECK(holds(sentence(ErrorCategory::io, [&] { model.forward(state, tokens, work); }),
                  "CUDA: embedding: "));
    }
    model.forward(state, tokens, work);
    for (const auto error : {cudaErrorLaunchFailure, cudaErrorInvalidValue}) {
      device.fail_next_launch = error;  // while the pass is recorded
      CHECK(holds(sentence(ErrorCategory::io, [&] { model.forward(state, tokens, work); }),
                  "CUDA: embedding: "));
    }
    device.fail_next_wait = cudaErrorLaunchFailure;
    CHECK(holds(sentence(ErrorCategory::io, [&] { model.forward(state, tokens, work); }),
                "waiting for the device: unspecified launch failure"));
    state = model.initial_state();
    rwkv::CudaState again = model.initial_state();
    const auto logits = all_logits(model, again, tokens, 1);
    CHECK(same_bits(model.forward(state, tokens, work), logits));
  }
  CHECK(device.allocations == allocations);  // nothing is left behind
}

TEST_CASE("on tensor cores goldens hold, and bits depend on the sequence alone") {
  constexpr auto tensor = rwkv::CudaArithmetic::tensor;
  for (const auto& c : golden::cases()) {
    if (!c.name.starts_with("golden") || !c.name.ends_with("16")) continue;
    CAPTURE(c.name);
    const auto want = golden::read(c.golden);
    const rwkv::CudaModel model(golden::read(c.model));
    const std::size_t vocab = model.shape().vocab();
    // One text is longer than what a block takes; the rest is short, as every thread is emulated.
    const bool long_one = c.name == "golden_l2_c32_extended_f16";
    auto tokens = golden::tokens(want, "tokens");
    if (long_one) tokens.insert(tokens.end(), tokens.begin(), tokens.begin() + 26);
    if (!long_one) tokens.resize(12);
    const auto run = [&](rwkv::CudaState& state, std::size_t rows) {
      rwkv::CudaWorkspace work(model, {.rows = rows, .arithmetic = tensor});
      std::vector<float> logits(tokens.size() * vocab);
      const rwkv::CudaSlot slot{&state, tokens};
      model.forward(std::span(&slot, 1), rwkv::Logits::all, logits, work);
      return logits;
    };
    rwkv::CudaState state = model.initial_state();
    const auto logits = run(state, tokens.size());
    const auto positions = want.get("positions").values<std::size_t>();
    const auto logits64 = want.get("logits").values<double>();
    double worst = 0;
    for (std::size_t p = 0; p < positions.size() && positions[p] < tokens.size(); ++p)
      worst = std::max(
          worst,
          golden::max_error(std::span(logits).subspan(positions[p] * vocab, vocab),
                            {logits64.begin() + static_cast<std::ptrdiff_t>(p * vocab),
                             logits64.begin() + static_cast<std::ptrdiff_t>((p + 1) * vocab)}));
    MESSAGE(c.name << ": largest logit error " << worst);
    CHECK(worst <= 5e-5);
    for (const std::size_t rows : {5u, 33u}) {
      if (rows > tokens.size()) continue;
      CAPTURE(rows);
      emulator::set_seed(rows);
      rwkv::CudaState other = model.initial_state();
      CHECK(same_bits(run(other, rows), logits));
      CHECK(other == state);
    }
    // Nine sequences of a token each, and one alone.
    rwkv::CudaWorkspace work(model, {.rows = 9, .arithmetic = tensor});
    std::vector<rwkv::CudaState> states(9, model.initial_state());
    std::vector<rwkv::CudaSlot> slots;
    for (rwkv::CudaState& s : states) slots.push_back({&s, std::span(tokens).first(1)});
    std::vector<float> last(9 * vocab);
    model.forward(slots, rwkv::Logits::last, last, work);
    for (std::size_t s = 0; s < 9; ++s)
      CHECK(same_bits(std::span(last).subspan(s * vocab, vocab), std::span(logits).first(vocab)));
  }
  CHECK(
      holds(sentence(rwkv::ErrorCategory::unsupported,
                     [] { rwkv::CudaWorkspace(small_model(), {.rows = 1, .arithmetic = tensor}); }),
            "tensor cores multiply matrices of f16 and bf16"));
}

TEST_CASE("random models are made on the device, the same for the same seed") {
  const rwkv::Dimensions d{2, 64, 32, 256, 300, 8, 8, 8, 8};
  const auto tokens = some_tokens(3, d.vocab);
  const auto logits = [&](rwkv::DType type, std::uint64_t seed) {
    const auto model = rwkv::CudaModel::random(d, type, seed);
    rwkv::CudaState state = model.initial_state();
    return all_logits(model, state, tokens, 3);
  };
  for (const auto type : {rwkv::DType::f32, rwkv::DType::f16, rwkv::DType::bf16}) {
    const auto one = logits(type, 1);
    CHECK(std::all_of(one.begin(), one.end(), [](float x) { return std::isfinite(x); }));
    CHECK(*std::max_element(one.begin(), one.end()) > 0.1f);
    CHECK(same_bits(one, logits(type, 1)));
    CHECK(!same_bits(one, logits(type, 2)));
  }
  CHECK_THROWS_AS(logits(rwkv::DType::q8_0, 1), rwkv::Error);
}
