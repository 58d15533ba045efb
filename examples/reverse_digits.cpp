// SPDX-License-Identifier: Apache-2.0
// A small model that hardly makes mistakes: 31 thousand parameters learn to reverse strings of up
// to sixty digits, which takes remembering all of them in the order they came. This program made
// models/reverse and tests it.
//
//   reverse_digits train MODEL.safetensors [THREADS]        when interrupted, again to go on
//   reverse_digits test MODEL [STRINGS [SEED [exact]]]      right answers, by length; with `exact`,
//                                                           no inputs are rounded to 8 bits
#include <rwkv/convert.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/model.hpp>
#include <rwkv/tokenizer.hpp>
#include <rwkv/train.hpp>
#include <rwkv/train/algebra.hpp>
#include <rwkv/train/head.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <limits>
#include <string>
#include <utility>

namespace {

namespace train = rwkv::train;
using rwkv::Token;

constexpr std::size_t longest = 60;
constexpr Token end = 0;  // ends a text in every vocabulary of RWKV; 1 ... 10 are the digits
constexpr Token equals = 11;

std::string vocabulary() {
  std::string lines;
  for (int digit = 0; digit < 10; ++digit)
    lines += std::to_string(digit + 1) + " '" + std::to_string(digit) + "' 1\n";
  return lines + "11 '=' 1\n";
}

constexpr std::size_t most_kinds = 24;

/// Digits, "=", the digits reversed, end. The digits are drawn from `kinds` random ones, which may
/// be equal; from all ten if `kinds` is 0.
void write_task(std::size_t digits, std::size_t kinds, train::Random& random,
                std::vector<Token>& task) {
  task.resize(2 * digits + 2);
  const auto any = [&] { return static_cast<Token>(1 + random.below(10)); };
  std::array<Token, most_kinds> drawn{};
  std::generate_n(drawn.begin(), kinds, any);
  for (std::size_t i = 0; i < digits; ++i)
    task[i] = task[2 * digits - i] = kinds == 0 ? any() : drawn[random.below(kinds)];
  task[digits] = equals;
  task.back() = end;
}

using TaskList = std::vector<std::vector<Token>>;

/// Random tasks without end; the first ones are short, and only the answers count in the loss.
class Tasks {
 public:
  /// The longest string grows from a few digits to all in the course of the first `growth` tasks.
  /// With `hard`, half of the strings are longer (the largest of three random lengths), and half
  /// are of few different digits: what is easily confused. A quarter is taken from `close` as long
  /// as there is something in it.
  Tasks(std::size_t longest_string, std::uint64_t growth, bool hard, std::uint64_t seed,
        const TaskList& close)
      : longest_(longest_string), growth_(growth), hard_(hard), random_(seed), close_(close) {}

  void next(std::span<train::Sample> samples) {
    tasks_.resize(samples.size());
    weights_.resize(samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const std::uint64_t limit =
          drawn_ < growth_ ? 4 + (longest_ - 4) * drawn_ / growth_ : longest_;
      ++drawn_;
      std::size_t digits = 1;
      for (int draw = 0; draw < (hard_ && i % 2 == 1 ? 3 : 1); ++draw)
        digits = std::max(digits, static_cast<std::size_t>(1 + random_.below(limit)));
      const std::size_t kinds = hard_ && i % 4 > 1 ? 1 + random_.below(10) : 0;
      if (i % 4 == 0 && !close_.empty())
        tasks_[i] = close_[random_.below(close_.size())];
      else
        write_task(digits, kinds, random_, tasks_[i]);
      weights_[i].assign(tasks_[i].size() - 1, 1.0f);
      std::fill_n(weights_[i].begin(), tasks_[i].size() / 2 - 1, 0.0f);
      samples[i].tokens = tasks_[i];
      samples[i].weights = weights_[i];
    }
  }
  [[nodiscard]] train::DataPosition position() const { return {random_.state(), 0, drawn_}; }
  void restore(const train::DataPosition& position) {
    random_ = train::Random(position.random);
    drawn_ = position.next;
  }
  [[nodiscard]] Token largest_token() const { return equals; }
  [[nodiscard]] std::uint64_t fingerprint() const { return growth_; }

 private:
  std::size_t longest_;
  std::uint64_t growth_;
  bool hard_;
  train::Random random_;
  const TaskList& close_;
  std::uint64_t drawn_ = 0;
  TaskList tasks_;
  std::vector<std::vector<float>> weights_;
};

/// Of every task, by how much its right tokens' logits exceed all others at least; above zero it is
/// answered without a mistake by always taking the likeliest token. Until the first mistake such an
/// answer is the right one, so that one pass over the right answers shows it.
std::vector<float> margins(const rwkv::Model<>& model, std::span<const std::vector<Token>> tasks,
                           rwkv::Workspace<>& work, rwkv::ThreadPool& pool) {
  const std::size_t vocab = model.shape().vocab();
  std::vector<rwkv::State<>> states(tasks.size(), rwkv::State(model.shape()));
  std::vector<rwkv::Slot<>> slots;
  std::size_t rows = 0;
  for (std::size_t i = 0; i < tasks.size(); ++i) {
    slots.push_back({&states[i], std::span(tasks[i]).first(tasks[i].size() - 1)});
    rows += slots.back().tokens.size();
  }
  std::vector<float> logits(rows * vocab);
  model.forward(slots, rwkv::Logits::all, logits, work, pool);
  std::vector<float> margins(tasks.size(), std::numeric_limits<float>::infinity());
  float* row = logits.data();
  for (std::size_t i = 0; i < tasks.size(); ++i)
    for (std::size_t t = 0; t + 1 < tasks[i].size(); ++t, row += vocab) {
      if (t < tasks[i].size() / 2 - 1) continue;
      const float right = std::exchange(row[tasks[i][t + 1]], -1e30f);
      margins[i] = std::min(margins[i], right - *std::max_element(row, row + vocab));
    }
  return margins;
}

constexpr std::size_t bands = 10;  // 1-6 digits, 7-12, ..., 55-60
constexpr std::size_t tasks_at_once = 50;

/// Exact answers to `strings` fresh tasks in each band of lengths.
std::array<std::size_t, bands> solved_by_length(const rwkv::Model<>& model, std::size_t strings,
                                                std::uint64_t seed, rwkv::ThreadPool& pool) {
  train::Random random(seed);
  rwkv::Workspace work(model.shape(), 256);
  std::array<std::size_t, bands> right{};
  TaskList tasks;
  for (std::size_t band = 0; band < bands; ++band) {
    constexpr std::size_t lengths = longest / bands;
    for (std::size_t done = 0; done < strings; done += tasks.size()) {
      tasks.resize(std::min(tasks_at_once, strings - done));
      for (auto& task : tasks)
        write_task(1 + band * lengths + static_cast<std::size_t>(random.below(lengths)), 0, random,
                   task);
      const std::vector<float> by = margins(model, tasks, work, pool);
      right[band] += static_cast<std::size_t>(
          std::count_if(by.begin(), by.end(), [](float margin) { return margin > 0.0f; }));
    }
  }
  return right;
}

/// The `chosen` of `strings` fresh tasks that the model decides by the smallest margins. With
/// `uneven`, the digits of every other one are not equally frequent, which is harder.
TaskList closest(const rwkv::Model<>& model, std::size_t strings, std::size_t chosen, bool uneven,
                 std::size_t longest_string, std::uint64_t seed, rwkv::ThreadPool& pool) {
  train::Random random(seed);
  rwkv::Workspace work(model.shape(), 256);
  TaskList tasks(strings);
  for (std::size_t i = 0; i < strings; ++i) {
    const std::size_t kinds = uneven && i % 2 == 1 ? 4 + random.below(most_kinds - 3) : 0;
    const std::size_t digits = 1 + random.below(longest_string);
    write_task(digits, kinds, random, tasks[i]);
  }
  std::vector<std::pair<float, std::size_t>> order;
  for (std::size_t first = 0; first < strings; first += tasks_at_once) {
    const auto some = std::span(tasks).subspan(first, std::min(tasks_at_once, strings - first));
    for (const float margin : margins(model, some, work, pool))
      order.emplace_back(margin, order.size());
  }
  std::sort(order.begin(), order.end());
  TaskList found;
  for (std::size_t i = 0; i < chosen; ++i) found.push_back(tasks[order[i].second]);
  return found;
}

/// Scales the channels that block 0 reads so that each reaches the same value in the inputs of its
/// value matrix, but none up by more than `raise`, and the weights they meet the other way: to
/// floats this is the same model. Rounding to 8 bits takes its step from the largest of 32 inputs,
/// which here was a channel that is the same for all digits; what the digits differ in got the few
/// steps that were left.
void balance(train::Parameters& model, float raise) {
  constexpr float wanted = 2.5f;
  const std::size_t c = model.shape().embed();
  const auto ends = model.globals();
  const auto block = model.block(0);
  const auto normed = [c](const float* x, const float* weight, const float* bias, float* out) {
    train::standardise(x, out, c, rwkv::kernels::layer_norm_epsilon);
    train::affine(weight, bias, out, out, c);
  };
  std::vector<float> u(equals * c);  // every digit after LN1; row 0: nothing, before the first one
  for (std::size_t digit = 1; digit < equals; ++digit) {
    float* const row = u.data() + digit * c;
    normed(ends.emb + digit * c, ends.ln0.weight, ends.ln0.bias, row);
    normed(row, block.ln1.weight, block.ln1.bias, row);
  }
  for (std::size_t j = 0; j < c; ++j) {
    float reached = wanted / raise;
    for (std::size_t now = 1; now < equals; ++now)
      for (std::size_t before = 0; before < equals; ++before) {
        const float x = u[now * c + j];
        reached = std::max(reached, std::abs(x + (u[before * c + j] - x) * block.att.x_v[j]));
      }
    const float scale = reached / wanted;
    block.ln1.weight[j] /= scale;
    block.ln1.bias[j] /= scale;
    for (float* const weight : {block.att.receptance, block.att.key, block.att.value})
      for (std::size_t out = 0; out < c; ++out) weight[out * c + j] *= scale;
    const auto low_rank = [&](float* weight, std::size_t rank) {
      for (std::size_t out = 0; out < rank; ++out) weight[j * rank + out] *= scale;
    };
    low_rank(block.att.w1, model.shape().decay_rank());
    low_rank(block.att.a1, model.shape().icl_rank());
    low_rank(block.att.g1, model.shape().gate_rank());
  }
}

/// In what form the model looks for close tasks; with `both`, uneven ones too.
enum class Examiner { floats, int8, both };

/// A stretch of the training with a schedule of its own.
struct Phase {
  std::uint64_t steps;
  std::size_t batch;
  double rate;           // at the beginning; almost zero at the end
  double decay;          // of the weights
  std::size_t longest;   // string
  std::uint64_t growth;  // tasks until the longest are drawn
  bool hard;             // see Tasks
  train::Precision precision;
  std::size_t examined = 0;  // tasks, from time to time, for the closest among them
  Examiner examiner = Examiner::floats;
  float raise = 0.0f;  // the model is balanced before
};
constexpr auto exact = train::Precision::exact, int8 = train::Precision::int8;
constexpr Phase phases[] = {{24000, 128, 4e-3, 0.1, 60, 6000 * 128, false, exact},
                            {8000, 256, 1e-3, 0.1, 60, 0, false, exact},
                            {16000, 512, 1e-3, 0.1, 60, 0, false, exact},
                            {6000, 512, 3e-4, 0.0, 60, 0, true, exact},
                            {8000, 512, 4e-4, 0.0, 60, 0, true, int8},
                            {8000, 512, 6e-4, 0.0, 60, 0, true, int8},
                            {12000, 512, 8e-4, 0.0, 66, 0, true, int8},
                            {8000, 512, 5e-4, 0.0, 66, 0, true, int8, 40000},
                            {6000, 512, 4e-4, 0.0, 66, 0, true, int8, 40000, Examiner::int8},
                            {12000, 512, 5e-4, 0.0, 66, 0, true, int8, 40000, Examiner::int8},
                            {3400, 512, 5e-4, 0.0, 66, 0, true, int8, 40000, Examiner::both},
                            {13000, 512, 5e-4, 0.0, 66, 0, true, int8, 40000, Examiner::both},
                            {6000, 512, 3e-4, 0.0, 66, 0, true, int8, 40000, Examiner::both, 1.0f},
                            {7000, 512, 3e-4, 0.0, 66, 0, true, int8, 40000, Examiner::both, 4.0f}};

/// Continues `model` for a phase, or goes on with the phase where it was interrupted.
train::Parameters run_phase(train::Parameters model, std::size_t index, const std::string& path,
                            rwkv::ThreadPool& pool) {
  const Phase& phase = phases[index];
  if (phase.raise > 0.0f) balance(model, phase.raise);
  TaskList close;
  train::Trainer trainer(std::move(model),
                         Tasks(phase.longest, phase.growth, phase.hard, index + 1, close),
                         {.batch = phase.batch,
                          .schedule = {.initial = phase.rate, .final = 1e-6, .steps = phase.steps},
                          .optimizer = {.weight_decay = phase.decay},
                          .objective = {.precision = phase.precision}});
  const std::string checkpoint = path + ".run" + std::to_string(index + 1);
  if (std::filesystem::exists(checkpoint)) trainer.resume(checkpoint);
  const auto written = [&] {
    train::write_model(path, trainer.model(), rwkv::DType::f32,
                       {{"rwkv.vocabulary", vocabulary()}});
    return rwkv::load(path);
  };
  const auto find_close = [&](rwkv::Model<> examined) {
    if (phase.examined == 0) return;
    const bool both = phase.examiner == Examiner::both;
    const std::size_t chosen = phase.examined / (both ? 40 : 20);
    std::uint64_t seed = (index + 1) * 1000000 + trainer.steps();
    close.clear();
    const auto examine = [&] {
      const TaskList found =
          closest(examined, phase.examined, chosen, both, phase.longest, seed, pool);
      close.insert(close.end(), found.begin(), found.end());
    };
    if (phase.examiner != Examiner::int8) examine();
    if (phase.examiner == Examiner::floats) return;
    const std::string converted = path + ".q8_0.gguf";
    rwkv::convert(rwkv::io::read_checkpoint(path), converted,
                  {.type = rwkv::DType::q8_0, .self_test = false}, pool);
    examined = rwkv::load(converted);
    if (both) seed += 100000;
    examine();
  };
  if (trainer.steps() < phase.steps) find_close(written());
  std::size_t tokens = 0;
  double loss = 0.0;
  auto since = std::chrono::steady_clock::now();
  while (trainer.steps() < phase.steps) {
    const auto report = trainer.step(pool);
    tokens += report.tokens;
    loss += report.loss;
    constexpr std::uint64_t interval = 200;
    if (report.step % interval != 0) continue;
    trainer.save(checkpoint);
    const auto current = written();
    find_close(current);
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - since;
    std::printf("%d: step %5d  loss %.6f  %6.0f tokens/s  exact of 50 by length:",
                static_cast<int>(index + 1), static_cast<int>(report.step), loss / interval,
                static_cast<double>(tokens) / spent.count());
    for (const std::size_t right : solved_by_length(current, 50, report.step, pool))
      std::printf(" %2zu", right);
    std::printf("\n");
    std::fflush(stdout);
    tokens = 0;
    loss = 0.0;
    since = std::chrono::steady_clock::now();
  }
  return trainer.model();
}

void run_training(const std::string& path, std::size_t threads) {
  const auto layout = std::make_shared<const train::Layout>(rwkv::Dimensions{.layers = 2,
                                                                             .embed = 32,
                                                                             .head_size = 16,
                                                                             .ffn = 128,
                                                                             .vocab = equals + 1,
                                                                             .decay_rank = 8,
                                                                             .icl_rank = 8,
                                                                             .value_rank = 8,
                                                                             .gate_rank = 8});
  rwkv::ThreadPool pool(threads);
  train::Parameters model = train::initialise(layout, 1);
  for (std::size_t i = 0; i < std::size(phases); ++i)
    model = run_phase(std::move(model), i, path, pool);
  // What is left of int8's mistakes comes from one matrix: the digits' values as they are stored.
  train::write_model(path, model, rwkv::DType::f32,
                     {{"rwkv.vocabulary", vocabulary()},
                      {std::string(rwkv::keep_key), "blocks.0.att.value.weight"}});
}

/// Prints the exact answers by length; false unless all are.
bool run_test(const std::string& path, std::size_t strings, std::uint64_t seed,
              rwkv::kernels::Inputs inputs) {
  rwkv::ThreadPool pool(1);
  const auto right = solved_by_length(rwkv::load(path, {.inputs = inputs}), strings, seed, pool);
  for (std::size_t band = 0; band < bands; ++band)
    std::printf("%2zu-%2zu digits: %zu of %zu exact\n", 1 + band * longest / bands,
                (band + 1) * longest / bands, right[band], strings);
  return std::all_of(right.begin(), right.end(), [=](std::size_t r) { return r == strings; });
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string command = argc > 2 ? argv[1] : "";
  const auto number = [&](int i, std::uint64_t otherwise) {
    return argc > i ? std::stoull(argv[i]) : otherwise;
  };
  if (command == "train" && argc <= 4) {
    run_training(argv[2], number(3, 1));
    return 0;
  }
  const bool exact_inputs = argc == 6 && std::string(argv[5]) == "exact";
  if (command == "test" && (argc <= 5 || exact_inputs)) {
    using rwkv::kernels::Inputs;
    return run_test(argv[2], number(3, 10000), number(4, 20260101),
                    exact_inputs ? Inputs::exact : Inputs::rounded)
               ? 0
               : 1;
  }
  std::fputs(
      "usage: reverse_digits train MODEL [THREADS]\n"
      "       reverse_digits test MODEL [STRINGS [SEED [exact]]]\n",
      stderr);
  return 2;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
