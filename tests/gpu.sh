#!/usr/bin/env bash
# Every GPU test and the benchmarks in one go, within 8 minutes, on a machine with a GPU:
#   tests/gpu.sh [BUNDLE_DIR]     programs of launch/bundle.sh, else those of build/release
# Logs go to $TESSERA_GPU_REPORT (build/gpu-report). TESSERA_GPU_SANITIZE=1 also runs
# compute-sanitizer (memcheck, racecheck) over small configurations; TESSERA_GPU_BENCH=0 leaves the
# benchmarks out. Exits with 1 when a test failed.
set -u
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root" || exit 1
case "${1:-}" in
  -h | --help)
    sed -n '2,6s/^# \{0,1\}//p' tests/gpu.sh
    exit 0
    ;;
esac
if [ -n "${1:-}" ]; then
  # shellcheck disable=SC1091
  . "$1/env.sh"
else
  PATH="$root/build/release:$root/build/release/tests:$PATH"
fi
if ! nvidia-smi -L > /dev/null 2>&1; then
  echo "gpu: this machine shows no GPU (nvidia-smi -L)" >&2
  exit 1
fi
report="${TESSERA_GPU_REPORT:-$root/build/gpu-report}"
mkdir -p "$report"
export TESSERA_GOLDEN_DIR="${TESSERA_GOLDEN_DIR:-$root/tests/golden}" TESSERA_PROGRESS=0
failed=0

# run NAME SECONDS COMMAND...: its output goes to NAME.log, a line to the summary.
run() {
  local name="$1" limit="$2" status=0 start=$SECONDS
  shift 2
  timeout "$limit" "$@" > "$report/$name.log" 2>&1 || status=$?
  if [ "$status" = 0 ]; then
    echo "gpu: $name passed in $((SECONDS - start)) s"
  else
    echo "gpu: $name FAILED with $status after $((SECONDS - start)) s:"
    grep -E 'Failure|FAILED|ERROR|Error' "$report/$name.log" | head -12 || tail -5 "$report/$name.log"
    failed=1
  fi
}

nvidia-smi -L | tee "$report/devices.txt"
run kernels 150 kernels_gpu_test
run golden 60 golden_gpu_test
run engine 120 engine_gpu_test
gpus="$(nvidia-smi -L | wc -l)"
run comm 60 mpirun -np 1 comm_gpu_test
run comm-shared 60 env CUDA_VISIBLE_DEVICES=0 mpirun --oversubscribe -np 2 comm_gpu_test
if [ "$gpus" -gt 1 ]; then run comm-ranks 90 mpirun -np "$gpus" comm_gpu_test; fi

if [ "${TESSERA_GPU_SANITIZE:-0}" = 1 ]; then
  some='*ElementwiseGpu*:*SumGpu*:*NormsGpu*:*TableGpu*Rotary*:*TableGpu*AdamW*:*LayerNormGpu*'
  windows='WindowAttentionGpu.*Bf16Matches*:WindowAttentionGpu.RunsRepeat*'
  run memcheck 90 compute-sanitizer --tool memcheck --error-exitcode 9 golden_gpu_test
  run memcheck-kernels 150 compute-sanitizer --tool memcheck --error-exitcode 9 \
    kernels_gpu_test --gtest_filter="$some:$windows"
  # cuDNN's kernels order shared memory by barriers that racecheck does not follow.
  run racecheck 120 compute-sanitizer --tool racecheck --error-exitcode 9 \
    --kernel-name-exclude kernel_substring=cudnn_generated golden_gpu_test --gtest_filter='*block_l4_p2:*vanilla_hd64'
  run racecheck-kernels 100 compute-sanitizer --tool racecheck --error-exitcode 9 \
    kernels_gpu_test --gtest_filter='*SumGpu*:*NormsGpu*:*CopyRows*:*Rotary*:*LayerNormGpu*SameBits*'
fi

if [ "${TESSERA_GPU_BENCH:-1}" = 1 ]; then
  run bench-kernels 120 tessera bench kernels
  cat "$report/bench-kernels.log"
  for config in configs/bench/*.yaml; do
    name="bench-$(basename "$config" .yaml)"
    run "$name" 60 tessera bench train "$config" --steps 15 --json
    tail -n 1 "$report/$name.log"
  done
  if [ "$gpus" -gt 1 ]; then
    run bench-comm 60 mpirun -np "$gpus" tessera bench comm
    cat "$report/bench-comm.log"
  fi
fi
exit "$failed"
