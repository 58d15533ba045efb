// SPDX-License-Identifier: Apache-2.0
// What the examples in comments take for granted (comment_examples.py): headers, and names that an
// example uses without defining them. Nothing here is ever run.
#pragma once

#include <rwkv/adapter.hpp>
#include <rwkv/any_model.hpp>
#include <rwkv/automata.hpp>
#include <rwkv/automata/static_recogniser.hpp>
#include <rwkv/calibrate.hpp>
#include <rwkv/chat.hpp>
#include <rwkv/convert.hpp>
#include <rwkv/cuda.hpp>
#include <rwkv/exec/cancellable.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/generate_batch.hpp>
#include <rwkv/grammar.hpp>
#include <rwkv/history.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/io/gguf_writer.hpp>
#include <rwkv/io/npy.hpp>
#include <rwkv/io/safetensors_writer.hpp>
#include <rwkv/memory.hpp>
#include <rwkv/mix_states.hpp>
#include <rwkv/model.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/speculate.hpp>
#include <rwkv/static_blob.hpp>
#include <rwkv/static_compact_state.hpp>
#include <rwkv/static_fixed_state.hpp>
#include <rwkv/static_generate.hpp>
#include <rwkv/static_memory.hpp>
#include <rwkv/static_model.hpp>
#include <rwkv/static_state_store.hpp>
#include <rwkv/train.hpp>
#include <rwkv/train/longce.hpp>
#include <rwkv/verify.hpp>

#include <iostream>
#include <stop_token>

extern const rwkv::Model<> model;
extern const rwkv::Tokenizer tokenizer;
extern rwkv::State<> state;
extern rwkv::Workspace<> work;
extern rwkv::ThreadPool pool;
extern std::vector<rwkv::Token> tokens;
extern rwkv::Token token;
extern std::vector<rwkv::Token> guesses;
extern std::vector<float> logits;
extern std::string prompt;
extern std::filesystem::path path;
extern rwkv::State<> formal, brief;
void print(std::string_view piece);
bool show(std::string_view piece);

extern const rwkv::io::Checkpoint checkpoint;
extern std::optional<rwkv::io::Vocabulary> vocabulary;
extern rwkv::ConvertOptions options;
extern std::size_t there_is;

extern const rwkv::Grammar grammar;
extern rwkv::TokenMask mask;

extern rwkv::train::Objective objective;
extern rwkv::train::Sample sample;
extern rwkv::train::Parameters parameters;

// Within a kernel.
using rwkv::kernels::compiled::map;
using L = rwkv::simd::Scalar;
extern float *x, *y;
extern std::size_t n;

extern "C" const std::byte world_vocabulary[], world_vocabulary_end[];

namespace tiny {
using Shape = rwkv::Shape<2, 32, 16, 128, 12, 8, 6, 3, 10>;
constexpr rwkv::StaticWeights<Shape> weights{};
}  // namespace tiny

extern std::span<const std::byte> header, data;
extern std::size_t positions, vocab;
extern std::vector<std::vector<float>> rows;
extern std::vector<rwkv::io::TensorEntry> entries;
extern rwkv::io::Metadata metadata;
extern std::vector<std::span<const std::byte>> of_tensors;

namespace tales {
using Shape = rwkv::Shape<6, 128, 32, 544, 256, 16, 16, 16, 32>;
using Weights = rwkv::StaticBlob<Shape, rwkv::DType::f32, rwkv::DType::q8_0>;
}  // namespace tales
namespace date {
extern const rwkv::automata::StaticSpelling spelling;
}  // namespace date
extern "C" const std::byte tales_blob[], tales_blob_end[];
extern const std::stop_token stop;
extern std::vector<rwkv::Token> guesses;
extern std::vector<float> logits;
