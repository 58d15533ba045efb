# SPDX-License-Identifier: Apache-2.0
vcpkg_download_distfile(archive
  URLS "@URL@/releases/download/v@VERSION@/rwkv-@VERSION@.tar.gz"
  FILENAME "rwkv-@VERSION@.tar.gz"
  SHA512 @SHA512@)
vcpkg_extract_source_archive(source ARCHIVE "${archive}")

set(VCPKG_BUILD_TYPE release)  # headers, and sources that whoever links them compiles
vcpkg_check_features(OUT_FEATURE_OPTIONS features FEATURES xsimd RWKV_USE_XSIMD)
vcpkg_cmake_configure(SOURCE_PATH "${source}" OPTIONS ${features}
  -DRWKV_INSTALL=ON -DRWKV_C_API=OFF -DRWKV_BUILD_EXAMPLES=OFF -DRWKV_BUILD_TESTS=OFF
  -DRWKV_BUILD_BENCH=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH share/cmake/rwkv)
vcpkg_fixup_pkgconfig()
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/cmake")
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${source}/LICENSE")
