// SPDX-License-Identifier: Apache-2.0
// The commands of the `rwkv` tool: one options struct and one function each. main.cpp fills the
// structs from the command line; a command throws rwkv::Error for anything that does not work out.
#pragma once

#include <rwkv/kernels/quantised_activations.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tool {

/// How to run an RWKV-X model; empty strings leave it to the model file.
struct Hybrid {
  std::string semantics;
  std::string config;  ///< JSON
};

struct Info {
  std::string model;
  bool json = false;
};
void run(const Info&);

struct Levels {};
void run(const Levels&);

struct LogitsOptions {
  std::string model;
  std::vector<std::string> adapters;
  std::string quantise;
  std::string tokens = "-";
  std::string positions = "all";
  std::size_t chunk = 0;
  std::string calls;
  Hybrid hybrid;
  rwkv::kernels::Inputs inputs = rwkv::kernels::Inputs::rounded;
  std::string device = "cpu";
  std::size_t threads = 0;
  std::string state_in;
  std::string state_layout;
  std::string state_out;
  std::string out;
};
void run(const LogitsOptions&);

/// What `generate` and `chat` share. What is not given is each one's default.
struct Sampling {
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::optional<std::size_t> top_k;
  std::optional<double> min_p;
  std::optional<double> presence_penalty;
  std::optional<double> frequency_penalty;
  std::optional<double> penalty_decay;
  std::optional<std::uint64_t> seed;
};

/// What guesses tokens ahead.
struct Drafting {
  std::string draft;             ///< "ngram" or a model file; empty: nothing
  std::size_t draft_tokens = 0;  ///< 0: as many as pay
};

struct Generate {
  std::string model;
  std::vector<std::string> adapters;
  std::string quantise;
  std::string vocab;
  std::string prompt = "Once upon a time";
  std::string prompt_file;
  std::string state_in;
  std::string state_layout;
  std::string state_out;
  std::size_t tokens = 200;
  std::vector<std::string> stop;  ///< with escapes
  std::string json_schema;        ///< at most one of these three
  std::string grammar;
  std::optional<std::string> regex;
  Sampling sampling;
  Drafting drafting;
  Hybrid hybrid;
  rwkv::kernels::Inputs inputs = rwkv::kernels::Inputs::rounded;
  std::string device = "cpu";
  std::size_t threads = 0;
};
void run(const Generate&);

struct Chat {
  std::string model;
  std::vector<std::string> adapters;
  std::string quantise;
  std::string vocab;
  std::string state_in;
  std::string state_layout;
  std::string form;  ///< name of a template, or "list"; empty: what the model says
  std::string think;
  std::string system;
  std::string tools;  ///< file
  std::size_t tokens = 4096;
  Sampling sampling;
  Drafting drafting;
  Hybrid hybrid;
  rwkv::kernels::Inputs inputs = rwkv::kernels::Inputs::rounded;
  std::size_t threads = 0;
};
void run(const Chat&);

struct Tokenize {
  std::string vocab;
  std::string model;
  bool decode = false;
};
void run(const Tokenize&);

struct Bench {
  std::string model;
  std::vector<std::string> adapters;
  std::string quantise;
  std::string shape;
  std::string type;
  Hybrid hybrid;
  rwkv::kernels::Inputs inputs = rwkv::kernels::Inputs::rounded;
  std::size_t threads = 0;
  std::size_t prompt = 512;
  std::size_t generate = 64;
  std::size_t batch = 0;
  std::optional<double> ffn_zeros;
  bool dense = false;
  bool json = false;
};
void run(const Bench&);

struct Convert {
  std::string model;
  std::vector<std::string> adapters;
  std::string out;
  std::string type = "f16";
  std::string format;
  std::string vocab;
  std::string shape;
  std::optional<double> ffn_zeros;
  std::string calibrate;
  std::vector<std::string> keep;
  std::string form;  ///< name of a chat template
  bool self_test = true;
  std::size_t threads = 0;
};
void run(const Convert&);

struct Verify {
  std::string model;
  bool json = false;
  rwkv::kernels::Inputs inputs = rwkv::kernels::Inputs::rounded;
  std::size_t threads = 0;
};
void run(const Verify&);

struct Export {
  std::string model;
  std::vector<std::string> adapters;
  std::string out;
  std::string name = "model";
  std::string type;
  std::string format = "source";
  std::string blob;
  std::string tables;
  std::string order = "panels";
  std::string vocab;
  std::string vocabulary;
};
void run(const Export&);

struct CompileRegex {
  std::string pattern;
  std::string out;
};
void run(const CompileRegex&);

struct Match {
  std::string model;
  std::string file = "-";
};
void run(const Match&);

struct Train {
  std::string text;
  std::string samples;
  std::string validation;
  std::string vocab;
  std::string init;
  std::vector<std::string> adapters;
  std::string out;
  std::string checkpoint;
  bool resume = false;
  bool other_options = false;
  std::string log;
  std::string mode = "full";
  std::string type = "f16";
  std::string eigenvalues = "standard";
  std::size_t layers = 6;
  std::size_t embed = 128;
  std::size_t head_size = 32;
  std::size_t ffn = 0;
  std::vector<std::size_t> ranks;
  std::size_t deep_embed = 0;
  std::size_t steps = 1000;
  std::size_t batch = 16;
  std::size_t length = 256;
  double rate = 0.0;
  double final_rate = 0.0;
  std::size_t warm_up = 10;
  double weight_decay = 0.0;
  double clip = 1.0;
  bool l2wrap = false;
  bool int8 = false;
  std::size_t lora_rank = 8;
  double lora_alpha = 16;
  std::string lora_out;
  std::uint64_t seed = 1;
  std::size_t validate_every = 500;
  std::size_t save_every = 500;
  std::size_t threads = 0;
};
void run(const Train&);

struct Gradients {
  std::string model;
  std::vector<std::string> adapters;
  std::string tokens;
  std::size_t rows = 1;
  std::string state_in;
  std::string state_layout;
  bool l2wrap = false;
  std::string out;
  std::size_t threads = 0;
};
void run(const Gradients&);

struct Perplexity {
  std::string model;
  std::vector<std::string> adapters;
  std::string quantise;
  std::string file;
  std::string vocab;
  std::string separator;
  bool json = false;
  Hybrid hybrid;
  rwkv::kernels::Inputs inputs = rwkv::kernels::Inputs::rounded;
  std::size_t threads = 0;
};
void run(const Perplexity&);

}  // namespace tool
