#!/usr/bin/env bash
# Runs a command under mpirun on the machines of a host file, with the environment of env.sh on all of
# them:
#   launch/multinode.sh hosts build/release/tessera train CONFIG.yaml run.root=/shared/runs
#
#   launch/multinode.sh [OPTION...] HOSTFILE COMMAND [ARGUMENT...]
#   --ranks N        processes in all (the slots of the host file together)
#   --network CIDR   the network between the machines, as in 10.0.0.0/24 (mpirun chooses)
#   --agent PROGRAM  what starts mpirun's daemon on another machine (ssh)
#   --dry-run        print the command and leave
#
# HOSTFILE has a line a machine: NAME slots=RANKS (one a GPU). The folder this is called from, the
# program and the run folder must be there under the same path on every machine.
set -eu
usage() {
  echo "launch/multinode.sh: $1; see launch/multinode.sh --help" >&2
  exit 64
}
ranks='' agent='' network='' dry_run=''
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help)
      sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
      exit 0
      ;;
    --ranks | --network | --agent)
      [ $# -ge 2 ] || usage "$1 needs a value"
      case "$1" in
        --ranks) ranks="$2" ;;
        --network) network="$2" ;;
        --agent) agent="$2" ;;
      esac
      shift 2
      ;;
    --dry-run)
      dry_run=1
      shift
      ;;
    -*) usage "unknown option '$1'" ;;
    *) break ;;
  esac
done
[ $# -ge 1 ] || usage "a host file is missing"
[ $# -ge 2 ] || usage "a command is missing after the host file"
hosts="$1"
shift
[ -r "$hosts" ] || usage "the host file $hosts cannot be read"

# The slots of all lines together; a line without a number has one.
slots="$(awk '
  { sub(/#.*/, "") }
  NF > 0 {
    n = 1
    for (i = 2; i <= NF; ++i) {
      if ($i ~ /^slots=[0-9]+$/) n = substr($i, 7)
      else if ($i !~ /^max[-_]slots=[0-9]+$/) { print "line " NR ": " $i; exit }
    }
    all += n
  }
  END { print all + 0 }' "$hosts")"
case "$slots" in
  line*) usage "$hosts, ${slots%%$'\n'*}: expected NAME slots=RANKS, without blanks around =" ;;
  0) usage "$hosts names no machine" ;;
esac
ranks="${ranks:-$slots}"
case "$ranks" in 0 | *[!0-9]*) usage "--ranks must be a number from 1, not '$ranks'" ;; esac

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/env.sh
. "$here/env.sh"
if [ -t 2 ]; then export TESSERA_PROGRESS="${TESSERA_PROGRESS:-1}"; fi
if ! command -v mpirun > /dev/null; then
  echo "launch/multinode.sh: mpirun is not installed: run launch/setup.sh" >&2
  exit 69
fi

words=(mpirun -np "$ranks" --hostfile "$hosts")
if [ -n "$agent" ]; then words+=(--mca plm_rsh_agent "$agent"); fi
if [ -n "$network" ]; then
  words+=(--mca btl_tcp_if_include "$network" --mca oob_tcp_if_include "$network")
fi
# Exactly what env.sh sets or names; mpirun reads its own settings itself and hands them on.
# shellcheck disable=SC2154
for name in $(sed -n 's/^ *export \([A-Za-z0-9_]*\)=.*/\1/p' "$here/env.sh") $tessera_handed_on; do
  case "$name" in OMPI_* | PRTE_*) continue ;; esac
  if [ -n "${!name+set}" ]; then words+=(-x "$name"); fi
done
if [ -n "$dry_run" ]; then
  printf '%q ' "${words[@]}" "$@"
  echo
  exit 0
fi
exec "${words[@]}" "$@"
