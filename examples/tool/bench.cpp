// SPDX-License-Identifier: Apache-2.0
// Speed as a fraction of what the memory can do: reading speed is measured in the same run, on the
// same threads, in turns with the decoding, because on a shared machine it changes from second to
// second. So is the speed of arithmetic, in turns with prefill.
#include "arithmetic.hpp"
#include "common.hpp"
#include "random_model.hpp"
#include <rwkv/convert.hpp>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <optional>
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

/// Memory as weights have it.
class Block {
 public:
  explicit Block(std::size_t bytes)
      : arena_(bytes + rwkv::alignment, nullptr), data_(arena_.allocate<std::byte>(bytes)) {}
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  rwkv::io::detail::WeightArena arena_;
  std::byte* data_;
};

/// Bytes per second that the pool's threads read from a buffer as large as a model (but 256 MiB to
/// 1 GiB: less would stay in some caches), in the way that suits the memory best: huge pages, one
/// stream per thread or several, and these asked for ahead of time or not.
class ReadBandwidth {
 public:
  static constexpr std::size_t least = std::size_t{256} << 20;

  ReadBandwidth(rwkv::ThreadPool& pool, std::size_t model_bytes)
      : pool_(pool),
        floats_(std::clamp(model_bytes, least, most) / sizeof(float)),
        memory_(floats_ * sizeof(float)) {
    std::memset(memory_.data(), 0, floats_ * sizeof(float));
  }

  /// Reads the buffer once, each time in the next of the ways.
  void measure() {
    const std::size_t way = turns_++ % std::size(ways);
    speeds_[way].push_back((this->*ways[way])());
  }

  /// The speed of the way that was fastest by its median.
  [[nodiscard]] double fastest() const {
    double best = 0.0;
    for (const auto& speeds : speeds_)
      if (!speeds.empty()) best = std::max(best, median(speeds));
    return best;
  }

 private:
  template <std::size_t Streams, bool Prefetch>
  double read() {
    using L = rwkv::simd::Native;
    const auto* const data = reinterpret_cast<const float*>(memory_.data());
    const std::size_t workers = pool_.concurrency();
    sums_.assign(workers, 0.0f);
    const auto start = Clock::now();
    pool_.parallel(workers, [&](std::size_t w) {
      constexpr std::size_t lines = 8;  // at a time
      constexpr std::size_t line = rwkv::alignment / sizeof(float);
      const auto mine = rwkv::share(floats_, workers, w, lines * line);
      const std::size_t rounds = (mine.end - mine.begin) / (lines * line);
      const std::size_t apart = Streams == 1 ? line : rounds * line;
      const float* const first = data + mine.begin;
      L sum[lines];
      for (L& s : sum) s = L::broadcast(0.0f);
      for (std::size_t i = 0; i < rounds; ++i) {
        for (std::size_t s = 0; s < lines; ++s) {
          const float* at = first + s * apart + i * line * (lines / Streams);
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
    return static_cast<double>(floats_ * sizeof(float)) / seconds;
  }

  static constexpr std::size_t most = std::size_t{1} << 30;
  static constexpr double (ReadBandwidth::*ways[])() = {&ReadBandwidth::read<1, false>,
                                                        &ReadBandwidth::read<8, false>,
                                                        &ReadBandwidth::read<8, true>};
  rwkv::ThreadPool& pool_;
  std::size_t floats_;
  Block memory_;
  std::vector<float> sums_;
  std::array<std::vector<double>, std::size(ways)> speeds_;
  std::size_t turns_ = 0;
};

#if RWKV_DISPATCH && RWKV_TARGET_AMX
/// Products of 16 rows, 64 inputs and 16 outputs in tile registers, one for each chain.
float multiply_tiles(std::size_t rounds) {
  using Tiles = rwkv::simd::AmxInstructions;
  rwkv::simd::TileConfiguration shapes;
  std::fill_n(shapes.rows, 8, std::uint8_t{16});
  std::fill_n(shapes.bytes_per_row, 8, std::uint16_t{64});
  Tiles::configure(shapes);  // everything is zero then
  const auto six = [] {
    Tiles::add_products<0, 6, 7>();
    Tiles::add_products<1, 6, 7>();
    Tiles::add_products<2, 6, 7>();
    Tiles::add_products<3, 6, 7>();
    Tiles::add_products<4, 6, 7>();
    Tiles::add_products<5, 6, 7>();
  };
  static_assert(compiled::chains == 12);
  for (std::size_t i = 0; i < 2 * rounds; ++i) six();
  Tiles::release();
  return 0.0f;
}
#endif

/// Multiply-adds per second of the pool's threads when nothing has to be loaded: of floats, of
/// bytes as in products with quantised matrices, or of bfloat16, with the instructions that
/// products of many rows use on this processor.
class Arithmetic {
 public:
  Arithmetic(rwkv::ThreadPool& pool, rwkv::DType type, rwkv::kernels::Inputs inputs)
      : pool_(pool), probe_(choose(type, inputs)) {}

  double measure() {
    constexpr std::size_t rounds = std::size_t{1} << 21;
    const std::size_t workers = pool_.concurrency();
    sums_.assign(workers, 0.0f);
    const auto start = Clock::now();
    pool_.parallel(workers, [&](std::size_t w) { sums_[w] = probe_.run(rounds); });
    const double seconds = seconds_since(start);
    for (const float sum : sums_)
      if (sum != 0.0f) rwkv::fail(rwkv::ErrorCategory::numeric, "zeros do not add up to zero");
    return static_cast<double>(workers * rounds * compiled::chains * probe_.step) / seconds;
  }

 private:
  struct Probe {
    float (*run)(std::size_t rounds);
    std::size_t step;  // multiply-adds of one chain in one round
  };

  /// As kernels::multiply chooses.
  static Probe choose(rwkv::DType type, rwkv::kernels::Inputs inputs) {
    return choose_for<rwkv::simd::Native>(type, inputs);
  }
  template <class L>  // what is chosen where nothing better is
  static Probe choose_for(rwkv::DType type, rwkv::kernels::Inputs inputs) {
    namespace kernels = rwkv::kernels;
    namespace simd = rwkv::simd;
    const auto format = kernels::activation_format<simd::Chosen>({type, nullptr, 0, 0, inputs});
    const bool bytes = format == kernels::ActivationFormat::codes;
    [[maybe_unused]] const bool pairs = format == kernels::ActivationFormat::bfloats16;
#if RWKV_DISPATCH
    using simd::Level;
    const Level level = simd::level();
#if RWKV_TARGET_AVX2
#if RWKV_TARGET_AMX
    if (bytes && level >= Level::amx_int8) return {multiply_tiles, std::size_t{16} * 64 * 16};
#endif
    if (bytes && level >= Level::avx512_vnni)
      return {avx512_vnni::multiply_bytes<simd::Avx512Vnni>, 64};
    if (bytes && level == Level::avx_vnni) return {avx_vnni::multiply_bytes<simd::AvxVnni>, 32};
    if (bytes && level >= Level::avx2) return {avx2::multiply_bytes<simd::Avx2>, 32};
    if (pairs) return {avx512_bf16::multiply_pairs<simd::Avx512Bf16>, 32};
    if (level >= Level::avx512) return {avx512::multiply_floats<simd::Avx512>, 16};
    if (level >= Level::avx2) return {avx2::multiply_floats<simd::Avx2>, 8};
#else
    if (bytes && level >= Level::i8mm) return {i8mm::multiply_matrices<simd::NeonMatrix>, 64};
    if (bytes && level >= Level::dotprod) return {dotprod::multiply_bytes<simd::NeonDot>, 16};
#endif
#endif
    if constexpr (requires { typename L::Bytes::Pair; })
      if (bytes) return {compiled::multiply_matrices<L>, 16 * L::Bytes::width};
    if (bytes) return {compiled::multiply_bytes<L>, 4 * L::Bytes::width};
    if constexpr (simd::HasPairs<L>)
      if (pairs) return {compiled::multiply_pairs<L>, 2 * L::width};
    return {compiled::multiply_floats<L>, L::width};
  }

  rwkv::ThreadPool& pool_;
  Probe probe_;
  std::vector<float> sums_;
};

/// Bytes of weights per second that products of one row with part of a matrix take in when the part
/// stays in the cache: what decoding could reach if memory were no limit.
class CachedProduct {
  using L = rwkv::simd::Chosen;

 public:
  CachedProduct(rwkv::ThreadPool& pool, const rwkv::AnyMatrix& matrix)
      : pool_(pool),
        matrix_(matrix),
        input_(matrix.cols),
        quantised_(rwkv::kernels::QuantisedActivations::bytes_for(matrix.cols)) {
    namespace kernels = rwkv::kernels;
    constexpr std::size_t fits = std::size_t{128} << 10;
    panels_ = std::clamp<std::size_t>(fits / bytes(1), 1, kernels::panels_for(matrix.rows));
    std::fill_n(input_.data(), matrix.cols, 0.5f);
    x_ = {input_.data(), matrix.cols, {quantised_.data(), quantised_.size(), matrix.cols}};
    const kernels::ActivationFormat how = kernels::activation_format<L>(matrix);
    if (how == kernels::ActivationFormat::none)
      x_.quantised = {};
    else
      kernels::quantise_row<L>(how, input_.data(), x_.quantised, 0);
  }

  double measure() {
    const std::size_t rounds = (std::size_t{256} << 20) / bytes(panels_);
    const std::size_t workers = pool_.concurrency();
    const std::size_t outputs = rwkv::kernels::panels_for(matrix_.rows) * rwkv::kernels::panel_rows;
    outputs_.assign(workers * outputs, 0.0f);
    const auto start = Clock::now();
    pool_.parallel(workers, [&](std::size_t w) {
      for (std::size_t i = 0; i < rounds; ++i)
        rwkv::kernels::multiply<L>(matrix_, {0, panels_}, x_, 1, outputs_.data() + w * outputs,
                                   outputs);
    });
    return static_cast<double>(workers * rounds * bytes(panels_)) / seconds_since(start);
  }

 private:
  [[nodiscard]] std::size_t bytes(std::size_t panels) const {
    return rwkv::kernels::packed_bytes(matrix_.type, panels * rwkv::kernels::panel_rows,
                                       matrix_.cols);
  }

  rwkv::ThreadPool& pool_;
  rwkv::AnyMatrix matrix_;
  std::size_t panels_ = 0;
  rwkv::Buffer<float, rwkv::dynamic> input_;
  rwkv::Buffer<std::byte, rwkv::dynamic> quantised_;
  rwkv::kernels::ProductInputs x_{};
  std::vector<float> outputs_;
};

/// Multiply-adds of the matrices that every token passes, without the head.
double multiply_adds(const rwkv::DynamicShape& shape) {
  const auto c = static_cast<double>(shape.embed());
  const std::size_t ranks =
      shape.decay_rank() + shape.icl_rank() + shape.value_rank() + shape.gate_rank();
  const auto r = static_cast<double>(shape.deep_rank());
  const double deep = r * (c + r + static_cast<double>(shape.ffn()));
  const double block = 4 * c * c + 2 * c * static_cast<double>(ranks + shape.ffn()) + deep;
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
  const Block memory(std::filesystem::file_size(path));
  file.read(reinterpret_cast<char*>(memory.data()),
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

/// Bytes of weights that decoding a token leaves out when this fraction of hidden units is zero.
template <class Weights>
double bytes_skipped(const Weights& weights, double zeros) {
  if (!rwkv::kernels::worth_listing(1 - zeros, 1)) return 0.0;
  double bytes = 0.0;
  const auto add = [&](const rwkv::AnyMatrix& value) {
    namespace kernels = rwkv::kernels;
    if (leaves_out(value, kernels::activation_format<rwkv::simd::Chosen>(value)))
      bytes += zeros * static_cast<double>(kernels::skippable_bytes(value));
  };
  for (std::size_t i = 0; i < weights.dimensions().layers; ++i) add(weights.block(i).ffn.value);
  for (std::size_t j = 0; j < weights.sparse_blocks(); ++j) add(weights.sparse_block(j).ffn.value);
  return bytes;
}

/// The fraction of hidden units that are zero while some tokens are decoded.
template <class Model, class State, class Work>
double count_zeros(const Model& model, State& state, Work& work, rwkv::ThreadPool& pool,
                   std::span<const rwkv::Token> tokens) {
  rwkv::HiddenUnits& units = work.hidden_units();
  units = {.counted = true};
  for (std::size_t i = 0; i < tokens.size(); ++i)
    model.forward(state, tokens.subspan(i, 1), work, pool);
  units.counted = false;
  return static_cast<double>(units.zero) / static_cast<double>(units.all);
}

/// `dense`: the same model, which reads all weights, or null.
template <class Model, class State, class Work>
void measure(const Bench& options, const Model& model, const Model* dense, State& state, Work& work,
             rwkv::ThreadPool& pool, const Loading& loading) {
  std::mt19937 random_token(2);
  std::vector<rwkv::Token> prompt(std::max<std::size_t>(options.prompt, 1));
  for (rwkv::Token& t : prompt)
    t = static_cast<rwkv::Token>(random_token() % model.shape().vocab());

  // Rounds of: decoding and reading in turns, because the memory's speed changes with what else
  // runs on a machine; arithmetic, prefill, a batch, arithmetic.
  constexpr std::size_t rounds = 5;
  const rwkv::DType type = model.weights().block(0).ffn.key.type;
  const bool work_known = model.hybrid() == nullptr;
  ReadBandwidth bandwidth(pool, model.weights().bytes_per_token());
  Arithmetic arithmetic(pool, type, options.inputs);
  CachedProduct cached(pool, model.weights().block(0).ffn.key);
  std::vector<double> peaks;
  std::vector<double> peak_fractions;
  std::vector<double> batches;
  std::vector<double> batch_fractions;
  std::vector<double> cached_speeds;
  std::vector<double> decodes;
  std::vector<double> prefills;
  std::vector<double> dense_decodes;
  std::vector<double> decode_ratios;
  std::vector<double> prefill_ratios;
  const double zeros = count_zeros(
      model, state, work, pool,
      std::span<const rwkv::Token>(prompt).first(std::min<std::size_t>(prompt.size(), 16)));
  const double bytes = static_cast<double>(model.weights().bytes_per_token()) -
                       bytes_skipped(model.weights(), zeros);
  const std::size_t steps = std::max<std::size_t>(1, options.generate / rounds);
  // Tokens between two readings: a small model would leave the cache.
  const auto turn =
      std::max<std::size_t>(1, ReadBandwidth::least / model.weights().bytes_per_token());
  Progress progress("measuring");
  for (std::size_t round = 0; round < rounds; ++round) {
    progress(static_cast<double>(round) / rounds);
    for (std::size_t done = 0; done < steps;) {
      const std::size_t end = std::min(steps, done + turn);
      const auto began = Clock::now();
      const auto tokens = static_cast<double>(end - done);
      const std::size_t first = done;
      for (; done < end; ++done)
        model.forward(state, std::span(prompt).subspan(done % prompt.size(), 1), work, pool);
      decodes.push_back(tokens / seconds_since(began));
      if (dense != nullptr) {
        const auto dense_began = Clock::now();
        for (std::size_t i = first; i < end; ++i)
          dense->forward(state, std::span(prompt).subspan(i % prompt.size(), 1), work, pool);
        dense_decodes.push_back(tokens / seconds_since(dense_began));
        decode_ratios.push_back(decodes.back() / dense_decodes.back());
      }
      bandwidth.measure();
    }
    cached_speeds.push_back(cached.measure());
    const double peak_before = arithmetic.measure();
    const auto began = Clock::now();
    model.forward(state, prompt, work, pool);
    prefills.push_back(static_cast<double>(prompt.size()) / seconds_since(began));
    if (dense != nullptr) {
      const auto dense_began = Clock::now();
      dense->forward(state, prompt, work, pool);
      prefill_ratios.push_back(prefills.back() * seconds_since(dense_began) /
                               static_cast<double>(prompt.size()));
    }
    if (options.batch > 0)
      batches.push_back(decode_batch(model, state, work, pool, std::span<const rwkv::Token>(prompt),
                                     options.batch, std::max<std::size_t>(1, steps / 2)));
    peaks.push_back((peak_before + arithmetic.measure()) / 2);
    if (work_known) {
      const double blocks = multiply_adds(model.shape());
      const auto head = static_cast<double>(model.shape().vocab() * model.shape().embed());
      peak_fractions.push_back(prefills.back() * blocks / peaks.back());
      if (options.batch > 0)
        batch_fractions.push_back(batches.back() * (blocks + head) / peaks.back());
    }
  }

  nlohmann::ordered_json j;
  j["model"] = options.shape.empty() ? options.model : options.shape;
  j["type"] = std::string(name_of(type));
  j["instructions"] = rwkv::simd::name_of(rwkv::simd::level());
  j["threads"] = pool.concurrency();
  j["decode_tokens_per_second"] = median(decodes);
  j["prefill_tokens_per_second"] = median(prefills);
  j["arithmetic_peak_per_second"] = median(peaks);
  if (work_known) j["prefill_peak_fraction"] = median(peak_fractions);
  if (options.batch > 0) {
    j["batch"] = options.batch;
    j["batch_tokens_per_second"] = median(batches);
    if (work_known) j["batch_peak_fraction"] = median(batch_fractions);
  }
  j["prompt_tokens"] = prompt.size();
  j["generated_tokens"] = steps * rounds;
  j["weight_bytes_per_token"] = model.weights().bytes_per_token();
  j["ffn_zeros"] = zeros;
  j["read_bytes_per_token"] = std::llround(bytes);
  if (dense != nullptr) {
    j["dense_decode_tokens_per_second"] = median(dense_decodes);
    j["decode_speedup"] = median(decode_ratios);
    j["prefill_speedup"] = median(prefill_ratios);
  }
  j["read_bandwidth_bytes_per_second"] = bandwidth.fastest();
  j["decode_bandwidth_fraction"] = median(decodes) * bytes / bandwidth.fastest();
  j["cached_product_bytes_per_second"] = median(cached_speeds);
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
  if (named && !blocks) how.matrix_type = named;

  const auto source = [&] {
    if (options.shape.empty()) return rwkv::io::read_checkpoint(options.model);
    return random_checkpoint(options.shape,
                             blocks ? rwkv::DType::f16 : named.value_or(rwkv::DType::f16),
                             options.ffn_zeros);
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
               std::optional<rwkv::AnyModel> dense;
               if (options.dense) {
                 rwkv::LoadOptions all = how;
                 all.skip_zeros = false;
                 with_model(checkpoint, options.hybrid, pool, all,
                            [&](const rwkv::AnyModel& other, auto&&...) { dense = other; });
               }
               checkpoint = {};
               auto work =
                   make_workspace(std::max<std::size_t>(256, options.batch), options.prompt);
               measure(options, model, dense ? &*dense : nullptr, state, work, pool, loading);
             });
}

}  // namespace tool
