#!/usr/bin/env bash
# Every GPU test and the benchmarks in one go, within 10 minutes, on a machine with a GPU:
#   tests/gpu.sh [BUNDLE_DIR]     programs of launch/bundle.sh, else those of build/release
# Logs go to $TESSERA_GPU_REPORT (build/gpu-report). TESSERA_GPU_SANITIZE=1 also runs
# compute-sanitizer (memcheck, racecheck) over small configurations; TESSERA_GPU_BENCH=0 leaves the
# benchmarks out; TESSERA_GPU_SECONDS is another limit. Exits with 1 when anything failed or did not run.
set -u
case "${1:-}" in
  -h | --help)
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
programs="${1:-}"
[ -z "$programs" ] || programs="$(cd "$programs" && pwd)" || exit 64
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root" || exit 1
# shellcheck source=launch/env.sh
. launch/env.sh
if [ -n "$programs" ]; then
  # shellcheck disable=SC1091
  . "$programs/env.sh"
  tests=("$programs"/bin/*_gpu_test)
else
  PATH="$root/build/release:$PATH"
  tests=("$root"/build/release/tests/*_gpu_test)
fi
if ! nvidia-smi -L > /dev/null 2>&1; then
  echo "gpu: this machine shows no GPU (nvidia-smi -L)" >&2
  exit 1
fi
if ! [ -x "${tests[0]}" ]; then
  echo "gpu: no ${tests[0]}: build the tests with CUDA first (tests/run.sh), or name a bundle" >&2
  exit 1
fi
report="${TESSERA_GPU_REPORT:-$root/build/gpu-report}"
mkdir -p "$report"
rm -f "$report"/*.log "$report"/*.txt
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}" # CPU references of several ranks at once
export TESSERA_GOLDEN_DIR="${TESSERA_GOLDEN_DIR:-$root/tests/golden}" TESSERA_PROGRESS=0 GTEST_COLOR=no
deadline="${TESSERA_GPU_SECONDS:-590}" # for everything
failed=0

row() { printf '  %-28s %-24s %8s\n' "$@" | tee -a "$report/summary.txt"; }

# run NAME SECONDS COMMAND...: its output goes to NAME.log, a line to the summary.
run() {
  local name="$1" limit="$2" status=0 start=$SECONDS result=passed
  local log="$report/$1.log"
  shift 2
  if [ "$limit" -gt $((deadline - SECONDS)) ]; then limit=$((deadline - SECONDS)); fi
  if [ "$limit" -lt 5 ]; then
    row "$name" 'NOT RUN (out of time)' ''
    failed=1
    return
  fi
  timeout "$limit" "$@" > "$log" 2>&1 < /dev/null || status=$?
  if [ "$status" = 124 ]; then
    result="FAILED ($limit s were up)"
  elif [ "$status" != 0 ]; then
    result="FAILED with $status"
  elif [[ "$*" == *_gpu_test* ]]; then
    result="$(test_result "$log")"
  fi
  row "$name" "$result" "$((SECONDS - start)) s"
  case "$result" in
    FAILED*)
      failed=1
      { grep -E 'Failure|FAILED|ERROR|Error' "$log" || tail -n 5 "$log"; } | head -n 12
      ;;
  esac
}

# A test program that found no device skips every test, and a filter may match none: both exit with 0.
test_result() {
  local passed skipped
  passed="$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$1" | tail -n 1)"
  skipped="$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$1" | tail -n 1)"
  if [ "${passed:-0}" -eq 0 ]; then
    echo "FAILED: no test ran${skipped:+ ($skipped skipped)}"
  else
    echo "passed $passed${skipped:+, skipped $skipped}"
  fi
}

nvidia-smi -L | tee "$report/devices.txt"
row test result time
gpus="$(nvidia-smi -L | wc -l)"
for program in "${tests[@]}"; do
  name="$(basename "$program" _gpu_test)"
  case "$name" in
    comm | layout) # ranks: one, two that share a GPU (through host memory), one a GPU (NCCL)
      run "$name" 60 mpirun -np 1 "$program"
      # With several GPUs host memory is left to fp32: all of layout takes three minutes on two H200s.
      some='*'
      if [ "$gpus" -gt 1 ] && [ "$name" = layout ]; then some='*Fp32*'; fi
      run "$name-shared" 120 env CUDA_VISIBLE_DEVICES=0 mpirun --oversubscribe -np 2 "$program" \
        --gtest_filter="$some"
      if [ "$gpus" -gt 1 ]; then run "$name-ranks" 240 mpirun -np "$gpus" "$program"; fi
      ;;
    *) run "$name" 150 "$program" ;;
  esac
done

if [ "${TESSERA_GPU_SANITIZE:-0}" = 1 ]; then
  folder="$(dirname "${tests[0]}")"
  some='*ElementwiseGpu*:*SumGpu*:*NormsGpu*:*TableGpu*Rotary*:*TableGpu*AdamW*:*LayerNormGpu*'
  windows='WindowAttentionGpu.*Bf16Matches*:WindowAttentionGpu.RunsRepeat*'
  run memcheck 90 compute-sanitizer --tool memcheck --error-exitcode 9 "$folder/golden_gpu_test"
  run memcheck-kernels 150 compute-sanitizer --tool memcheck --error-exitcode 9 \
    "$folder/kernels_gpu_test" --gtest_filter="$some:$windows"
  # cuDNN's kernels order shared memory by barriers that racecheck does not follow.
  run racecheck 120 compute-sanitizer --tool racecheck --error-exitcode 9 \
    --kernel-name-exclude kernel_substring=cudnn_generated \
    "$folder/golden_gpu_test" --gtest_filter='*block_l4_p2:*vanilla_hd64'
  run racecheck-kernels 100 compute-sanitizer --tool racecheck --error-exitcode 9 \
    "$folder/kernels_gpu_test" \
    --gtest_filter='*SumGpu*:*NormsGpu*:*CopyRows*:*Rotary*:*LayerNormGpu*SameBits*'
fi

if [ "${TESSERA_GPU_BENCH:-1}" = 1 ]; then
  run bench-kernels 120 tessera bench kernels --json
  for config in configs/bench/*.yaml; do
    run "bench-$(basename "$config" .yaml)" 60 tessera bench train "$config" --steps 15 --json
  done
  for config in block_170m vanilla_160m; do
    run "generate-$config" 60 tessera bench generate "configs/bench/$config.yaml" --runs 1 --json
    tail -n 1 "$report/generate-$config.log" | cut -c -400
  done
  # One line an operation from the JSON; every number is in the log.
  echo "bench kernels: microseconds and fraction of the ceiling"
  sed -n 's/^{"operation":"\([^"]*\)","use":"\([^"]*\)","shape":"\([^"]*\)","microseconds":\([0-9]*\.*[0-9]\{0,1\}\).*"fraction":\([0-9]*\.*[0-9]\{0,2\}\).*/\1;\2;\3;\4;\5/p' \
    "$report/bench-kernels.log" |
    awk -F ';' '{printf "  %-28s %-24s %-22s %9.1f %5.2f\n", $1, $2, $3, $4, $5}' |
    tee "$report/bench-kernels.txt"
  for log in "$report"/bench-vanilla*.log "$report"/bench-block*.log; do
    [ ! -e "$log" ] || tail -n 1 "$log" | cut -c -400
  done
  if [ "$gpus" -gt 1 ]; then
    run bench-comm 60 mpirun -np "$gpus" tessera bench comm
    cat "$report/bench-comm.log"
    # Replicas at the batch of one GPU each; pipelines of 8 micro-batches; and what the plan said.
    ranks() { # NAME CONFIG OVERRIDE...
      local name="$1"
      shift
      run "bench-$name" 60 mpirun -np "$gpus" tessera bench train "$@" --steps 15 --json
      tessera plan "$@" --device cuda --ranks "$gpus" --json > "$report/plan-$name.txt"
      grep -h '"tokens_per_second"' "$report/bench-$name.log" | tail -n 1 | cut -c -600
      grep '"tokens_per_second"' "$report/plan-$name.txt"
    }
    for config in vanilla_160m:64 block_170m:32; do
      ranks "replicas-${config%:*}" "configs/bench/${config%:*}.yaml" \
        "train.global_batch=$((gpus * ${config#*:}))"
    done
    for config in vanilla_410m block_420m; do
      ranks "stages-$config" "configs/bench/$config.yaml" "parallel.pipeline=$gpus" \
        train.global_batch=64 train.micro_batch=8 parallel.schedule=eager_1f1b
    done
  fi
fi
echo "gpu: logs are in $report"
exit "$failed"
