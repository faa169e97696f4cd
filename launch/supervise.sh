#!/usr/bin/env bash
# Runs a training job and starts it again when that may help:
#   launch/supervise.sh --run RUN_FOLDER [OPTION...] [--] COMMAND [ARGUMENT...]
#   launch/supervise.sh --run runs/big -- launch/multinode.sh hosts tessera train big.yaml
#
#   --run FOLDER        the run folder of the job (run.root/run.name): its exit.json, its steps
#   --attempts N        give up after N attempts in a row without a step more (3)
#   --max-seconds S     ask the job to save and stop after S seconds in all; 0 = never (0)
#   --quiet-seconds S   end an attempt that has written nothing to FOLDER for S seconds (7200)
#   --grace S           how long a job that should leave may take before it is ended (20); for a
#                       save that was asked for, ten times that
#   --pause S           between two attempts (5)
#
# Exit code of the job      what happens
#   0, 17, 64, 65, others   it is this script's code
#   70, 74                  started again
#   75                      started again, unless RUN/stop or a signal to this script asked for it
#   1, 128 and above        mpirun's own words: the code in exit.json, 70 where there is none
#
# COMMAND is mpirun or a script that execs it (local.sh, multinode.sh). SIGTERM, SIGINT and SIGUSR1
# reach it as SIGUSR1: the step is finished, a checkpoint saved; a second SIGTERM or SIGINT ends it.
set -u

say() { echo "supervise: $*" >&2; }
usage() {
  echo "launch/supervise.sh: $1; see launch/supervise.sh --help" >&2
  exit 64
}

run='' attempts=3 max_seconds=0 quiet_seconds=7200 grace=20 pause=5
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help)
      sed -n '2,23s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --run | --attempts | --max-seconds | --quiet-seconds | --grace | --pause)
      [ $# -ge 2 ] || usage "$1 needs a value"
      if [ "$1" != --run ]; then
        case "$2" in '' | *[!0-9]*) usage "$1 must be a whole number, not '$2'" ;; esac
      fi
      case "$1" in
        --run) run="${2%/}" ;;
        --attempts) attempts="$2" ;;
        --max-seconds) max_seconds="$2" ;;
        --quiet-seconds) quiet_seconds="$2" ;;
        --grace) grace="$2" ;;
        --pause) pause="$2" ;;
      esac
      shift 2
      ;;
    --)
      shift
      break
      ;;
    -*) usage "unknown option '$1'" ;;
    *) break ;;
  esac
done
[ -n "$run" ] || usage "--run RUN_FOLDER is missing"
[ "$attempts" -ge 1 ] || usage "--attempts must be at least 1"
[ $# -ge 1 ] || usage "a command is missing"
command -v setsid > /dev/null || usage "setsid (util-linux) is not installed"

# --- What the run folder says.

# field NAME: a value of exit.json, without quotes; nothing where there is none.
field() {
  sed -n "/^\"$1\": /{s/^\"$1\": //;s/,\$//;s/^\"//;s/\"\$//;p;}" "$run/exit.json" 2> /dev/null
}

# The furthest step that this run has done or saved.
furthest() {
  local manifest
  {
    tail -n 100 "$run/metrics.jsonl" 2> /dev/null | sed -n 's/.*"step":\([0-9]\{1,\}\),.*/\1/p'
    for manifest in "$run"/checkpoints/step-*/manifest.json; do
      manifest="${manifest%/manifest.json}"
      echo "${manifest##*/step-}"
    done | sed -n 's/^0*\([0-9]\{1,\}\)$/\1/p'
  } | sort -n | tail -n 1
}

# Changes whenever the job writes.
traces() {
  stat -c '%Y %s' "$run/metrics.jsonl" "$run/log/rank-0.log" "$run/checkpoints" 2> /dev/null
}

# An input that never says anything: reading from it is a pause that signals end.
exec {nothing}<> <(:)
rest() { read -r -t "$1" -u "$nothing"; }

# --- Signals: the first asks the job to save and stop, a second one ends it.
asked='' asked_at=0 signals=0 job=''
ask() {
  if [ -z "$asked" ]; then
    say "$1: asking the job to save and stop"
    asked="$1" asked_at=$SECONDS
  fi
  if [ -n "$job" ]; then kill -USR1 "$job" 2> /dev/null; fi
}
# shellcheck disable=SC2317  # called by the traps
end_signal() {
  signals=$((signals + 1))
  if [ "$signals" -gt 1 ]; then
    say "$1 again: ending the job"
    end_job 2
    exit 75
  fi
  ask "$1"
}
trap 'end_signal SIGTERM' TERM
trap 'end_signal SIGINT' INT
trap 'ask SIGUSR1' USR1

# session: processes of the job on this host: mpirun, and ranks that it may have left behind.
session() {
  local file line
  for file in /proc/[0-9]*/stat; do
    { read -r line < "$file"; } 2> /dev/null || continue
    # After the name in brackets: state, parent, group, session.
    # shellcheck disable=SC2086
    set -- ${line##*) }
    if [ "$4" = "$job" ] && [ "$1" != Z ]; then
      file="${file%/stat}"
      echo "${file#/proc/}"
    fi
  done
}

# end_job SECONDS: SIGTERM to mpirun's process group, later SIGKILL to all that is left of the job.
end_job() {
  local until=$((SECONDS + $1)) left
  [ -n "$job" ] || return 0
  left="$(session)"
  if [ -z "$left" ]; then return 0; fi
  kill -TERM -- "-$job" 2> /dev/null
  while [ "$SECONDS" -lt "$until" ] && [ -n "$(session)" ]; do rest 0.2; done
  left="$(session)"
  # shellcheck disable=SC2086
  if [ -n "$left" ]; then kill -KILL $left 2> /dev/null; fi
}

# late SINCE SECONDS: whether that long has passed.
late() { [ $((SECONDS - $1)) -ge "$2" ]; }

# attempt COMMAND...: one start of the job; its code in $code.
code=0
attempt() {
  local was='' now quiet_since=$SECONDS looked=$SECONDS leaving_since=''
  rm -f "$run/exit.json"
  # A session of its own: its processes can be told from others, whatever groups mpirun makes.
  setsid "$@" < /dev/null {nothing}<&- &
  job=$!
  if [ -n "$asked" ]; then kill -USR1 "$job" 2> /dev/null; fi
  while kill -0 "$job" 2> /dev/null; do
    rest 0.2
    if [ "$max_seconds" -gt 0 ] && [ -z "$asked" ] && late 0 "$max_seconds"; then
      ask "$max_seconds s have passed"
    fi
    if late "$looked" 5; then
      looked=$SECONDS now="$(traces)"
      if [ "$now" != "$was" ]; then was="$now" quiet_since=$SECONDS; fi
    fi
    if [ -z "$leaving_since" ] && [ -e "$run/exit.json" ]; then leaving_since=$SECONDS; fi
    if [ -n "$leaving_since" ] && late "$leaving_since" "$grace"; then
      say "the job has written why it leaves, but mpirun is still there: ending it"
      end_job 5
    elif [ -n "$asked" ] && late "$asked_at" $((10 * grace)); then
      say "the job has not stopped within $((10 * grace)) s: ending it"
      end_job 5
    elif late "$quiet_since" "$quiet_seconds"; then
      say "nothing was written to $run for $quiet_seconds s: ending the job"
      end_job 5
    fi
  done
  wait "$job"
  code=$?
  end_job 2
  job=''
}

# --- Attempts.
mkdir -p "$run" || exit 74
number=0 fruitless=0 best="$(furthest)" causes=()
best="${best:--1}"
while [ -z "$asked" ]; do
  number=$((number + 1))
  attempt "$@"
  seen=$code
  reason="$(field reason)"
  if [ "$code" -eq 1 ] || [ "$code" -ge 128 ]; then
    code="$(field code)"
    code="${code:-70}"
  fi
  step="$(furthest)"
  step="${step:--1}"
  if [ "$step" -gt "$best" ]; then
    best="$step" fruitless=0
  else
    fruitless=$((fruitless + 1))
  fi
  cause="attempt $number: code $code$([ "$seen" -eq "$code" ] || echo " (mpirun: $seen)")"
  cause="$cause, step $([ "$best" -ge 0 ] && echo "$best" || echo none): ${reason:-no exit.json}"
  again=''
  case "$code" in
    70 | 74) again=1 ;;
    75) [ "$(field asked)" = file ] || again=1 ;;
  esac
  if [ "$code" -eq 0 ]; then exit 0; fi
  causes+=("$cause")
  say "$cause"
  if [ -n "$asked" ]; then again=''; fi
  if [ -n "$again" ] && [ -e "$run/stop" ]; then
    say "$run/stop asks for the end: not started again"
    rm -f "$run/stop"
    again=''
  fi
  [ -n "$again" ] || exit "$code"
  if [ "$fruitless" -ge "$attempts" ]; then
    say "giving up: $fruitless attempts in a row without a step more"
    for cause in "${causes[@]: -$attempts}"; do say "  $cause"; done
    exit "$code"
  fi
  until=$((SECONDS + pause))
  while [ "$SECONDS" -lt "$until" ] && [ -z "$asked" ]; do rest 0.5; done
  [ -n "$asked" ] || say "starting again"
done
exit "$([ "$number" -gt 0 ] && echo "$code" || echo 75)"
