// SPDX-License-Identifier: Apache-2.0
#include "support/golden.hpp"
#include <rwkv/core/argmax.hpp>
#include <rwkv/verify.hpp>

#include <doctest/doctest.h>

#include <charconv>  // __cpp_lib_to_chars

using rwkv::Error;
using rwkv::Model;
using rwkv::SelfTest;

namespace {

rwkv::io::Checkpoint golden_checkpoint() {
  return rwkv::io::read_checkpoint(std::filesystem::path(RWKV_TEST_DATA) /
                                   "golden_l2_c32_f32.model.safetensors");
}

/// The golden model and its self-test, changed by `change`.
template <class Change>
rwkv::io::Checkpoint with_test(const Model<>& model, Change change) {
  auto checkpoint = golden_checkpoint();
  SelfTest test = rwkv::record_self_test(model);
  change(test);
  for (auto& [key, value] : rwkv::to_metadata(test)) checkpoint.metadata[key] = value;
  return checkpoint;
}

}  // namespace

TEST_CASE("a self-test holds the top logits after each token") {
  const Model<> model(golden_checkpoint());
  const SelfTest test = rwkv::record_self_test(model);
  REQUIRE(test.tokens.size() == 32);
  REQUIRE(test.top == 4);
  rwkv::State state(model.shape());
  rwkv::Workspace work(model.shape());
  for (std::size_t t = 0; t < 32; ++t) {
    const auto logits = model.forward(state, std::span(test.tokens).subspan(t, 1), work);
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(test.logits[t * 4 + i] == logits[test.ids[t * 4 + i]]);
      if (i > 0) CHECK(test.logits[t * 4 + i] <= test.logits[t * 4 + i - 1]);
    }
    CHECK(test.ids[t * 4] == rwkv::argmax(logits));
  }
}

TEST_CASE("metadata has one length, and brings the self-test back exactly") {
  const Model<> model(golden_checkpoint());
  const auto checkpoint = with_test(model, [](SelfTest&) {});
  const auto back = rwkv::self_test_of(checkpoint, 40);
  const SelfTest test = rwkv::record_self_test(model);
  REQUIRE(back.has_value());
  CHECK(back->tokens == test.tokens);
  CHECK(back->ids == test.ids);
  CHECK(back->logits == test.logits);
  CHECK(back->top == test.top);
  SelfTest extreme = test;
  for (float& x : extreme.logits) x = -1.17549435e-38f;
  const auto lengths = [](const SelfTest& t) {
    std::vector<std::size_t> all;
    for (const auto& [key, value] : rwkv::to_metadata(t)) all.push_back(value.size());
    return all;
  };
  CHECK(lengths(extreme) == lengths(test));
  extreme.ids.clear();
  extreme.logits.clear();
  CHECK(lengths(extreme) == lengths(test));
}

TEST_CASE("verifying says how far off a model is") {
  const Model<> model(golden_checkpoint());
  CHECK(rwkv::verify(model, with_test(model, [](SelfTest&) {})).largest_error == 0);

  auto result = rwkv::verify(model, with_test(model, [](SelfTest& t) { t.logits[7] += 0.5f; }));
  CHECK(result.largest_error == doctest::Approx(0.5));
  CHECK(result.same_top == 32);
  CHECK_FALSE(result.passed());

  result = rwkv::verify(model, with_test(model, [](SelfTest& t) {
                          std::swap(t.ids[0], t.ids[1]);
                          std::swap(t.logits[0], t.logits[1]);
                        }));
  CHECK(result.same_top == 31);
  CHECK(result.passed());  // the logits are right: a tie may fall either way

  result = rwkv::verify(model, with_test(model, [](SelfTest& t) { t.tokens[3] ^= 1; }));
  CHECK_FALSE(result.passed());
}

TEST_CASE("a model that computes something else fails") {
  auto checkpoint = golden_checkpoint();
  const Model<> right(checkpoint);
  checkpoint.metadata["rwkv.eigenvalues"] = "extended";
  const Model<> wrong(checkpoint);
  const auto test = with_test(right, [](SelfTest&) {});
  CHECK(rwkv::verify(right, test).passed());
  CHECK_FALSE(rwkv::verify(wrong, test).passed());
}

TEST_CASE("self-tests that are missing or damaged are refused") {
  const Model<> model(golden_checkpoint());
  CHECK_THROWS_WITH_AS((void)rwkv::verify(model, golden_checkpoint()),
                       doctest::Contains("carries no self-test"), Error);
  const auto damaged = [&](const char* key, const char* value, const char* part) {
    auto checkpoint = with_test(model, [](SelfTest&) {});
    checkpoint.metadata[std::string("rwkv.self_test.") + key] = value;
    CHECK_THROWS_WITH_AS((void)rwkv::verify(model, checkpoint), doctest::Contains(part), Error);
  };
  damaged("tokens", "", "0 tokens, 128 ids and 128 logits");
  damaged("tokens", "1 2 3", "3 tokens, 128 ids");
  damaged("tokens", "1 x", "is damaged at byte 2");
  damaged("tokens", "1 -2", "is damaged at byte 2");
  damaged("tokens", "40", "uses token 40 of a vocabulary of 40");
  damaged("tokens", "99999999999999999999", "is damaged at byte 0");
  damaged("top_ids", "1 2 3.5", "is damaged at byte 4");
  damaged("top_ids", "1", "32 tokens, 1 ids");
  damaged("top_logits", "1.5", "32 tokens, 128 ids and 1 logits");
  auto checkpoint = with_test(model, [](SelfTest& t) { t.logits[5] = HUGE_VALF; });
#if defined(__cpp_lib_to_chars)
  const char* const complaint = "not finite";
#else
  const char* const complaint = "is damaged";  // streams do not read "inf"
#endif
  CHECK_THROWS_WITH_AS((void)rwkv::verify(model, checkpoint), doctest::Contains(complaint), Error);
  checkpoint = with_test(model, [](SelfTest&) {});
  checkpoint.metadata.erase("rwkv.self_test.top_ids");
  CHECK_THROWS_WITH_AS((void)rwkv::verify(model, checkpoint),
                       doctest::Contains("has no rwkv.self_test.top_ids"), Error);
}
