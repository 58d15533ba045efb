#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what package indexes want, for a release, into a folder:

    rwkv-X.Y.Z.tar.gz       the library, with the files of Meson and Bazel at its top
    rwkv.hpp, rwkv_static.hpp   single headers
    vcpkg/ conan/ meson/ bazel/ recipes that name the archive and its checksum
    arduino/ esp-idf/ zephyr/ cmsis/   trees with rwkv_static.hpp: a library of Arduino and
                            PlatformIO, a component of ESP-IDF, a module of Zephyr, a CMSIS-Pack

    generate.py --out build/packages --url https://.../rwkv
"""
import argparse
import base64
import gzip
import hashlib
import io
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

here = pathlib.Path(__file__).resolve().parent
root = here.parents[1]

FIRMWARE = ["rwkv/static_model.hpp", "rwkv/static_blob.hpp", "rwkv/static_generate.hpp",
            "rwkv/static_compact_state.hpp", "rwkv/static_fixed_state.hpp",
            "rwkv/static_memory.hpp", "rwkv/static_state_store.hpp", "rwkv/automata/static_recogniser.hpp",
            "rwkv/core/argmax.hpp"]
ENGINE = ["rwkv/any_model.hpp", "rwkv/generate_batch.hpp", "rwkv/quantised.hpp",
          "rwkv/exec/thread_pool.hpp"]


def stated(pattern, file):
    return re.findall(pattern, (root / file).read_text())


def archive_of(files):
    """The bytes of a .tar.gz with {name: bytes}: the same for the same files."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as out:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            out.addfile(entry, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), 9, mtime=0)


class Release:
    def __init__(self, out, url):
        self.out = out
        self.words = {"VERSION": ".".join(stated(r"RWKV_VERSION_[A-Z]+ (\d+)", "include/rwkv/core/version.hpp")),
                      "DESCRIPTION": stated(r'DESCRIPTION "([^"]+)"', "CMakeLists.txt")[0],
                      "DATE": stated(r"## [\d.]+ — (\d{4}-\d\d-\d\d)", "CHANGELOG.md")[0],
                      "URL": url}

    def filled(self, template):
        text = (here / template).read_text()
        return re.sub(r"@([A-Z0-9_]+)@", lambda word: self.words[word[1]], text)

    def write(self, template, to):
        to = self.out / to
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(self.filled(template))

    def archive(self):
        name = f"rwkv-{self.words['VERSION']}"
        files = {f"{name}/{file}": (root / file).read_bytes()
                 for file in ("CMakeLists.txt", "LICENSE", "README.md", "CHANGELOG.md")}
        for folder in ("include", "cmake"):
            for path in sorted((root / folder).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts and path.parent != here and here not in path.parents:
                    files[f"{name}/{path.relative_to(root)}"] = path.read_bytes()
        for template in ("meson/meson.build", "bazel/MODULE.bazel", "bazel/BUILD.bazel"):
            files[f"{name}/{template.split('/')[1]}"] = self.filled(template).encode()
        content = archive_of(files)
        (self.out / f"{name}.tar.gz").write_bytes(content)
        sha256 = hashlib.sha256(content)
        self.words |= {"SHA512": hashlib.sha512(content).hexdigest(), "SHA256": sha256.hexdigest(),
                       "SHA256_BASE64": base64.b64encode(sha256.digest()).decode()}

    def single(self, name, title, arguments):
        subprocess.run([sys.executable, here / "amalgamate.py", "--out", self.out / name, "--title", title,
                        *arguments], check=True)

    def recipes(self):
        for file in ("portfile.cmake", "vcpkg.json", "usage"):
            self.write(f"vcpkg/{file}", f"vcpkg/ports/rwkv/{file}")
        self.write("conan/config.yml", "conan/recipes/rwkv/config.yml")
        for file in ("conanfile.py", "conandata.yml", "test_package/conanfile.py",
                     "test_package/CMakeLists.txt", "test_package/test_package.cpp"):
            self.write(f"conan/{file}", f"conan/recipes/rwkv/all/{file}")
        self.write("meson/rwkv.wrap", "meson/rwkv.wrap")
        module = f"bazel/modules/rwkv/{self.words['VERSION']}"
        self.write("bazel/MODULE.bazel", f"{module}/MODULE.bazel")
        self.write("bazel/source.json", f"{module}/source.json")

    def firmware(self, include, others):
        """A tree with the header at `include`, where exported models find it by the usual name too."""
        include = self.out / include
        include.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.out / "rwkv_static.hpp", include)
        for header in FIRMWARE:
            forward = include / header
            forward.parent.mkdir(parents=True, exist_ok=True)
            forward.write_text("// SPDX-License-Identifier: Apache-2.0\n#pragma once\n"
                               f"#include \"{'../' * header.count('/')}rwkv_static.hpp\"\n")
        for template, to in others.items():
            self.write(template, to)
        shutil.copy(root / "LICENSE", self.out / next(iter(others.values())).split("/")[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--url", default="https://example.org/rwkv", help="of the repository")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    release = Release(options.out.resolve(), options.url)
    release.archive()
    release.single("rwkv_static.hpp", "RWKV-7 models of constant shape, for firmware: depends on nothing.",
                   ["--define", "RWKV_NO_XSIMD", *FIRMWARE])
    release.single("rwkv.hpp", "RWKV-7 and RWKV-X models: needs nlohmann/json.hpp, and xsimd if it is there.",
                   ["--without", "RWKV_NO_XSIMD=xsimd/xsimd.hpp", *ENGINE])
    release.recipes()
    release.firmware("arduino/src", {"arduino/library.properties": "arduino/library.properties",
                                     "arduino/library.json": "arduino/library.json",
                                     "arduino/Tale.ino": "arduino/examples/Tale/Tale.ino"})
    release.firmware("esp-idf/include", {"esp-idf/idf_component.yml": "esp-idf/idf_component.yml",
                                         "esp-idf/CMakeLists.txt": "esp-idf/CMakeLists.txt"})
    release.firmware("zephyr/include", {"zephyr/module.yml": "zephyr/zephyr/module.yml",
                                        "zephyr/CMakeLists.txt": "zephyr/zephyr/CMakeLists.txt",
                                        "zephyr/Kconfig": "zephyr/zephyr/Kconfig"})
    release.firmware("cmsis/include", {"cmsis/rwkv.pdsc": "cmsis/rwkv.rwkv.pdsc"})


if __name__ == "__main__":
    sys.exit(main())
