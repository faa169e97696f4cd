#!/usr/bin/env bash
# Installs what is missing, builds everything (preset release) and runs every test:
#   tests/run.sh [CTEST_ARGUMENT...]      for instance: tests/run.sh -R kernels
# With TESSERA_FUZZ_SECONDS=N in the environment libFuzzer searches N seconds a target before them (tests/fuzz/run.sh),
# where clang can be had; ctest's test fuzz_search says how that ended.
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
    sed -n '2,6s/^# \{0,1\}//p' tests/run.sh
    exit 0
    ;;
esac

fuzz_seconds="${TESSERA_FUZZ_SECONDS:-}"
case "$fuzz_seconds" in *[!0-9]*)
  echo "tests: TESSERA_FUZZ_SECONDS must be a whole number of seconds, not '$fuzz_seconds'" >&2
  exit 64
  ;;
esac
[ "$fuzz_seconds" != 0 ] || fuzz_seconds=''
set_up=(launch/setup.sh)
[ -z "$fuzz_seconds" ] || set_up+=(--with-fuzzing)
run_phase live set-up "${set_up[@]}"

run_phase quiet configure configure release -DTESSERA_TESTS=ON -DTESSERA_CUDA=AUTO
grep -h 'Tessera:' build/tests/configure.log || true
say "building with $(nproc) processes (log: build/tests/build.log)"
run_phase quiet build cmake --build build/release -j "$(nproc)"

# Before the tests and beside nothing else: a search is as good as the processor time it gets. Its end is a test's
# (tests/fuzz/report.sh), so that ctest's summary has the last word on everything.
exclude=(-E '^fuzz_search$')
fuzzed=0
search() {
  local status=0
  tests/fuzz/run.sh "$fuzz_seconds" || status=$?
  echo "$status" > build/tests/fuzzing.status
}
if [ -n "$fuzz_seconds" ]; then
  say "fuzzing, $fuzz_seconds s a target, $(nproc) at a time (log: build/fuzz/build.log)"
  run_phase live fuzzing search
  fuzzed="$(cat build/tests/fuzzing.status)"
  export TESSERA_FUZZ_STATUS="$fuzzed" TESSERA_FUZZ_LOG="$root/build/tests/fuzzing.log"
  exclude=()
fi
say "$(phase_times)"

# Two tests at a time; those that start ranks count as two (PROCESSORS).
status=0
ctest --test-dir build/release --output-on-failure --no-tests=error -j 2 "${exclude[@]}" "$@" < /dev/null || status=$?
[ "$fuzzed" = 77 ] || [ "$status" != 0 ] || status="$fuzzed"
exit "$status"
