// SPDX-License-Identifier: Apache-2.0
// Speed as a fraction of what the memory can do: reading speed is measured in the same run, on the
// same threads, in turns with the decoding, because on a shared machine it changes from second to
// second. So is the speed of arithmetic, in turns with prefill.
#include "common.hpp"
#include "random_model.hpp"
#include <rwkv/convert.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <sys/resource.h>
#include <unistd.h>

namespace tool {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// Bytes per second that the pool's threads read from a buffer far larger than any cache, in the
/// way that suits the memory best: huge pages, several streams per thread, asked for ahead of time
/// or not.
class ReadBandwidth {
 public:
  explicit ReadBandwidth(rwkv::ThreadPool& pool) : pool_(pool), memory_(floats * sizeof(float)) {
    std::memset(memory_.data(), 0, floats * sizeof(float));
  }

  double measure() { return std::max(measure<true>(), measure<false>()); }

 private:
  template <bool Prefetch>
  double measure() {
    using L = rwkv::simd::Native;
    const auto* const data = static_cast<const float*>(memory_.data());
    const std::size_t workers = pool_.concurrency();
    sums_.assign(workers, 0.0f);
    const auto start = Clock::now();
    pool_.parallel(workers, [&](std::size_t w) {
      constexpr std::size_t streams = 8;
      constexpr std::size_t line = rwkv::alignment / sizeof(float);
      const auto mine = rwkv::share(floats, workers, w, streams * line);
      const std::size_t length = (mine.end - mine.begin) / streams;
      const float* const first = data + mine.begin;
      L sum[streams];
      for (L& s : sum) s = L::broadcast(0.0f);
      for (std::size_t i = 0; i < length; i += line) {
        for (std::size_t s = 0; s < streams; ++s) {
          const float* at = first + s * length + i;
          if constexpr (Prefetch) __builtin_prefetch(at + 1024, 0, 2);
          for (std::size_t k = 0; k < line; k += L::width) sum[s] = sum[s] + L::load(at + k);
        }
      }
      for (const L& s : sum) {
        alignas(rwkv::alignment) float lanes[16];
        s.store(lanes);
        sums_[w] += lanes[0];
      }
    });
    const double seconds = seconds_since(start);
    if (sums_[0] != 0.0f) rwkv::fail(rwkv::ErrorCategory::numeric, "zeros do not add up to zero");
    return static_cast<double>(floats * sizeof(float)) / seconds;
  }

  static constexpr std::size_t floats = std::size_t{64} << 20;
  rwkv::ThreadPool& pool_;
  rwkv::io::detail::WeightMemory memory_;
  std::vector<float> sums_;
};

/// Multiply-adds per second of the pool's threads when nothing has to be loaded: of floats, of
/// bytes as in products with quantised matrices, or of bfloat16.
class Arithmetic {
  using L = rwkv::simd::Native;

 public:
  enum class Operands { floats, bytes, pairs };

  Arithmetic(rwkv::ThreadPool& pool, Operands operands) : pool_(pool), operands_(operands) {}

  /// What products with matrices of this type multiply.
  static Operands operands(rwkv::DType type, rwkv::kernels::Inputs inputs) {
    switch (rwkv::kernels::preparation<L>({type, nullptr, 0, 0, inputs})) {
      case rwkv::kernels::Preparation::codes:
        return Operands::bytes;
      case rwkv::kernels::Preparation::bfloats16:
        return Operands::pairs;
      default:
        return Operands::floats;
    }
  }

  double measure() {
    constexpr std::size_t rounds = std::size_t{1} << 21;
    const std::size_t workers = pool_.concurrency();
    sums_.assign(workers, 0.0f);
    const auto start = Clock::now();
    pool_.parallel(workers, [&](std::size_t w) {
      sums_[w] = operands_ == Operands::bytes   ? integers(rounds)
                 : operands_ == Operands::pairs ? pairs<L>(rounds)
                                                : floats(rounds);
    });
    const double seconds = seconds_since(start);
    const std::size_t each = chains * (operands_ == Operands::bytes   ? 4 * L::Bytes::width
                                       : operands_ == Operands::pairs ? 2 * L::width
                                                                      : L::width);
    for (const float sum : sums_)
      if (sum != 0.0f) rwkv::fail(rwkv::ErrorCategory::numeric, "zeros do not add up to zero");
    return static_cast<double>(workers * rounds * each) / seconds;
  }

 private:
  static constexpr std::size_t chains = 12;  // hide the latency

  static float floats(std::size_t rounds) {
    volatile float zero = 0.0f;  // known numbers would be folded, equal chains become one
    volatile float one = 1.0f;
    L sum[chains];
    for (L& s : sum) s = L::broadcast(zero);
    const L a = L::broadcast(zero);
    const L b = L::broadcast(one);
    for (std::size_t i = 0; i < rounds; ++i) {
      RWKV_UNROLL
      for (L& s : sum) s = fma(s, b, a);
    }
    L all = a;
    for (const L& s : sum) all = all + s;
    return first(all);
  }
  static float integers(std::size_t rounds) {
    using B = L::Bytes;
    alignas(rwkv::alignment) std::int8_t memory[chains][4 * B::width] = {};
    typename B::Sum sum[chains];
    RWKV_UNROLL
    for (auto& s : sum) s = B::zero();
    for (std::size_t i = 0; i < rounds; ++i) {
      asm volatile("" : : "r"(memory) : "memory");  // or the products would be computed once
      RWKV_UNROLL
      for (std::size_t c = 0; c < chains; ++c) {
        const auto x = B::load(memory[c]);
        sum[c] = B::dot(sum[c], x, x);
        if constexpr (requires { B::hold(sum[c]); }) B::hold(sum[c]);  // in a register
      }
    }
    L all = L::broadcast(0.0f);
    RWKV_UNROLL
    for (const auto& s : sum) all = all + B::template to_float<L>(B::widen(s));
    return first(all);
  }
  template <class Lanes>
  static float pairs([[maybe_unused]] std::size_t rounds) {
    if constexpr (rwkv::simd::HasPairs<Lanes>) {
      volatile std::uint16_t zero = 0;  // known numbers would be folded
      const rwkv::bfloat16 two[2] = {{zero}, {zero}};
      const auto x = Lanes::Pairs::broadcast(two);
      Lanes sum[chains];
      volatile float start = 0.0f;
      for (Lanes& s : sum) s = Lanes::broadcast(start);
      for (std::size_t i = 0; i < rounds; ++i) {
        RWKV_UNROLL
        for (Lanes& s : sum) s = Lanes::Pairs::dot(s, x, x);
      }
      Lanes all = Lanes::broadcast(0.0f);
      for (const Lanes& s : sum) all = all + s;
      return first(all);
    } else {
      return 0.0f;
    }
  }
  static float first(const L& lanes) {
    alignas(rwkv::alignment) float stored[16];
    lanes.store(stored);
    return stored[0];
  }

  rwkv::ThreadPool& pool_;
  Operands operands_;
  std::vector<float> sums_;
};

/// Multiply-adds of the matrices that every token passes, without the head.
double multiply_adds(const rwkv::DynamicShape& shape) {
  const auto c = static_cast<double>(shape.embed());
  const std::size_t ranks =
      shape.decay_rank() + shape.icl_rank() + shape.value_rank() + shape.gate_rank();
  const double block = 4 * c * c + 2 * c * static_cast<double>(ranks + shape.ffn());
  return block * static_cast<double>(shape.layers()) -
         2 * c * static_cast<double>(shape.value_rank());  // block 0 has no value residual
}

/// Tokens per second of `batch` sequences that are decoded together.
template <class Model, class State, class Work>
double decode_batch(const Model& model, const State& start, Work& work, rwkv::ThreadPool& pool,
                    std::span<const rwkv::Token> prompt, std::size_t batch, std::size_t steps) {
  std::vector<State> states(batch, start);
  std::vector<decltype(slot_of(states[0], prompt))> slots;
  std::vector<float> logits(batch * model.shape().vocab());
  const auto began = Clock::now();
  for (std::size_t i = 0; i < steps; ++i) {
    slots.clear();
    for (std::size_t b = 0; b < batch; ++b)
      slots.push_back(slot_of(states[b], prompt.subspan((i + b) % prompt.size(), 1)));
    model.forward(slots, rwkv::Logits::last, logits, work, pool);
  }
  return static_cast<double>(batch * steps) / seconds_since(began);
}

/// What loading costs.
struct Loading {
  double seconds;
  std::size_t peak_rss_bytes;
  std::size_t file_bytes;  // 0 for a model that was in no file
  double read_seconds;     // of the file
};

/// Seconds for reading a file into memory.
double read_whole(const std::filesystem::path& path) {
  const auto start = Clock::now();
  std::ifstream file(path, std::ios::binary);
  const rwkv::io::detail::WeightMemory memory(std::filesystem::file_size(path));
  file.read(static_cast<char*>(memory.data()),
            static_cast<std::streamsize>(std::filesystem::file_size(path)));
  return seconds_since(start);
}

/// Forgets the largest memory so far, where the system can do that (Linux).
void reset_peak_rss() { std::ofstream("/proc/self/clear_refs") << 5; }

std::size_t peak_rss() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::size_t>(usage.ru_maxrss) * 1024;
}

template <class Model, class State, class Work>
void measure(const Bench& options, const Model& model, State& state, Work& work,
             rwkv::ThreadPool& pool, const Loading& loading) {
  std::mt19937 random_token(2);
  std::vector<rwkv::Token> prompt(std::max<std::size_t>(options.prompt, 1));
  for (rwkv::Token& t : prompt)
    t = static_cast<rwkv::Token>(random_token() % model.shape().vocab());

  // Rounds of: reading, decoding, reading; arithmetic, prefill, arithmetic; a batch.
  constexpr std::size_t rounds = 5;
  const rwkv::DType type = model.weights().block(0).ffn.key.type;
  // A program that chooses kernels at run time has no probe for the instructions it has chosen, and
  // the work of hybrids is not counted.
  const bool peak_known =
      std::is_same_v<Model, rwkv::Model<>> && rwkv::simd::level() == rwkv::simd::Level::compiled;
  ReadBandwidth bandwidth(pool);
  bandwidth.measure();
  Arithmetic arithmetic(pool, Arithmetic::operands(type, options.inputs));
  std::vector<double> peaks;
  std::vector<double> peak_fractions;
  std::vector<double> batches;
  std::vector<double> batch_fractions;
  std::vector<double> reads;
  std::vector<double> decodes;
  std::vector<double> prefills;
  std::vector<double> fractions;
  const auto bytes = static_cast<double>(model.weights().bytes_per_token());
  const std::size_t steps = std::max<std::size_t>(1, options.generate / rounds);
  Progress progress("measuring");
  for (std::size_t round = 0; round < rounds; ++round) {
    progress(static_cast<double>(round) / rounds);
    const double before = bandwidth.measure();
    auto t = Clock::now();
    for (std::size_t i = 0; i < steps; ++i)
      model.forward(state, std::span(prompt).subspan(i % prompt.size(), 1), work, pool);
    const double decode = static_cast<double>(steps) / seconds_since(t);
    const double read = (before + bandwidth.measure()) / 2;
    const double peak_before = peak_known ? arithmetic.measure() : 0.0;
    t = Clock::now();
    model.forward(state, prompt, work, pool);
    prefills.push_back(static_cast<double>(prompt.size()) / seconds_since(t));
    if (options.batch > 0)
      batches.push_back(decode_batch(model, state, work, pool, std::span<const rwkv::Token>(prompt),
                                     options.batch, std::max<std::size_t>(1, steps / 2)));
    if constexpr (std::is_same_v<Model, rwkv::Model<>>) {
      if (peak_known) {
        peaks.push_back((peak_before + arithmetic.measure()) / 2);
        const double blocks = multiply_adds(model.shape());
        const auto head = static_cast<double>(model.shape().vocab() * model.shape().embed());
        peak_fractions.push_back(prefills.back() * blocks / peaks.back());
        if (options.batch > 0)
          batch_fractions.push_back(batches.back() * (blocks + head) / peaks.back());
      }
    }
    reads.push_back(read);
    decodes.push_back(decode);
    fractions.push_back(decode * bytes / read);
  }

  nlohmann::ordered_json j;
  j["model"] = options.shape.empty() ? options.model : options.shape;
  j["type"] = std::string(name_of(type));
  j["instructions"] = rwkv::simd::name_of(rwkv::simd::level());
  j["threads"] = pool.concurrency();
  j["decode_tokens_per_second"] = median(decodes);
  j["prefill_tokens_per_second"] = median(prefills);
  if (peak_known) {
    j["arithmetic_peak_per_second"] = median(peaks);
    j["prefill_peak_fraction"] = median(peak_fractions);
  }
  if (options.batch > 0) {
    j["batch"] = options.batch;
    j["batch_tokens_per_second"] = median(batches);
    if (peak_known) j["batch_peak_fraction"] = median(batch_fractions);
  }
  j["prompt_tokens"] = prompt.size();
  j["generated_tokens"] = steps * rounds;
  j["weight_bytes_per_token"] = model.weights().bytes_per_token();
  j["read_bandwidth_bytes_per_second"] = median(reads);
  j["decode_bandwidth_fraction"] = median(fractions);
  j["state_bytes"] = state.bytes();
  j["workspace_bytes"] = work.bytes();
  j["load_seconds"] = loading.seconds;
  if (loading.file_bytes > 0) {
    j["file_bytes"] = loading.file_bytes;
    j["load_seconds_per_read"] = loading.seconds / loading.read_seconds;
  }
  j["load_peak_rss_bytes"] = loading.peak_rss_bytes;
  j["peak_rss_bytes"] = peak_rss();
  if (options.json) {
    std::cout << j.dump(2) << '\n';
    return;
  }
  for (const auto& [key, value] : j.items())
    std::printf(
        "%-34s%s\n", key.c_str(),
        value.is_string() ? value.template get<std::string>().c_str() : value.dump().c_str());
}

}  // namespace

/// A file for the time of a measurement.
class TemporaryFile {
 public:
  TemporaryFile()
      : path_(std::filesystem::temp_directory_path() /
              ("rwkv-bench-" + std::to_string(getpid()) + ".gguf")) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

void run(const Bench& options) {
  const auto named = rwkv::type_named(options.type);
  const bool blocks = named && rwkv::is_block(*named);
  rwkv::ThreadPool pool(options.threads);
  rwkv::LoadOptions how = load_options(options);
  if (!blocks) how.matrix_type = named;

  const auto source = [&] {
    if (options.shape.empty()) return rwkv::io::read_checkpoint(options.model);
    return random_checkpoint(options.shape,
                             blocks ? rwkv::DType::f16 : named.value_or(rwkv::DType::f16));
  };
  std::optional<TemporaryFile> converted;
  if (blocks) {
    Progress progress("converting");
    converted.emplace();
    rwkv::convert(source(), converted->path(),
                  {.type = *named, .self_test = false, .progress = std::ref(progress)}, pool);
  }
  const auto path = converted ? converted->path() : std::filesystem::path(options.model);
  // Not the index of a model in several files.
  std::error_code ignored;
  const bool one_file =
      std::filesystem::is_regular_file(path, ignored) && path.extension() != ".json";
  // Before there is a model, whose memory is measured; the first one reads from wherever it was.
  const double read_seconds =
      one_file ? median({read_whole(path), read_whole(path), read_whole(path)}) : 0.0;
  reset_peak_rss();
  const auto start = Clock::now();
  auto checkpoint = path.empty() ? source() : rwkv::io::read_checkpoint(path);
  with_model(checkpoint, options.hybrid, pool, how,
             [&](const auto& model, auto state, const auto& make_workspace) {
               const Loading loading{seconds_since(start), peak_rss(),
                                     one_file ? std::filesystem::file_size(path) : 0, read_seconds};
               checkpoint = {};
               auto work =
                   make_workspace(std::max<std::size_t>(256, options.batch), options.prompt);
               measure(options, model, state, work, pool, loading);
             });
}

}  // namespace tool
