// SPDX-License-Identifier: Apache-2.0
// What rwkv.wasm exports, for rwkv.js. One module holds one model; numbers and addresses go in, and
// results come out of one place. Errors are thrown by JavaScript, from within the call: what was to
// be destroyed then is not, and rwkv.js puts the stack back.
#include <rwkv/generate_batch.hpp>
#include <rwkv/model.hpp>
#include <rwkv/quantised.hpp>

#include <cstdlib>
#include <cstring>

#define RWKV_EXPORT(name) extern "C" __attribute__((export_name(#name), used))
#define RWKV_IMPORT(name) extern "C" __attribute__((import_module("rwkv"), import_name(#name)))

RWKV_IMPORT(failed) void rwkv_failed(const char* sentence, std::size_t size);

namespace {

using Batch = rwkv::GenerateBatch<rwkv::Model<>>;
constexpr std::size_t rows = 64;
constexpr std::size_t widest = std::size_t{64} << 20;  // bytes of a file

/// A sequence, and the text that it is in the middle of.
struct Session {
  rwkv::State<> state;
  Batch batch;
  std::optional<std::size_t> text{};  // its number in the batch
  std::vector<float> logits{};        // after all that the state has read
};

/// A model, and what it runs with.
struct Opened {
  rwkv::Model<> model;
  rwkv::Tokenizer tokenizer;
  rwkv::Workspace<> work;
};
std::optional<Opened> opened;
std::vector<std::byte> given;  // by the caller, for the next call
std::string text_out;

std::string_view given_text(std::size_t from, std::size_t size) {
  return std::string_view(reinterpret_cast<const char*>(given.data()), given.size())
      .substr(from, size);
}

Opened& use() {
  if (!opened) rwkv::fail(rwkv::ErrorCategory::argument, "no model is open");
  return *opened;
}

}  // namespace

/// Room for `size` bytes that the next call is given; null if there is none.
RWKV_EXPORT(give) void* give(std::size_t size) {
  given.clear();
  // Without exceptions, std::vector would end the program.
  if (void* const probe = std::malloc(size + size / 8 + 1))
    std::free(probe);
  else
    return nullptr;
  given.resize(size);
  return given.data();
}

/// Opens the model of the given bytes: a vocabulary (or nothing), then the name of a type (or
/// nothing), then the file.
RWKV_EXPORT(open) void open_model(std::size_t vocabulary, std::size_t type, bool exact) {
  rwkv::error_handler = [](rwkv::ErrorCategory, const char* sentence) {
    rwkv_failed(sentence, std::strlen(sentence));
  };
  rwkv::LoadOptions options;
  const std::string named(given_text(vocabulary, type));
  if (type > 0) {
    const auto known = rwkv::type_named(named);
    if (!known) rwkv::fail_with(rwkv::ErrorCategory::argument, "there is no type ", named);
    options = rwkv::quantised(*known);
  }
  if (exact) options.inputs = rwkv::kernels::Inputs::exact;
  const std::string text(given_text(0, vocabulary));
  given.erase(given.begin(), given.begin() + static_cast<std::ptrdiff_t>(vocabulary + type));
  const std::size_t size = given.size();
  const auto checkpoint = rwkv::io::read_checkpoint(std::exchange(given, {}), "the model");
  auto tokenizer = vocabulary > 0 ? rwkv::Tokenizer::from_vocab_text(text)
                                  : rwkv::Tokenizer::from_checkpoint(checkpoint);
  // Wider than 16 bits, small matrices are multiplied three times as fast, and to the same bits.
  const rwkv::io::Tensor* const head = checkpoint.find("head.weight");
  if (type == 0 && head != nullptr && head->dtype == rwkv::DType::f16 && size < widest)
    options = rwkv::quantised(rwkv::DType::f32, options);
  rwkv::Model<> model(checkpoint, options);
  rwkv::Workspace<> work(model.shape(), rows);
  opened.emplace(Opened{std::move(model), std::move(tokenizer), std::move(work)});
}

/// layers, embed, vocab, bytes of the weights
RWKV_EXPORT(shape) double shape(int what) {
  const rwkv::DynamicShape& s = use().model.shape();
  switch (what) {
    case 0:
      return static_cast<double>(s.layers());
    case 1:
      return static_cast<double>(s.embed());
    case 2:
      return static_cast<double>(s.vocab());
    default:
      return static_cast<double>(use().model.weights().bytes());
  }
}

RWKV_EXPORT(session) Session* session() {
  return new Session{use().model.initial_state(), Batch(use().model, use().tokenizer)};
}
RWKV_EXPORT(fork) Session* fork(const Session* from) {
  return new Session{from->state, Batch(use().model, use().tokenizer), {}, from->logits};
}
RWKV_EXPORT(free_session) void free_session(Session* session) { delete session; }

/// Begins a text: the given bytes are the prompt, then stop strings, each ended by a zero.
RWKV_EXPORT(begin)
void begin(Session* session, std::size_t prompt, std::size_t max_tokens, float temperature,
           float top_p, std::size_t top_k, float min_p, float presence, float frequency,
           float decay, std::uint32_t seed) {
  rwkv::GenerateOptions options;
  options.max_tokens = max_tokens;
  options.any_vocabulary = true;
  options.sampler.temperature = temperature;
  options.sampler.top_p = top_p;
  options.sampler.top_k = top_k;
  options.sampler.min_p = min_p;
  options.sampler.presence_penalty = presence;
  options.sampler.frequency_penalty = frequency;
  options.sampler.penalty_decay = decay;
  options.sampler.seed = seed;
  for (std::size_t at = prompt; at < given.size();) {
    const std::string_view rest = given_text(at, given.size());
    options.stop_strings.emplace_back(rest.substr(0, rest.find('\0')));
    at += options.stop_strings.back().size() + 1;
  }
  // In a vocabulary of bytes, 0 is a byte like any other, and nothing else begins a text than a line
  // end.
  const rwkv::Tokenizer& tokenizer = use().tokenizer;
  const bool bytes = !tokenizer.token_bytes(0).empty();
  if (bytes) options.stop_tokens.clear();
  options.logits = session->logits;
  if (bytes && prompt == 0 && session->logits.empty()) options.leading_token = '\n';
  if (session->text) (void)session->batch.take(*session->text);
  session->text.reset();
  session->text = session->batch.add(session->state, given_text(0, prompt), options,
                                     [](std::string_view piece) {
                                       text_out += piece;
                                       return true;
                                     });
}

/// One pass. True if more of the text is to come; what has become certain of it is in `out`.
RWKV_EXPORT(step) bool step(Session* session) {
  text_out.clear();
  return session->text && session->batch.step(use().work) && !session->batch.ended(*session->text);
}

/// Ends the text, where it is. Returns why it ended (rwkv::StopReason) + 16 * the number of tokens.
RWKV_EXPORT(end) std::size_t end(Session* session) {
  if (!session->text) return 0;
  const rwkv::GenerateResult result = session->batch.take(*session->text);
  session->text.reset();
  session->logits = result.logits;
  return static_cast<std::size_t>(result.reason) + 16 * result.tokens.size();
}

/// Reads the given tokens; the logits after them are in `out`.
RWKV_EXPORT(forward) void forward(Session* session) {
  std::vector<rwkv::Token> tokens(given.size() / sizeof(rwkv::Token));
  if (!tokens.empty())
    std::memcpy(tokens.data(), given.data(), tokens.size() * sizeof(rwkv::Token));
  const auto logits = use().model.forward(session->state, tokens, use().work);
  session->logits.assign(logits.begin(), logits.end());
  text_out.assign(reinterpret_cast<const char*>(session->logits.data()),
                  session->logits.size() * sizeof(float));
}

/// The tokens of the given text are in `out`; the text of the given tokens.
RWKV_EXPORT(tokenize) void tokenize() {
  const auto tokens = use().tokenizer.encode(given_text(0, given.size()));
  text_out.assign(reinterpret_cast<const char*>(tokens.data()),
                  tokens.size() * sizeof(rwkv::Token));
}
RWKV_EXPORT(detokenize) void detokenize() {
  std::vector<rwkv::Token> tokens(given.size() / sizeof(rwkv::Token));
  if (!tokens.empty())
    std::memcpy(tokens.data(), given.data(), tokens.size() * sizeof(rwkv::Token));
  text_out = use().tokenizer.decode(tokens);
}

/// The state as bytes, in `out`: the model's fingerprint, then its numbers. And back, of the given
/// ones.
RWKV_EXPORT(save) void save(const Session* session) {
  const std::uint64_t fingerprint = use().model.weights().fingerprint();
  const auto values = std::as_bytes(session->state.values());
  text_out.assign(reinterpret_cast<const char*>(&fingerprint), sizeof fingerprint);
  text_out.append(reinterpret_cast<const char*>(values.data()), values.size());
}
RWKV_EXPORT(restore) void restore(Session* session) {
  const std::uint64_t fingerprint = use().model.weights().fingerprint();
  const auto values = std::as_writable_bytes(session->state.values());
  if (given.size() != sizeof fingerprint + values.size() ||
      std::memcmp(given.data(), &fingerprint, sizeof fingerprint) != 0)
    rwkv::fail(rwkv::ErrorCategory::argument, "this state was saved by another model, or is none");
  (void)end(session);
  std::memcpy(values.data(), given.data() + sizeof fingerprint, values.size());
  session->logits.clear();
}

RWKV_EXPORT(out) const char* out() { return text_out.data(); }
RWKV_EXPORT(out_size) std::size_t out_size() { return text_out.size(); }
