// SPDX-License-Identifier: Apache-2.0
// Training inside a program: a model of 31 thousand parameters learns in about a minute to reverse
// strings of up to eight digits, and is then asked to.
//
//   train_tiny [OUT.safetensors]
#include <rwkv/core/argmax.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/model.hpp>
#include <rwkv/train.hpp>

#include <algorithm>
#include <cstdio>
#include <random>

namespace {

constexpr rwkv::Token equals = 10;  // tokens 0 ... 9 are the digits
constexpr rwkv::Token end = 11;

/// digits, "=", the digits reversed, end; only what follows "=" counts in the loss.
rwkv::train::SampleList::Item random_task(std::mt19937& random) {
  std::vector<rwkv::Token> digits(1 + random() % 8);
  for (rwkv::Token& d : digits) d = static_cast<rwkv::Token>(random() % 10);
  rwkv::train::SampleList::Item item{digits, std::vector<float>(digits.size(), 0.0f)};
  item.tokens.push_back(equals);
  item.tokens.insert(item.tokens.end(), digits.rbegin(), digits.rend());
  item.tokens.push_back(end);
  item.weights.resize(item.tokens.size() - 1, 1.0f);
  return item;
}

/// Reads the question and decodes greedily; true if the answer is right.
bool solves(const rwkv::Model<>& model, const rwkv::train::SampleList::Item& task) {
  const auto answer = std::find(task.tokens.begin(), task.tokens.end(), equals) + 1;
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape(), 16);
  auto logits = model.forward(state, std::span(task.tokens.begin(), answer), work);
  for (auto expected = answer; expected != task.tokens.end(); ++expected) {
    const rwkv::Token token = rwkv::argmax(logits);
    if (token != *expected) return false;
    logits = model.forward(state, std::span(&token, 1), work);
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) try {
  const std::string path = argc > 1 ? argv[1] : "tiny.safetensors";
  std::mt19937 random(1);
  std::vector<rwkv::train::SampleList::Item> tasks(60000);
  for (auto& task : tasks) task = random_task(random);

  const auto layout = std::make_shared<const rwkv::train::Layout>(rwkv::Dimensions{.layers = 2,
                                                                                   .embed = 32,
                                                                                   .head_size = 16,
                                                                                   .ffn = 128,
                                                                                   .vocab = 12,
                                                                                   .decay_rank = 8,
                                                                                   .icl_rank = 8,
                                                                                   .value_rank = 8,
                                                                                   .gate_rank = 8});
  constexpr std::uint64_t steps = 700;
  rwkv::train::Trainer trainer(
      rwkv::train::initialise(layout, 1), rwkv::train::SampleList(std::move(tasks), 1),
      {.batch = 128, .schedule = {.initial = 6e-3, .final = 1e-4, .steps = steps}});
  rwkv::ThreadPool pool;
  while (trainer.steps() < steps) {
    const auto report = trainer.step(pool);
    if (report.step % 50 == 0)
      std::printf("step %3d  loss %.4f\n", static_cast<int>(report.step), report.loss);
  }
  rwkv::train::write_model(path, trainer.model());

  const auto model = rwkv::load(path);
  int right = 0;
  for (int i = 0; i < 1000; ++i) right += solves(model, random_task(random));
  std::printf("%d of 1000 fresh strings reversed; the model is in %s\n", right, path.c_str());
} catch (const rwkv::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
