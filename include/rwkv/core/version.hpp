// SPDX-License-Identifier: Apache-2.0
// The one place that states the library's version; CMake, Conan and vcpkg read these three lines.
#pragma once

#define RWKV_VERSION_MAJOR 0
#define RWKV_VERSION_MINOR 8
#define RWKV_VERSION_PATCH 1
