# SPDX-License-Identifier: Apache-2.0
import os

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, cmake_layout


class RwkvTestPackage(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps", "CMakeToolchain"

    def layout(self):
        cmake_layout(self)

    def requirements(self):
        self.requires(self.tested_reference_str)

    def build(self):
        cmake = CMake(self)
        cmake.configure(cli_args=["-DEXPECTED_VERSION="],
                        build_script_folder=os.path.join(self.source_folder, "../find_package"))
        cmake.build()

    def test(self):
        if can_run(self):
            model = "../../data/golden_l2_c32_f32.model.safetensors"
            program = os.path.join(self.cpp.build.bindir, "consumer")
            self.run(f"{program} {os.path.join(self.source_folder, model)}", env="conanrun")
