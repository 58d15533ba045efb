# SPDX-License-Identifier: Apache-2.0
# rwkv_docs: the API reference and the guides as HTML, in docs/html of the build tree.
find_package(Doxygen 1.9.4 QUIET)
if(DOXYGEN_FOUND)
  configure_file(cmake/Doxyfile.in ${PROJECT_BINARY_DIR}/Doxyfile @ONLY)
  add_custom_target(rwkv_docs
    COMMAND ${DOXYGEN_EXECUTABLE} ${PROJECT_BINARY_DIR}/Doxyfile
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMENT "Writing ${PROJECT_BINARY_DIR}/docs/html/index.html" VERBATIM)
endif()
