# SPDX-License-Identifier: Apache-2.0
import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain, CMakeDeps
from conan.tools.files import copy, load

required_conan_version = ">=2.0"


class RwkvRecipe(ConanFile):
    name = "rwkv"
    description = "RWKV-7 and RWKV-X inference and training, header-only"
    license = "Apache-2.0"
    topics = ("rwkv", "language-model", "inference", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    implements = ["auto_header_only"]
    no_copy_source = True
    exports_sources = "CMakeLists.txt", "LICENSE", "cmake/*", "include/*"
    test_package_folder = "tests/consumers/conan"

    def set_version(self):
        header = load(self, os.path.join(self.recipe_folder, "include/rwkv/core/version.hpp"))
        self.version = ".".join(re.findall(r"RWKV_VERSION_[A-Z]+ (\d+)", header))

    def requirements(self):
        for package in ("eigen/[>=3.4]", "nlohmann_json/[>=3.11]", "xsimd/[>=8.1]"):
            self.requires(package, transitive_headers=True)

    def validate(self):
        check_min_cppstd(self, 20)

    def generate(self):
        CMakeDeps(self).generate()
        toolchain = CMakeToolchain(self)
        for option in ("EXAMPLES", "TESTS", "BENCH"):
            toolchain.cache_variables[f"RWKV_BUILD_{option}"] = False
        toolchain.generate()

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        cmake = CMake(self)
        cmake.configure()
        cmake.install()

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_target_name", "rwkv::rwkv")
        # rwkv::compiled, built by whoever links it.
        self.cpp_info.set_property("cmake_build_modules",
                                   ["share/cmake/rwkv/rwkvCompiledTarget.cmake"])
        if self.settings.get_safe("os") in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
