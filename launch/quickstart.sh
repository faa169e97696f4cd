#!/usr/bin/env bash
# From a fresh clone to a trained model, in minutes, on any Debian 12 or Ubuntu 24.04 machine:
# installs, builds, prepares the bundled text, trains under mpirun, stops half-way, resumes, evaluates,
# exports and generates. A second run reuses all that is there.
#
#   launch/quickstart.sh [--model block|vanilla] [--fresh] [--ranks N] [KEY=VALUE...]
#
#   --model   which model to train (block)
#   --fresh   forget the earlier run of this model and its prepared data
#   --ranks   processes to train with (2; on GPUs at most one each)
#   KEY=VALUE overrides configs/quickstart/MODEL.yaml, as in: train.steps=200
set -eu
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"
. launch/env.sh
. launch/phases.sh
. launch/build.sh
phases_name=quickstart
phases_logs="$root/build/quickstart"

usage() {
  echo "quickstart: $1; see launch/quickstart.sh --help" >&2
  exit 64
}

model=block fresh='' ranks='' overrides=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help)
      sed -n '2,11s/^# \{0,1\}//p' launch/quickstart.sh
      exit 0
      ;;
    --model | --ranks)
      [ $# -ge 2 ] || usage "$1 needs a value"
      if [ "$1" = --model ]; then model="$2"; else ranks="$2"; fi
      shift
      ;;
    --model=*) model="${1#*=}" ;;
    --ranks=*) ranks="${1#*=}" ;;
    --fresh) fresh=--fresh ;;
    train.stop_at=*) usage "train.stop_at is what the quick start sets itself" ;;
    data.*=*) usage "the quick start trains on its own data; use tessera train for other data" ;;
    -*) usage "unknown option '$1'" ;;
    *=*) overrides+=("$1") ;;
    *) usage "'$1' is neither an option nor KEY=VALUE" ;;
  esac
  shift
done
case "$model" in block | vanilla) ;; *) usage "--model must be block or vanilla, not '$model'" ;; esac
case "$ranks" in 0 | *[!0-9]*) usage "--ranks must be a number from 1, not '$ranks'" ;; esac

config="configs/quickstart/$model.yaml"
sample=data/sample
data=runs/data/quickstart
prompt='The history of the'
trap 'echo; echo "quickstart: interrupted; run it again (without --fresh) to go on from the last checkpoint" >&2; exit 130' INT

# --- Set up and build. Without a GPU nothing is compiled for one.
say "1/7 set up"
run_phase live set-up launch/setup.sh --without-tests
preset=release
gpus="$(gpu_count)"
if [ "$gpus" -eq 0 ] && [ -n "$(nvcc_path)" ] && [ ! -e build/release/tessera ]; then preset=cpu; fi
tessera="build/$preset/tessera"
say "2/7 build $tessera with $(nproc) processes (log: build/quickstart/build.log)"
configure_arguments=()
if [ ! -e "build/$preset/CMakeCache.txt" ]; then configure_arguments+=(-DTESSERA_TESTS=OFF); fi
run_phase quiet configure configure "$preset" "${configure_arguments[@]}"
run_phase quiet build cmake --build "build/$preset" --target tessera -j "$(nproc)"

# --- What the configuration says, every mistake in it reported before any work.
print_config() {
  "$tessera" train "$config" "${overrides[@]}" --print-config > "$phases_logs/config.yaml"
}
run_phase live configuration print_config
# setting SECTION KEY: one value of the resolved configuration.
setting() {
  awk -v section="$1:" -v key="$2:" '
    /^[^ #]/ { inside = ($1 == section) }
    inside && $1 == key { print $2; exit }' "$phases_logs/config.yaml" | tr -d "\"'"
}
run="$(setting run root)/$(setting run name)"
steps="$(setting train steps)"
case "${run#/}:$steps" in
  :* | *: | *:*[!0-9]*)
    echo "quickstart: $phases_logs/config.yaml lacks run.root, run.name or train.steps" >&2
    exit 70
    ;;
esac
half=$(((steps + 1) / 2))
if [ -z "$ranks" ]; then
  ranks=2
  if [ "$preset" = release ] && [ "$gpus" -eq 1 ] && [ -n "$(nvcc_path)" ] &&
    [ "$(awk '$1 == "device:" { print $2 }' "$phases_logs/config.yaml")" != cpu ]; then
    ranks=1
  fi
fi

# --- Data: made again when the text or the tokenizer changed.
say "3/7 prepare $sample -> $data"
inputs="$(sha256sum "$sample/train.jsonl.zst" "$sample/valid.jsonl.zst" "$sample/tokenizer.json")"
if [ -n "$fresh" ]; then rm -rf "$data" "$data.inputs"; fi
if [ "$(cat "$data.inputs" 2> /dev/null)" = "$inputs" ]; then
  say "$data is there already"
else
  rm -rf "$data" "$data.inputs"
  run_phase live prepare "$tessera" prepare "$sample/train.jsonl.zst" \
    --valid-input "$sample/valid.jsonl.zst" --tokenizer "$sample/tokenizer.json" --out "$data"
  echo "$inputs" > "$data.inputs"
fi

# --- Train: stop half-way, go on from the checkpoint.
# newest_step: the step of the newest complete checkpoint, 0 without one.
newest_step() {
  local manifest newest=0 step
  for manifest in "$run"/checkpoints/step-*/manifest.json; do
    step="${manifest%/manifest.json}"
    step="${step##*/step-}"
    case "$step" in '' | *[!0-9]*) continue ;; esac
    if [ $((10#$step)) -gt "$newest" ]; then newest=$((10#$step)); fi
  done
  echo "$newest"
}
train() {
  launch/local.sh "$ranks" "$tessera" train "$config" "${overrides[@]}" "$@"
}
# mpirun hides the terminal from the ranks; see launch/local.sh.
if [ -t 2 ]; then export TESSERA_PROGRESS=1; fi
done_steps=0
if [ -z "$fresh" ]; then done_steps="$(newest_step)"; fi
if [ "$done_steps" -ge "$steps" ]; then
  say "4/7 $run is trained already ($steps steps); --fresh starts over"
fi
if [ "$done_steps" -lt "$half" ]; then
  say "4/7 train $config on $ranks ranks: steps $((done_steps + 1)) to $half, then stop"
  if [ -n "$fresh" ]; then
    run_phase live training train train.stop_at="$half" --fresh
  else
    run_phase live training train train.stop_at="$half"
  fi
  say "stopped at step $half as asked; now the same command without train.stop_at goes on"
fi
if [ "$done_steps" -lt "$steps" ]; then
  say "4/7 resume $run: steps up to $steps"
fi
# A finished run only checks that the configuration is still that of the checkpoint.
run_phase live training train

# --- Evaluate, export, generate.
say "5/7 evaluate on $data/valid"
evaluate() { "$tessera" eval "$run" --json > "$phases_logs/eval.json"; }
run_phase live evaluation evaluate
say "6/7 export to $run/export"
run_phase live export "$tessera" export "$run" --out "$run/export" --force
say "7/7 generate 120 tokens after \"$prompt\""
echo
run_phase live generation "$tessera" generate "$run" --prompt "$prompt" --tokens 120 --temperature 0.8 --seed 1
echo

# --- Summary.
valid="$phases_logs/valid.txt"
zstd -dcq "$sample/valid.jsonl.zst" | python3 -c '
import json, sys
for line in sys.stdin.buffer:
    sys.stdout.buffer.write(json.loads(line)["text"].encode())' > "$valid"
bytes="$(wc -c < "$valid")"
# packed COMMAND...: bits per byte of the validation text under a compressor.
packed() { awk -v n="$("$@" < "$valid" | wc -c)" -v bytes="$bytes" 'BEGIN { printf "%.3f", 8 * n / bytes }'; }
result="$(python3 -c '
import json, sys
result = json.load(open(sys.argv[1]))
print("%.3f %.4f" % (result["bits_per_byte"], result["loss"]))' "$phases_logs/eval.json")"
read -r bits loss <<< "$result"

echo "Wall time"
phase_table
echo
echo "Bits per byte of the validation text ($bytes bytes; fewer is better)"
printf '  %-34s %7s\n' "this $model model, $steps steps" "$bits" 'xz -9' "$(packed xz -9 -c)" \
  'gzip -9' "$(packed gzip -9 -c)"
echo "  (loss $loss nats a token)"
echo
cat << EOF
Files
  run           $run
  checkpoints   $run/checkpoints
  metrics       $run/metrics.jsonl
  export        $run/export
  logs          build/quickstart

Next
  $tessera generate $run --prompt "Once upon a time"
  $tessera inspect $run
  launch/quickstart.sh --model $([ "$model" = block ] && echo vanilla || echo block)
  launch/quickstart.sh --fresh train.steps=$((steps * 2))
EOF
