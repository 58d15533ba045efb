# SPDX-License-Identifier: Apache-2.0
# Nothing that an object file defines for others may be refused by the linker when another defines it,
# too, but for `main`.
execute_process(COMMAND ${NM} -C --extern-only --defined-only ${OBJECTS}
  OUTPUT_VARIABLE symbols COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[0-9a-f]+ [^\n]+" symbols "${symbols}")
list(LENGTH symbols count)
if(count LESS 100)
  message(FATAL_ERROR "${OBJECTS} has only ${count} symbols: these are not all headers")
endif()
list(FILTER symbols EXCLUDE REGEX "^[0-9a-f]+ ([VWuvw] |T main$)")
if(symbols)
  list(JOIN symbols "\n" symbols)
  message(FATAL_ERROR "defined once for all:\n${symbols}")
endif()
