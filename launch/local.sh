#!/usr/bin/env bash
# Runs a command under mpirun on this machine, with the environment of env.sh:
#   launch/local.sh 2 build/release/tessera train configs/quickstart/block.yaml
set -eu
case "${1:-}" in
  '' | -h | --help | *[!0-9]* | 0)
    echo "usage: launch/local.sh RANKS COMMAND [ARGUMENT...]" >&2
    case "${1:-}" in -h | --help) exit 0 ;; *) exit 64 ;; esac
    ;;
esac
if [ $# -lt 2 ]; then
  echo "launch/local.sh: a command is missing after the number of ranks" >&2
  exit 64
fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=launch/env.sh
. "$here/env.sh"
# mpirun hands standard error on through a pipe, so a rank cannot see that a terminal is at its end:
# 1 = draw the progress line all the same.
if [ -t 2 ]; then export TESSERA_PROGRESS="${TESSERA_PROGRESS:-1}"; fi
if ! command -v mpirun > /dev/null; then
  echo "launch/local.sh: mpirun is not installed: run launch/setup.sh" >&2
  exit 69
fi
ranks="$1"
shift
exec mpirun -np "$ranks" "$@"
