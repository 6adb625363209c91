# nvcc 12.9 and 13 with Kokkos before 5.0 need up to three cures. Each is looked for, applied to everything that links
# `target`, and said in one line:
#   1. language   CMake older than the compiler passes no -std to nvcc, which then reads C++20 headers as C++17.
#   2. runtime    CUDA 13 changed two calls that Kokkos 4.7.0 makes: inline overloads with the old signatures are included first.
#   3. layout     nvcc's device pass places [[no_unique_address]] members differently from its host pass, so kernels would read
#                 wrong arguments out of every mdspan-based View: the attribute is turned off. Kokkos itself works with either
#                 setting, but is best built with the same one. <spla/cuda_toolkit_guard.hpp> refuses to compile without it.
set(SPLA_CUDA_CURES_DIR "${CMAKE_CURRENT_LIST_DIR}")

# BUILD_INTERFACE: the installed target carries none of this; the package looks again, at its user's compiler and Kokkos.
function(spla_apply_cuda_cures target)
    if(NOT Kokkos_ENABLE_CUDA)
        return()
    endif()
    set(language CXX) # nvcc_wrapper or clang; CUDA where Kokkos was built as CMake's language
    if(Kokkos_COMPILE_LANGUAGE STREQUAL "CUDA")
        set(language CUDA)
    endif()
    set(nvcc 0)
    if(language STREQUAL "CUDA" AND CMAKE_CUDA_COMPILER_ID STREQUAL "NVIDIA")
        set(nvcc ${CMAKE_CUDA_COMPILER_VERSION})
    elseif(language STREQUAL "CXX" AND Kokkos_CXX_COMPILER_ID STREQUAL "NVIDIA")
        set(nvcc ${Kokkos_CXX_COMPILER_VERSION})
    endif()
    set(toolkit ${nvcc})
    if(CUDAToolkit_VERSION)
        set(toolkit ${CUDAToolkit_VERSION})
    endif()
    set(applied "")

    if(language STREQUAL "CUDA")
        if("cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
            target_compile_features(${target} INTERFACE $<BUILD_INTERFACE:cuda_std_20>)
        elseif(NOT CMAKE_CUDA_FLAGS MATCHES "-std=")
            target_compile_options(${target} INTERFACE
                $<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>>)
            list(APPEND applied "-std=c++20 (CMake ${CMAKE_VERSION} does not know this nvcc)")
        endif()
    endif()
    if(toolkit VERSION_GREATER_EQUAL 13 AND Kokkos_VERSION VERSION_LESS 5)
        target_compile_options(${target} INTERFACE
            "$<BUILD_INTERFACE:$<$<COMPILE_LANGUAGE:${language}>:SHELL:-include \"${SPLA_CUDA_CURES_DIR}/cuda13_runtime.hpp\">>")
        list(APPEND applied "CUDA 12 signatures of two runtime calls")
    endif()
    if(nvcc VERSION_GREATER_EQUAL 12.9 AND Kokkos_VERSION VERSION_LESS 5 AND NOT Kokkos_ENABLE_IMPL_VIEW_LEGACY)
        target_compile_definitions(${target} INTERFACE
            $<BUILD_INTERFACE:MDSPAN_IMPL_USE_ATTRIBUTE_NO_UNIQUE_ADDRESS=0>)
        list(APPEND applied "no [[no_unique_address]] in views")
    endif()

    if(applied)
        list(JOIN applied ", " applied)
        message(STATUS "spla: nvcc ${nvcc} with Kokkos ${Kokkos_VERSION} needs and gets: ${applied}")
    endif()
endfunction()
