# SPDX-License-Identifier: Apache-2.0
# cmake -D root=<source dir> -D compiler=<c++> -P static_model_stands_alone.cmake
# Asks the compiler for every file that rwkv/static_model.hpp reaches when it is built the way a
# processor without vector instructions would.
execute_process(
  COMMAND ${compiler} -std=c++20 -DRWKV_NO_XSIMD -I${root}/include -M -x c++
          ${root}/include/rwkv/static_model.hpp
  OUTPUT_VARIABLE files COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "[ \t\r\n\\]+" ";" files "${files}")
set(found "")
foreach(file IN LISTS files)
  if(file MATCHES "/(rwkv/io|rwkv/train|xsimd|eigen3|Eigen|nlohmann)/"
     OR file MATCHES "/rwkv/exec/thread_pool\\.hpp$"
     OR file MATCHES "/(iostream|fstream|filesystem|thread|mutex)$")
    list(APPEND found ${file})
  endif()
endforeach()
if(found)
  list(JOIN found "\n  " found)
  message(FATAL_ERROR "rwkv/static_model.hpp reaches\n  ${found}")
endif()
