// SPDX-License-Identifier: Apache-2.0
#include "../support/hostile.hpp"
#include <rwkv/io/mapped_file.hpp>
#include <rwkv/io/pth.hpp>

#include <doctest/doctest.h>

using rwkv::DType;
using rwkv::Error;
using rwkv::ErrorCategory;
using rwkv::io::read_pth;
using test::Bytes;
using test::PickleWriter;
using test::ZipWriter;
using std::string_view_literals::operator""sv;

namespace {

rwkv::io::Checkpoint parse(std::span<const std::byte> bytes) { return read_pth(bytes, "file"); }

// An archive of this pickle and one storage "0" of six float32 numbers 0 ... 5.
Bytes archive(const Bytes& pickle, const std::string& root = "model/") {
  ZipWriter zip;
  zip.add(root + "data.pkl", pickle);
  zip.add(root + "data/0", test::encode({0, 1, 2, 3, 4, 5}, DType::f32));
  return zip.finish();
}

// {"x": a view of that storage}
Bytes with_view(std::int64_t offset, const std::vector<std::size_t>& shape,
                const std::vector<std::size_t>& stride, std::int64_t count = 6,
                std::string_view type = "FloatStorage") {
  PickleWriter pickle;
  pickle.op("}").text("x").tensor(type, "0", count, offset, shape, stride).op("s");
  return archive(pickle.finish());
}

std::string refusal(const Bytes& bytes) { return test::read_or_refuse(bytes, parse); }

// The sentence for a pickle that consists of these instructions after the protocol.
std::string pickle_refusal(std::string_view instructions) {
  return refusal(archive(PickleWriter().op(instructions).out.bytes));
}

ErrorCategory category_of(const Bytes& bytes) {
  try {
    (void)parse(bytes);
  } catch (const Error& error) {
    return error.category();
  }
  return ErrorCategory::numeric;
}

bool mentions(const std::string& sentence, const std::string& part) {
  return sentence.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("a model reads back from every element type and both kinds of ZIP") {
  const auto model = test::sample_model();
  for (const DType type : {DType::f32, DType::f16, DType::bf16, DType::f64})
    for (const bool zip64 : {false, true}) {
      const Bytes bytes = test::to_pth(model, type, {.zip64 = zip64});
      const auto checkpoint = parse(bytes);
      CHECK(test::difference(checkpoint, model) == "");
      CHECK(checkpoint.get("emb.weight").dtype == type);
      CHECK(checkpoint.format == "pth");
    }
}

TEST_CASE("a state dict inside a training checkpoint is found") {
  const auto model = test::sample_model();
  for (const char* name : {"state_dict", "model_state_dict", "model", "module"})
    CHECK(test::difference(parse(test::to_pth(model, DType::f32, {}, name)), model) == "");
  CHECK(test::difference(parse(test::to_pth(model, DType::f32, {}, "somewhere")), model) == "");
}

namespace {

// {key: model, ...}: the model's tensors as an archive whose pickle `around` builds; it is given a
// writer and something that puts the model there.
Bytes around(const std::vector<test::SampleTensor>& model, DType type,
             const std::function<void(PickleWriter&, const std::function<void()>&)>& build,
             std::string_view storage = {}) {
  PickleWriter pickle;
  const auto put = [&] {
    pickle.op("}(");
    for (std::size_t i = 0; i < model.size(); ++i)
      pickle.text(model[i].name)
          .tensor(storage.empty() ? test::torch_storage(type) : storage, std::to_string(i),
                  static_cast<std::int64_t>(model[i].values.size()), 0, model[i].shape,
                  rwkv::io::c_order(model[i].shape));
    pickle.op("u");
  };
  build(pickle, put);
  ZipWriter zip;
  zip.add("archive/data.pkl", pickle.finish());
  for (std::size_t i = 0; i < model.size(); ++i)
    zip.add("archive/data/" + std::to_string(i), test::encode(model[i].values, type));
  return zip.finish();
}

// A tensor of the storage of emb.weight, which is "0".
void other_tensor(PickleWriter& pickle, std::string_view type = "FloatStorage") {
  pickle.tensor(type, "0", 80, 0, {2}, {1});
}

}  // namespace

TEST_CASE("the state dict is found at any depth, under any key, beside anything") {
  const auto model = test::sample_model();
  const auto read = [&](const std::function<void(PickleWriter&, const std::function<void()>&)>& b) {
    const Bytes bytes = around(model, DType::f32, b);
    return test::difference(parse(bytes), model);
  };
  using Put = const std::function<void()>&;
  SUBCASE("beside a tensor") {
    CHECK(read([](PickleWriter& p, Put put) {
            p.op("}(").text("model");
            put();
            p.text("rng_state");
            other_tensor(p, "ByteStorage");
            p.text("loss");
            other_tensor(p);
            p.op("u");
          }) == "");
  }
  SUBCASE("deeper, in a list and in a tuple") {
    CHECK(read([](PickleWriter& p, Put put) {
            p.op("}(").text("app").op("](}(").text("whatever").op("(N");
            put();
            p.op("tue").text("step").number(7).op("u");
          }) == "");
    CHECK(read([](PickleWriter& p, Put put) {
            p.op("N");
            put();
            p.op("\x86");
          }) == "");
  }
  SUBCASE("beside an optimiser's moments of the same names") {
    for (const bool first : {false, true})
      CHECK(read([&](PickleWriter& p, Put put) {
              p.op("}(");
              const auto moments = [&] {
                p.text("optimizer").op("}(").text("exp_avg").op("}(");
                for (const auto& t : test::sample_model({.layers = 5})) {
                  p.text(t.name);
                  other_tensor(p);
                }
                p.op("uu");
              };
              if (first) moments();
              p.text("weights");
              put();
              if (!first) moments();
              p.op("u");
            }) == "");
  }
  SUBCASE("beside running averages, and rather under a customary key") {
    for (const char* other : {"ema", "ema_model", "model_ema.", "another"})
      CHECK(read([&](PickleWriter& p, Put put) {
              p.op("}(").text(other).op("}(");
              for (const auto& t : test::sample_model()) {
                p.text(t.name);
                other_tensor(p);
              }
              p.op("u").text("state_dict");
              put();
              p.op("u");
            }) == "");
  }
  SUBCASE("in an object's attributes, a defaultdict, and an object's arguments") {
    CHECK(read([](PickleWriter& p, Put put) {
            p.global("argparse", "Namespace").op(")\x81}(").text("weights");
            put();
            p.op("ub");
          }) == "");
    CHECK(read([](PickleWriter& p, Put put) {
            p.global("collections", "defaultdict").global("builtins", "list").op("\x85R(");
            p.text("model");
            put();
            p.op("u");
          }) == "");
    CHECK(read([](PickleWriter& p, Put put) {
            p.global("my.package", "Wrapper").op("(");
            put();
            p.op("tR");
          }) == "");
    CHECK(read([](PickleWriter& p, Put put) {  // NEWOBJ_EX, OBJ, INST
            p.global("my", "A").op(")}(").text("k");
            put();
            p.op("u\x92(").global("my", "B").op("NNo0(Nimy\nC\n0");
          }) == "");
  }
}

TEST_CASE("objects that are no tensors are passed over, whatever they are, and nothing is called") {
  const auto model = test::sample_model();
  const std::pair<const char*, std::string_view> objects[] = {
      {"torch.Size", "ctorch\nSize\n(K\2K\3t\x85R"sv},
      {"Namespace", "cargparse\nNamespace\n)R}(X\1\0\0\0aK\1ub"sv},
      {"a numpy scalar",
       "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n(X\2\0\0\0f8K\0K\1tR(K\3X\1\0\0\0<"
       "NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbC\x08\0\0\0\0\0\0\0\0\x86R"sv},
      {"a numpy array",
       "cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\n(K\0tC\1b\x87R(K\1(K\3tNC\0tb"sv},
      {"a set", "\x8f(K\1X\1\0\0\0a\x90"sv},
      {"a frozenset", "(K\1K\2\x91"sv},
      {"a set of protocol 2", "cbuiltins\nset\n](K\1e\x85R"sv},
      {"dtype", "ctorch\nfloat32\n"sv},
      {"complex dtype", "ctorch\ncomplex64\n"sv},
      {"device", "ctorch\ndevice\nX\4\0\0\0cuda\x85R"sv},
      {"path", "cpathlib\nPosixPath\n(X\3\0\0\0tmpt\x81"sv},
      {"os.system", "cposix\nsystem\nX\7\0\0\0echo hi\x85R"sv},
      {"eval",
       "c__builtin__\neval\nX\1\0\0\0"
       "1\x85R"sv},
      {"bytes", "C\2ab"sv},
      {"long bytes", "B\2\0\0\0ab"sv},
      {"bytearray", "\x96\2\0\0\0\0\0\0\0ab"sv},
      {"bytes of 64 bits", "\x8e\2\0\0\0\0\0\0\0ab"sv},
      {"a large integer",
       "\x8a\x0a"
       "0123456789"sv},
      {"float, None, True", "(G\0\0\0\0\0\0\0\0N\x88t"sv},
      {"a generator's state", "ctorch._C\nGenerator\n)\x81"sv},
      {"an extension", "\x82\7"sv},
      {"an old string", "U\1a"sv},
      {"dup and pop",
       "K\1"
       "20(K\1"
       "1"sv},
      {"lists", "](K\1K\2eK\3a"sv},
      {"a class of protocol 4", "\x8c\2my\x8c\1X\x93)\x81"sv},
  };
  for (const auto& object : objects) {
    CAPTURE(object.first);
    const std::string_view instructions = object.second;
    const Bytes bytes =
        around(model, DType::f32, [&](PickleWriter& p, const std::function<void()>& put) {
          p.op("}(").text("x").op(instructions).text("model");
          put();
          p.text("y").op(instructions).op("u");
        });
    CHECK(test::difference(parse(bytes), model) == "");
  }
}

TEST_CASE("a module that was saved whole is called so") {
  PickleWriter pickle;
  pickle.global("torch.nn.modules.linear", "Linear").op(")\x81}").text("_parameters").op("}");
  pickle.text("weight").tensor("FloatStorage", "0", 6, 0, {2, 3}, {3, 1}).op("ssb");
  const std::string sentence = refusal(archive(pickle.finish()));
  CHECK(mentions(sentence, "an object of \"torch.nn.modules.linear.Linear\" and no state dict"));
}

TEST_CASE("what the model does not need may be of any type, or damaged") {
  const auto model = test::sample_model();
  const auto with = [&](const std::string& name, const std::function<void(PickleWriter&)>& value) {
    return around(model, DType::f32, [&](PickleWriter& p, const std::function<void()>& put) {
      p.op("}(").text("model");
      put();
      p.op("(").text(name);
      value(p);
      p.op("uu");
    });
  };
  const auto passed_over = [&](const std::function<void(PickleWriter&)>& value) {
    const Bytes bytes = with("counts", value);
    return test::difference(parse(bytes), model);
  };
  CHECK(passed_over([](auto& p) { other_tensor(p, "QInt8Storage"); }) == "");
  CHECK(passed_over([](auto& p) { other_tensor(p, "ComplexFloatStorage"); }) == "");
  // Outside of the model's dictionary also what is damaged.
  const Bytes damaged =
      around(model, DType::f32, [&](PickleWriter& p, const std::function<void()>& put) {
        p.op("}(").text("model");
        put();
        p.text("optimizer").op("}(").text("a").tensor("FloatStorage", "no such", 1, 0, {1}, {1});
        p.text("b").tensor("FloatStorage", "0", 80, 1000, {1}, {1}).op("uu");
      });
  CHECK(test::difference(parse(damaged), model) == "");

  const auto refused = [&](const std::function<void(PickleWriter&)>& value) {
    return refusal(with("blocks.0.att.v1", value));
  };
  CHECK(mentions(refused([](auto& p) { other_tensor(p, "QInt8Storage"); }),
                 "\"blocks.0.att.v1\" has elements of \"torch.QInt8Storage\""));
  CHECK(mentions(refused([](PickleWriter& p) {
                   p.global("torch.distributed.tensor", "DTensor").op(")\x81}b");
                 }),
                 "\"blocks.0.att.v1\" is made by \"torch.distributed.tensor.DTensor\""));
  const auto of_type = [](std::string_view module, std::string_view name) {
    return [=](PickleWriter& p) {
      p.global("torch._tensor", "_rebuild_from_type_v2");
      p.op("(").global("torch._utils", "_rebuild_tensor_v2").global(module, name);
      p.op("((").text("storage").global("torch", "FloatStorage").text("0").text("cpu").number(80);
      p.op("tQ").number(0).tuple({2}).tuple({1}).op("\x89").global("collections", "OrderedDict");
      p.op(")Rt}tR");
    };
  };
  CHECK(mentions(refused(of_type("torchao", "AffineQuantizedTensor")), "AffineQuantizedTensor"));
  const Bytes parameter = with("blocks.0.att.v1", of_type("torch.nn.parameter", "Parameter"));
  CHECK(parse(parameter).get("blocks.0.att.v1").values() ==
        std::vector<float>(model[0].values.begin(), model[0].values.begin() + 2));
}

TEST_CASE("floats of 8 bits, typed and untyped storages") {
  const auto view = [](const std::function<void(PickleWriter&)>& tensor) {
    PickleWriter pickle;
    pickle.op("}").text("x");
    tensor(pickle);
    ZipWriter zip;
    zip.add("m/data.pkl", pickle.op("s").finish());
    zip.add("m/data/0", {std::byte{0x38}, std::byte{0xc0}, std::byte{0x01}, std::byte{0x7e}});
    return zip.finish();
  };
  const auto untyped = [](std::string_view type) {
    return [=](PickleWriter& p) {
      p.global("torch._utils", "_rebuild_tensor_v3").op("((").text("storage");
      p.global("torch.storage", "UntypedStorage").text("0").text("cpu").number(4).op("tQ");
      p.number(0).tuple({4}).tuple({1}).op("\x89").global("collections", "OrderedDict").op(")R");
      p.global("torch", type).op("tR");
    };
  };
  const std::vector<float> e4m3{1, -2, 0x1p-9f, 448}, e5m2{0.5f, -2, 0x1p-16f, NAN};
  const Bytes typed =
      view([](PickleWriter& p) { p.tensor("Float8_e4m3fnStorage", "0", 4, 0, {4}, {1}); });
  CHECK(parse(typed).get("x").values() == e4m3);
  CHECK(parse(typed).get("x").dtype == DType::f8_e4m3);
  const Bytes bare = view(untyped("float8_e4m3fn"));
  CHECK(parse(bare).get("x").values() == e4m3);
  const Bytes half = view(untyped("float8_e5m2"));
  const auto values = parse(half).get("x").values();
  for (std::size_t i = 0; i < 3; ++i) CHECK(values[i] == e5m2[i]);
  CHECK(std::isnan(values[3]));
  CHECK(mentions(refusal(view(untyped("float16"))), "of a storage of 2 elements"));
}

TEST_CASE("views keep offset and strides") {
  const Bytes transposed = with_view(0, {3, 2}, {1, 3});
  CHECK(parse(transposed).get("x").values() == std::vector<float>{0, 3, 1, 4, 2, 5});
  const Bytes part = with_view(4, {2}, {1});
  CHECK(parse(part).get("x").values() == std::vector<float>{4, 5});
  const Bytes spread = with_view(1, {1, 2, 1}, {77, 4, 9});
  CHECK(parse(spread).get("x").values() == std::vector<float>{1, 5});
  const Bytes scalar = with_view(5, {}, {});
  CHECK(parse(scalar).get("x").values() == std::vector<float>{5});
  const Bytes empty = with_view(6, {0, 3}, {3, 1});
  CHECK(parse(empty).get("x").values().empty());
  const Bytes repeated = with_view(2, {3}, {0});
  CHECK(parse(repeated).get("x").values() == std::vector<float>{2, 2, 2});
}

TEST_CASE("views that leave their storage are refused") {
  constexpr std::size_t huge = std::size_t{1} << 62;
  const auto outside = [](const Bytes& bytes) {
    return mentions(refusal(bytes), "of a storage of 6 elements");
  };
  CHECK(outside(with_view(1, {6}, {1})));
  CHECK(outside(with_view(7, {}, {})));
  CHECK(outside(with_view(7, {0}, {1})));
  CHECK(outside(with_view(-1, {1}, {1})));
  CHECK(outside(with_view(0, {2, 3}, {4, 1})));
  CHECK(outside(with_view(0, {7}, {0})));
  CHECK(outside(with_view(0, {huge, huge}, {0, 0})));
  CHECK(outside(with_view(0, {2, 2}, {huge, huge})));
  CHECK(outside(with_view(0, {3}, {huge})));
  CHECK(outside(with_view(std::int64_t{1} << 62, {1}, {1})));
  CHECK(mentions(refusal(with_view(0, {std::size_t{1} << 63}, {1})), "a shape with -"));
  CHECK(mentions(refusal(with_view(0, {1}, {1, 1})), "strides for shape"));
  CHECK(mentions(refusal(with_view(0, std::vector<std::size_t>(9, 1), {})), "9 dimensions"));
  CHECK(mentions(refusal(with_view(0, {1}, {1}, 5)), "24 bytes, not 5"));
  CHECK(mentions(refusal(with_view(0, {1}, {1}, 7)), "24 bytes, not 7"));
  CHECK(mentions(refusal(with_view(0, {1}, {1}, -6)), "-6 elements"));
  CHECK(mentions(refusal(with_view(0, {1}, {1}, 6, "DoubleStorage")), "type f64"));
}

TEST_CASE("a storage may serve several tensors, but not pretend to be a large model") {
  const auto sharing = [](int tensors) {
    PickleWriter pickle;
    pickle.op("}(");
    for (int i = 0; i < tensors; ++i)
      pickle.text(std::to_string(i)).tensor("FloatStorage", "0", 60'000, 0, {60'000}, {1});
    ZipWriter zip;
    zip.add("m/data.pkl", pickle.op("u").finish());
    zip.add("m/data/0", Bytes(240'000));
    return zip.finish();
  };
  CHECK(refusal(sharing(4)) == "read");
  CHECK(mentions(refusal(sharing(5)), "share their storages"));
}

TEST_CASE("instructions that no torch.save writes are refused") {
  for (const std::string_view unknown : {"P", "S'a'\n", "I1\n", "\x97", "\x98", "p0\n"})
    CHECK(mentions(pickle_refusal(unknown), "pickle instruction"));
  CHECK(category_of(archive(PickleWriter().op("P0\n.").out.bytes)) == ErrorCategory::unsupported);
  Bytes protocol = PickleWriter().op("}.").out.bytes;
  protocol[1] = std::byte{6};
  CHECK(mentions(refusal(archive(protocol)), "protocol 6"));
}

TEST_CASE("pickles that misuse the machine are refused") {
  CHECK(mentions(pickle_refusal("."), "a value that is not there"));
  CHECK(mentions(pickle_refusal("}"), "ends in the middle"));
  CHECK(mentions(pickle_refusal("K\1."), "does not hold a dictionary"));
  CHECK(mentions(pickle_refusal("}."), "no tensors"));
  CHECK(mentions(pickle_refusal("t."), "a mark that is not there"));
  CHECK(mentions(pickle_refusal("u."), "a mark that is not there"));
  CHECK(mentions(pickle_refusal("s."), "a value that is not there"));
  CHECK(mentions(pickle_refusal("NNs."), "sets items of nothing"));
  CHECK(mentions(pickle_refusal("(NNu."), "sets items of nothing"));
  CHECK(mentions(pickle_refusal("}(Nu."), "a key without a value"));
  CHECK(mentions(pickle_refusal("N(NNu."), "where it needs a dictionary"));
  CHECK(mentions(pickle_refusal("}(R"), "a value that is not there"));
  CHECK(mentions(pickle_refusal("}(\x85."), "a value that is not there"));
  CHECK(mentions(pickle_refusal("K\1)R."), "where it needs a function"));
  CHECK(mentions(pickle_refusal("}X\1\0\0\0x(ctorch._utils\n_rebuild_tensor_v2\n)Rs."sv),
                 "takes a value"));
  CHECK(mentions(pickle_refusal("}X\1\0\0\0xctorch._utils\n_rebuild_tensor_v2\n)Rs."sv),
                 "passes 0 arguments"));
  CHECK(mentions(pickle_refusal("(o."), "an object of no class"));
  CHECK(mentions(pickle_refusal("K\1)\x81."), "where it needs a function"));
  CHECK(mentions(pickle_refusal(")Q."), "no storage"));
  CHECK(mentions(pickle_refusal("NQ."), "needs a tuple"));
  CHECK(mentions(pickle_refusal(std::string_view("h\0.", 3)), "refers to value 0"));
  CHECK(mentions(pickle_refusal("}r\xff\xff\xff\x7f."), "numbers a value 2147483647"));
  CHECK(mentions(pickle_refusal("X\xff\xff\xff\xff"), "4294967295 bytes"));
  CHECK(mentions(pickle_refusal("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615"));
  CHECK(mentions(pickle_refusal("\x8a\xff"), "ends in the middle"));
  CHECK(mentions(pickle_refusal("\x96\xff\xff\xff\xff\xff\xff\xff\x7f"), "ends in the middle"));
  CHECK(mentions(pickle_refusal("cno end of line"), "ends in the middle"));
  CHECK(mentions(pickle_refusal("Nb."), "a value that is not there"));
  CHECK(mentions(pickle_refusal("K\1Nb."), "needs a dictionary"));
}

TEST_CASE("nesting and self-reference in the pickle do no harm") {
  std::string nested(300'000, '(');
  nested += std::string(300'000, 't') + '.';
  CHECK(mentions(pickle_refusal(nested), "no tensors"));
  std::string dictionaries = "}";
  for (int i = 0; i < 100'000; ++i) dictionaries += "K\1}";
  dictionaries += std::string(100'000, 's') + '.';
  CHECK(mentions(pickle_refusal(dictionaries), "no tensors"));
  // d = {}; d["state_dict"] = d
  Bytes self = PickleWriter().op("}\x94").text("state_dict").op(std::string("h\0s.", 4)).out.bytes;
  CHECK(mentions(refusal(archive(self)), "no tensors"));
  // Many keys "model" that name one large dictionary without tensors must not take quadratic time.
  PickleWriter many;
  many.op("}(");
  for (int i = 0; i < 100'000; ++i) many.op("K\1N");
  many.op("u\x94").text("model").op(
      "\x94"
      "}(");
  for (int i = 0; i < 100'000; ++i) many.op(std::string("h\1h\0", 4));
  CHECK(mentions(refusal(archive(many.op("u.").out.bytes)), "no tensors"));
}

TEST_CASE("two tensors of one name are refused") {
  PickleWriter pickle;
  pickle.op("}(");
  for (int i = 0; i < 2; ++i) pickle.text("x").tensor("FloatStorage", "0", 6, 0, {6}, {1});
  CHECK(mentions(refusal(archive(pickle.op("u").finish())), "\"x\" occurs twice"));
}

TEST_CASE("integers of every length") {
  const auto offset = [](std::string_view number) {
    PickleWriter pickle;
    pickle.op("}").text("x").global("torch._utils", "_rebuild_tensor_v2").op("((").text("storage");
    pickle.global("torch", "FloatStorage").text("0").text("cpu").op("K\6tQ").op(number);
    pickle.op("))\x89").global("collections", "OrderedDict").op(")RtRs");
    return refusal(archive(pickle.finish()));
  };
  CHECK(offset("K\5") == "read");
  CHECK(offset(std::string_view("M\5\0", 3)) == "read");
  CHECK(offset(std::string_view("J\5\0\0\0", 5)) == "read");
  CHECK(offset("\x8a\1\5") == "read");
  CHECK(offset(std::string_view("\x8a\0", 2)) == "read");
  CHECK(offset(std::string_view("\x8b\2\0\0\0\5\0", 7)) == "read");
  CHECK(mentions(offset("J\xff\xff\xff\xff"), "at -1 of"));
  CHECK(mentions(offset("\x8a\1\xff"), "at -1 of"));
  CHECK(mentions(offset("\x8a\2\xff\x7f"), "at 32767 of"));
}

TEST_CASE("archives that torch.save does not write are refused") {
  const Bytes pickle =
      PickleWriter().op("}").text("x").tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("s").finish();
  const Bytes four(4);
  const auto build = [](auto fill, ZipWriter::Options options = {}) {
    ZipWriter zip(options);
    fill(zip);
    return refusal(zip.finish());
  };
  CHECK(build([&](auto& zip) {
          zip.add("data.pkl", pickle);
          zip.add("data/0", four);
        }) == "read");
  CHECK(mentions(build([&](auto& zip) { zip.add("a/data.pkl", pickle); }), "\"0\" is missing"));
  CHECK(mentions(build([&](auto& zip) { zip.add("a/data/0", four); }), "no data.pkl"));
  CHECK(mentions(build([&](auto& zip) {
                   zip.add("a/data.pkl", pickle);
                   zip.add("b/data.pkl", pickle);
                 }),
                 "two entries called data.pkl"));
  CHECK(mentions(build([&](auto& zip) {
                   zip.add("a/data.pkl", pickle);
                   zip.add("a/data.pkl", pickle);
                 }),
                 "occurs twice"));
  CHECK(mentions(build([&](auto& zip) { zip.add("a/data.pkl", pickle); }, {.method = 8}),
                 "is compressed"));
  CHECK(mentions(build([&](auto& zip) {
                   zip.add("a/data.pkl", pickle);
                   zip.add("a/data/0", four);
                   zip.add("a/byteorder", test::Writer().text("big").bytes);
                 }),
                 "not little-endian"));
  CHECK(mentions(build([&](auto& zip) { zip.add("a/data.pkl", Bytes((4u << 20) + 1)); }),
                 "the pickle has 4194305 bytes"));
  CHECK(mentions(build([&](auto& zip) { zip.add("a/data.pkl", Bytes(4u << 20)); }),
                 "pickle instruction"));
  for (const char* order : {"littl", "little ", "LITTLE"})
    CHECK(mentions(build([&](auto& zip) {
                     zip.add("a/data.pkl", pickle);
                     zip.add("a/data/0", four);
                     zip.add("a/byteorder", test::Writer().text(order).bytes);
                   }),
                   "not little-endian"));
  // A key is looked up whole, not what fits a limit.
  const std::string key(64, '7');
  const auto keyed = [&](const std::string& wanted) {
    PickleWriter named;
    named.op("}").text("x").tensor("FloatStorage", wanted, 1, 0, {1}, {1}).op("s");
    return build([&](auto& zip) {
      zip.add("a/data.pkl", named.finish());
      zip.add("a/data/" + key, four);
    });
  };
  CHECK(keyed(key) == "read");
  CHECK(mentions(keyed(key + '7'), "is missing"));
}

TEST_CASE("directories that lie about the archive are refused") {
  const Bytes good = test::to_pth(test::sample_model({.layers = 1}), DType::f32, {.zip64 = false});
  const std::size_t end = good.size() - 22;
  const auto damaged = [&](std::size_t at, auto value) {
    Bytes bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return refusal(bytes);
  };
  std::uint32_t directory = 0;
  std::memcpy(&directory, good.data() + end + 16, 4);
  CHECK(refusal(good) == "read");
  CHECK(mentions(damaged(end + 4, std::uint16_t{1}), "split into several files"));
  CHECK(mentions(damaged(end + 8, std::uint16_t{3}), "split into several files"));
  CHECK(mentions(damaged(end + 8, std::uint32_t{0xffffffff}), "65535 entries"));
  CHECK(mentions(damaged(end + 12, std::uint32_t{0xffffffff}), "does not fit"));
  CHECK(mentions(damaged(end + 16, std::uint32_t{0xfffffff0}), "does not fit"));
  CHECK(mentions(damaged(end + 16, directory + 1), "damaged at entry 0"));
  CHECK(mentions(damaged(directory + 8, std::uint16_t{1}), "is encrypted"));
  CHECK(mentions(damaged(directory + 20, std::uint32_t{1}), "is stored in 1 bytes"));
  CHECK(mentions(damaged(directory + 20, std::uint64_t{0xf0000000f0000000}), "ends in the middle"));
  CHECK(mentions(damaged(directory + 42, std::uint32_t{7}), "no ZIP entry"));
  CHECK(mentions(damaged(directory + 42, std::uint32_t{0xfffffff0}), "past the data"));
  CHECK(mentions(damaged(directory + 46, 'A'), "is not the"));

  // The first entry claims a part of the second.
  std::uint32_t size = 0;
  std::memcpy(&size, good.data() + directory + 20, 4);
  const std::uint64_t longer = (std::uint64_t{size + 64} << 32) + size + 64;
  CHECK(mentions(damaged(directory + 20, longer), "ZIP entries overlap"));
  const std::uint64_t by_one = (std::uint64_t{size + 1} << 32) + size + 1;
  CHECK(mentions(damaged(directory + 20, by_one), "ZIP entries overlap"));
}

TEST_CASE("entries end before the directory, and are listed in any order") {
  const Bytes pickle =
      PickleWriter().op("}").text("x").tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("s").finish();
  ZipWriter zip({.zip64 = false});
  zip.add("data.pkl", pickle);
  zip.add("data/0", Bytes(4));
  zip.add("data/1", Bytes(4));
  const Bytes good = zip.finish();
  const std::size_t end = good.size() - 22;
  const std::size_t last = end - 46 - 6, before = last - 46 - 6;  // records and names
  CHECK(refusal(good) == "read");

  Bytes longer = good;
  for (const std::size_t at : {last + 20, last + 24}) longer[at] = std::byte{5};
  CHECK(mentions(refusal(longer), "ends in the middle of a ZIP entry"));
  Bytes into_next = good;
  for (const std::size_t at : {before + 20, before + 24}) into_next[at] = std::byte{5};
  CHECK(mentions(refusal(into_next), "ZIP entries overlap"));

  Bytes swapped = good;
  const auto record = [](Bytes& bytes, std::size_t at) {
    return bytes.begin() + static_cast<std::ptrdiff_t>(at);
  };
  std::swap_ranges(record(swapped, before), record(swapped, last), record(swapped, last));
  CHECK(swapped != good);
  CHECK(refusal(swapped) == "read");
}

TEST_CASE("an archive may have a comment of up to 65535 bytes, also one like an end record") {
  const Bytes good = test::to_pth(test::sample_model({.layers = 1}));
  const auto commented = [&](std::size_t length, const std::string& text) {
    Bytes bytes = good;
    const auto field = static_cast<std::uint16_t>(length);
    std::memcpy(bytes.data() + bytes.size() - 2, &field, 2);
    for (std::size_t i = 0; i < length; ++i)
      bytes.push_back(i < text.size() ? static_cast<std::byte>(text[i]) : std::byte{' '});
    return refusal(bytes);
  };
  CHECK(commented(1, "") == "read");
  CHECK(commented(65535, "") == "read");
  CHECK(mentions(commented(65536, ""), "no directory"));
  CHECK(commented(40, "PK\5\6 and no end record") == "read");
  CHECK(commented(40, "PK\5\6" + std::string(18, '\0')) == "read");
  const Bytes empty = test::Writer().text("PK\5\6").raw(Bytes(18)).bytes;
  CHECK(mentions(refusal(empty), "no data.pkl"));
}

TEST_CASE("ZIP64 fields may lie too") {
  const Bytes good = test::to_pth(test::sample_model({.layers = 1}));
  const std::size_t locator = good.size() - 22 - 20;
  const std::size_t record = locator - 56;
  const auto damaged = [&](std::size_t at, std::uint64_t value) {
    Bytes bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return refusal(bytes);
  };
  constexpr std::uint64_t huge = ~std::uint64_t{0};
  CHECK(mentions(damaged(locator + 8, huge), "past the end"));
  CHECK(mentions(damaged(locator + 8, record - 1), "no ZIP64 end record"));
  CHECK(mentions(damaged(record + 32, huge), "entries does not fit"));
  CHECK(mentions(damaged(record + 40, huge), "does not fit"));
  CHECK(mentions(damaged(record + 48, huge), "does not fit"));
  // The last entry's record ends in an extra field 1 of 24 bytes. Of another number it says
  // nothing.
  Bytes other = good;
  other[record - 28] = std::byte{2};
  CHECK(refusal(other) != "read");
  // What fits 32 bits stands in the record, and only the rest in the field; behind it, others, and
  // bytes that are too few for one.
  Bytes mixed = good;
  std::size_t entry = record - 28;
  while (std::memcmp(mixed.data() + entry, "PK\1\2", 4) != 0) --entry;
  for (const std::size_t at : {entry + 20, entry + 24})
    std::memcpy(mixed.data() + at, good.data() + record - 24, 4);
  std::memcpy(mixed.data() + record - 24, good.data() + record - 8, 8);
  const auto with_rest = [&](std::uint8_t length) {  // a field 7 after the 12 bytes of field 1
    mixed[record - 26] = std::byte{8};
    const Bytes rest = test::Writer().put<std::uint16_t>(7).put<std::uint16_t>(length).bytes;
    std::copy(rest.begin(), rest.end(), mixed.begin() + static_cast<std::ptrdiff_t>(record - 16));
    return refusal(mixed);
  };
  CHECK(with_rest(12) == "read");
  CHECK(with_rest(9) == "read");
  CHECK(mentions(with_rest(13), "ends in the middle of a ZIP extra field"));
  for (std::size_t at = record - 24; at < record; at += 8)  // sizes, offset of the last entry
    for (const std::uint64_t value : {huge, huge - 63, std::uint64_t{1} << 63})
      CHECK(damaged(at, value) != "read");
}

TEST_CASE("damaged files are read or refused") {
  const Bytes bytes = test::to_pth(
      test::sample_model({.layers = 1, .embed = 4, .head_size = 4, .ffn = 4, .vocab = 2}));
  CHECK(test::truncate_everywhere(bytes, parse) == 0);
  CHECK(test::flip_bytes(bytes, bytes.size() / 3, 2000, parse) > 800);
}

#ifdef RWKV_GOLDENS
namespace {
const std::filesystem::path goldens(RWKV_GOLDENS);
}

TEST_CASE("golden .pth files hold what their safetensors twins hold") {
  for (const char* name : {"r7_l2_c32", "r7_l2_c64", "r7_l3_c128", "r7_l4_c96"}) {
    const auto directory = goldens / "rwkv7" / name;
    const rwkv::io::MappedFile pth(directory / "model.pth");
    const rwkv::io::MappedFile twin(directory / "model.safetensors");
    const auto model = parse(pth.bytes());
    const auto expected = rwkv::io::read_safetensors(twin.bytes(), "twin");
    CHECK(model.tensors.size() == expected.tensors.size());
    for (const auto& entry : expected.tensors) {
      CAPTURE(entry.first);
      const auto& tensor = model.get(entry.first);
      CHECK(tensor.dtype == entry.second.dtype);
      CHECK(tensor.shape == entry.second.shape);
      CHECK(tensor.values<double>() == entry.second.values<double>());
    }
  }
}

TEST_CASE("other writers' .pth files hold the same tensors, or are refused") {
  const rwkv::io::MappedFile model(goldens / "rwkv7/r7_l2_c32/model.safetensors");
  const auto expected = rwkv::io::read_safetensors(model.bytes(), "model");
  std::size_t read = 0;
  for (const auto& entry : std::filesystem::directory_iterator(goldens / "pth_variants")) {
    CAPTURE(entry.path().string());
    const rwkv::io::MappedFile file(entry.path());
    if (entry.path().stem() == "legacy_nonzip") {
      CHECK_THROWS_WITH_AS(parse(file.bytes()), doctest::Contains("before torch 1.6"), Error);
      continue;
    }
    const auto variant = parse(file.bytes());
    CHECK(variant.tensors.size() == 14);
    for (const auto& [name, tensor] : variant.tensors) {
      CHECK(tensor.shape == expected.get(name).shape);
      CHECK(tensor.values() == expected.get(name).values());
    }
    ++read;
  }
  CHECK(read == 5);
}

TEST_CASE("golden files cut at every percent are refused") {
  const rwkv::io::MappedFile file(goldens / "rwkv7/r7_l2_c32/model.pth");
  const Bytes bytes(file.bytes().begin(), file.bytes().end());
  CHECK(test::truncate_everywhere(bytes, parse) == 0);
  CHECK(test::flip_bytes(bytes, 7000, 300, parse) > 30);
}
#endif
