// SPDX-License-Identifier: Apache-2.0
// rwkv.h on top of the C++ library: handles, and a wall that no exception passes.
#include <rwkv/any_model.hpp>
#include <rwkv/core/version.hpp>
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/generate.hpp>
#include <rwkv/grammar.hpp>
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/vocabulary_file.hpp>
#include <rwkv/rwkv.h>
#include <rwkv/simd/level.hpp>
#include <rwkv/speculate.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <system_error>

#if !RWKV_HAS_EXCEPTIONS
#error \
    "rwkv.h answers with error codes for what the C++ library throws: compile this file with exceptions"
#endif

namespace {

using rwkv::ErrorCategory;

static_assert(RWKV_STOP_MAX_TOKENS == static_cast<int>(rwkv::StopReason::max_tokens) &&
              RWKV_STOP_TOKEN == static_cast<int>(rwkv::StopReason::stop_token) &&
              RWKV_STOP_STRING == static_cast<int>(rwkv::StopReason::stop_string) &&
              RWKV_STOP_CANCELLED == static_cast<int>(rwkv::StopReason::cancelled) &&
              RWKV_STOP_COMPLETE == static_cast<int>(rwkv::StopReason::complete));

/// A model with its threads and its workspaces, which calls borrow.
struct Core {
  Core(rwkv::Opened model, std::unique_ptr<rwkv::ThreadPool> threads)
      : opened(std::move(model)), pool(std::move(threads)) {}

  rwkv::Opened opened;
  std::unique_ptr<rwkv::ThreadPool> pool;
  std::mutex mutex;
  std::vector<std::unique_ptr<rwkv::AnyWorkspace>> idle;
};

/// A workspace for the time of a call.
class Lease {
 public:
  explicit Lease(Core& core, std::size_t longest_call = 0) : core_(core) {
    {
      const std::lock_guard lock(core_.mutex);
      if (!core_.idle.empty()) {
        work_ = std::move(core_.idle.back());
        core_.idle.pop_back();
      }
    }
    // Larger ones are only made where calls must not be cut.
    if (work_ == nullptr || work_->rows() < needed(longest_call))
      work_ =
          std::make_unique<rwkv::AnyWorkspace>(core_.opened.model.workspace(rows, longest_call));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() {
    try {
      const std::lock_guard lock(core_.mutex);
      core_.idle.push_back(std::move(work_));
    } catch (...) {  // then it is gone
    }
  }
  [[nodiscard]] rwkv::AnyWorkspace& operator*() const noexcept { return *work_; }

 private:
  static constexpr std::size_t rows = 128;
  [[nodiscard]] std::size_t needed(std::size_t longest_call) const {
    const rwkv::HybridModel* const hybrid = core_.opened.model.hybrid();
    const bool whole =
        hybrid != nullptr && hybrid->config().semantics == rwkv::HybridSemantics::package;
    return whole ? longest_call : 0;
  }

  Core& core_;
  std::unique_ptr<rwkv::AnyWorkspace> work_;
};

/// The threads that a model has when they are asked, as `rwkv_set_threads` may give it others.
struct ThreadsOf {
  Core* core;
  [[nodiscard]] std::size_t concurrency() const { return core->pool->concurrency(); }
  template <class F>
  void parallel(std::size_t n, F&& f) const {
    core->pool->parallel(n, f);
  }
};

/// Guesses for the text of one state, kept from call to call.
struct Drafting {
  Drafting(const rwkv_generate_options& options, const Core& of, std::shared_ptr<Core> drafts)
      : kind(options.draft),
        tokens(options.draft_tokens),
        model(std::move(drafts)),
        threads{model.get()},
        draft(make()),
        feeder(of.opened.model.rwkv7()->shape(), {.draft = draft.get(), .draft_tokens = tokens}) {}

  int kind;
  std::size_t tokens;
  std::shared_ptr<Core> model;  // of RWKV_DRAFT_MODEL
  ThreadsOf threads;
  std::unique_ptr<rwkv::Draft> draft;
  rwkv::Feeder feeder;

 private:
  [[nodiscard]] std::unique_ptr<rwkv::Draft> make() {
    if (kind == RWKV_DRAFT_NGRAM) return std::make_unique<rwkv::NgramDraft>();
    return std::make_unique<rwkv::ModelDraft>(*model->opened.model.rwkv7(), threads);
  }
};

thread_local char last_error[1024] = "";

rwkv_status failed(rwkv_status status, const char* sentence) noexcept {
  std::size_t size = (std::min)(std::strlen(sentence), sizeof last_error - 1);
  while (size > 0 && (static_cast<unsigned char>(sentence[size]) & 0xc0) == 0x80) --size;  // UTF-8
  std::memcpy(last_error, sentence, size);
  last_error[size] = 0;
  return status;
}

rwkv_status status_of(ErrorCategory category) noexcept {
  switch (category) {
    case ErrorCategory::io:
      return RWKV_ERROR_IO;
    case ErrorCategory::format:
      return RWKV_ERROR_FORMAT;
    case ErrorCategory::unsupported:
      return RWKV_ERROR_UNSUPPORTED;
    case ErrorCategory::shape:
      return RWKV_ERROR_SHAPE;
    case ErrorCategory::argument:
      return RWKV_ERROR_ARGUMENT;
    case ErrorCategory::memory:
      return RWKV_ERROR_MEMORY;
    case ErrorCategory::numeric:
      return RWKV_ERROR_NUMERIC;
    case ErrorCategory::cancelled:
      return RWKV_ERROR_CANCELLED;
  }
  return RWKV_ERROR_ARGUMENT;
}

/// f(), whose result is a status; what it throws becomes one.
template <class F>
rwkv_status guarded(F&& f) noexcept {
  try {
    return f();
  } catch (const rwkv::Error& error) {
    return failed(status_of(error.category()), error.what());
  } catch (const std::bad_alloc&) {
    return failed(RWKV_ERROR_MEMORY, "there is not enough memory");
  } catch (const std::system_error&) {
    return failed(RWKV_ERROR_MEMORY, "the operating system gives no thread");
  } catch (const std::exception& error) {
    return failed(RWKV_ERROR_ARGUMENT, error.what());
  } catch (...) {
    return failed(RWKV_ERROR_ARGUMENT, "something that is no std::exception was thrown");
  }
}

template <class T>
T& required(T* pointer, const char* name) {
  if (pointer == nullptr) rwkv::fail_with(ErrorCategory::argument, name, " is NULL");
  return *pointer;
}

/// `count` things from `pointer` on, which may only be NULL if there are none.
template <class T>
std::span<T> range(T* pointer, std::size_t count, const char* name) {
  if (count > 0) (void)required(pointer, name);
  return {pointer, count};
}

/// The caller's structure, or as much of it as its version has.
template <class T>
T options_of(const T* given) {
  T options{};
  if (given == nullptr) return options;
  if (given->struct_size < sizeof(std::size_t) || given->struct_size > 65536)
    rwkv::fail_with(ErrorCategory::argument, "struct_size is ", given->struct_size,
                    ": set it to the size of the structure");
  std::memcpy(&options, given, (std::min)(given->struct_size, sizeof options));
  return options;
}

template <class T>
void store(const T& result, T* to) {
  const std::size_t size = to->struct_size;
  if (size < sizeof(std::size_t) || size > 65536)
    rwkv::fail_with(ErrorCategory::argument, "struct_size is ", size,
                    ": set it to the size of the structure");
  std::memcpy(to, &result, (std::min)(size, sizeof result));
  to->struct_size = size;
}

/// Copies what fits, and says how much there is.
template <class T>
rwkv_status give(std::span<const T> all, T* to, std::size_t capacity, std::size_t* size) {
  required(size, "the place for the size") = all.size();
  if (all.size() > capacity) {
    char sentence[96];
    std::snprintf(sentence, sizeof sentence, "the buffer has room for %zu where %zu are needed",
                  capacity, all.size());
    return failed(RWKV_ERROR_BUFFER, sentence);
  }
  std::copy(all.begin(), all.end(), range(to, all.size(), "the buffer").begin());
  return RWKV_OK;
}

std::filesystem::path path_of(const char* path) {
  return reinterpret_cast<const char8_t*>(&required(path, "path"));
}

std::string content_of(const std::filesystem::path& path) {
  const rwkv::io::MappedFile file(path, rwkv::io::FileAccess::read);
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::unique_ptr<rwkv::ThreadPool> pool_of(std::size_t threads) {
  constexpr std::size_t most = 1 << 16;  // more than any machine has processors
  if (threads > most)
    rwkv::fail_with(ErrorCategory::argument, threads, " threads are more than ", most);
  return std::make_unique<rwkv::ThreadPool>(threads);
}

}  // namespace

struct rwkv_model {
  std::shared_ptr<Core> core;
};

struct rwkv_state {
  rwkv_state(std::shared_ptr<Core> of, rwkv::AnyState begin)
      : core(std::move(of)), state(std::move(begin)) {}
  rwkv_state(const rwkv_state& other)  // which begins with no guesses
      : core(other.core), state(other.state), logits(other.logits) {}
  rwkv_state& operator=(rwkv_state&&) = default;
  rwkv_state& operator=(const rwkv_state&) = delete;
  ~rwkv_state() = default;

  std::shared_ptr<Core> core;
  rwkv::AnyState state;
  std::vector<float> logits;  // after what it has read; empty if they are not known
  std::unique_ptr<Drafting> drafting;
};

struct rwkv_grammar {
  std::shared_ptr<Core> core;
  rwkv::Constraint begin;  // copies share the masks that were computed
};

struct rwkv_sampler {
  rwkv::Sampler sampler;
  std::size_t vocab;
  std::size_t known;  // tokens that the vocabulary has, if there is one
};

namespace {

template <class Open>
rwkv_status open_model(const rwkv_open_options* given, rwkv_model** model, Open&& open) {
  required(model, "the place for the model") = nullptr;
  const rwkv_open_options options = options_of(given);
  rwkv::OpenOptions how;
  if (options.matrix_type != nullptr) {
    how.load.matrix_type = rwkv::type_named(options.matrix_type);
    if (!how.load.matrix_type)
      rwkv::fail_with(ErrorCategory::argument, "matrix_type: there is no type ",
                      std::string(options.matrix_type).substr(0, 40));
  }
  if (options.exact_inputs != 0) how.load.inputs = rwkv::kernels::Inputs::exact;
  bool cancelled = false;
  if (options.progress != nullptr) {
    how.load.progress = [&](double done) {
      cancelled = cancelled || options.progress(done, options.user) != 0;
    };
    how.load.cancelled = [&] { return cancelled; };
  }
  if (options.vocabulary != nullptr) how.vocabulary = content_of(path_of(options.vocabulary));
  auto pool = pool_of(options.threads);
  auto core = std::make_shared<Core>(open(how, *pool), std::move(pool));
  if (cancelled) rwkv::fail(ErrorCategory::cancelled, "loading was cancelled");
  *model = new rwkv_model{std::move(core)};
  return RWKV_OK;
}

template <class Make>
rwkv_status make_state(const rwkv_model* model, rwkv_state** state, Make&& make) {
  required(state, "the place for the state") = nullptr;
  const std::shared_ptr<Core>& core = required(model, "model").core;
  *state = new rwkv_state(core, make(core->opened.model));
  return RWKV_OK;
}

/// What was read without guesses is in the text, too.
void tell_draft(rwkv_state& state, std::span<const rwkv::Token> tokens) noexcept {
  if (state.drafting == nullptr) return;
  try {
    state.drafting->draft->append(tokens);
  } catch (...) {  // then guesses begin anew
    state.drafting.reset();
  }
}

/// The guesses that the options want for a state: its own from the last call, or new ones; null if
/// none are wanted.
std::unique_ptr<Drafting> drafting_for(rwkv_state& state, const rwkv_generate_options& options) {
  if (options.draft < RWKV_DRAFT_NONE || options.draft > RWKV_DRAFT_MODEL)
    rwkv::fail_with(ErrorCategory::argument, "draft is ", options.draft,
                    ", which is no RWKV_DRAFT_...");
  if ((options.draft == RWKV_DRAFT_MODEL) != (options.draft_model != nullptr))
    rwkv::fail(ErrorCategory::argument,
               "draft_model and RWKV_DRAFT_MODEL are given both or neither");
  std::unique_ptr<Drafting> last = std::move(state.drafting);
  if (options.draft == RWKV_DRAFT_NONE) return nullptr;

  const std::shared_ptr<Core> model =
      options.draft_model == nullptr ? nullptr : options.draft_model->core;
  if (last != nullptr && last->kind == options.draft && last->tokens == options.draft_tokens &&
      last->model == model)
    return last;
  for (const Core* const either : {state.core.get(), model.get()})
    if (either != nullptr && either->opened.model.rwkv7() == nullptr)
      rwkv::fail(ErrorCategory::unsupported,
                 "the caches of an RWKV-X model have no way back from wrong guesses");
  if (model != nullptr && model->opened.vocabulary)
    if (const auto token =
            first_difference(*model->opened.vocabulary, state.core->opened.tokenizer()))
      rwkv::fail_with(ErrorCategory::argument,
                      "draft_model has another vocabulary than the model: token ", *token,
                      " is another text");
  return std::make_unique<Drafting>(options, *state.core, model);
}

void eval(std::span<rwkv_state* const> states, std::span<const rwkv::AnySlot> slots, float* logits,
          float* hidden) {
  Core& core = *states[0]->core;
  const auto& shape = core.opened.model.shape();
  std::size_t tokens = 0;
  for (const rwkv::AnySlot& slot : slots) tokens += slot.tokens.size();
  const Lease work(core, tokens);
  // What is wanted afterwards, before anything changes.
  for (rwkv_state* const state : states) state->logits.reserve(shape.vocab());
  std::vector<float> own(slots.size() * shape.vocab());
  const std::span<float> hidden_rows(hidden, hidden == nullptr ? 0 : slots.size() * shape.embed());
  core.opened.model.forward(slots, rwkv::Logits::last, {own, hidden_rows}, *work, *core.pool);
  if (logits != nullptr) std::copy(own.begin(), own.end(), logits);
  for (std::size_t s = 0; s < slots.size(); ++s) tell_draft(*states[s], slots[s].tokens);
  if (slots.size() == 1) {
    states[0]->logits = std::move(own);
    return;
  }
  for (std::size_t s = 0; s < slots.size(); ++s) {
    const auto row = std::span<const float>(own).subspan(s * shape.vocab(), shape.vocab());
    states[s]->logits.assign(row.begin(), row.end());
  }
}

}  // namespace

extern "C" {

const char* rwkv_last_error(void) { return last_error; }

#define RWKV_TEXT_OF(x) #x
#define RWKV_TEXT(x) RWKV_TEXT_OF(x)
const char* rwkv_version(void) {
  return RWKV_TEXT(RWKV_VERSION_MAJOR) "." RWKV_TEXT(RWKV_VERSION_MINOR) "." RWKV_TEXT(
      RWKV_VERSION_PATCH);
}

rwkv_status rwkv_open(const char* path, const rwkv_open_options* options, rwkv_model** model) {
  return guarded([&] {
    return open_model(options, model, [&](const rwkv::OpenOptions& how, rwkv::ThreadPool& pool) {
      return rwkv::open(path_of(path), how, pool);
    });
  });
}

rwkv_status rwkv_open_memory(const void* data, size_t size, const rwkv_open_options* options,
                             rwkv_model** model) {
  return guarded([&] {
    return open_model(options, model, [&](const rwkv::OpenOptions& how, rwkv::ThreadPool& pool) {
      const auto bytes = range(static_cast<const std::byte*>(data), size, "data");
      return rwkv::open(std::vector<std::byte>(bytes.begin(), bytes.end()), how, pool);
    });
  });
}

void rwkv_free(rwkv_model* model) { delete model; }

rwkv_status rwkv_get_shape(const rwkv_model* model, rwkv_shape* shape) {
  return guarded([&] {
    const rwkv::Opened& opened = required(model, "model").core->opened;
    const auto& s = opened.model.shape();
    const rwkv::AnyState state = opened.model.initial_state();
    store({0, s.layers(), s.embed(), s.head_size(), s.ffn(), s.vocab(),
           opened.model.weights().sparse_blocks(), opened.vocabulary ? std::size_t{1} : 0,
           opened.model.weights().bytes(), state.bytes()},
          &required(shape, "shape"));
    return RWKV_OK;
  });
}

size_t rwkv_threads(const rwkv_model* model) {
  return model == nullptr ? 0 : model->core->pool->concurrency();
}

rwkv_status rwkv_set_threads(rwkv_model* model, size_t threads) {
  return guarded([&] {
    required(model, "model").core->pool = pool_of(threads);
    return RWKV_OK;
  });
}

rwkv_status rwkv_state_new(const rwkv_model* model, rwkv_state** state) {
  return guarded([&] {
    return make_state(model, state, [](const rwkv::AnyModel& m) { return m.initial_state(); });
  });
}

rwkv_status rwkv_state_copy(const rwkv_state* state, rwkv_state** copy) {
  return guarded([&] {
    required(copy, "the place for the copy") = nullptr;
    *copy = new rwkv_state(required(state, "state"));
    return RWKV_OK;
  });
}

rwkv_status rwkv_state_assign(rwkv_state* to, const rwkv_state* from) {
  return guarded([&] {
    if (required(to, "to").core != required(from, "from").core)
      rwkv::fail(ErrorCategory::argument, "the states belong to different models");
    rwkv_state copy = *from;
    *to = std::move(copy);
    return RWKV_OK;
  });
}

void rwkv_state_free(rwkv_state* state) { delete state; }

rwkv_status rwkv_state_save(const rwkv_state* state, const char* path) {
  return guarded([&] {
    const rwkv_state& s = required(state, "state");
    s.core->opened.model.save_state(path_of(path), s.state);
    return RWKV_OK;
  });
}

rwkv_status rwkv_state_load(const rwkv_model* model, const char* path, rwkv_state** state) {
  return guarded([&] {
    return make_state(model, state,
                      [&](const rwkv::AnyModel& m) { return m.load_state(path_of(path)); });
  });
}

rwkv_status rwkv_state_to_bytes(const rwkv_state* state, void* data, size_t capacity,
                                size_t* size) {
  return guarded([&] {
    const rwkv_state& s = required(state, "state");
    const std::vector<std::byte> bytes = s.core->opened.model.state_to_bytes(s.state);
    return give(std::span<const std::byte>(bytes), static_cast<std::byte*>(data), capacity, size);
  });
}

rwkv_status rwkv_state_from_bytes(const rwkv_model* model, const void* data, size_t size,
                                  rwkv_state** state) {
  return guarded([&] {
    return make_state(model, state, [&](const rwkv::AnyModel& m) {
      return m.state_from_bytes(range(static_cast<const std::byte*>(data), size, "data"));
    });
  });
}

rwkv_status rwkv_tokenize(const rwkv_model* model, const char* text, size_t text_size,
                          uint32_t* tokens, size_t capacity, size_t* count) {
  return guarded([&] {
    const rwkv::Tokenizer& tokenizer = required(model, "model").core->opened.tokenizer();
    const auto characters = range(text, text_size, "text");
    const auto all = tokenizer.encode(std::string_view(characters.data(), characters.size()));
    return give(std::span<const rwkv::Token>(all), tokens, capacity, count);
  });
}

rwkv_status rwkv_detokenize(const rwkv_model* model, const uint32_t* tokens, size_t count,
                            char* text, size_t capacity, size_t* size) {
  return guarded([&] {
    const rwkv::Tokenizer& tokenizer = required(model, "model").core->opened.tokenizer();
    const std::string all = tokenizer.decode(range(tokens, count, "tokens"));
    return give(std::span<const char>(all), text, capacity, size);
  });
}

rwkv_status rwkv_eval(rwkv_state* state, const uint32_t* tokens, size_t count, float* logits,
                      float* hidden) {
  return rwkv_eval_batch(&state, &tokens, &count, 1, logits, hidden);
}

rwkv_status rwkv_eval_batch(rwkv_state* const* states, const uint32_t* const* tokens,
                            const size_t* counts, size_t n, float* logits, float* hidden) {
  return guarded([&] {
    if (n == 0) return RWKV_OK;
    const auto all = range(states, n, "states");
    (void)range(tokens, n, "tokens");
    (void)range(counts, n, "counts");
    std::vector<rwkv::AnySlot> slots;
    for (std::size_t s = 0; s < n; ++s) {
      rwkv_state& state = required(states[s], "a state");
      if (state.core != states[0]->core)
        rwkv::fail(ErrorCategory::argument, "the states belong to different models");
      for (std::size_t other = 0; other < s; ++other)
        if (states[other] == states[s])
          rwkv::fail_with(ErrorCategory::argument, "state ", other, " and state ", s,
                          " are the same");
      slots.push_back({&state.state, range(tokens[s], counts[s], "tokens")});
    }
    eval(all, slots, logits, hidden);
    return RWKV_OK;
  });
}

void rwkv_sampler_defaults(rwkv_sampler_options* options) {
  if (options == nullptr) return;
  const rwkv::SamplerOptions o;
  *options = {sizeof *options,    o.temperature,       o.top_p,         o.top_k, o.min_p,
              o.presence_penalty, o.frequency_penalty, o.penalty_decay, o.seed};
}

rwkv_status rwkv_sampler_new(const rwkv_model* model, const rwkv_sampler_options* options,
                             rwkv_sampler** sampler) {
  return guarded([&] {
    required(sampler, "the place for the sampler") = nullptr;
    const rwkv::Opened& opened = required(model, "model").core->opened;
    rwkv_sampler_options o;
    rwkv_sampler_defaults(&o);
    if (options != nullptr) {
      const rwkv_sampler_options given = options_of(options);
      std::memcpy(&o, &given, (std::min)(options->struct_size, sizeof o));
    }
    rwkv::SamplerOptions to;
    to.temperature = o.temperature;
    to.top_p = o.top_p;
    to.top_k = o.top_k;
    to.min_p = o.min_p;
    to.presence_penalty = o.presence_penalty;
    to.frequency_penalty = o.frequency_penalty;
    to.penalty_decay = o.penalty_decay;
    to.seed = o.seed;
    const std::size_t vocab = opened.model.shape().vocab();
    if (opened.vocabulary)
      *sampler = new rwkv_sampler{rwkv::make_sampler(to, *opened.vocabulary), vocab,
                                  (std::min)(vocab, opened.vocabulary->vocab_size())};
    else
      *sampler = new rwkv_sampler{rwkv::Sampler(to), vocab, vocab};
    return RWKV_OK;
  });
}

void rwkv_sampler_free(rwkv_sampler* sampler) { delete sampler; }

rwkv_status rwkv_sample(rwkv_sampler* sampler, const float* logits, uint32_t* token) {
  return guarded([&] {
    rwkv_sampler& s = required(sampler, "sampler");
    const auto row = range(logits, s.vocab, "logits").first(s.known);
    uint32_t& to = required(token, "the place for the token");
    to = s.sampler.sample(row);
    return RWKV_OK;
  });
}

rwkv_status rwkv_grammar_new(const rwkv_model* model, int kind, const char* text, size_t text_size,
                             rwkv_grammar** grammar) {
  return guarded([&] {
    required(grammar, "the place for the grammar") = nullptr;
    const std::shared_ptr<Core>& core = required(model, "model").core;
    const auto characters = range(text, text_size, "text");
    const std::string_view described(characters.data(), characters.size());
    const auto compiled = [&] {
      switch (kind) {
        case RWKV_GRAMMAR_JSON_SCHEMA:
          return rwkv::Grammar::from_json_schema(described, rwkv::JsonOptions::compact());
        case RWKV_GRAMMAR_GBNF:
          return rwkv::Grammar::from_gbnf(described);
        case RWKV_GRAMMAR_REGEX:
          return rwkv::Grammar::from_regex(described);
        case RWKV_GRAMMAR_TOOLS:
          return rwkv::Grammar::from_tools(described);
        default:
          rwkv::fail_with(ErrorCategory::argument, "kind is ", kind,
                          ", which is no RWKV_GRAMMAR_...");
      }
    };
    *grammar = new rwkv_grammar{core, compiled().constraint(core->opened.tokenizer())};
    return RWKV_OK;
  });
}

void rwkv_grammar_free(rwkv_grammar* grammar) { delete grammar; }

rwkv_status rwkv_generate(rwkv_state* state, rwkv_sampler* sampler, const char* prompt,
                          size_t prompt_size, const rwkv_generate_options* options,
                          rwkv_on_text on_text, void* user, rwkv_generate_result* result) {
  return guarded([&] {
    rwkv_state& s = required(state, "state");
    const rwkv::Tokenizer& tokenizer = s.core->opened.tokenizer();
    const auto characters = range(prompt, prompt_size, "prompt");
    const auto tokens = tokenizer.encode(std::string_view(characters.data(), characters.size()));
    const rwkv_generate_options given = options_of(options);
    rwkv::GenerateOptions how;
    if (given.max_tokens > 0) how.max_tokens = given.max_tokens;
    for (const char* text : range(given.stop_strings, given.stop_string_count, "stop_strings"))
      how.stop_strings.emplace_back(&required(text, "a stop string"));
    // In a vocabulary of bytes, 0 is a byte like any other.
    if (!tokenizer.token_bytes(0).empty()) how.stop_tokens.clear();
    how.any_vocabulary = true;  // what was opened with the model, or what the caller wants
    if (given.grammar != nullptr) {
      if (given.grammar->core != s.core)
        rwkv::fail(ErrorCategory::argument, "the grammar was made for another model");
      how.constraint = given.grammar->begin;
    }
    if (result != nullptr) (void)options_of(result);
    std::unique_ptr<rwkv_sampler> own;
    if (sampler == nullptr)
      own = std::make_unique<rwkv_sampler>(rwkv_sampler{rwkv::make_sampler({}, tokenizer), 0, 0});
    std::unique_ptr<Drafting> drafting = drafting_for(s, given);
    rwkv::FeederCounts before;
    if (drafting != nullptr) {
      how.feeder = &drafting->feeder;
      before = drafting->feeder.counts();
    }
    const Lease work(*s.core, tokens.size());
    // Arguments are refused before the state reads anything. What fails later leaves a state of
    // which nobody knows what it has read.
    std::vector<float> logits = std::exchange(s.logits, {});
    how.logits = logits;
    rwkv::GenerateResult text;
    try {
      text = rwkv::generate(
          s.core->opened.model, s.state, *work, tokenizer, std::span<const rwkv::Token>(tokens),
          (sampler == nullptr ? own.get() : sampler)->sampler, how,
          [&](std::string_view piece) {
            return on_text == nullptr || on_text(piece.data(), piece.size(), user) == 0;
          },
          *s.core->pool);
    } catch (const rwkv::Error& error) {
      if (error.category() == ErrorCategory::argument && !how.constraint)
        s.logits = std::move(logits);
      throw;
    }
    s.logits = std::move(text.logits);
    const rwkv::FeederCounts after = drafting == nullptr ? before : drafting->feeder.counts();
    s.drafting = std::move(drafting);
    if (result != nullptr)
      store({0, static_cast<int>(text.reason), text.prompt_tokens, text.tokens.size(),
             text.prompt_seconds, text.generate_seconds, text.satisfied ? 1 : 0,
             after.guessed - before.guessed, after.accepted - before.accepted},
            result);
    return RWKV_OK;
  });
}

const char* rwkv_level_name(size_t index) {
  const auto levels = rwkv::simd::available_levels();
  return index < levels.size() ? rwkv::simd::name_of(levels[index]) : nullptr;
}

const char* rwkv_level(void) { return rwkv::simd::name_of(rwkv::simd::level()); }

rwkv_status rwkv_use_level(const char* name) {
  return guarded([&] {
    const auto level = rwkv::simd::level_named(&required(name, "name"));
    if (!level)
      rwkv::fail_with(ErrorCategory::argument, "there is no instruction-set level ",
                      std::string(name).substr(0, 40));
    rwkv::simd::use_level(*level);
    return RWKV_OK;
  });
}

}  // extern "C"
