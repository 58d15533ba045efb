// SPDX-License-Identifier: Apache-2.0
// Fit a model, its low-rank adapters, or only its initial state. The public header of training.
//
//   std::vector<rwkv::Token> text = tokenizer.encode("Once upon a time ...");
//   auto layout = std::make_shared<const rwkv::train::Layout>(rwkv::Dimensions{
//       .layers = 6, .embed = 128, .head_size = 32, .ffn = 512, .vocab = 256,
//       .decay_rank = 16, .icl_rank = 16, .value_rank = 16, .gate_rank = 16});
//   rwkv::train::Trainer trainer(
//       rwkv::train::initialise(layout, 1),  // or read_parameters(...)
//       rwkv::train::TextWindows(text, 512, 1),
//       {.batch = 16, .schedule = {.initial = 2e-3, .final = 1e-4, .steps = 10000}});
//   rwkv::ThreadPool pool;
//   while (trainer.steps() < 10000) {
//     const rwkv::train::StepReport report = trainer.step(pool);
//     if (report.step % 500 == 0) trainer.save("run.safetensors");  // resume(...) continues
//   }
//   rwkv::train::write_model("model.safetensors", trainer.model(), rwkv::DType::f16);
#pragma once

#include <rwkv/train/initialise.hpp>
#include <rwkv/train/model_file.hpp>
#include <rwkv/train/trainer.hpp>
