// SPDX-License-Identifier: Apache-2.0
// The definitions of emulated/: fibers, and a device that is the host.
#include <emulated_device.hpp>
#include <rwkv/core/half.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cuda_runtime.h>
#include <memory>
#include <new>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RWKV_FIBERS_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define RWKV_FIBERS_ASAN 1
#endif
#if defined(RWKV_FIBERS_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace {

constexpr std::size_t stack_bytes = std::size_t{1} << 17;

#if defined(__x86_64__)

// A switch saves what a function call must keep and the stack pointer. (ucontext asks the kernel
// for the signal mask each time, which is twenty times as slow.)
extern "C" void rwkv_test_switch(void** from, void* to);
asm(R"(
.text
.type rwkv_test_switch,@function
rwkv_test_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size rwkv_test_switch,.-rwkv_test_switch
)");

class Context {
 public:
  void prepare(unsigned char* stack, void (*entry)()) {
    auto* top = reinterpret_cast<void**>(stack + stack_bytes);
    *--top = nullptr;  // keeps the stack aligned as after a call
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    pointer_ = top;
  }
  static void change(Context& from, Context& to) { rwkv_test_switch(&from.pointer_, to.pointer_); }

 private:
  void* pointer_ = nullptr;
};

#else

class Context {
 public:
  void prepare(unsigned char* stack, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = stack_bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }
  static void change(Context& from, Context& to) { swapcontext(&from.context_, &to.context_); }

 private:
  ucontext_t context_{};
};

#endif

[[noreturn]] void stop(const char* what) {
  std::fprintf(stderr, "emulated device: %s\n", what);
  std::abort();
}

struct Fiber {
  Context context;
  std::unique_ptr<unsigned char[]> stack{new unsigned char[stack_bytes]};
  void* fake_stack = nullptr;
  emulator::Place place{};
  enum State { ready, at_barrier, at_warp, done } state = ready;
  std::size_t bytes = 0;                                              // given to the warp
  std::vector<std::vector<std::pair<void*, const void*>>> copies{1};  // in groups
  unsigned meetings = 0;  // of the warp: what it gave lies in the slot of their parity
};

constexpr std::size_t most_bytes = emulator::most_given;

struct Warp {
  unsigned waiting = 0;
  alignas(16) unsigned char given[2][32][most_bytes];
};

struct Machine {
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Warp> warps;
  std::vector<unsigned> ready;
  Context scheduler;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_size = 0;
  Fiber* running = nullptr;
  const emulator::Task* kernel = nullptr;
  unsigned waiting = 0;  // at the barrier
  std::uint64_t random = 1;
  std::vector<unsigned char> shared;

  std::uint64_t draw(std::uint64_t below) {
    random += 0x9e3779b97f4a7c15u;
    std::uint64_t z = random;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (z ^ z >> 31) % below;
  }
};

// One for all: the tests run kernels on one thread.
Machine the_machine;
Machine& machine() { return the_machine; }

void to_scheduler(bool for_good) {
  Machine& m = machine();
  Fiber& me = *m.running;
#if defined(RWKV_FIBERS_ASAN)
  __sanitizer_start_switch_fiber(for_good ? nullptr : &me.fake_stack, m.scheduler_stack,
                                 m.scheduler_stack_size);
#else
  (void)for_good;
#endif
  Context::change(me.context, m.scheduler);
#if defined(RWKV_FIBERS_ASAN)
  __sanitizer_finish_switch_fiber(me.fake_stack, &m.scheduler_stack, &m.scheduler_stack_size);
#endif
}

void to_fiber(Fiber& fiber) {
  Machine& m = machine();
  m.running = &fiber;
#if defined(RWKV_FIBERS_ASAN)
  __sanitizer_start_switch_fiber(&m.scheduler_fake_stack, fiber.stack.get(), stack_bytes);
#endif
  Context::change(m.scheduler, fiber.context);
#if defined(RWKV_FIBERS_ASAN)
  __sanitizer_finish_switch_fiber(m.scheduler_fake_stack, nullptr, nullptr);
#endif
}

void fiber_main() {
  Machine& m = machine();
#if defined(RWKV_FIBERS_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &m.scheduler_stack, &m.scheduler_stack_size);
#endif
  (*m.kernel)();
  m.running->state = Fiber::done;
  to_scheduler(true);
  std::abort();
}

void run_block(std::uint64_t block, std::uint64_t blocks, unsigned threads,
               std::size_t shared_bytes) {
  Machine& m = machine();
  // Of the size that was asked for, so that what is past it is found; NaNs.
  m.shared.assign(shared_bytes + 16, 0xff);
  m.shared.shrink_to_fit();
  void* aligned = m.shared.data();
  std::size_t space = m.shared.size();
  std::align(16, shared_bytes, aligned, space);
  while (m.fibers.size() < threads) m.fibers.push_back(std::make_unique<Fiber>());
  m.warps.resize((threads + 31) / 32);
  for (Warp& warp : m.warps) warp.waiting = 0;
  m.waiting = 0;
  m.ready.clear();
  for (unsigned t = 0; t < threads; ++t) {
    Fiber& fiber = *m.fibers[t];
#if defined(RWKV_FIBERS_ASAN)
    __asan_unpoison_memory_region(fiber.stack.get(), stack_bytes);
#endif
    fiber.context.prepare(fiber.stack.get(), fiber_main);
    fiber.fake_stack = nullptr;
    fiber.place = {t, threads, block, blocks, static_cast<unsigned char*>(aligned)};
    fiber.state = Fiber::ready;
    fiber.meetings = 0;
    fiber.copies.assign(1, {});
    m.ready.push_back(t);
  }
  unsigned done = 0;
  while (done < threads) {
    if (m.ready.empty()) stop("threads of a block wait for others that do not come");
    const std::size_t at = m.draw(m.ready.size());
    Fiber& fiber = *m.fibers[m.ready[at]];
    m.ready[at] = m.ready.back();
    m.ready.pop_back();
    to_fiber(fiber);
    switch (fiber.state) {
      case Fiber::done:
        ++done;
        break;
      case Fiber::at_barrier:
        if (++m.waiting == threads) {
          m.waiting = 0;
          for (unsigned t = 0; t < threads; ++t) m.ready.push_back(t);
        }
        break;
      case Fiber::at_warp: {
        const unsigned w = fiber.place.thread / 32;
        if (++m.warps[w].waiting == 32) {
          m.warps[w].waiting = 0;
          for (unsigned t = 32 * w; t < 32 * w + 32; ++t) {
            const Fiber& other = *m.fibers[t];
            if (other.bytes != fiber.bytes || other.meetings != fiber.meetings)
              stop("the lanes of a warp meet for different things");
            m.ready.push_back(t);
          }
        }
        break;
      }
      case Fiber::ready:
        break;
    }
  }
}

}  // namespace

namespace emulator {

void set_seed(std::uint64_t seed) { machine().random = seed; }

void run(std::uint64_t blocks, unsigned threads, std::size_t shared_bytes, const Task& kernel) {
  Machine& m = machine();
  if (threads % 32 != 0 || threads > 1024) stop("a block is 1 to 32 whole warps");
  m.kernel = &kernel;
  // All blocks in an order of no meaning: a step that has no divisor in common with their number.
  const std::uint64_t start = m.draw(blocks);
  std::uint64_t step = 1 + m.draw(blocks);
  const auto common = [](std::uint64_t a, std::uint64_t b) {
    while (b != 0) a = std::exchange(b, a % b);
    return a;
  };
  while (common(step, blocks) != 1) ++step;
  for (std::uint64_t i = 0, block = start; i < blocks; ++i, block = (block + step) % blocks)
    run_block(block, blocks, threads, shared_bytes);
  m.kernel = nullptr;
}

void run_one(std::uint64_t block, std::uint64_t blocks, unsigned threads, std::size_t shared_bytes,
             const Task& kernel) {
  machine().kernel = &kernel;
  run_block(block, blocks, threads, shared_bytes);
  machine().kernel = nullptr;
}

const Place& here() { return machine().running->place; }

void meet_block() {
  machine().running->state = Fiber::at_barrier;
  to_scheduler(false);
}

const void* meet_warp(const void* given, std::size_t bytes, unsigned source) {
  Machine& m = machine();
  Fiber& me = *m.running;
  const unsigned t = me.place.thread;
  if (bytes > most_bytes) stop("too much for a shuffle");
  if (bytes != 0) std::memcpy(m.warps[t / 32].given[me.meetings % 2][t % 32], given, bytes);
  me.bytes = bytes;
  ++me.meetings;
  me.state = Fiber::at_warp;
  to_scheduler(false);
  return given_by(source);
}

const void* given_by(unsigned lane) {
  const Machine& m = machine();
  const Fiber& me = *m.running;
  return m.warps[me.place.thread / 32].given[(me.meetings + 1) % 2][lane];
}

void copy_soon(void* to, const void* from) {
  machine().running->copies.back().emplace_back(to, from);
}
void end_of_copies() { machine().running->copies.emplace_back(); }
void wait_for_copies(int n) {
  auto& copies = machine().running->copies;
  while (copies.size() > static_cast<std::size_t>(n) + 1) {
    for (const auto& [to, from] : copies.front()) std::memcpy(to, from, 16);
    copies.erase(copies.begin());
  }
}

Device& device() {
  static Device one;
  return one;
}

void finish(Stream& stream) {
  std::vector<Task> tasks;
  tasks.swap(stream.waiting);
  for (const Task& task : tasks) task();
}

namespace {
void enqueue(Stream* stream, Task task) {
  (stream->recording != nullptr ? stream->recording->tasks : stream->waiting)
      .push_back(std::move(task));
}
/// Memory of the device knows its size.
constexpr std::size_t header = 256;
}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, Task kernel) {
  Device& d = device();
  ++d.launches;
  if (d.fail_next_launch != cudaSuccess) return std::exchange(d.fail_next_launch, cudaSuccess);
  const std::uint64_t blocks = config.gridDim.x;
  if (blocks == 0 || blocks > 0x7fffffff || config.gridDim.y != 1 || config.gridDim.z != 1)
    return cudaErrorInvalidValue;
  d.largest_grid = config.gridDim.x > d.largest_grid ? config.gridDim.x : d.largest_grid;
  enqueue(config.stream, [=, threads = config.blockDim.x, bytes = config.dynamicSmemBytes] {
    run(blocks, threads, bytes, kernel);
  });
  return cudaSuccess;
}

}  // namespace emulator

using emulator::device;

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorLaunchFailure:
      return "unspecified launch failure";
    default:
      return "invalid argument";
  }
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* count) {
  *count = device().devices;
  if (device().driver < 13000) return cudaErrorInsufficientDriver;
  return device().devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = device().driver;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* number) {
  *number = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int number) {
  return number >= 0 && number < device().devices ? cudaSuccess : cudaErrorInvalidDevice;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::snprintf(properties->name, sizeof properties->name, "emulated");
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount      ? 2
           : attribute == cudaDevAttrComputeCapabilityMajor ? 9
                                                            : 0;
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  *total = device().memory;
  *free = device().memory - device().used;
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  if (bytes > device().memory - device().used) return cudaErrorMemoryAllocation;
  auto* const block =
      static_cast<unsigned char*>(::operator new (bytes + emulator::header, std::align_val_t{256}));
  std::memcpy(block, &bytes, sizeof bytes);
  std::memset(block + emulator::header, 0xff, bytes);  // NaNs
  device().used += bytes;
  ++device().allocations;
  *memory = block + emulator::header;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  if (memory == nullptr) return cudaSuccess;
  auto* const block = static_cast<unsigned char*>(memory) - emulator::header;
  std::size_t bytes = 0;
  std::memcpy(&bytes, block, sizeof bytes);
  device().used -= bytes;
  --device().allocations;
  ::operator delete (block, std::align_val_t{256});
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** memory, std::size_t bytes, unsigned) {
  *memory = ::operator new(bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* memory) {
  ::operator delete(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  emulator::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  emulator::enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new emulator::Stream;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  emulator::finish(*stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  emulator::finish(*stream);
  return std::exchange(device().fail_next_wait, cudaSuccess);
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new emulator::Event;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  event->after = stream;
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (event->after != nullptr) emulator::finish(*event->after);
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->recording = new emulator::Graph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->recording, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned) {
  *executable = new emulator::Graph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  ++device().graph_launches;
  for (const emulator::Task& task : executable->tasks) emulator::enqueue(stream, task);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
