#!/usr/bin/env bash
# Installs what is missing, builds everything (preset release) and runs every test:
#   tests/run.sh [CTEST_ARGUMENT...]      for instance: tests/run.sh -R kernels
# Works from any folder and without a terminal. Ends with ctest's summary and its exit code.
set -eu
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"
. launch/env.sh
# shellcheck disable=SC2034  # phases.sh reads both.
phases_name=tests phases_logs="$root/build/tests"
. launch/phases.sh

case "${1:-}" in
  -h | --help)
    sed -n '2,4s/^# \{0,1\}//p' tests/run.sh
    exit 0
    ;;
esac

run_phase live set-up launch/setup.sh

configure=(cmake --preset release -G Ninja -DTESSERA_TESTS=ON -DTESSERA_CUDA=AUTO)
nvcc="$(nvcc_path)"
if [ -n "$nvcc" ]; then
  export CUDACXX="$nvcc"
  architecture="$(cuda_architecture_option)"
  [ -z "$architecture" ] || configure+=("$architecture")
fi
if [ -e build/release/CMakeCache.txt ] && ! grep -q '^CMAKE_GENERATOR:INTERNAL=Ninja$' build/release/CMakeCache.txt; then
  configure+=(--fresh)
fi
run_phase quiet configure "${configure[@]}"
grep -h 'Tessera:' build/tests/configure.log || true
say "building with $(nproc) processes (log: build/tests/build.log)"
run_phase quiet build cmake --build build/release -j "$(nproc)"
say "$(phase_times)"

# Two tests at a time; those that start ranks count as two (PROCESSORS).
status=0
ctest --test-dir build/release --output-on-failure --no-tests=error -j 2 "$@" < /dev/null || status=$?
exit "$status"
