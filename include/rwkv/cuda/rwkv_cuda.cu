// SPDX-License-Identifier: Apache-2.0
// The CUDA translation unit: the only file that nvcc sees. It needs nothing of the library but
// core/ and links with every form of it:
//
//   nvcc -std=c++20 -O3 -fmad=false -arch=native -I include -c include/rwkv/cuda/rwkv_cuda.cu
//
// Programs include rwkv/cuda.hpp.
#include <rwkv/core/error.hpp>
#include <rwkv/cuda/channels.cuh>
#include <rwkv/cuda/engine.hpp>
#include <rwkv/cuda/heads.cuh>
#include <rwkv/cuda/sampling.cuh>
#include <rwkv/cuda/tensor.cuh>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

namespace rwkv::inline RWKV_ABI::cuda {

namespace unit {  // nobody else's

// ---- kernels

using namespace device;

template <int rows, int panels>
RWKV_KERNEL(block_threads, rows > 4 ? 1 : 2)
products_kernel(RWKV_PARAMETER Products p) {
  multiply<rows, panels>(p, block());
}

RWKV_KERNEL(block_threads, 2)
prepare_kernel(RWKV_PARAMETER Preparation p) { prepare(p, static_cast<unsigned>(block())); }

template <unsigned rows, unsigned over, unsigned across, unsigned parts>
RWKV_KERNEL(block_threads, 2)
tensor_kernel(RWKV_PARAMETER TensorProducts p) {
  multiply_on_tensor_cores<rows, over, across, parts>(p, block());
}

template <int n>
RWKV_KERNEL(head_groups* n, 1)
heads_kernel(RWKV_PARAMETER Heads p) {
  advance_head<n>(p, block());
}

template <int rows>
RWKV_KERNEL(block_threads, rows > 4 ? 1 : 2)
sparse_kernel(RWKV_PARAMETER SparseProduct p) {
  multiply_sparse<rows>(p, block());
}

RWKV_KERNEL(block_threads, 1)
embedding_kernel(RWKV_PARAMETER Embedding p) { embed(p, block()); }

RWKV_KERNEL(block_threads, 1)
hidden_kernel(RWKV_PARAMETER Hidden p) { normalise_row(p, static_cast<unsigned>(block())); }

RWKV_KERNEL(draw_threads, 1)
draw_kernel(RWKV_PARAMETER Draw p) { draw(p, static_cast<unsigned>(block())); }

struct RandomNumbers {
  unsigned char* to;
  Kind kind;
  std::uint64_t count;
  std::uint64_t seed;
  float centre, scale;
};

/// Numbers that a bfloat16 and a half hold, so that every kind gets the same.
RWKV_KERNEL(block_threads, 1)
random_kernel(RWKV_PARAMETER RandomNumbers p) {
  const std::uint64_t every = blocks() * block_threads;
  for (std::uint64_t i = block() * block_threads + thread(); i < p.count; i += every) {
    std::uint64_t z = p.seed + (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    const float spread = static_cast<float>(static_cast<int>(z & 127) * 2 - 127) * 0x1p-7f;
    const float value = fma(spread, p.scale, p.centre);
    const std::uint32_t bits = bits_of(value);
    auto* const halves = reinterpret_cast<std::uint16_t*>(p.to);
    switch (p.kind) {
      case Kind::f16: {
        const int exponent = static_cast<int>(bits >> 23 & 255) - 112;
        halves[i] = static_cast<std::uint16_t>(
            (bits >> 16 & 0x8000u) |
            (exponent <= 0 ? 0u : static_cast<unsigned>(exponent) << 10 | (bits >> 13 & 0x3ffu)));
        break;
      }
      case Kind::bf16:
        halves[i] = static_cast<std::uint16_t>(bits >> 16);
        break;
      default:
        reinterpret_cast<float*>(p.to)[i] = value;
    }
  }
}

// ---- what CUDA says

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  (void)cudaGetLastError();  // or it would be reported again elsewhere
  fail_with(error == cudaErrorMemoryAllocation ? ErrorCategory::memory : ErrorCategory::io,
            "CUDA: ", what, ": ", cudaGetErrorString(error));
}

std::string gigabytes(std::uint64_t bytes) {
  const std::uint64_t tenths = (bytes + 50'000'000) / 100'000'000;
  return std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + " GB";
}

/// Makes a device the thread's current one for as long as it lives.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "asking for the current device");
    if (before_ != device) check(cudaSetDevice(device), "choosing the device");
    changed_ = before_ != device;
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() {
    if (changed_) (void)cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

/// Memory of a device. What is too much is refused before it is asked for.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(std::uint64_t bytes, int device, const char* for_what) : device_(device) {
    const OnDevice on(device);
    std::size_t free = 0;
    std::size_t total = 0;
    check(cudaMemGetInfo(&free, &total), "asking how much memory is free");
    if (bytes > free)
      fail_with(ErrorCategory::memory, "device ", device, " has ", gigabytes(free), " of its ",
                gigabytes(total), " free, and ", for_what, " needs ", gigabytes(bytes), " (", bytes,
                " bytes)");
    void* memory = nullptr;
    check(cudaMalloc(&memory, bytes == 0 ? 1 : bytes), for_what);
    data_ = static_cast<unsigned char*>(memory);
  }
  DeviceMemory(DeviceMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), device_(other.device_) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(device_, other.device_);
    return *this;
  }
  ~DeviceMemory() {
    if (data_ == nullptr) return;
    int before = 0;
    const bool known = cudaGetDevice(&before) == cudaSuccess;
    (void)cudaSetDevice(device_);
    (void)cudaFree(data_);
    if (known) (void)cudaSetDevice(before);
  }
  [[nodiscard]] unsigned char* data() const noexcept { return data_; }

 private:
  unsigned char* data_ = nullptr;
  int device_ = 0;
};

/// Memory of the host that a device copies from and to while the program goes on.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  explicit PinnedMemory(std::size_t bytes) {
    void* memory = nullptr;
    check(cudaHostAlloc(&memory, bytes == 0 ? 1 : bytes, cudaHostAllocDefault),
          "memory of the host for copies");
    data_ = static_cast<unsigned char*>(memory);
  }
  PinnedMemory(PinnedMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~PinnedMemory() {
    if (data_ != nullptr) (void)cudaFreeHost(data_);
  }
  [[nodiscard]] unsigned char* data() const noexcept { return data_; }

 private:
  unsigned char* data_ = nullptr;
};

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a new stream"); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { (void)cudaStreamDestroy(stream_); }
  operator cudaStream_t() const noexcept { return stream_; }
  void wait() const { check(cudaStreamSynchronize(stream_), "waiting for the device"); }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "a new event"); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { (void)cudaEventDestroy(event_); }
  void record(cudaStream_t stream) const { check(cudaEventRecord(event_, stream), "an event"); }
  void wait() const { check(cudaEventSynchronize(event_), "waiting for the device"); }

 private:
  cudaEvent_t event_ = nullptr;
};

class Graph {
 public:
  explicit Graph(cudaGraphExec_t graph) : graph_(graph) {}
  Graph(Graph&& other) noexcept : graph_(std::exchange(other.graph_, nullptr)) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  ~Graph() {
    if (graph_ != nullptr) (void)cudaGraphExecDestroy(graph_);
  }
  void launch(cudaStream_t stream) const {
    check(cudaGraphLaunch(graph_, stream), "starting a recorded pass");
  }

 private:
  cudaGraphExec_t graph_;
};

/// Starts a kernel; with `early` before the previous one of the stream has ended.
template <class Parameters>
void launch(cudaStream_t stream, bool early, void (*kernel)(Parameters), std::uint64_t blocks,
            unsigned threads, std::size_t shared_bytes, const std::type_identity_t<Parameters>& p,
            const char* name) {
  if (blocks > 0x7fffffffu)
    fail_with(ErrorCategory::argument, "CUDA: ", name, ": ", blocks,
              " blocks at once are more than a device takes");
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = early ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, p), name);
}

}  // namespace unit
using namespace unit;

// ---- models

struct Loaded {
  Loaded(Plan p, int d)
      : plan(std::move(p)), device(d), memory(plan.bytes, d, "the model"), stream() {}

  [[nodiscard]] const unsigned char* at(std::uint64_t place) const { return memory.data() + place; }
  [[nodiscard]] const float* vector(Vector place) const {
    return place == nowhere ? nullptr : reinterpret_cast<const float*>(at(place));
  }

  Plan plan;
  int device;
  int major = 0;       // compute capability
  bool early = false;  // kernels can begin before the previous one has ended
  DeviceMemory memory;
  // Copies of states, one at a time.
  mutable std::mutex mutex;
  Stream stream;
};

struct Memory {
  explicit Memory(std::shared_ptr<const Loaded> of)
      : model(std::move(of)), data(bytes(), model->device, "a state") {}
  [[nodiscard]] std::size_t bytes() const { return model->plan.state() * sizeof(float); }
  [[nodiscard]] float* floats() const { return reinterpret_cast<float*>(data.data()); }

  std::shared_ptr<const Loaded> model;
  DeviceMemory data;
};

int device_count() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaErrorNoDevice) return 0;
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    int runtime = 0;
    (void)cudaDriverGetVersion(&driver);
    (void)cudaRuntimeGetVersion(&runtime);
    if (driver == 0) return 0;  // there is none
    fail_with(ErrorCategory::unsupported, "the CUDA driver is of version ", driver / 1000, '.',
              driver % 1000 / 10, ", and this program needs ", runtime / 1000, '.',
              runtime % 1000 / 10, " or a later one");
  }
  check(error, "asking for devices");
  return count;
}

namespace unit {
void check_device(int device) {
  const int count = device_count();
  if (count == 0) fail(ErrorCategory::unsupported, "this machine has no CUDA device that works");
  if (device < 0 || device >= count)
    fail_with(ErrorCategory::argument, "there is no CUDA device ", device, ": there ",
              count == 1 ? "is one, number 0" : "are ", count == 1 ? "" : std::to_string(count));
}
}  // namespace unit
using namespace unit;

DeviceInfo device_info(int device) {
  check_device(device);
  DeviceInfo info;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "asking what a device is");
  info.name = properties.name;
  const auto ask = [&](int& value, cudaDeviceAttr attribute) {
    check(cudaDeviceGetAttribute(&value, attribute, device), "asking what a device is");
  };
  ask(info.major, cudaDevAttrComputeCapabilityMajor);
  ask(info.minor, cudaDevAttrComputeCapabilityMinor);
  ask(info.multiprocessors, cudaDevAttrMultiProcessorCount);
  const OnDevice on(device);
  std::size_t free = 0;
  std::size_t total = 0;
  check(cudaMemGetInfo(&free, &total), "asking how much memory is free");
  info.memory = total;
  info.free_memory = free;
  check(cudaDriverGetVersion(&info.driver), "asking for the driver's version");
  check(cudaRuntimeGetVersion(&info.runtime), "asking for the runtime's version");
  return info;
}

double copy_speed(int device, std::uint64_t bytes) {
  check_device(device);
  const OnDevice on(device);
  const DeviceMemory from(bytes, device, "a copy");
  const DeviceMemory to(bytes, device, "a copy");
  const Stream stream;
  const auto copies = [&](int count) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i)
      check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream),
            "copying");
    stream.wait();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  copies(2);
  constexpr int count = 10;
  return 2.0 * count * static_cast<double>(bytes) / copies(count);
}

namespace unit {

/// Copies through two buffers, one being filled while the other one is on its way.
class Uploader final : public Upload {
 public:
  explicit Uploader(Loaded& model) : model_(model) {
    for (Buffer& b : buffers_) b.memory = PinnedMemory(size);
  }

  void write(std::uint64_t at, const void* data, std::size_t bytes) override {
    if (at > model_.plan.bytes || bytes > model_.plan.bytes - at)
      fail_with(ErrorCategory::argument, "weights at ", at, " of ", model_.plan.bytes, " bytes");
    const auto* from = static_cast<const unsigned char*>(data);
    while (bytes > 0) {
      Buffer& buffer = buffers_[next_];
      next_ = 1 - next_;
      if (buffer.used) buffer.copied.wait();
      const std::size_t some = (std::min)(bytes, size);
      std::memcpy(buffer.memory.data(), from, some);
      check(cudaMemcpyAsync(model_.memory.data() + at, buffer.memory.data(), some,
                            cudaMemcpyHostToDevice, model_.stream),
            "copying weights");
      buffer.copied.record(model_.stream);
      buffer.used = true;
      from += some;
      at += some;
      bytes -= some;
    }
  }

  void random(std::uint64_t at, Kind kind, std::uint64_t count, std::uint64_t seed, float centre,
              float scale) override {
    if (count == 0) return;
    launch(model_.stream, false, random_kernel,
           (std::min<std::uint64_t>)(1024, (count + block_threads - 1) / block_threads),
           block_threads, 0,
           RandomNumbers{model_.memory.data() + at, kind, count, seed, centre, scale},
           "random numbers");
  }

 private:
  static constexpr std::size_t size = std::size_t{8} << 20;
  struct Buffer {
    PinnedMemory memory;
    Event copied;
    bool used = false;
  };
  Loaded& model_;
  std::array<Buffer, 2> buffers_;
  std::size_t next_ = 0;
};

constexpr std::size_t head_sizes[] = {16, 32, 64, 128};

}  // namespace unit
using namespace unit;

std::shared_ptr<const Loaded> load(Plan plan, int device,
                                   const std::function<void(Upload&)>& fill) {
  if (std::find(std::begin(head_sizes), std::end(head_sizes), plan.head_size) ==
      std::end(head_sizes))
    fail_with(ErrorCategory::unsupported, "heads of ", plan.head_size,
              " channels do not run on a CUDA device: 16, 32, 64 and 128 do");
  check_device(device);
  const OnDevice on(device);
  auto model = std::make_shared<Loaded>(std::move(plan), device);
  check(cudaDeviceGetAttribute(&model->major, cudaDevAttrComputeCapabilityMajor, device),
        "asking what a device is");
  model->early = model->major >= 9;
  check(cudaMemsetAsync(model->memory.data(), 0, model->plan.bytes, model->stream),
        "clearing the model's memory");
  Uploader upload(*model);
  fill(upload);
  model->stream.wait();
  return model;
}

const Plan& plan_of(const Loaded& model) { return model.plan; }
int device_of(const Loaded& model) { return model.device; }

// ---- states

std::shared_ptr<Memory> make_state(const std::shared_ptr<const Loaded>& model) {
  const OnDevice on(model->device);
  auto state = std::make_shared<Memory>(model);
  const std::scoped_lock lock(model->mutex);
  check(cudaMemsetAsync(state->data.data(), 0, state->bytes(), model->stream), "clearing a state");
  model->stream.wait();
  return state;
}

std::shared_ptr<Memory> copy_of(const Memory& state) {
  auto to = std::make_shared<Memory>(state.model);
  copy(state, *to);
  return to;
}

namespace unit {
void copy_bytes(const Loaded& model, void* to, const void* from, std::size_t bytes,
                cudaMemcpyKind kind) {
  const OnDevice on(model.device);
  const std::scoped_lock lock(model.mutex);
  check(cudaMemcpyAsync(to, from, bytes, kind, model.stream), "copying a state");
  model.stream.wait();
}
}  // namespace unit
using namespace unit;

void copy(const Memory& from, Memory& to) {
  copy_bytes(*from.model, to.floats(), from.floats(), from.bytes(), cudaMemcpyDeviceToDevice);
}
void upload(Memory& to, const float* from) {
  copy_bytes(*to.model, to.floats(), from, to.bytes(), cudaMemcpyHostToDevice);
}
void download(const Memory& from, float* to) {
  copy_bytes(*from.model, to, from.floats(), from.bytes(), cudaMemcpyDeviceToHost);
}

// ---- passes

namespace unit {

/// Rows whose value products lie side by side before they are added up.
constexpr std::size_t most_sparse_rows = 64;
/// Rows up to which the outer halves of the low-rank maps are computed where they are needed.
constexpr std::size_t most_fused_rows = 8;
/// Tokens of a sequence that are drawn before the host asks for them.
constexpr std::size_t steps_at_once = 256;

/// Of the matrices that tensor cores multiply with: the first block's.
Kind tensor_kind(const Plan& p) { return p.blocks[0].receptance.kind; }

/// Where everything lies in the memory of a Work, in bytes.
struct Places {
  Places(const Plan& p, const WorkSettings& settings) {
    const std::size_t rows = settings.rows;
    const auto floats = [this](std::uint64_t count) { return take(count * sizeof(float)); };
    const std::uint64_t c = p.embed;
    ranks = {round_up(p.decay_rank, step_inputs), round_up(p.icl_rank, step_inputs),
             round_up(p.value_rank, step_inputs), round_up(p.gate_rank, step_inputs)};
    low_stride = ranks[0] + ranks[1] + ranks[2] + ranks[3];
    slices = (p.ffn + slice_inputs - 1) / slice_inputs;
    padded = round_up(p.embed, tile_outputs);
    // First what the host fills for each pass.
    tokens = take(rows * sizeof(Token));
    places = take(rows * sizeof(std::uint32_t));
    states = take(rows * sizeof(float*));
    first_rows = take((rows + 1) * sizeof(std::uint32_t));
    chosen = take(rows * sizeof(std::uint32_t));
    draws = take(rows * sizeof(DrawState*));
    described = bytes;
    x = floats(rows * c);
    r = floats(rows * c);
    k = floats(rows * c);
    v = floats(rows * c);
    y = floats(rows * c);
    v_first = floats(rows * c);
    outer = floats(4 * rows * c);
    low = floats(rows * low_stride);
    h = floats(rows * p.ffn);
    statistics1 = floats(2 * rows);
    statistics2 = floats(2 * rows);
    parts = floats(slices * (std::min)(rows, most_sparse_rows) * padded);
    counters = take(most_sparse_rows * (padded / tile_outputs) * sizeof(unsigned));
    logits = floats(rows * std::uint64_t{p.vocab});
    drawn = take(steps_at_once * rows * sizeof(Token));
    steps = take(rows * sizeof(std::uint32_t));
    if (settings.tensor) {
      const std::uint64_t inputs =
          (std::max)({most_mixes * std::uint64_t{round_up(c, step_inputs)},
                      std::uint64_t{round_up(p.ffn, step_inputs)}, low_stride});
      prepared = take(inputs * 2 * parts_of(tensor_kind(p)) * round_up(rows, tensor_rows));
      factors = floats(most_mixes * rows);
    }
  }

  std::array<std::uint64_t, 4> ranks;
  std::uint64_t low_stride, slices, padded;
  std::uint64_t tokens, places, states, first_rows, chosen, draws, described;
  std::uint64_t x, r, k, v, y, v_first, outer, low, h, statistics1, statistics2, parts, counters,
      logits, drawn, steps;
  std::uint64_t prepared = 0, factors = 0;
  std::uint64_t bytes = 0;

 private:
  std::uint64_t take(std::uint64_t count) {
    return std::exchange(bytes, bytes + round_up(count, 256));
  }
};

}  // namespace unit
using namespace unit;

/// What follows the blocks of a pass.
enum class Then : std::uint8_t { nothing, logits, tokens };

struct Work {
  Work(std::shared_ptr<const Loaded> of, const WorkSettings& s)
      : model(std::move(of)),
        settings(s),
        places(model->plan, s),
        memory(places.bytes, model->device, "the memory of passes"),
        described(places.described) {
    check(cudaMemsetAsync(memory.data(), 0, places.bytes, stream), "clearing memory");
    stream.wait();
  }
  ~Work() { (void)cudaStreamSynchronize(stream); }

  template <class T = float>
  [[nodiscard]] T* at(std::uint64_t place) const {
    return reinterpret_cast<T*>(memory.data() + place);
  }
  template <class T>
  [[nodiscard]] T* host(std::uint64_t place) const {
    return reinterpret_cast<T*>(described.data() + place);
  }

  std::shared_ptr<const Loaded> model;
  WorkSettings settings;
  Places places;
  DeviceMemory memory;
  PinnedMemory described;
  Stream stream;
  Event described_copied;
  std::map<std::pair<std::size_t, Then>, std::optional<Graph>> graphs;  // by rows
};

namespace unit {

/// One pass over the model: all launches, in order.
class Pass {
 public:
  Pass(Work& work, std::size_t rows, std::size_t sequences, std::size_t asked, Then then)
      : w(work),
        m(*work.model),
        p(m.plan),
        rows_(rows),
        sequences_(sequences),
        asked_(asked),
        then_(then) {}

  void run() const {
    Embedding e{};
    e.table = m.at(p.table);
    e.kind = p.table_kind;
    e.weight = m.vector(p.ln0_weight);
    e.bias = m.vector(p.ln0_bias);
    e.epsilon = p.layer_norm_epsilon;
    e.width = channels();
    e.rows = rows();
    e.x = w.at(w.places.x);
    // Not early: what comes before in the stream is no kernel of ours.
    launch(w.stream, false, embedding_kernel, rows_, block_threads, 2 * block_warps * sizeof(float),
           e, "embedding");
    for (std::size_t i = 0; i < p.layers; ++i) block(i, p.blocks[i]);
    if (then_ == Then::nothing) return;
    Launch head;
    add(head, p.head, nowhere, w.at(w.places.logits), p.vocab, Activation::none, 4);
    multiply_rows<4>(head, asked_inputs(), asked_, "logits");
    if (then_ == Then::tokens) draw_tokens();
  }

  /// The asked rows after the last norm, where y was.
  void hidden_rows() const {
    launch(w.stream, m.early, hidden_kernel, asked_, block_threads,
           block_warps * 2 * 2 * sizeof(float), Hidden{asked_inputs(), w.at(w.places.y)},
           "hidden states");
  }

  /// A token from the logits of every asked row.
  void draw_tokens() const {
    Draw d{};
    d.states = w.at<DrawState*>(w.places.draws);
    d.logits = w.at(w.places.logits);
    d.vocab = static_cast<unsigned>(p.vocab);
    d.tokens = w.at<Token>(w.places.tokens);
    d.drawn = w.at<Token>(w.places.drawn);
    d.steps = w.at<std::uint32_t>(w.places.steps);
    d.rows = static_cast<unsigned>(asked_);
    launch(w.stream, m.early, draw_kernel, asked_, draw_threads, draw_shared_bytes, d, "drawing");
  }

 private:
  [[nodiscard]] unsigned channels() const { return static_cast<unsigned>(p.embed); }
  [[nodiscard]] Rows rows() const {
    return {w.at<Token>(w.places.tokens), w.at<float*>(w.places.states),
            w.at<std::uint32_t>(w.places.places)};
  }
  [[nodiscard]] Inputs normalised(Vector weight, Vector bias, float* statistics) const {
    Inputs in{};
    in.x = w.at(w.places.x);
    in.stride = p.embed;
    in.width = channels();
    in.weight = m.vector(weight);
    in.bias = m.vector(bias);
    in.epsilon = p.layer_norm_epsilon;
    in.rows = rows();
    in.statistics = statistics;
    return in;
  }

  [[nodiscard]] Inputs asked_inputs() const {
    Inputs in = normalised(p.ln_out_weight, p.ln_out_bias, nullptr);
    in.chosen = w.at<std::uint32_t>(w.places.chosen);
    return in;
  }

  /// Products that are started together: those on tensor cores, and the others.
  struct Launch {
    Products plain{};
    TensorProducts tensor{};
    Preparation prepare{};
    std::uint64_t prepared = 0;  // bytes
  };

  /// Adds a product to a launch of blocks of `panels` panels. Its inputs begin at `from` of a row
  /// if there is no norm.
  void add(Launch& l, const Matrix& matrix, Vector mix, float* out, std::uint64_t stride,
           Activation activation, unsigned panels, bool add_to = false,
           std::uint64_t from = 0) const {
    if (w.settings.tensor && matrix.kind == tensor_kind(p))
      return add_tensor(l, matrix, mix, out, stride, activation, add_to, from);
    Products& list = l.plain;
    Product& product = list.list[list.count++];
    product.data = m.at(matrix.at);
    product.mix = m.vector(mix);
    product.out = out;
    product.out_stride = stride;
    product.panel_bytes = matrix.group_bytes();
    product.panels = static_cast<unsigned>(matrix.groups());
    product.outputs = static_cast<unsigned>(matrix.outputs);
    product.steps = static_cast<unsigned>(matrix.steps());
    product.from = static_cast<unsigned>(from);
    product.width = static_cast<unsigned>(matrix.inputs);
    product.first_tile = list.tiles;
    product.kind = matrix.kind;
    product.activation = activation;
    product.add = add_to;
    list.tiles += (product.panels + panels - 1) / panels;
  }
  void add_tensor(Launch& l, const Matrix& matrix, Vector mix, float* out, std::uint64_t stride,
                  Activation activation, bool add_to, std::uint64_t from) const {
    // The products with keys and values may want the same inputs.
    unsigned which = 0;
    while (which < l.prepare.count &&
           (l.prepare.mixes[which].mix != m.vector(mix) || l.prepare.mixes[which].from != from))
      ++which;
    Mix& inputs = l.prepare.mixes[which];
    if (which == l.prepare.count) {
      ++l.prepare.count;
      inputs.mix = m.vector(mix);
      inputs.from = static_cast<unsigned>(from);
      inputs.width = static_cast<unsigned>(matrix.inputs);
      inputs.octets = static_cast<unsigned>(matrix.steps() * 4);
      inputs.to = w.at<unsigned char>(w.places.prepared) + l.prepared;
      inputs.factors = w.at(w.places.factors) + which * w.settings.rows;
      l.prepared += std::uint64_t{inputs.octets} * 16 * parts_of(tensor_kind(p)) *
                    round_up(w.settings.rows, tensor_rows);
    }
    TensorProduct& product = l.tensor.list[l.tensor.count++];
    product.data = m.at(matrix.at);
    product.inputs = inputs.to;
    product.factors = inputs.factors;
    product.out = out;
    product.out_stride = stride;
    product.group_bytes = matrix.group_bytes();
    product.outputs = static_cast<unsigned>(matrix.outputs);
    product.steps = static_cast<unsigned>(matrix.steps());
    product.first_tile = l.tensor.tiles;
    product.layout = matrix.layout;
    product.activation = activation;
    product.add = add_to;
    l.tensor.tiles += (product.outputs + tile_outputs - 1) / tile_outputs;
  }

  template <int tile, int panels>
  void multiply_tiles(Products& list, const char* name) const {
    list.row_tiles = (list.rows + tile - 1) / tile;
    launch(w.stream, m.early, products_kernel<tile, panels>,
           std::uint64_t{list.tiles} * list.row_tiles, block_threads, product_shared_bytes, list,
           name);
  }
  template <int panels>
  void multiply_rows(Launch& l, const Inputs& inputs, std::size_t count, const char* name) const {
    if (l.tensor.count > 0) multiply_on_tensor_cores(l, inputs, count, name);
    Products& list = l.plain;
    if (list.count == 0) return;
    list.inputs = inputs;
    list.rows = static_cast<unsigned>(count);
    if (count == 1)
      multiply_tiles<1, panels>(list, name);
    else if (count == 2)
      multiply_tiles<2, panels>(list, name);
    else if (count <= 4)
      multiply_tiles<4, panels>(list, name);
    else
      multiply_tiles<8, panels>(list, name);
  }

  void multiply_on_tensor_cores(Launch& l, const Inputs& inputs, std::size_t count,
                                const char* name) const {
    l.prepare.rows = static_cast<unsigned>(count);
    l.prepare.padded_rows = static_cast<unsigned>(round_up(count, tensor_rows));
    l.prepare.kind = tensor_kind(p);
    l.prepare.inputs = inputs;
    launch(w.stream, m.early, prepare_kernel, count, block_threads, prepare_shared_bytes, l.prepare,
           name);
    l.tensor.rows = l.prepare.rows;
    l.tensor.padded_rows = l.prepare.padded_rows;
    if (l.prepare.kind == Kind::f16)
      multiply_parts<2>(l.tensor, name);
    else
      multiply_parts<3>(l.tensor, name);
  }
  template <unsigned parts>
  void multiply_parts(TensorProducts& list, const char* name) const {
    if (list.rows <= 8)
      multiply_tensor_tiles<8, 1, 1, parts>(list, name);
    else if (list.rows <= 32)
      multiply_tensor_tiles<32, 2, 2, parts>(list, name);
    else
      multiply_tensor_tiles<tensor_rows, 2, 4, parts>(list, name);
  }
  template <unsigned rows, unsigned over, unsigned across, unsigned parts>
  void multiply_tensor_tiles(TensorProducts& list, const char* name) const {
    const auto kernel = tensor_kernel<rows, over, across, parts>;
    constexpr unsigned bytes = tensor_shared_bytes<rows, parts>;
    if constexpr (bytes > 48 * 1024)
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), name);
    list.row_tiles = (list.rows + rows - 1) / rows;
    launch(w.stream, m.early, kernel, std::uint64_t{list.tiles} * list.row_tiles, block_threads,
           bytes, list, name);
  }

  void block(std::size_t layer, const Block& b) const {
    const Places& at = w.places;
    const std::uint64_t state = layer * p.layer_state();
    const std::uint64_t width = p.embed;
    const bool has_value_residual = layer > 0;
    const std::array<std::uint64_t, 4> from = {0, at.ranks[0], at.ranks[0] + at.ranks[1],
                                               at.ranks[0] + at.ranks[1] + at.ranks[2]};

    Launch in;
    Inputs shifted = normalised(b.ln1_weight, b.ln1_bias, w.at(at.statistics1));
    shifted.shift = state;
    add(in, b.receptance, b.x_r, w.at(at.r), width, Activation::none, 4);
    add(in, b.key, b.x_k, w.at(at.k), width, Activation::none, 4);
    add(in, b.value, b.x_v, w.at(at.v), width, Activation::none, 4);
    float* const low = w.at(at.low);
    add(in, b.w1, b.x_w, low + from[0], at.low_stride, Activation::tanh, 4);
    add(in, b.a1, b.x_a, low + from[1], at.low_stride, Activation::none, 4);
    if (has_value_residual) add(in, b.v1, b.x_v, low + from[2], at.low_stride, Activation::none, 4);
    add(in, b.g1, b.x_g, low + from[3], at.low_stride, Activation::sigmoid, 4);
    multiply_rows<4>(in, shifted, rows_, "the products of a time mix");

    const Matrix* const outer[4] = {&b.w2, &b.a2, &b.v2, &b.g2};
    const bool fused = rows_ <= most_fused_rows && !w.settings.tensor;
    const std::uint64_t outer_stride = w.settings.rows * width;
    if (!fused) {
      Launch out;
      Inputs lows{};
      lows.x = low;
      lows.stride = at.low_stride;
      for (std::size_t i = 0; i < 4; ++i)
        if (i != 2 || has_value_residual)
          add(out, *outer[i], nowhere, w.at(at.outer) + i * outer_stride, width, Activation::none,
              8, false, from[i]);
      multiply_rows<8>(out, lows, rows_, "the low-rank maps of a time mix");
    }

    Heads h{};
    h.heads = static_cast<unsigned>(p.embed / p.head_size);
    h.sequences = sequences_;
    h.first_rows = w.at<std::uint32_t>(at.first_rows);
    h.rows = rows();
    h.state = state;
    h.wkv = state + 2 * width;
    h.width = channels();
    h.r = w.at(at.r);
    h.k = w.at(at.k);
    h.v = w.at(at.v);
    h.v_first = w.at(at.v_first);
    h.low = low;
    h.low_stride = at.low_stride;
    h.outer = fused ? nullptr : w.at(at.outer);
    h.outer_stride = outer_stride;
    for (std::size_t i = 0; i < 4; ++i)  // block 0 has no steps of v2
      h.maps[i] = {m.at(outer[i]->at),
                   outer[i]->group_bytes(),
                   static_cast<unsigned>(outer[i]->steps()),
                   static_cast<unsigned>(outer[i]->inputs),
                   static_cast<unsigned>(from[i]),
                   outer[i]->kind};
    h.w0 = m.vector(b.w0);
    h.a0 = m.vector(b.a0);
    h.v0 = has_value_residual ? m.vector(b.v0) : nullptr;
    h.k_k = m.vector(b.k_k);
    h.k_a = m.vector(b.k_a);
    h.r_k = m.vector(b.r_k);
    h.ln_weight = m.vector(b.ln_x_weight);
    h.ln_bias = m.vector(b.ln_x_bias);
    h.epsilon = p.group_norm_epsilon;
    h.extended = p.extended;
    h.x = w.at(at.x);
    h.statistics = w.at(at.statistics1);
    h.ln1_weight = m.vector(b.ln1_weight);
    h.ln1_bias = m.vector(b.ln1_bias);
    h.y = w.at(at.y);
    switch (p.head_size) {
      case 16:
        advance<16>(h);
        break;
      case 32:
        advance<32>(h);
        break;
      case 64:
        advance<64>(h);
        break;
      default:
        advance<128>(h);
        break;
    }

    Launch output;
    Inputs mixed{};
    mixed.x = w.at(at.y);
    mixed.stride = width;
    add(output, b.output, nowhere, w.at(at.x), width, Activation::none, 1, true);
    multiply_rows<1>(output, mixed, rows_, "the output of a time mix");

    Launch key;
    shifted = normalised(b.ln2_weight, b.ln2_bias, w.at(at.statistics2));
    shifted.shift = state + width;
    add(key, b.ffn_key, b.ffn_x_k, w.at(at.h), p.ffn, Activation::relu_squared, 4);
    multiply_rows<4>(key, shifted, rows_, "the keys of a channel mix");

    if (w.settings.tensor && b.ffn_value.kind == tensor_kind(p)) {
      Launch dense;
      Inputs hidden{};
      hidden.x = w.at(at.h);
      hidden.stride = p.ffn;
      add(dense, b.ffn_value, nowhere, w.at(at.x), width, Activation::none, 1, true);
      dense.tensor.states = w.at<float*>(at.states);
      dense.tensor.places = w.at<std::uint32_t>(at.places);
      dense.tensor.state = state + width;
      dense.tensor.statistics = w.at(at.statistics2);
      dense.tensor.weight = m.vector(b.ln2_weight);
      dense.tensor.bias = m.vector(b.ln2_bias);
      multiply_rows<1>(dense, hidden, rows_, "the values of a channel mix");
      return;
    }

    SparseProduct value{};
    value.data = m.at(b.ffn_value.at);
    value.tile_bytes = b.ffn_value.group_bytes();
    value.kind = b.ffn_value.kind;
    value.tiles = static_cast<unsigned>(b.ffn_value.groups());
    value.slices = static_cast<unsigned>(at.slices);
    value.inputs = static_cast<unsigned>(p.ffn);
    value.outputs = channels();
    value.h = w.at(at.h);
    value.h_stride = p.ffn;
    value.parts = w.at(at.parts);
    value.counters = w.at<unsigned>(at.counters);
    value.x = w.at(at.x);
    value.state_rows = rows();
    value.state = state + width;
    value.statistics = w.at(at.statistics2);
    value.ln2_weight = m.vector(b.ln2_weight);
    value.ln2_bias = m.vector(b.ln2_bias);
    for (std::size_t first = 0; first < rows_; first += most_sparse_rows) {
      value.first_row = static_cast<unsigned>(first);
      value.rows = static_cast<unsigned>((std::min)(most_sparse_rows, rows_ - first));
      if (value.rows == 1)
        multiply_sparse_tiles<1>(value);
      else if (value.rows == 2)
        multiply_sparse_tiles<2>(value);
      else if (value.rows <= 4)
        multiply_sparse_tiles<4>(value);
      else
        multiply_sparse_tiles<8>(value);
    }
  }

  template <int n>
  void advance(const Heads& h) const {
    launch(w.stream, m.early, heads_kernel<n>, h.heads * h.sequences, head_groups * n,
           head_shared_bytes<n>(h.low_stride), h, "the heads of a time mix");
  }
  template <int tile>
  void multiply_sparse_tiles(SparseProduct& value) const {
    value.row_tiles = (value.rows + tile - 1) / tile;
    launch(w.stream, m.early, sparse_kernel<tile>,
           std::uint64_t{value.slices} * value.tiles * value.row_tiles, block_threads,
           sparse_shared_bytes<tile>, value, "the values of a channel mix");
  }

  Work& w;
  const Loaded& m;
  const Plan& p;
  std::size_t rows_, sequences_, asked_;
  Then then_;
};

void check_model(const Work& w, const Loaded& model) {
  if (w.model.get() != &model)
    fail(ErrorCategory::argument, "the workspace was made for another model on the device");
}

/// Takes w.described to the device.
void describe(Work& w) {
  check(cudaMemcpyAsync(w.memory.data(), w.described.data(), w.places.described,
                        cudaMemcpyHostToDevice, w.stream),
        "copying what a pass does");
  w.described_copied.record(w.stream);
}

/// Runs a pass whose description is on the device; passes of one token per sequence as a graph.
void run_pass(Work& w, std::size_t rows, std::size_t sequences, std::size_t asked, Then then) {
  const Pass pass(w, rows, sequences, asked, then);
  const bool one_each = rows == sequences && (then == Then::nothing || asked == rows);
  if (!w.settings.graphs || !one_each) {
    pass.run();
    return;
  }
  const std::pair key{rows, then};
  auto found = w.graphs.find(key);
  if (found == w.graphs.end()) {  // the first time it just runs: kernels are loaded on the way
    constexpr std::size_t most_graphs = 32;
    if (w.graphs.size() >= most_graphs) {
      w.stream.wait();
      w.graphs.clear();
    }
    pass.run();
    w.graphs.emplace(key, std::nullopt);
    return;
  }
  if (!found->second) {
    check(cudaStreamBeginCapture(w.stream, cudaStreamCaptureModeThreadLocal), "recording a pass");
    cudaGraph_t graph = nullptr;
    struct Recording {  // ends, also when a launch fails
      cudaStream_t stream;
      cudaGraph_t* graph;
      ~Recording() {
        if (*graph == nullptr && cudaStreamEndCapture(stream, graph) == cudaSuccess &&
            *graph != nullptr)
          (void)cudaGraphDestroy(*graph);
      }
    };
    cudaGraphExec_t executable = nullptr;
    {
      const Recording recording{w.stream, &graph};
      pass.run();
      check(cudaStreamEndCapture(w.stream, &graph), "recording a pass");
    }
    const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
    (void)cudaGraphDestroy(graph);
    check(made, "recording a pass");
    found->second.emplace(executable);
  }
  found->second->launch(w.stream);
}

}  // namespace unit
using namespace unit;

std::uint64_t work_bytes(const Plan& plan, const WorkSettings& settings) {
  return Places(plan, settings).bytes;
}

std::shared_ptr<Work> make_work(const std::shared_ptr<const Loaded>& model,
                                const WorkSettings& settings) {
  const OnDevice on(model->device);
  const Kind kind = tensor_kind(model->plan);
  if (settings.tensor && kind != Kind::f16 && kind != Kind::bf16)
    fail(ErrorCategory::unsupported,
         "tensor cores multiply matrices of f16 and bf16, which the model does not have");
  if (settings.tensor && model->major < 8)
    fail_with(ErrorCategory::unsupported, "device ", model->device, " is of compute capability ",
              model->major, ".x, and multiplying on tensor cores needs 8.0");
  return std::make_shared<Work>(model, settings);
}

void forward(Work& w, const Loaded& model, std::span<const Segment> segments, Asked which,
             float* logits, float* hidden, bool on_device) {
  check_model(w, model);
  const OnDevice on(model.device);
  const std::size_t vocab = model.plan.vocab;
  const Places& at = w.places;
  std::size_t segment = 0;
  std::size_t used = 0;      // tokens of this segment that earlier passes took
  std::size_t position = 0;  // positions of this segment that lie among them
  bool first_pass = true;
  while (segment < segments.size()) {
    if (!first_pass) w.described_copied.wait();
    first_pass = false;
    std::size_t rows = 0;
    std::size_t sequences = 0;
    std::size_t asked = 0;
    while (segment < segments.size() && rows < w.settings.rows) {
      const Segment& s = segments[segment];
      const std::size_t some = (std::min)(s.tokens.size() - used, w.settings.rows - rows);
      const bool complete = used + some == s.tokens.size();
      w.host<std::uint32_t>(at.first_rows)[sequences++] = static_cast<std::uint32_t>(rows);
      for (std::size_t t = 0; t < some; ++t) {
        const std::size_t row = rows + t;
        w.host<Token>(at.tokens)[row] = s.tokens[used + t];
        w.host<float*>(at.states)[row] = s.state->floats();
        w.host<std::uint32_t>(at.places)[row] =
            (t == 0 ? first_of_sequence : 0) | (t + 1 == some ? last_of_sequence : 0);
        const bool named = which == Asked::chosen && position < s.positions.size() &&
                           s.positions[position] == used + t;
        if (named) ++position;
        if (named || which == Asked::all || (which == Asked::last && complete && t + 1 == some))
          w.host<std::uint32_t>(at.chosen)[asked++] = static_cast<std::uint32_t>(row);
      }
      rows += some;
      used += some;
      if (complete) {
        ++segment;
        used = position = 0;
      }
    }
    w.host<std::uint32_t>(at.first_rows)[sequences] = static_cast<std::uint32_t>(rows);
    describe(w);
    const Then then = asked == 0 || logits == nullptr ? Then::nothing : Then::logits;
    run_pass(w, rows, sequences, asked, then);
    const auto copy_rows = [&](float*& to, std::uint64_t from, std::size_t width) {
      check(
          cudaMemcpyAsync(to, w.at(from), asked * width * sizeof(float),
                          on_device ? cudaMemcpyDeviceToDevice : cudaMemcpyDeviceToHost, w.stream),
          "copying results");
      to += asked * width;
    };
    if (then == Then::logits) copy_rows(logits, at.logits, vocab);
    if (asked > 0 && hidden != nullptr) {
      Pass(w, rows, sequences, asked, then).hidden_rows();
      copy_rows(hidden, at.y, model.plan.embed);
    }
  }
  w.stream.wait();
}

// ---- drawing tokens

struct Draws {
  Draws(std::shared_ptr<const Loaded> of, std::size_t size)
      : model(std::move(of)), bytes(size), data(size, model->device, "a sampler") {}
  [[nodiscard]] DrawState* state() const { return reinterpret_cast<DrawState*>(data.data()); }

  std::shared_ptr<const Loaded> model;
  std::size_t bytes;
  DeviceMemory data;
};

std::shared_ptr<Draws> make_draws(const std::shared_ptr<const Loaded>& model, const Drawing& d) {
  const std::size_t vocab = model->plan.vocab;
  DrawState state{};
  state.temperature = d.temperature;
  state.top_p = d.top_p;
  state.presence_penalty = d.presence_penalty;
  state.frequency_penalty = d.frequency_penalty;
  state.penalty_decay = d.penalty_decay;
  state.farthest = d.farthest;
  state.top_k = d.top_k;
  state.weight_scale = d.weight_scale;
  state.tempered_scale = d.tempered_scale;
  state.random = d.seed;
  state.bias_count = static_cast<std::uint32_t>(d.biases.size());
  std::vector<unsigned char> bytes(round_up(sizeof state, 16));
  const auto append = [&](const void* data, std::size_t size) {
    const std::size_t at = bytes.size();
    bytes.resize(at + round_up(size, 16));
    if (size > 0) std::memcpy(bytes.data() + at, data, size);
    return at;
  };
  const std::vector<float> counts(vocab, -1.0f);
  std::vector<std::uint32_t> bits((vocab + 31) / 32);
  const auto append_bits = [&](const std::vector<std::uint32_t>& from) {
    std::fill(bits.begin(), bits.end(), 0u);
    std::copy_n(from.begin(), (std::min)(from.size(), bits.size()), bits.begin());
    return append(bits.data(), bits.size() * sizeof bits[0]);
  };
  std::vector<Bias> biases;
  for (const auto& [token, amount] : d.biases) biases.push_back({token, amount});
  state.exp_steps = append(d.exp_steps.data(), d.exp_steps.size_bytes());
  state.counts = append(counts.data(), counts.size() * sizeof counts[0]);
  state.banned = append_bits(d.banned);
  state.uncounted = append_bits(d.uncounted);
  state.biases = append(biases.data(), biases.size() * sizeof(Bias));
  std::memcpy(bytes.data(), &state, sizeof state);
  const OnDevice on(model->device);
  auto draws = std::make_shared<Draws>(model, bytes.size());
  copy_bytes(*model, draws->data.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice);
  return draws;
}

std::shared_ptr<Draws> copy_of(const Draws& draws) {
  auto to = std::make_shared<Draws>(draws.model, draws.bytes);
  copy_bytes(*draws.model, to->data.data(), draws.data.data(), draws.bytes,
             cudaMemcpyDeviceToDevice);
  return to;
}

namespace unit {

/// Throws what went wrong while tokens were drawn, once.
void check_draws(Work& w, Draws& draws) {
  std::uint32_t failed = 0;
  std::uint32_t* const at = &draws.state()->failed;
  check(cudaMemcpyAsync(&failed, at, sizeof failed, cudaMemcpyDeviceToHost, w.stream),
        "asking whether tokens were drawn");
  check(cudaMemsetAsync(at, 0, sizeof failed, w.stream), "forgetting an error");
  w.stream.wait();
  if (failed == 1) fail(ErrorCategory::numeric, "no token can be drawn: every logit is -infinity");
  if (failed > 1)
    fail_with(ErrorCategory::numeric, "the logit of token ", failed - 2, " is no finite number");
}

void reset_steps(Work& w) {
  check(cudaMemsetAsync(w.at<unsigned char>(w.places.steps), 0,
                        w.settings.rows * sizeof(std::uint32_t), w.stream),
        "forgetting how many tokens were drawn");
}

}  // namespace unit

Token draw(Work& w, const Loaded& model, Draws& draws, const float* logits, bool on_device) {
  check_model(w, model);
  const OnDevice on(model.device);
  w.host<DrawState*>(w.places.draws)[0] = draws.state();
  describe(w);
  reset_steps(w);
  check(cudaMemcpyAsync(w.at(w.places.logits), logits, model.plan.vocab * sizeof(float),
                        on_device ? cudaMemcpyDeviceToDevice : cudaMemcpyHostToDevice, w.stream),
        "copying logits");
  Pass(w, 0, 0, 1, Then::tokens).draw_tokens();
  Token token = 0;
  check(cudaMemcpyAsync(&token, w.at<Token>(w.places.drawn), sizeof token, cudaMemcpyDeviceToHost,
                        w.stream),
        "copying tokens");
  check_draws(w, draws);
  return token;
}

void decode(Work& w, const Loaded& model, std::span<const Sequence> sequences, std::size_t steps,
            Token* tokens) {
  check_model(w, model);
  const std::size_t rows = sequences.size();
  if (rows > w.settings.rows)
    fail_with(ErrorCategory::argument, rows, " sequences in a workspace of ", w.settings.rows,
              " rows");
  if (rows == 0 || steps == 0) return;
  const OnDevice on(model.device);
  const Places& at = w.places;
  for (std::size_t s = 0; s <= rows; ++s)
    w.host<std::uint32_t>(at.first_rows)[s] = static_cast<std::uint32_t>(s);
  for (std::size_t s = 0; s < rows; ++s) {
    w.host<Token>(at.tokens)[s] = sequences[s].last;
    w.host<float*>(at.states)[s] = sequences[s].state->floats();
    w.host<std::uint32_t>(at.places)[s] = first_of_sequence | last_of_sequence;
    w.host<std::uint32_t>(at.chosen)[s] = static_cast<std::uint32_t>(s);
    w.host<DrawState*>(at.draws)[s] = sequences[s].draws->state();
  }
  describe(w);
  for (std::size_t done = 0; done < steps; done += steps_at_once) {
    const std::size_t some = (std::min)(steps_at_once, steps - done);
    reset_steps(w);
    for (std::size_t t = 0; t < some; ++t) run_pass(w, rows, rows, rows, Then::tokens);
    check(cudaMemcpyAsync(tokens + done * rows, w.at<Token>(at.drawn), some * rows * sizeof(Token),
                          cudaMemcpyDeviceToHost, w.stream),
          "copying tokens");
    w.stream.wait();
  }
  for (const Sequence& s : sequences) check_draws(w, *s.draws);
}

}  // namespace rwkv::inline RWKV_ABI::cuda
