#!/usr/bin/env bash
# ctest's fuzz_search: how the search that tests/run.sh made before the tests ended (TESSERA_FUZZ_SECONDS). Skipped (77)
# where none was made.
set -eu
if [ -z "${TESSERA_FUZZ_STATUS:-}" ]; then
  echo "fuzz: not searched, TESSERA_FUZZ_SECONDS was not set for tests/run.sh"
  exit 77
fi
cat "${TESSERA_FUZZ_LOG:?}"
exit "$TESSERA_FUZZ_STATUS"
