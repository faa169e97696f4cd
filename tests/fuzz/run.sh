#!/usr/bin/env bash
# Builds the fuzz targets with clang and runs each for a while, under the address and undefined-behaviour sanitizers:
#   tests/fuzz/run.sh [SECONDS_A_TARGET [TARGET...]]      10 seconds each, all targets
# What they learn stays in build/fuzz/corpus; an input that breaks one is left in build/fuzz/found and named.
# Ends with 0 when nothing broke, 77 where clang or its fuzzer is missing.
set -eu
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"
build="${TESSERA_FUZZ_BUILD:-$root/build/fuzz}"
seconds="${1:-10}"
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- safetensors manifest yaml tokenizer shard

echo 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }' > /tmp/tessera-fuzz.$$.cpp
trap 'rm -f /tmp/tessera-fuzz.$$.cpp /tmp/tessera-fuzz.$$' EXIT
if ! clang++ -fsanitize=fuzzer,address /tmp/tessera-fuzz.$$.cpp -o /tmp/tessera-fuzz.$$ 2> /dev/null; then
  echo "fuzz: no clang++ with libFuzzer here (Debian, Ubuntu: apt-get install clang libclang-rt-dev)"
  exit 77
fi

cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
  -DTESSERA_CUDA=OFF -DTESSERA_FUZZ=ON > "$build.log" 2>&1 || { tail -20 "$build.log"; exit 1; }
cmake --build "$build" --target fuzz -j 1 >> "$build.log" 2>&1 || { tail -40 "$build.log"; exit 1; }

mkdir -p "$build/found"
status=0
for target in "$@"; do
  mkdir -p "$build/corpus/$target"
  log="$build/$target.log"
  if "$build/tests/fuzz/fuzz_$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$build/found/$target-" "$build/corpus/$target" "$root/tests/fuzz/corpus/$target" > "$log" 2>&1; then
    runs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
    echo "fuzz $target: $runs inputs in $seconds s, nothing found"
  else
    echo "fuzz $target: FOUND something, see $log"
    tail -25 "$log"
    status=1
  fi
done
exit $status
