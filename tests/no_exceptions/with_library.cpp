// SPDX-License-Identifier: Apache-2.0
// A program without exceptions and RTTI that uses rwkv::compiled, which has them: what fails is a
// result, and nothing ends the program.
//
//   with_library MODEL
#include <rwkv/any_model.hpp>
#include <rwkv/generate.hpp>

#include <cstdio>
#include <cstdlib>

static_assert(!RWKV_HAS_EXCEPTIONS);

namespace {

void expect(bool condition, const char* what) {
  if (condition) return;
  std::printf("not true: %s\n", what);
  std::exit(1);
}

}  // namespace

int main(int, char** argv) {
  const auto missing = rwkv::try_open("there is no such file");
  expect(!missing, "a missing file is no model");
  expect(missing.failure().category == rwkv::ErrorCategory::io, "the category is io");
  expect(missing.failure().sentence.find("there is no such file") != std::string::npos,
         "the sentence names the file");
  expect(rwkv::try_load("there is no such file").failure().category == rwkv::ErrorCategory::io,
         "nor for the typed model");

  auto opened = rwkv::try_open(argv[1]);
  expect(opened.ok(), "the model opens");
  const rwkv::AnyModel& model = opened->model;
  rwkv::AnyState state = model.initial_state();
  rwkv::AnyWorkspace work = model.workspace();
  const rwkv::Token fine[] = {65}, far[] = {256};
  const auto logits = rwkv::attempt([&] { return model.forward(state, fine, work); });
  expect(logits.ok() && logits->size() == 256, "a token gives logits");
  const auto outside = rwkv::attempt([&] { return model.forward(state, far, work); });
  expect(!outside && outside.failure().category == rwkv::ErrorCategory::argument,
         "a token outside the vocabulary is a failure");
  const auto text = rwkv::attempt(
      [&] { return rwkv::generate(model, state, work, opened->tokenizer(), "The king"); });
  expect(text.ok() && text->tokens.size() == 256, "text is generated");
  std::printf("%s\n", text->text.c_str());
}
