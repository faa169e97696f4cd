#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for a while, as many at a time as there are cores, under the
# address and undefined-behaviour sanitizers:
#   tests/fuzz/run.sh [SECONDS_A_TARGET [TARGET...]]      10 seconds each, all targets
# What they learn stays in build/fuzz/corpus; an input that breaks one is left in build/fuzz/found and named.
# Ends with 0 when nothing broke, 77 where clang or its fuzzer is missing.
set -eu
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"
build="${TESSERA_FUZZ_BUILD:-$root/build/fuzz}"
seconds="${1:-10}"
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- safetensors manifest yaml tokenizer shard

mkdir -p "$build/found"
echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' > "$build/trial.cpp"
if ! clang++ -fsanitize=fuzzer,address "$build/trial.cpp" -o "$build/trial" 2> /dev/null; then
  echo "fuzz: no clang++ with libFuzzer here (Debian, Ubuntu: launch/setup.sh --with-fuzzing)"
  exit 77
fi

log="$build/build.log"
generator=()
if ! [ -e "$build/CMakeCache.txt" ] && command -v ninja > /dev/null; then generator=(-G Ninja); fi
cmake -S "$root" -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -gline-tables-only" \
  -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DTESSERA_CUDA=OFF -DTESSERA_FUZZ=ON > "$log" 2>&1 || { tail -20 "$log"; exit 1; }
cmake --build "$build" --target fuzz -j "$(nproc)" >> "$log" 2>&1 || { tail -40 "$log"; exit 1; }

search() {
  local target="$1" log="$build/$1.log" runs
  mkdir -p "$build/corpus/$target"
  if "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$build/found/$target-" "$build/corpus/$target" "$root/tests/fuzz/corpus/$target" > "$log" 2>&1; then
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    echo "fuzz $target: $runs inputs in $seconds s, nothing found"
  else
    echo "fuzz $target: FOUND something, see $log"
    tail -25 "$log"
    return 1
  fi
}

status=0
running=0
for target in "$@"; do
  if [ "$running" -ge "$(nproc)" ]; then
    wait -n || status=1
    running=$((running - 1))
  fi
  search "$target" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
  wait -n || status=1
  running=$((running - 1))
done
exit $status
