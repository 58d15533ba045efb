# SPDX-License-Identifier: Apache-2.0
import os

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, get
from conan.tools.layout import basic_layout

required_conan_version = ">=2.0"


class RwkvConan(ConanFile):
    name = "rwkv"
    description = "@DESCRIPTION@"
    license = "Apache-2.0"
    url = "https://github.com/conan-io/conan-center-index"
    homepage = "@URL@"
    topics = ("rwkv", "language-model", "inference", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"with_training": [True, False], "with_xsimd": [True, False]}
    default_options = {"with_training": False, "with_xsimd": True}
    no_copy_source = True

    def layout(self):
        basic_layout(self, src_folder="src")

    def requirements(self):
        self.requires("nlohmann_json/3.11.3", transitive_headers=True)
        if self.options.with_xsimd:
            self.requires("xsimd/13.0.0", transitive_headers=True)
        if self.options.with_training:
            self.requires("eigen/3.4.0", transitive_headers=True)

    def package_id(self):
        self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)

    def source(self):
        get(self, **self.conan_data["sources"][self.version], strip_root=True)

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "*", os.path.join(self.source_folder, "include"),
             os.path.join(self.package_folder, "include"))
        for name in ("rwkvCompiled.cmake", "rwkvCompiledTarget.cmake"):
            copy(self, name, os.path.join(self.source_folder, "cmake"),
                 os.path.join(self.package_folder, "share", "cmake", "rwkv"))

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        self.cpp_info.set_property("cmake_file_name", "rwkv")
        self.cpp_info.set_property("cmake_target_name", "rwkv::rwkv")
        # rwkv::compiled, built by whoever links it.
        self.cpp_info.set_property("cmake_build_modules",
                                   ["share/cmake/rwkv/rwkvCompiledTarget.cmake"])
        if not self.options.with_xsimd:
            self.cpp_info.defines.append("RWKV_NO_XSIMD")
        if self.settings.os in ("Linux", "FreeBSD"):
            self.cpp_info.system_libs = ["pthread"]
