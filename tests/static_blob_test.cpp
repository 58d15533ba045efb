// SPDX-License-Identifier: Apache-2.0
// Weights as a blob: the bits of the dynamic model in every type, and blobs that are not for this
// program.
#include "support/numbers.hpp"
#include "support/sanitizers.hpp"
#include "support/static_cases.hpp"
#include "support/temporary_directory.hpp"
#include <rwkv/io/static_blob_writer.hpp>
#include <rwkv/model.hpp>
#include <rwkv/quantised.hpp>
#include <rwkv/static_blob.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace {

using rwkv::DType;
using rwkv::StaticBlobEntry;
using rwkv::StaticBlobHeader;

template <class Shape>
using AnyBlob = rwkv::StaticBlob<Shape, DType::f32, DType::f16, DType::bf16, DType::q8_0,
                                 DType::q4_0, DType::q5_0, DType::q5_1, DType::q6_k, DType::q4_k>;

/// Bytes at a multiple of 64.
class Aligned {
 public:
  explicit Aligned(const std::vector<std::byte>& bytes)
      : memory_(bytes.size() / 64 + 1), size_(bytes.size()) {
    if (!bytes.empty()) std::memcpy(memory_.data(), bytes.data(), bytes.size());
  }
  [[nodiscard]] std::byte* data() { return memory_[0].bytes; }
  [[nodiscard]] std::span<const std::byte> span() { return {data(), size_}; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  std::vector<Line> memory_;
  std::size_t size_;
};

template <class Model, class State, class Work>
std::vector<float> run(const Model& model, State& state, Work& work,
                       std::span<const rwkv::Token> tokens) {
  std::vector<float> all;
  for (std::size_t piece = 1; !tokens.empty(); ++piece) {
    const std::size_t n = std::min(piece, tokens.size());
    const auto logits = model.forward(state, tokens.first(n), work);
    all.insert(all.end(), logits.begin(), logits.end());
    tokens = tokens.subspan(n);
  }
  return all;
}

template <class Case>
void check_case(const rwkv::LoadOptions& options, bool tables_apart) {
  using Shape = typename Case::Shape;
  const rwkv::Model<> model(test::checkpoint_of<Case>(), options);
  const auto blobs = rwkv::io::static_blob(model.weights(), {.tables_apart = tables_apart});
  CHECK(blobs.tables.empty() != tables_apart);
  Aligned core(blobs.core);
  Aligned tables(blobs.tables);
  const char* why = "";
  const auto weights = AnyBlob<Shape>::from(core.span(), tables.span(), &why);
  REQUIRE_MESSAGE(weights.has_value(), std::string(why));
  CHECK(weights->intact());
  CHECK(weights->fingerprint() == model.weights().fingerprint());

  const auto tokens = test::tokens_of<Case>();
  rwkv::State dynamic_state(model.shape());
  rwkv::Workspace dynamic_work(model.shape());
  const auto want = run(model, dynamic_state, dynamic_work, tokens);
  const rwkv::StaticModel<AnyBlob<Shape>, rwkv::simd::Chosen> chosen(*weights);
  rwkv::State<Shape> state;
  rwkv::Workspace<Shape, 5> five;
  CHECK(test::same_bits(run(chosen, state, five, tokens), want));

  // Plain loops, as on a microcontroller: they may round more often.
  const rwkv::StaticModel scalar(*weights);
  rwkv::State<Shape> scalar_state;
  rwkv::Workspace<Shape, 3> three;
  const auto by_scalars = run(scalar, scalar_state, three, tokens);
  REQUIRE(by_scalars.size() == want.size());
  const bool blocks = options.matrix_type && is_block(*options.matrix_type);
  for (std::size_t i = 0; i < want.size(); ++i)
    CHECK(by_scalars[i] == doctest::Approx(want[i]).epsilon(blocks ? 2e-2 : 1e-4).scale(1.0));

  // The order for processors without vectors changes nothing (and low ranks are in it).
  const auto in_quads =
      rwkv::io::static_blob(model.weights(), {.tables_apart = tables_apart, .quads = true});
  CHECK(in_quads.core.size() < blobs.core.size());
  Aligned quad_core(in_quads.core);
  Aligned quad_tables(in_quads.tables);
  const auto quads = AnyBlob<Shape>::from(quad_core.span(), quad_tables.span(), &why);
  REQUIRE_MESSAGE(quads.has_value(), std::string(why));
  CHECK(quads->intact());
  rwkv::State<Shape> quad_state;
  CHECK(test::same_bits(run(rwkv::StaticModel(*quads), quad_state, three, tokens), by_scalars));
}

/// Copies weights into two buffers in turns, as DMA would.
struct Fetcher : rwkv::Serial {
  static constexpr std::size_t piece = 8192;
  std::vector<std::byte> buffers[2];
  std::span<const std::byte> coming;
  std::size_t pieces = 0;
  std::size_t largest = 0;
  std::size_t layers = 0;

  void ahead(std::span<const std::byte> weights) {
    CHECK(coming.empty());
    coming = weights;
    largest = std::max(largest, weights.size());
    auto& buffer = buffers[++pieces % 2];
    std::fill(buffer.begin(), buffer.end(), std::byte{0xff});  // what lay there is no longer used
    buffer.assign(weights.size() + 64, std::byte{0xff});
  }
  const std::byte* here(std::span<const std::byte> weights) {
    CHECK(coming.data() == weights.data());
    CHECK(coming.size() == weights.size());
    coming = {};
    auto& buffer = buffers[pieces % 2];
    const std::size_t apart = -reinterpret_cast<std::uintptr_t>(buffer.data()) % 64;
    std::memcpy(buffer.data() + apart, weights.data(), weights.size());
    return buffer.data() + apart;
  }
  bool proceed() {
    ++layers;
    return true;
  }
};
static_assert(rwkv::Executor<Fetcher> && rwkv::Fetching<Fetcher>);

template <class Case>
void check_fetching(std::optional<DType> type, bool quads) {
  using Shape = typename Case::Shape;
  const rwkv::Model<> model(test::checkpoint_of<Case>(),
                            type ? rwkv::quantised(*type) : rwkv::LoadOptions{});
  const auto blobs = rwkv::io::static_blob(model.weights(), {.quads = quads});
  Aligned core(blobs.core);
  const auto weights = AnyBlob<Shape>::from(core.span());
  REQUIRE(weights.has_value());
  const rwkv::StaticModel where_they_lie(*weights);
  const auto text = test::tokens_of<Case>();
  const auto tokens = std::span(text).first(4);
  rwkv::State<Shape> states[2];
  rwkv::Workspace<Shape, 3> works[2];
  Fetcher fetcher;
  const auto want = where_they_lie.forward(states[0], tokens, works[0]);
  const auto got = where_they_lie.forward(states[1], tokens, works[1], fetcher);
  CHECK(
      test::same_bits(std::vector(got.begin(), got.end()), std::vector(want.begin(), want.end())));
  CHECK(states[0] == states[1]);
  CHECK(fetcher.pieces > 20);
  CHECK(fetcher.largest <= Fetcher::piece);
  CHECK(fetcher.layers == 2 * model.shape().layers());  // of two passes
}

}  // namespace

TEST_CASE("weights may be brought closer piece by piece") {
  for (const auto type : {std::optional<DType>{}, std::optional(DType::q8_0),
                          std::optional(DType::q4_0), std::optional(DType::q5_1)})
    for (const bool quads : {false, true}) check_fetching<test::F32>(type, quads);
  check_fetching<test::ExtendedF16>({}, false);
}

TEST_CASE_TEMPLATE("a blob gives the bits of Model, whatever types it has", Case, test::F32,
                   test::ExtendedF16, test::Bf16) {
  check_case<Case>({}, false);
  if (!test::sanitized) check_case<Case>({}, true);
  test::Thinned types(3);
  for (const DType type :
       {DType::q8_0, DType::q4_0, DType::q5_1, DType::q6_k, DType::q4_k, DType::f16})
    if (!types.leaves_out())
      check_case<Case>(
          is_block(type) ? rwkv::quantised(type) : rwkv::LoadOptions{.matrix_type = type},
          type == DType::q4_0);
}

TEST_CASE("what is not a blob for this program is refused with a sentence") {
  using Shape = test::F32::Shape;
  using Blob = rwkv::StaticBlob<Shape, DType::f32, DType::q8_0, DType::f16>;
  const rwkv::Model<> model(test::checkpoint_of<test::F32>(), rwkv::quantised(DType::q8_0));
  const auto blobs = rwkv::io::static_blob(model.weights());
  const auto refused = [](Aligned& blob, std::size_t bytes) -> std::string {
    const char* why = "";
    return Blob::from({blob.data(), bytes}, &why).has_value() ? "" : why;
  };
  const auto after = [&](auto change) {
    Aligned blob(blobs.core);
    StaticBlobHeader header;
    std::memcpy(&header, blob.data(), sizeof header);
    change(header, blob.data());
    std::memcpy(blob.data(), &header, sizeof header);
    return refused(blob, blobs.core.size());
  };
  CHECK(after([](auto&, auto*) {}).empty());
  CHECK(after([](auto& h, auto*) { h.magic[0] = 'r'; }) == "this is no blob of a static model");
  for (auto field : {&StaticBlobHeader::version, &StaticBlobHeader::layout})
    CHECK(after([&](auto& h, auto*) { ++(h.*field); }).starts_with("the blob was written by"));
  CHECK(after([](auto& h, auto*) { ++h.bytes; }).starts_with("the blob is cut off"));
  CHECK(after([](auto& h, auto*) { h.bytes = 200; }).starts_with("the blob does not list"));
  CHECK(after([](auto& h, auto*) { h.table_bytes = 1; }).starts_with("the blob is cut off"));
  for (int i = 0; i < 9; ++i)
    CHECK(after([&](auto& h, auto*) { ++h.dimensions[i]; }).find("other dimensions") !=
          std::string::npos);
  CHECK(after([](auto& h, auto*) { h.flags = 4; }).find("kind") != std::string::npos);
  CHECK(after([](auto& h, auto*) { h.flags |= StaticBlobHeader::normalised_table; }) ==
        "the blob has a tensor that its model does not have");
  for (const float epsilon : {0.0f, -1.0f, 1.0f, std::numeric_limits<float>::quiet_NaN()}) {
    CHECK(after([&](auto& h, auto*) { h.layer_norm_epsilon = epsilon; }).find("epsilons") !=
          std::string::npos);
    CHECK(after([&](auto& h, auto*) { h.group_norm_epsilon = epsilon; }).find("epsilons") !=
          std::string::npos);
  }
  CHECK(after([](auto& h, auto*) { --h.tensors; }).starts_with("the blob does not list"));

  const auto with_entry = [&](std::size_t i, auto change) {
    return after([&](auto&, std::byte* data) {
      StaticBlobEntry e;
      std::byte* const at = data + sizeof(StaticBlobHeader) + i * sizeof e;
      std::memcpy(&e, at, sizeof e);
      change(e);
      std::memcpy(at, &e, sizeof e);
    });
  };
  const std::size_t block = rwkv::global_tensors.size();
  const std::size_t count = block + 2 * rwkv::block_tensors.size();
  for (std::size_t i = 0; i < count; ++i) {
    CAPTURE(i);
    const bool absent = i >= block && i < block + rwkv::block_tensors.size() &&
                        rwkv::is_value_residual(rwkv::block_tensors[i - block].name);
    CHECK(with_entry(i, [](auto& e) { e.type = StaticBlobEntry::absent; }).empty() == absent);
    if (absent)  // some of the three, and not all
      CHECK(after([&](auto&, std::byte* data) {
              std::byte* const at = data + sizeof(StaticBlobHeader) + i * sizeof(StaticBlobEntry);
              std::memcpy(at, at + rwkv::block_tensors.size() * sizeof(StaticBlobEntry),
                          sizeof(StaticBlobEntry));
            }) == "the blob has a tensor that its model does not have");
    CHECK_FALSE(with_entry(i, [](auto& e) { e = {0, 0x7fffffff}; }).empty());
    CHECK_FALSE(with_entry(i, [](auto& e) { e.type = 30; }).empty());  // bf16
    CHECK_FALSE(with_entry(i, [](auto& e) { e.type = 77; }).empty());
    // Floats with few outputs may be in quads.
    const rwkv::TensorSpec* const spec =
        i < block ? nullptr : &rwkv::block_tensors[(i - block) % rwkv::block_tensors.size()];
    const bool few = spec != nullptr && spec->role == rwkv::TensorRole::low_rank &&
                     spec->outputs(Shape{}.dimensions()) <= 12;
    CHECK(with_entry(i, [](auto& e) { e.type = 0u | StaticBlobEntry::in_quads; }).empty() ==
          (few && !absent));
    CHECK_FALSE(with_entry(i, [](auto& e) { e.type |= StaticBlobEntry::in_tables; }).empty() !=
                absent);
  }

  Aligned blob(blobs.core);
  for (std::size_t bytes = 0; bytes < blobs.core.size(); bytes += bytes < 1000 ? 1 : 997)
    CHECK_FALSE(refused(blob, bytes).empty());
  CHECK(refused(blob, blobs.core.size()).empty());
  std::vector<std::byte> shifted(1);
  shifted.insert(shifted.end(), blobs.core.begin(), blobs.core.end());
  Aligned apart(shifted);
  const char* why = "";
  CHECK_FALSE(Blob::from({apart.data() + 1, blobs.core.size()}, &why).has_value());
  CHECK(std::string(why) == "the blob does not begin at a multiple of 64 bytes");

  // A changed number is no other model to `from`, but `intact` sees it, in the header too.
  for (const std::size_t at :
       {blobs.core.size() - 1, offsetof(StaticBlobHeader, fingerprint),
        offsetof(StaticBlobHeader, checksum), offsetof(StaticBlobHeader, layer_norm_epsilon),
        offsetof(StaticBlobHeader, flags), sizeof(StaticBlobHeader) - 1}) {
    CAPTURE(at);
    Aligned changed(blobs.core);
    changed.data()[at] ^= std::byte{1};
    const auto still = Blob::from(changed.span());
    REQUIRE(still.has_value());
    CHECK_FALSE(still->intact());
  }
}

TEST_CASE("damaged headers never read outside the blob") {
  using Shape = test::F32::Shape;
  using Blob = rwkv::StaticBlob<Shape, DType::f32, DType::q8_0, DType::f16>;
  const rwkv::Model<> model(test::checkpoint_of<test::F32>(), rwkv::quantised(DType::q8_0));
  const auto blobs = rwkv::io::static_blob(model.weights());
  std::mt19937 random(1);
  std::size_t accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    Aligned blob(blobs.core);
    const std::size_t entries = sizeof(StaticBlobHeader) + 8 * 70;
    for (auto n = 1 + random() % 3; n-- > 0;)
      blob.data()[random() % entries] = static_cast<std::byte>(random());
    const auto weights = Blob::from(blob.span());
    if (!weights) continue;
    ++accepted;
    if (accepted % 50 != 0) continue;
    const rwkv::StaticModel small(*weights);
    rwkv::State<Shape> state;
    rwkv::Workspace<Shape, 1> work;
    const rwkv::Token token = 3;
    (void)small.forward(state, {&token, 1}, work);
  }
  CHECK(accepted > 50);
}
