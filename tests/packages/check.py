#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check.py --work DIR --compiler C++ [--tool rwkv]: writes the packages of a release
(cmake/packages/generate.py) and uses each as its index would, with stand-ins for what is not here."""
import argparse
import ast
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import types
import xml.etree.ElementTree

here = pathlib.Path(__file__).resolve().parent
root = here.parents[1]
warnings = ["-std=c++20", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror"]
a_model = """#pragma once
#include <rwkv/static_blob.hpp>
namespace model {
using Shape = rwkv::Shape<2, 32, 16, 128, 256, 8, 8, 8, 8>;
using Weights = rwkv::StaticBlob<Shape, rwkv::DType::f32, rwkv::DType::f16, rwkv::DType::q8_0>;
}
"""


def run(*command, **options):
    done = subprocess.run([str(word) for word in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    if done.returncode != 0:
        print(*command)
        print(done.stdout)
        sys.exit(1)
    return done.stdout


def compiled(compiler, source, program, *flags):
    cached = ["ccache"] if shutil.which("ccache") else []
    object_file = f"{program}.o"
    run(*cached, compiler, *warnings, "-O0", *flags, "-c", source, "-o", object_file)
    run(compiler, object_file, "-o", program, "-pthread")


def single_headers(p, o):
    """The same tale from both, where the command-line tool exports the blob of a model."""
    tales = root / "examples/models/tales/tales.safetensors"
    # (Kernels for other processors than this one are the same in the headers that it was made of.)
    compiled(o.compiler, here / "engine.cpp", o.work / "engine", f"-I{p}", "-DRWKV_NO_DISPATCH")
    told = run(o.work / "engine", tales, "")
    assert len(told) == 40 and told.isascii(), told
    (o.work / "model.hpp").write_text(a_model)
    if o.tool:
        run(o.tool, "export", tales, "--type", "q8_0", "--format", "blob", "--name", "model", "--out",
            o.work / "model.hpp")
    compiled(o.compiler, here / "firmware.cpp", o.work / "firmware", f"-I{p}", f"-I{p / 'arduino/src'}",
             f"-I{o.work}")
    with open(o.work / "model.bin" if o.tool else os.devnull) as blob:
        done = subprocess.run([o.work / "firmware"], stdin=blob, capture_output=True, text=True)
    if o.tool:
        assert done.returncode == 0, done.stdout
        assert done.stdout == run(o.work / "engine", tales, "q8_0"), done.stdout
    else:
        assert done.returncode == 1 and "blob" in done.stdout, done.stdout


def vcpkg(p, o):
    manifest = json.loads((p / "vcpkg/ports/rwkv/vcpkg.json").read_text())
    assert {"name", "version", "description", "license", "features"} <= manifest.keys()
    packages = o.work / "vcpkg/packages"
    archive = next(p.glob("rwkv-*.tar.gz"))
    run("cmake", f"-Dport={p / 'vcpkg/ports/rwkv'}", f"-Darchive={archive}", f"-Dpackages={packages}",
        f"-Dcompiler={o.compiler}", "-P", here / "vcpkg.cmake")
    for file in ("share/rwkv/rwkvConfig.cmake", "share/rwkv/copyright", "share/rwkv/usage",
                 "include/rwkv/model.hpp", "include/rwkv/compiled/io.cpp"):
        assert (packages / file).is_file(), file
    assert not (packages / "share/cmake").exists()
    version = ".".join(manifest["version"].split(".")[:2])
    run("cmake", "-S", root / "tests/consumers/find_package", "-B", o.work / "vcpkg/consumer",
        f"-DEXPECTED_VERSION={version}", f"-DCMAKE_PREFIX_PATH={packages}",
        f"-DCMAKE_CXX_COMPILER={o.compiler}")


def conan(p, o):
    """The recipe with stand-ins for Conan's functions: what it asks for is there."""
    recipe = p / "conan/recipes/rwkv/all"
    done = {"copied": 0}

    def copy(self, pattern, source, to):
        found = list(pathlib.Path(source).rglob(pattern))
        assert found, f"{source}: no {pattern}"
        done["copied"] += len(found)

    def module(name, **content):
        made = types.ModuleType(name)
        made.__dict__.update(content)
        sys.modules[name] = made

    module("conan", ConanFile=object)
    module("conan.tools")
    module("conan.tools.build", check_min_cppstd=lambda self, least: None)
    module("conan.tools.files", copy=copy, get=lambda self, url, sha256, strip_root: done.update(url=url))
    module("conan.tools.layout", basic_layout=lambda self, src_folder: None)
    names = {}
    exec(compile((recipe / "conanfile.py").read_text(), "conanfile.py", "exec"), names)
    package = names["RwkvConan"]()
    source = o.work / "conan"
    with tarfile.open(next(p.glob("rwkv-*.tar.gz"))) as archive:
        archive.extractall(source)
    version = next(source.iterdir()).name.removeprefix("rwkv-")
    line = [line.split() for line in (recipe / "conandata.yml").read_text().splitlines()]
    package.conan_data = {"sources": {version: {word[0].strip(":"): word[1].strip('"') for word in line if len(word) == 2}}}
    package.version, package.source_folder, package.package_folder = version, str(source / f"rwkv-{version}"), str(o.work)
    package.options = types.SimpleNamespace(with_xsimd=False, with_training=True)
    package.settings = types.SimpleNamespace(os="Linux")
    wanted, properties = [], {}
    package.requires = lambda name, transitive_headers: wanted.append(name.split("/")[0])
    package.cpp_info = types.SimpleNamespace(defines=[], set_property=properties.__setitem__)
    package.requirements()
    package.validate()
    package.source()
    package.package()
    package.package_info()
    assert wanted == ["nlohmann_json", "eigen"] and package.cpp_info.defines == ["RWKV_NO_XSIMD"]
    assert done["copied"] > 100 and done["url"].endswith(".tar.gz")
    for file in properties["cmake_build_modules"]:
        assert (source / f"rwkv-{version}/cmake" / pathlib.Path(file).name).is_file()
    ast.parse((recipe / "test_package/conanfile.py").read_text())


def meson(p, o):
    if not shutil.which("meson"):
        return "skipped: no meson"
    project = o.work / "meson"
    cache = project / "subprojects/packagecache"
    cache.mkdir(parents=True)
    shutil.copy(p / "meson/rwkv.wrap", project / "subprojects")
    shutil.copy(next(p.glob("rwkv-*.tar.gz")), cache)
    (project / "meson.build").write_text(
        "project('consumer', 'cpp', default_options: ['cpp_std=c++20', 'buildtype=plain'])\n"
        "test('shape', executable('consumer', 'consumer.cpp', dependencies: dependency('rwkv')))\n")
    (project / "consumer.cpp").write_text(
        "#include <rwkv/core/version.hpp>\n#include <rwkv/shape.hpp>\n"
        "int main() { return rwkv::Shape<2, 32, 16, 128, 12, 8, 8, 8, 8>{}.layers() == 2 ? 0 : 1; }\n")
    run("meson", "setup", project / "build", project, env=os.environ | {"CXX": o.compiler})
    run("meson", "test", "-C", project / "build")


def bazel(p, o):
    """The files are parsed (Starlark of this kind is Python), and every pattern finds something."""
    with tarfile.open(next(p.glob("rwkv-*.tar.gz"))) as archive:
        archive.extractall(o.work / "bazel")
    source = next((o.work / "bazel").iterdir())
    for name in ("BUILD.bazel", "MODULE.bazel"):
        tree = ast.parse((source / name).read_text())
        for call in ast.walk(tree):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "glob":
                for pattern in ast.literal_eval(call.args[0]):
                    assert next(source.glob(pattern), None), f"{pattern} finds nothing"
    told = json.loads(next((p / "bazel").rglob("source.json")).read_text())
    assert told["strip_prefix"] == source.name and told["integrity"].startswith("sha256-")


def arduino(p, o):
    library = p / "arduino"
    properties = dict(line.split("=", 1) for line in (library / "library.properties").read_text().splitlines())
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url",
            "architectures"} <= properties.keys()
    stated = json.loads((library / "library.json").read_text())
    assert stated["version"] == properties["version"]
    for header in stated["headers"] + [properties["includes"]]:
        assert (library / "src" / header).is_file()
    compiler = "arm-none-eabi-g++"
    if not shutil.which(compiler):
        return "the sketch skipped: no arm-none-eabi-g++"
    sketch = o.work / "sketch"
    sketch.mkdir()
    (sketch / "model.hpp").write_text(a_model)
    (sketch / "model.bin").write_bytes(bytes(64))
    (sketch / "Arduino.h").write_text(
        "#pragma once\nstruct Port { void begin(long); void write(char); void print(const char*); "
        "void println(const char*); };\nextern Port Serial;\nvoid delay(unsigned long);\n")
    for core in (["-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"], ["-mcpu=cortex-m0plus"],
                 ["-mcpu=cortex-m33", "-mfloat-abi=hard"]):
        run(compiler, *core, "-mthumb", "-Os", "-std=gnu++20", "-Wall", "-Wextra", "-Werror",
            "-fno-exceptions", "-fno-rtti", "-include", "Arduino.h", f"-I{library / 'src'}", "-I.", "-Wa,-I.",
            "-x", "c++", "-c", library / "examples/Tale/Tale.ino", "-o", "sketch.o", cwd=sketch)


def components(p, o):
    """ESP-IDF and Zephyr."""
    project = o.work / "components"
    project.mkdir()
    text = (here / "components.cmake.in").read_text().replace("@packages@", str(p))
    (project / "CMakeLists.txt").write_text(text)
    run("cmake", "-S", project, "-B", project / "build", f"-DCMAKE_CXX_COMPILER={o.compiler}")
    for file in ("esp-idf/idf_component.yml", "zephyr/zephyr/module.yml"):
        for line in (p / file).read_text().splitlines():
            assert ": " in line or line.endswith(":"), f"{file}: {line}"


def cmsis(p, o):
    tree = xml.etree.ElementTree.parse(next((p / "cmsis").glob("*.pdsc"))).getroot()
    files = [file.get("name") for file in tree.iter("file")] + [tree.find("license").text]
    for file in files:
        assert (p / "cmsis" / file).is_file(), file


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--compiler", default="c++")
    parser.add_argument("--tool", type=pathlib.Path)
    parser.add_argument("--only", help="one of the checks")
    options = parser.parse_args()
    if options.tool and not options.tool.is_file():
        options.tool = None
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    options.work = options.work.resolve()
    packages = options.work / "packages"
    run(sys.executable, root / "cmake/packages/generate.py", "--out", packages)
    for check in (vcpkg, conan, meson, bazel, arduino, components, cmsis, single_headers):
        if options.only in (None, check.__name__):
            print(f"{check.__name__}: {check(packages, options) or 'ok'}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
