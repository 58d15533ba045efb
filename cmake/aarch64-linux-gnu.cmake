# SPDX-License-Identifier: Apache-2.0
# 64-bit ARM of no particular model under Linux, as Debian's cross compiler builds for it; programs
# run in an emulator.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
