// SPDX-License-Identifier: Apache-2.0
// Models on a CUDA device: are they right, and how fast are they? bench/cuda.sh builds and runs it.
//
//   cuda --check             goldens, the same bits however a text is cut, greedy text as on the
//   CPU cuda --table             tokens per second of models with random weights, and the memory's
//   share cuda --table --tiny      the same for a model that an emulated device can run
#include "../options.hpp"
#include "support/golden.hpp"
#include <rwkv/cuda.hpp>
#include <rwkv/generate.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>

namespace {

using rwkv::Token;

double seconds(const auto& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

bool passed = true;
void report(bool good, const char* what, const std::string& of, double number) {
  std::printf("%-4s %-44s %-28s %g\n", good ? "ok" : "BAD", what, of.c_str(), number);
  std::fflush(stdout);
  passed = passed && good;
}

using rwkv::CudaArithmetic;

std::vector<float> logits_in_chunks(const rwkv::CudaModel& model, rwkv::CudaState& state,
                                    std::span<const Token> tokens, std::size_t chunk, bool graphs,
                                    CudaArithmetic arithmetic) {
  rwkv::CudaWorkspace work(model, {.rows = chunk, .graphs = graphs, .arithmetic = arithmetic});
  std::vector<float> logits(tokens.size() * model.shape().vocab());
  for (std::size_t done = 0; done < tokens.size(); done += chunk) {
    const std::size_t some = std::min(chunk, tokens.size() - done);
    const rwkv::CudaSlot slot{&state, tokens.subspan(done, some)};
    model.forward(
        std::span(&slot, 1), rwkv::Logits::all,
        std::span(logits).subspan(done * model.shape().vocab(), some * model.shape().vocab()),
        work);
  }
  return logits;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_goldens(int device, std::size_t most_tokens, CudaArithmetic arithmetic) {
  const bool tensor = arithmetic == CudaArithmetic::tensor;
  std::printf("%s\n", tensor ? "on tensor cores:" : "plain:");
  for (const auto& c : golden::cases()) {
    if (!std::filesystem::exists(c.model)) {
      std::printf("skipped: no %s\n", c.model.string().c_str());
      continue;
    }
    const auto want = golden::read(c.golden);
    const rwkv::CudaModel model(golden::read(c.model), {}, {.device = device});
    if (tensor && rwkv::cuda::plan_of(*model.loaded()).head.kind == rwkv::cuda::Kind::f32) continue;
    const std::size_t vocab = model.shape().vocab();
    auto tokens = golden::tokens(want, "tokens");
    auto positions = want.get("positions").values<std::size_t>();
    const auto logits64 = want.get("logits").values<double>();
    const bool whole = tokens.size() <= most_tokens;
    if (!whole) tokens.resize(most_tokens);
    while (positions.back() >= tokens.size()) positions.pop_back();

    rwkv::CudaState state = model.initial_state();
    const auto logits = logits_in_chunks(model, state, tokens, tokens.size(), true, arithmetic);
    double worst = 0;
    for (std::size_t p = 0; p < positions.size(); ++p)
      worst = std::max(
          worst,
          golden::max_error(std::span(logits).subspan(positions[p] * vocab, vocab),
                            {logits64.begin() + static_cast<std::ptrdiff_t>(p * vocab),
                             logits64.begin() + static_cast<std::ptrdiff_t>((p + 1) * vocab)}));
    report(worst <= 1e-4, "largest error of a logit", c.name, worst);
    if (whole) {
      const auto error =
          golden::state_error(state.download(), golden::state(want, "final.", model.shape()));
      report(error.shift <= 2e-5 && error.wkv <= 1e-5, "largest error of a state", c.name,
             std::max(error.shift, error.wkv));
    }
    for (const std::size_t chunk : {1u, 7u, 64u}) {
      rwkv::CudaState other = model.initial_state();
      report(same(logits, logits_in_chunks(model, other, tokens, chunk, chunk != 7, arithmetic)) &&
                 other == state,
             "the same bits in chunks", c.name, static_cast<double>(chunk));
    }
    rwkv::CudaState again = model.initial_state();
    report(same(logits, logits_in_chunks(model, again, tokens, tokens.size(), false, arithmetic)),
           "the same bits when run again", c.name, 0);

    // 1 to 12 sequences of one token each, beside each alone.
    bool right = true;
    rwkv::CudaWorkspace work(model, {.rows = 16, .arithmetic = arithmetic});
    for (std::size_t sequences = 1; sequences <= 12; ++sequences) {
      std::vector<rwkv::CudaState> states(sequences, model.initial_state());
      std::vector<rwkv::CudaSlot> slots;
      for (std::size_t s = 0; s < sequences; ++s)
        slots.push_back({&states[s], std::span(tokens).subspan(s, 1)});
      std::vector<float> together(sequences * vocab);
      model.forward(slots, rwkv::Logits::last, together, work);
      for (std::size_t s = 0; s < sequences; ++s) {
        rwkv::CudaState alone = model.initial_state();
        const auto one = model.forward(alone, std::span(tokens).subspan(s, 1), work);
        right =
            right && std::memcmp(one.data(), together.data() + s * vocab, one.size_bytes()) == 0;
      }
    }
    report(right, "the same bits in a batch of 1 to 12", c.name, 12);
  }
}

/// Greedy text of the story teller: on the CPU, on the device token by token, and on the device
/// alone.
void check_text(int device, std::size_t steps) {
  const auto cpu = rwkv::load(std::filesystem::path(RWKV_MODELS) / "tales" / "tales.safetensors");
  const rwkv::CudaModel model(cpu, {.device = device});
  const auto tokenizer = rwkv::Tokenizer::bytes();
  rwkv::GenerateOptions options;
  options.max_tokens = steps;
  options.sampler.temperature = 0;
  options.sampler.presence_penalty = options.sampler.frequency_penalty = 0;
  options.stop_tokens.clear();
  const std::string prompt = "Once upon a time";
  rwkv::State<> cpu_state = cpu.initial_state();
  rwkv::Workspace<> cpu_work(cpu.shape());
  const auto want = rwkv::generate(cpu, cpu_state, cpu_work, tokenizer, prompt, options);
  rwkv::CudaState state = model.initial_state();
  rwkv::CudaWorkspace work(model);
  const auto got = rwkv::generate(model, state, work, tokenizer, prompt, options);
  report(got.tokens == want.tokens, "greedy text as on the CPU", "tales",
         static_cast<double>(steps));

  // Drawn with a seed, on the device alone and through the host.
  options.sampler = {.seed = 7};
  options.sampler.uncounted.emplace();
  rwkv::CudaState drawn_state = model.initial_state();
  const auto drawn = rwkv::generate(model, drawn_state, work, tokenizer, prompt, options);
  rwkv::CudaSampler sampler(model, options.sampler);
  rwkv::CudaState alone = model.initial_state();
  const auto tokens = tokenizer.encode(prompt);
  model.forward(alone, std::span(tokens).first(tokens.size() - 1), work);
  rwkv::CudaSequence sequence{&alone, &sampler, tokens.back()};
  report(model.decode(std::span(&sequence, 1), steps, work) == drawn.tokens,
         "text drawn on the device as through the host", "tales", static_cast<double>(steps));
}

struct Released {
  const char* name;
  rwkv::Dimensions d;
};
const Released released[] = {
    {"0.1b", {12, 768, 64, 3072, 65536, 64, 64, 32, 128}},
    {"0.4b", {24, 1024, 64, 4096, 65536, 64, 64, 32, 128}},
    {"1.5b", {24, 2048, 64, 8192, 65536, 96, 96, 64, 256}},
    {"2.9b", {32, 2560, 64, 10240, 65536, 96, 96, 64, 320}},
    {"7.2b", {32, 4096, 64, 16384, 65536, 128, 128, 96, 480}},
};
const Released tiny{"tiny", {2, 64, 32, 256, 300, 8, 8, 8, 8}};

/// Bytes that a token of a lone sequence reads.
double bytes_per_token(const rwkv::CudaModel& model) {
  const rwkv::cuda::Plan& p = rwkv::cuda::plan_of(*model.loaded());
  const double table =
      static_cast<double>(p.vocab * p.embed) * (p.table_kind == rwkv::cuda::Kind::f32 ? 4 : 2);
  return static_cast<double>(p.bytes) - table + 2.0 * 4 * static_cast<double>(p.state());
}

void measure(const Released& shape, rwkv::DType type, int device, bool sparse, double bandwidth,
             const std::vector<std::size_t>& batches, const std::vector<std::size_t>& prompts,
             std::size_t prompt_tokens, std::size_t steps) {
  std::optional<rwkv::CudaModel> model;
  try {
    model.emplace(rwkv::CudaModel::random(shape.d, type, 1, sparse, {.device = device}));
  } catch (const rwkv::Error& e) {
    std::printf("| %s | %s |\n", shape.name, e.what());
    return;
  }
  const auto row = [&](const char* what, CudaArithmetic arithmetic, std::size_t sequences,
                       double speed, double share) {
    std::printf("| %s | %s | %s | %s | %zu | %.0f |", shape.name,
                std::string(rwkv::name_of(type)).c_str(), what,
                arithmetic == CudaArithmetic::tensor ? "tensor" : "plain", sequences, speed);
    if (share > 0)
      std::printf(" %.0f %% |\n", 100 * share);
    else
      std::printf(" |\n");
    std::fflush(stdout);
  };
  rwkv::SamplerOptions greedy{.temperature = 0, .presence_penalty = 0, .frequency_penalty = 0};
  std::vector<CudaArithmetic> both{CudaArithmetic::plain};
  if (type != rwkv::DType::f32) both.push_back(CudaArithmetic::tensor);
  const auto decode = [&](CudaArithmetic arithmetic, std::size_t sequences) {
    rwkv::CudaWorkspace work(*model, {.rows = sequences, .arithmetic = arithmetic});
    std::vector<rwkv::CudaState> states(sequences, model->initial_state());
    std::vector<rwkv::CudaSampler> samplers(sequences, rwkv::CudaSampler(*model, greedy));
    std::vector<rwkv::CudaSequence> all;
    for (std::size_t s = 0; s < sequences; ++s)
      all.push_back({&states[s], &samplers[s], static_cast<Token>(s % shape.d.vocab)});
    model->decode(all, 3, work);
    double best = 1e30;
    for (int i = 0; i < 3; ++i)
      best = std::min(best, seconds([&] { model->decode(all, steps, work); }));
    const double speed = static_cast<double>(sequences * steps) / best;
    row("decode", arithmetic, sequences, speed,
        sequences == 1 ? speed * bytes_per_token(*model) / bandwidth : 0);
  };
  const auto prompt = [&](CudaArithmetic arithmetic, std::size_t sequences) {
    rwkv::CudaWorkspace work(
        *model,
        {.rows = std::min<std::size_t>(sequences * prompt_tokens, 1024), .arithmetic = arithmetic});
    std::vector<rwkv::CudaState> states(sequences, model->initial_state());
    std::vector<Token> tokens(prompt_tokens);
    for (std::size_t t = 0; t < tokens.size(); ++t)
      tokens[t] = static_cast<Token>((t * 7919) % shape.d.vocab);
    std::vector<rwkv::CudaSlot> slots;
    for (rwkv::CudaState& state : states) slots.push_back({&state, tokens});
    std::vector<float> logits(sequences * shape.d.vocab);
    const auto run = [&] { model->forward(slots, rwkv::Logits::last, logits, work); };
    run();
    const double best = std::min(seconds(run), seconds(run));
    row("prompt", arithmetic, sequences, static_cast<double>(sequences * prompt_tokens) / best, 0);
  };
  const auto all = [&](const char* what, const std::vector<std::size_t>& numbers, const auto& one) {
    for (const std::size_t sequences : numbers)
      for (const CudaArithmetic arithmetic : both) try {
          one(arithmetic, sequences);
        } catch (const rwkv::Error& e) {
          std::printf("| %s | %s | %zu | %s |\n", shape.name, what, sequences, e.what());
        }
  };
  all("decode", batches, decode);
  all("prompt", prompts, prompt);
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Options options(argc, argv,
                         "cuda [--check] [--table] [--tiny] [--device N] [--shapes 0.1b,1.5b] "
                         "[--type f16] [--dense]");
  const bool check = options.flag("check");
  const bool table = options.flag("table");
  const bool small = options.flag("tiny");
  const bool dense = options.flag("dense");
  const int device = options.number("device", 0);
  const std::string shapes = options.text("shapes", "0.1b,0.4b,1.5b,2.9b,7.2b");
  const auto type = rwkv::type_named(options.text("type", "f16")).value_or(rwkv::DType::f16);
  options.finish();

  const auto info = rwkv::cuda::device_info(device);
  std::printf(
      "%s, compute capability %d.%d, %d multiprocessors, %.1f GB; driver %d.%d, runtime %d.%d\n",
      info.name.c_str(), info.major, info.minor, info.multiprocessors,
      static_cast<double>(info.memory) / 1e9, info.driver / 1000, info.driver % 1000 / 10,
      info.runtime / 1000, info.runtime % 1000 / 10);
  if (check) {
    check_goldens(device, small ? 12 : 100'000, CudaArithmetic::plain);
    if (info.major >= 8) check_goldens(device, small ? 12 : 100'000, CudaArithmetic::tensor);
    check_text(device, small ? 4 : 256);
  }
  if (table) {
    const double bandwidth =
        rwkv::cuda::copy_speed(device, std::uint64_t{small ? 1u << 20 : 1u << 30});
    std::printf("\ncopying within the device's memory: %.2f TB/s\n\n", bandwidth / 1e12);
    std::printf(
        "| model | weights | what | arithmetic | sequences | tokens/s | share of copying |\n");
    std::printf("|---|---|---|---|---|---|---|\n");
    if (small) {
      measure(tiny, type, device, !dense, bandwidth, {1, 9}, {1}, 12, 2);
    } else {
      for (const Released& shape : released)
        if (("," + shapes + ",").find(std::string(",") + shape.name + ",") != std::string::npos)
          measure(shape, type, device, !dense, bandwidth, {1, 8, 32, 128, 320, 960}, {1, 32}, 1024,
                  shape.d.layers > 24 ? 32 : 64);
    }
  }
  return passed ? 0 : 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "error: %s\n", e.what());
  return 1;
}
