#!/usr/bin/env bash
# Installs what is missing, builds everything (preset release) and runs every test:
#   tests/run.sh [CTEST_ARGUMENT...]      for instance: tests/run.sh -R kernels
# With TESSERA_FUZZ_SECONDS=N in the environment tests/fuzz/run.sh N follows, where clang is there.
# Works from any folder and without a terminal. Ends with ctest's summary and its exit code.
set -eu
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
. launch/env.sh
. launch/phases.sh
. launch/build.sh
phases_name=tests
phases_logs="$root/build/tests"

case "${1:-}" in
  -h | --help)
    sed -n '2,5s/^# \{0,1\}//p' tests/run.sh
    exit 0
    ;;
esac

run_phase live set-up launch/setup.sh

run_phase quiet configure configure release -DTESSERA_TESTS=ON -DTESSERA_CUDA=AUTO
grep -h 'Tessera:' build/tests/configure.log || true
say "building with $(nproc) processes (log: build/tests/build.log)"
run_phase quiet build cmake --build build/release -j "$(nproc)"
say "$(phase_times)"

# Two tests at a time; those that start ranks count as two (PROCESSORS).
status=0
ctest --test-dir build/release --output-on-failure --no-tests=error -j 2 "$@" < /dev/null || status=$?
if [ -n "${TESSERA_FUZZ_SECONDS:-}" ]; then
  fuzzed=0
  tests/fuzz/run.sh "$TESSERA_FUZZ_SECONDS" || fuzzed=$?
  [ "$fuzzed" = 0 ] || [ "$fuzzed" = 77 ] || [ "$status" != 0 ] || status=$fuzzed
fi
exit "$status"
