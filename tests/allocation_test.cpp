// SPDX-License-Identifier: Apache-2.0
// Running a model asks for no memory: not for a token, not for a batch, not on threads; a static
// model never does. Every way to the heap is replaced by one that counts.
#define RWKV_NO_IO
#include "support/sample_checkpoint.hpp"
#include "support/sample_hybrid.hpp"
#include "support/sanitizers.hpp"
#include "support/static_weights.hpp"
#include <rwkv/exec/thread_pool.hpp>
#include <rwkv/hybrid.hpp>
#include <rwkv/model.hpp>
#include <rwkv/rewind.hpp>
#include <rwkv/static_model.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <new>
#include <thread>
#include <vector>

namespace {

std::atomic<std::size_t> allocations = 0;

/// How often f asks for memory.
template <class F>
std::size_t count(F&& f) {
  const std::size_t before = allocations;
  f();
  return allocations - before;
}

}  // namespace

#if defined(__GLIBC__) && !defined(RWKV_TEST_SANITIZER)

constexpr std::size_t aligned_alloc_counts = 1;

// In glibc a program may define malloc itself; operator new arrives there too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) noexcept { return ++allocations, __libc_malloc(size); }
void* calloc(std::size_t n, std::size_t size) noexcept {
  return ++allocations, __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t size) noexcept { return ++allocations, __libc_realloc(p, size); }
void* memalign(std::size_t align, std::size_t size) noexcept {
  return ++allocations, __libc_memalign(align, size);
}
void* aligned_alloc(std::size_t align, std::size_t size) noexcept { return memalign(align, size); }
int posix_memalign(void** p, std::size_t align, std::size_t size) noexcept {
  *p = memalign(align, size);
  return *p != nullptr ? 0 : ENOMEM;
}
}

#else

constexpr std::size_t aligned_alloc_counts = 0;

namespace {
void* given(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  return p;
}
}  // namespace

// Not inlined: GCC would take malloc and delete, or new and free, for a pair that does not match.
[[gnu::noinline]] void* operator new(std::size_t size) {
  return ++allocations, given(std::malloc(size));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t align) {
  const auto a = static_cast<std::size_t>(align);
  return ++allocations, given(std::aligned_alloc(a, (size + a - 1) / a * a));
}
[[gnu::noinline]] void* operator new(std::size_t size, std::align_val_t align,
                                     const std::nothrow_t&) noexcept {
  const auto a = static_cast<std::size_t>(align);
  return ++allocations, std::aligned_alloc(a, (size + a - 1) / a * a);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  std::free(p);
}

#endif

namespace {

using rwkv::Logits;
using rwkv::Token;

// Large enough for its products to be divided among threads.
constexpr test::SampleSizes sizes{
    .layers = 3, .embed = 64, .head_size = 16, .ffn = 128, .vocab = 70};
using Shape = rwkv::Shape<3, 64, 16, 128, 70, 3, 2, 5, 7>;

/// A prompt of several passes, some tokens one by one, and a batch of uneven slots.
template <class Work, class State, class Exec>
std::size_t allocations_of_a_conversation(const auto& model, State& state, State& other, Work& work,
                                          Exec& exec) {
  test::Random random(1);
  std::vector<Token> prompt(50);
  for (Token& t : prompt) t = static_cast<Token>(random.below(sizes.vocab));
  std::vector<float> logits(23 * sizes.vocab);
  const std::span<const Token> text(prompt);
  using Slot = rwkv::Slot<typename std::remove_reference_t<decltype(model)>::Shape>;
  const Slot slots[] = {{&state, text.first(20)}, {&other, text.last(3)}};
  return count([&] {
    model.forward(state, text, work, exec);
    for (std::size_t i = 0; i < 5; ++i) model.forward(state, text.subspan(i, 1), work, exec);
    model.forward(slots, Logits::all, logits, work, exec);
    model.forward(slots, Logits::last, std::span(logits).first(2 * sizes.vocab), work, exec);
    model.forward(slots, Logits::none, {}, work, exec);
  });
}

}  // namespace

TEST_CASE("the counter counts") {
  const void* volatile seen = nullptr;  // what nobody sees may not be allocated
  CHECK(count([&] { seen = std::vector<int>(100).data(); }) == 1);
  CHECK(count([&] { seen = rwkv::Buffer<float, rwkv::dynamic>(100).data(); }) == 1);
  CHECK(count([&] { seen = std::aligned_alloc(64, 64); }) == aligned_alloc_counts);
  std::free(const_cast<void*>(seen));
}

TEST_CASE("a model allocates nothing after construction, on threads neither") {
  const rwkv::Model<> model(test::sample_checkpoint(sizes));
  rwkv::Workspace work(model.shape(), 16);
  rwkv::State state(model.shape());
  rwkv::State other(model.shape());
  rwkv::Serial serial;
  CHECK(allocations_of_a_conversation(model, state, other, work, serial) == 0);
  rwkv::ThreadPool pool(3);
  CHECK(allocations_of_a_conversation(model, state, other, work, pool) == 0);
}

TEST_CASE("logging a pass and going back allocate nothing") {
  const rwkv::Model<> model(test::sample_checkpoint(sizes));
  rwkv::Workspace work(model.shape(), 4);
  rwkv::State state(model.shape());
  rwkv::RowLog log(model.shape(), 8);
  std::vector<float> logits(6 * sizes.vocab);
  const std::vector<Token> text(6, 1);
  rwkv::ThreadPool pool(3);
  CHECK(count([&] {
          const rwkv::Slot<> slot{.state = &state, .tokens = text, .log = &log};
          model.forward(std::span(&slot, 1), Logits::all, logits, work, pool);
          rwkv::rewind(state, log, 4, pool);
          rwkv::rewind(state, log, 1);
        }) == 0);
  CHECK(log.size() == 1);
}

TEST_CASE("a pool allocates nothing, asleep or awake") {
  rwkv::ThreadPool pool(3);
  std::atomic<int> calls = 0;
  CHECK(count([&] {
          for (int phase = 0; phase < 20; ++phase) {
            pool.parallel(5, [&](std::size_t) { ++calls; });
            if (phase % 7 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
        }) == 0);
  CHECK(calls == 100);
}

TEST_CASE("a state is rewound, compared, exchanged and reset in its own memory") {
  rwkv::State state(rwkv::DynamicShape(Shape{}.dimensions()));
  const rwkv::State<> saved = state;
  rwkv::State<> third = state;
  bool equal = false;
  CHECK(count([&] {
          state = saved;
          equal = state == saved;
          std::swap(state, third);
          third = std::move(state);
          third.reset();
        }) == 0);
  CHECK(equal);
  const void* volatile seen = nullptr;
  CHECK(count([&] { seen = rwkv::State<>(saved).values().data(); }) == 1);
}

TEST_CASE("a static model with its state and workspace allocates nothing at all") {
  const rwkv::io::StoredWeights stored(test::sample_checkpoint(sizes));
  const auto weights = test::static_weights<Shape, float>(stored);
  const std::vector<Token> prompt{1, 2, 3, 4, 5};
  float logit = 0;
  CHECK(count([&] {
          const rwkv::StaticModel model(*weights);
          rwkv::State<Shape> state;
          rwkv::Workspace<Shape, 2> work;
          logit = model.forward(state, prompt, work)[0];
          const rwkv::State<Shape> fork = state;
          state.reset();
          logit += model.forward(state, std::span(prompt).first(1), work)[0];
          state = fork;
        }) == 0);
  CHECK(std::isfinite(logit));
}

TEST_CASE("a hybrid model asks for nothing once its caches are full, or reserved") {
  rwkv::HybridConfig config;
  config.chunk = 8;
  config.top_k = 2;
  config.max_cache = 40;
  config.min_cache = 24;
  config.window = 9;
  const rwkv::HybridModel model(test::sample_hybrid(), config);
  rwkv::HybridWorkspace work(model.shape(), 16);
  std::vector<Token> tokens(150);
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<Token>(i * i % test::hybrid_sizes.vocab);
  rwkv::HybridState full(model.shape());
  model.forward(full, std::span(tokens).first(60), work);
  CHECK(count([&] { model.forward(full, tokens, work); }) == 0);
  rwkv::HybridState reserved(model.shape());
  reserved.reserve(1000);
  CHECK(count([&] { model.forward(reserved, tokens, work); }) == 0);
  rwkv::HybridState fresh(model.shape());
  CHECK(count([&] { model.forward(fresh, tokens, work); }) > 0);
}
