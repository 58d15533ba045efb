# SPDX-License-Identifier: Apache-2.0
# Headers, the CMake package `rwkv` with target rwkv::rwkv, and a pkg-config file. All of it is
# independent of the architecture and relocatable.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/rwkv)
install(TARGETS rwkv EXPORT rwkvTargets
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILE_SET definitions DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  FILE_SET cuda_headers DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT rwkvTargets NAMESPACE rwkv:: DESTINATION ${package_dir})

configure_package_config_file(cmake/rwkvConfig.cmake.in ${PROJECT_BINARY_DIR}/rwkvConfig.cmake
  INSTALL_DESTINATION ${package_dir} PATH_VARS CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/rwkvConfigVersion.cmake
  COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)  # until 1.0 a minor version may break the API
install(FILES ${PROJECT_BINARY_DIR}/rwkvConfig.cmake ${PROJECT_BINARY_DIR}/rwkvConfigVersion.cmake
  cmake/rwkvCompiled.cmake cmake/rwkvCompiledTarget.cmake cmake/rwkvCuda.cmake
  cmake/rwkvDependencies.cmake
  DESTINATION ${package_dir})

set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
file(RELATIVE_PATH pc_prefix /${pkgconfig_dir} /)
set(pc_requires "")
set(pc_cflags "")
set(pc_libs "")
if(RWKV_HOSTED)
  string(APPEND pc_requires " nlohmann_json")
endif()
if(RWKV_USE_XSIMD)
  string(APPEND pc_requires " xsimd")
else()
  string(APPEND pc_cflags " -DRWKV_NO_XSIMD")
endif()
if(RWKV_USE_THREADS)
  string(APPEND pc_cflags " -pthread")
  string(APPEND pc_libs " -pthread")
endif()
configure_file(cmake/rwkv.pc.in ${PROJECT_BINARY_DIR}/rwkv.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/rwkv.pc DESTINATION ${pkgconfig_dir})

if(TARGET rwkv_c)
  install(TARGETS rwkv_c OPTIONAL  # if it was built
    RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  file(RELATIVE_PATH pc_c_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  configure_file(cmake/rwkv-c.pc.in ${PROJECT_BINARY_DIR}/rwkv-c.pc @ONLY)
  install(CODE "if(EXISTS \"$<TARGET_FILE:rwkv_c>\")
    file(INSTALL DESTINATION \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/pkgconfig\"
      FILES \"${PROJECT_BINARY_DIR}/rwkv-c.pc\")
  endif()")
endif()
