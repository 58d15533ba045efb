# SPDX-License-Identifier: Apache-2.0
# cmake -D nm=<nm> -D library=<shared library> -D header=<rwkv.h> -P symbols.cmake
#
# The C library shows the functions of its header and nothing else.
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND ${nm} -D --defined-only --format=posix ${library}
  OUTPUT_VARIABLE lines COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" lines "${lines}")
set(shown "")
foreach(line IN LISTS lines)
  string(REGEX MATCH "^[^ ]+" symbol "${line}")
  list(APPEND shown ${symbol})
endforeach()
file(STRINGS ${header} declared REGEX "^RWKV_API ")
set(functions "")
foreach(line IN LISTS declared)
  string(REGEX MATCH "(rwkv_[a-z_]+)\\(" ignored "${line}")
  list(APPEND functions ${CMAKE_MATCH_1})
endforeach()
list(SORT shown)
list(SORT functions)
list(LENGTH functions count)
if(NOT shown STREQUAL functions OR count LESS 20)
  message(FATAL_ERROR "shown:\n${shown}\ndeclared:\n${functions}")
endif()
