// SPDX-License-Identifier: Apache-2.0
// Passkey retrieval, trained from a seed: a hybrid (RWKV-X: one RWKV-7 block, one sparse one)
// beside an RWKV-7 of equal size. A text is noise, words and numbers alike, with passkeys in it,
// "<mark> name number", one for every `spacing` tokens, and ends with "<ask> name", after which the
// model must say the number. It does not know before which one it will be asked for, so a state of
// constant size has to lose some of them as the text gets longer. Both models are trained on short
// texts and tested on longer ones, where the hybrid still reads only `topk` chunks per token.
//
//   passkey                                          a quick look
//   passkey --steps 1200 --longest 16384 --csv passkey.csv --out passkey.safetensors
//
// By default the chunks that a token reads cover the training texts, so that training is dense:
// with fewer, the hybrid learns to remember in its recurrent block instead of looking back.
//
// The numbers are the same for the same options, machine and number of threads.
#include "options.hpp"
#include <rwkv/core/argmax.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/train.hpp>

#include <chrono>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

namespace {

namespace train = rwkv::train;
using rwkv::Token;

constexpr const char* usage =
    "passkey [--models hybrid,rwkv7] [--spacing N, 0: a single passkey] [--steps N] [--batch B]\n"
    "               [--length T] [--chunk N] [--topk K] [--head-size N] [--rate R] [--seed S]\n"
    "               [--texts N] [--longest T] [--threads N] [--csv FILE] [--out FILE]";

// The vocabulary: numbers, the two signs, words, names.
constexpr Token numbers = 100;
constexpr Token mark = numbers;
constexpr Token ask = mark + 1;
constexpr Token first_word = ask + 1;
constexpr std::size_t words = 20;
constexpr Token first_name = first_word + words;
constexpr std::size_t names = 256;
constexpr std::size_t vocabulary = first_name + names;

constexpr std::size_t question = 3;  // <ask> name number; a passkey is as long

/// A text of `length` tokens that ends with questions about some of its passkeys. What the answers
/// do not depend on has weight 0.
struct Text {
  std::vector<Token> tokens, targets;
  std::vector<float> weights;

  void draw(std::size_t length, std::size_t spacing, std::size_t questions, train::Random& random) {
    const std::size_t noise = length - questions * question;
    const std::size_t keys =
        std::min(names, spacing == 0 ? 1 : std::max<std::size_t>(1, noise / spacing));
    const auto number = [&] { return static_cast<Token>(random.below(numbers)); };
    tokens.resize(length);
    targets.assign(length, 0);
    weights.assign(length, 0.0f);
    for (Token& t : tokens)
      t = random.below(3) == 0 ? number() : first_word + static_cast<Token>(random.below(words));
    std::vector<Token> name(names);
    std::iota(name.begin(), name.end(), first_name);
    std::vector<std::size_t> places(keys);
    for (std::size_t k = 0; k < keys; ++k) {  // each in a stretch of its own
      std::swap(name[k], name[k + random.below(names - k)]);
      const std::size_t begin = noise * k / keys;
      const std::size_t room = noise * (k + 1) / keys - begin - question;
      const std::size_t at = places[k] = begin + random.below(room + 1);
      tokens[at] = mark;
      tokens[at + 1] = name[k];
      tokens[at + 2] = number();
    }
    for (std::size_t q = 0; q < questions; ++q) {
      const std::size_t from = places[random.below(keys)];
      const std::size_t to = noise + q * question;
      tokens[to] = ask;
      tokens[to + 1] = tokens[from + 1];
      tokens[to + 2] = targets[to + 1] = tokens[from + 2];
      weights[to + 1] = 1.0f;
    }
  }
};

/// Texts of every length up to the longest, which grows over the first half of training.
class Texts {
 public:
  Texts(std::size_t longest, std::size_t spacing, std::size_t draws_to_grow, std::uint64_t seed)
      : longest_(longest), spacing_(spacing), draws_to_grow_(draws_to_grow), random_(seed) {}

  void next(std::span<train::Sample> samples) {
    texts_.resize(samples.size());
    constexpr std::size_t questions = 16;
    constexpr std::size_t shortest = (questions + 2) * question;
    const std::size_t now =
        shortest + (longest_ - shortest) * std::min(drawn_, draws_to_grow_) / draws_to_grow_;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      Text& text = texts_[i];
      text.draw(shortest + random_.below(now - shortest + 1), spacing_, questions, random_);
      samples[i].tokens = text.tokens;
      samples[i].targets = text.targets;
      samples[i].weights = text.weights;
    }
    drawn_ += samples.size();
  }

  [[nodiscard]] train::DataPosition position() const { return {random_.state(), 0, drawn_}; }
  void restore(const train::DataPosition& position) {
    random_ = train::Random(position.random);
    drawn_ = position.next;
  }
  [[nodiscard]] Token largest_token() const { return vocabulary - 1; }
  [[nodiscard]] std::uint64_t fingerprint() const {
    return (longest_ << 40) + (spacing_ << 32) + draws_to_grow_;
  }

 private:
  std::size_t longest_, spacing_;
  std::uint64_t draws_to_grow_;
  train::Random random_;
  std::vector<Text> texts_;
  std::uint64_t drawn_ = 0;
};

struct Experiment {
  std::size_t spacing, steps, batch, length, chunk, top_k, head_size, texts, longest;
  double rate;
  std::uint64_t seed;
};

/// Two models whose sizes differ by less than a percent: a second RWKV-7 block against a sparse
/// one.
std::shared_ptr<const train::Layout> layout_for(bool hybrid, const Experiment& e) {
  rwkv::Dimensions d{.layers = hybrid ? 1u : 2u,
                     .embed = 64,
                     .head_size = e.head_size,
                     .ffn = 128,
                     .vocab = vocabulary,
                     .decay_rank = 8,
                     .icl_rank = 8,
                     .value_rank = 8,
                     .gate_rank = 8};
  train::SparseLayout sparse;
  if (hybrid) {
    sparse.blocks = 1;
    sparse.ffn = 168;
    sparse.config.chunk = e.chunk;
    sparse.config.top_k = e.top_k;
    sparse.config.max_cache = 0;  // forgetting would be decided before the question is known
  }
  return std::make_shared<const train::Layout>(d, rwkv::Eigenvalues::standard, false, sparse);
}

/// The fraction of texts after which the model says the right number.
double accuracy(const rwkv::HybridModel& model, std::size_t length, const Experiment& e) {
  train::Random random(e.seed + 1000 * length);
  rwkv::HybridState state(model.shape());
  rwkv::HybridWorkspace work(model.shape(), 256);
  Text text;
  std::size_t right = 0;
  for (std::size_t i = 0; i < e.texts; ++i) {
    text.draw(length, e.spacing, 1, random);
    state.reset();
    const auto logits = model.forward(state, std::span(text.tokens).first(length - 1), work);
    right += rwkv::argmax(logits) == text.tokens.back() ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(e.texts);
}

/// Inference from trained parameters, through a file as anybody would do it.
rwkv::HybridModel inference(const train::Parameters& parameters, const std::string& path) {
  train::write_model(path, parameters, rwkv::DType::f16);
  return rwkv::HybridModel::load(path);
}

}  // namespace

int main(int argc, char** argv) try {
  bench::Options options(argc, argv, usage);
  const auto size = [&](const char* name, std::size_t otherwise) {
    return options.number<std::size_t>(name, otherwise);
  };
  const std::string models = options.text("models", "hybrid,rwkv7");
  const Experiment e{.spacing = size("spacing", 16),
                     .steps = size("steps", 300),
                     .batch = size("batch", 32),
                     .length = size("length", 256),
                     .chunk = size("chunk", 8),
                     .top_k = size("topk", 32),
                     .head_size = size("head-size", 16),
                     .texts = size("texts", 100),
                     .longest = size("longest", 4096),
                     .rate = options.number("rate", 3e-3),
                     .seed = options.number<std::uint64_t>("seed", 1)};
  const std::size_t threads = size("threads", 1);
  const std::string csv_path = options.text("csv", "");
  const std::string out = options.text("out", "passkey.safetensors");
  options.finish();
  rwkv::ThreadPool pool(threads);
  if ((e.spacing != 0 && e.spacing <= question) || e.length < 18 * question || e.chunk == 0)
    rwkv::fail(rwkv::ErrorCategory::argument, "passkeys do not fit into the texts");
  std::FILE* csv = csv_path.empty() ? nullptr : std::fopen(csv_path.c_str(), "w");
  if (csv == nullptr && !csv_path.empty())
    rwkv::fail_with(rwkv::ErrorCategory::io, csv_path, ": cannot be written");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> close_csv(csv, std::fclose);
  if (csv) std::fputs("model,parameters,spacing,train_length,length,accuracy\n", csv);

  for (const std::string name : {"hybrid", "rwkv7"}) {
    if (models.find(name) == std::string::npos) continue;
    const auto start = std::chrono::steady_clock::now();
    const auto layout = layout_for(name == "hybrid", e);
    train::TrainerOptions to;
    to.batch = e.batch;
    to.schedule = {
        .initial = e.rate, .final = e.rate / 20, .steps = e.steps, .warm_up = e.steps / 50};
    to.objective.rows_per_pass = 512;
    train::Trainer trainer(train::initialise(layout, e.seed),
                           Texts(e.length, e.spacing, e.steps / 2 * e.batch + 1, e.seed), to);
    double loss = 0.0;  // a running mean
    while (trainer.steps() < e.steps) {
      const double now = trainer.step(pool).loss;
      loss = trainer.steps() == 1 ? now : loss + 0.02 * (now - loss);
      if (trainer.steps() % 100 == 0)
        std::fprintf(stderr, "%s: step %zu, loss %.4f\n", name.c_str(),
                     static_cast<std::size_t>(trainer.steps()), loss);
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
    std::printf("%s: %zu parameters, trained on up to %zu tokens, loss %.4f, %.0f s\n",
                name.c_str(), layout->parameters(), e.length, loss, spent.count());
    const auto model = inference(trainer.model(), name == "hybrid" ? out : out + "." + name);
    for (std::size_t length = 32; length <= e.longest; length *= 2) {
      const double a = accuracy(model, length, e);
      std::printf("  %6zu tokens: %5.1f %%\n", length, 100.0 * a);
      std::fflush(stdout);
      if (csv)
        std::fprintf(csv, "%s,%zu,%zu,%zu,%zu,%.4f\n", name.c_str(), layout->parameters(),
                     e.spacing, e.length, length, a);
      if (csv) std::fflush(csv);
    }
  }
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
