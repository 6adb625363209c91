# The CMake package: installed, and usable from the build tree (spla_DIR=<build>).
include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/spla")
set(package_files "${PROJECT_BINARY_DIR}/spla-config.cmake" "${PROJECT_BINARY_DIR}/spla-config-version.cmake"
    "${PROJECT_SOURCE_DIR}/cmake/cuda_cures.cmake" "${PROJECT_SOURCE_DIR}/cmake/cuda13_runtime.hpp")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/spla-config.cmake.in" "${PROJECT_BINARY_DIR}/spla-config.cmake"
    INSTALL_DESTINATION "${package_dir}" NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/spla-config-version.cmake"
    COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)

install(TARGETS spla EXPORT spla-targets)
install(EXPORT spla-targets NAMESPACE spla:: DESTINATION "${package_dir}")
install(FILES ${package_files} DESTINATION "${package_dir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/spla" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")

export(EXPORT spla-targets NAMESPACE spla:: FILE "${PROJECT_BINARY_DIR}/spla-targets.cmake")
configure_file(cmake/cuda_cures.cmake "${PROJECT_BINARY_DIR}/cuda_cures.cmake" COPYONLY)
configure_file(cmake/cuda13_runtime.hpp "${PROJECT_BINARY_DIR}/cuda13_runtime.hpp" COPYONLY)
