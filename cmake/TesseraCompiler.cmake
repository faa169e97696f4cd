# Language level, warnings (errors, everywhere), sanitizers, ccache, and the two functions that
# declare a module and a test.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(TESSERA_CCACHE ccache)
if(TESSERA_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${TESSERA_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TESSERA_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${TESSERA_CCACHE})
endif()

add_library(tessera_options INTERFACE)
target_include_directories(tessera_options INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)
target_compile_options(tessera_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Werror -march=${TESSERA_ARCH}
    # GCC 12 and 13 report std::string's own inlined memcpy (GCC bugs 105329, 105651).
    -Wno-restrict
    # One rounding a written operation in host code; kernels/cpu opts into contraction by itself.
    -ffp-contract=off>)
# MPI's C interface alone: the old C++ bindings in OpenMPI's header do not compile without warnings.
target_compile_definitions(tessera_options INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
if(TESSERA_SANITIZE)
  target_compile_options(tessera_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer>)
  target_link_options(tessera_options INTERFACE -fsanitize=address,undefined)
endif()

# Fuzz targets (tests/fuzz): clang's warnings are other ones, and no errors.
if(TESSERA_FUZZ)
  target_compile_options(tessera_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-Wno-error -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
      -fno-omit-frame-pointer>)
  target_link_options(tessera_options INTERFACE -fsanitize=address,undefined)
endif()

# tessera_module(NAME SOURCES ... LIBS ...): one static library a folder, `tessera_NAME`.
function(tessera_module name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
  if(arg_SOURCES)
    add_library(tessera_${name} STATIC ${arg_SOURCES})
    target_link_libraries(tessera_${name} PUBLIC tessera_options ${arg_LIBS})
  else()
    add_library(tessera_${name} INTERFACE)
    target_link_libraries(tessera_${name} INTERFACE tessera_options ${arg_LIBS})
  endif()
endfunction()

# tessera_test(NAME SOURCES ... LIBS ... [RANKS n...] [TIMEOUT seconds] [LABELS ...]): a GoogleTest program
# build/PRESET/tests/NAME and its ctest entry; with RANKS it runs under mpirun (and its own main must
# initialise MPI: link tessera_mpi_test_main instead of gtest_main by giving RANKS).
function(tessera_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LIBS;LABELS;RANKS" ${ARGN})
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "tessera_test(${name}): what is ${arg_UNPARSED_ARGUMENTS}?")
  endif()
  add_executable(${name} ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gtest)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if(arg_RANKS)
    target_link_libraries(${name} PRIVATE tessera_mpi_test_main)
    foreach(ranks ${arg_RANKS})
      add_test(NAME ${name}_ranks${ranks}
        COMMAND ${MPIEXEC_EXECUTABLE} -np ${ranks} --oversubscribe $<TARGET_FILE:${name}>)
      set_tests_properties(${name}_ranks${ranks} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}"
        PROCESSORS 2
        ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMP_NUM_THREADS=1")
    endforeach()
  else()
    target_link_libraries(${name} PRIVATE GTest::gtest_main)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
  endif()
  # Tests find fixtures by absolute path and write below the build tree.
  target_compile_definitions(${name} PRIVATE
    TESSERA_SOURCE_DIR="${PROJECT_SOURCE_DIR}" TESSERA_BINARY_DIR="${PROJECT_BINARY_DIR}")
endfunction()
