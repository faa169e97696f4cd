# shellcheck shell=bash
# Running a script's phases: one after the other, timed, each with a log, ending the script with one
# clear line and the phase's own exit code when one fails. Sourced by quickstart.sh and tests/run.sh.
#
# The script sets these two before its first phase.
phases_name="${phases_name:-}" # first word of every message
phases_logs="${phases_logs:-}" # folder of the logs

phases_labels=()
phases_milliseconds=()

say() { echo "$phases_name: $*"; }

milliseconds_now() {
  local now="${EPOCHREALTIME/[.,]/}"
  echo "${now%???}"
}

# in_seconds MILLISECONDS: "3.4 s", "2 min 05 s"
in_seconds() {
  if [ "$1" -lt 60000 ]; then
    echo "$(($1 / 1000)).$(($1 % 1000 / 100)) s"
  else
    printf '%d min %02d s\n' $(($1 / 60000)) $(($1 % 60000 / 1000))
  fi
}

# run_phase quiet|live LABEL COMMAND...: output goes to $phases_logs/LABEL.log, and to the screen too
# when `live`. Ends the script when the command fails. A label that comes again goes on in its log and its time.
run_phase() {
  local mode="$1" label="$2" status=0 start log
  shift 2
  mkdir -p "$phases_logs"
  log="$phases_logs/${label// /-}.log"
  case " ${phases_labels[*]} " in *" $label "*) ;; *) : > "$log" ;; esac
  start="$(milliseconds_now)"
  if [ "$mode" = live ]; then
    # tee outlives Ctrl-C, so that the command can still say how it ended.
    set -o pipefail
    "$@" < /dev/null 2>&1 | tee -i -a "$log" || status="${PIPESTATUS[0]}"
    sed -i 's/.*\r\x1b\[K//' "$log" # progress lines that were drawn over
  else
    [ ! -t 2 ] || show_last_line "$log" &
    local watcher=$!
    "$@" < /dev/null >> "$log" 2>&1 || status=$?
    kill "$watcher" 2> /dev/null || true
    wait "$watcher" 2> /dev/null || true
    [ ! -t 2 ] || printf '\r\033[K' >&2
  fi
  add_phase_time "$label" $(($(milliseconds_now) - start))
  if [ "$status" -ne 0 ]; then
    [ "$mode" = live ] || tail -n 30 "$log" >&2
    echo "$phases_name: $label failed with exit code $status; all it printed is in $log" >&2
    exit "$status"
  fi
}

# Keeps the last line of a growing log on the terminal, drawn over itself.
show_last_line() {
  local line
  while sleep 0.3 && kill -0 "$$" 2> /dev/null; do
    line="$(tail -n 1 "$1" | tr -d '\r\033')"
    printf '\r\033[K%s' "${line:0:$((${COLUMNS:-80} - 1))}" >&2
  done
}

add_phase_time() {
  local i
  for i in "${!phases_labels[@]}"; do
    if [ "${phases_labels[$i]}" = "$1" ]; then
      phases_milliseconds[i]=$((phases_milliseconds[i] + $2))
      return
    fi
  done
  phases_labels+=("$1")
  phases_milliseconds+=("$2")
}

# The phases so far in one line: "set-up 0.1 s, build 2 min 05 s".
phase_times() {
  local i line=''
  for i in "${!phases_labels[@]}"; do
    line+="${line:+, }${phases_labels[$i]} $(in_seconds "${phases_milliseconds[$i]}")"
  done
  echo "$line"
}

# The same as rows, with the sum.
phase_table() {
  local i sum=0
  for i in "${!phases_labels[@]}"; do
    printf '  %-14s %12s\n' "${phases_labels[$i]}" "$(in_seconds "${phases_milliseconds[$i]}")"
    sum=$((sum + phases_milliseconds[i]))
  done
  printf '  %-14s %12s\n' 'in all' "$(in_seconds "$sum")"
}
