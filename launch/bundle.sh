#!/usr/bin/env bash
# Packs programs built here, with the libraries they need, into one folder that runs on a GPU machine:
#   launch/bundle.sh OUT_DIR PROGRAM...
#   for instance: launch/bundle.sh bundle build/release/tessera build/release/tests/*_gpu_test
# There: source OUT_DIR/env.sh, then run the programs by name, or tests/gpu.sh OUT_DIR.
#
# The machine brings the driver, the CUDA libraries, cuDNN, NCCL, MPI, HDF5, BLAS and the C and C++
# libraries; what else the programs link to is copied beside them. Build for it with
#   -DTESSERA_ARCH=x86-64-v3 -DTESSERA_BLAS=CBLAS
# where its processor or BLAS differ from this machine's.
set -euo pipefail
fail() {
  echo "bundle: $2" >&2
  exit "$1"
}
case "${1:-}" in
  '' | -h | --help)
    sed -n '2,10s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
if [ $# -lt 2 ]; then fail 64 "no programs given: launch/bundle.sh OUT_DIR PROGRAM..."; fi
out="$1"
shift
if [ -e "$out" ] && ! [ -e "$out/env.sh" ] && [ -n "$(ls -A "$out" 2>&1)" ]; then
  fail 64 "$out is not empty and no earlier bundle: name another folder"
fi
for program in "$@"; do
  if ! { [ -x "$program" ] && [ -f "$program" ]; }; then fail 64 "$program is no program: build it first"; fi
done
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"

# Libraries that stay behind: of the system, CUDA, MPI, HDF5, compression and encryption, BLAS.
stays='^(ld-linux[-_a-z0-9]*|lib(c|m|pthread|rt|dl|resolv|gcc_s|stdc\+\+|gomp'
stays+='|cuda|cudart|cublas|cublasLt|cudnn[_a-z]*|nccl|nv[A-Za-z-]*|mpi|open-rte|open-pal'
stays+='|hdf5[_a-z]*|z|zstd|crypto|ssl|openblas|cblas|blas|lapack))\.so'

# copy_libraries FILE PATHS: what FILE itself needs, and what those copies need in turn. PATHS: ldd's
# lines for the program. Libraries that stay behind find their own needs there.
copy_libraries() {
  local name path
  for name in $(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    if [[ "$name" =~ $stays ]] || [ -e "$out/lib/$name" ]; then continue; fi
    path="$(awk -v name="$name" '$1 == name && $3 ~ /^\// {print $3; exit}' <<< "$2")"
    [ -n "$path" ] || fail 69 "$name, which $(basename "$1") needs, is not on this machine"
    cp -L "$path" "$out/lib/$name"
    copy_libraries "$path" "$2"
  done
}

for program in "$@"; do
  copied="$out/bin/$(basename "$program")"
  cp -L "$program" "$copied"
  strip "$copied"
  copy_libraries "$program" "$(ldd "$program")"
done

cat > "$out/env.sh" <<'S'
# Source me: finds the bundle's programs and libraries wherever the folder lies.
bundle_folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PATH="$bundle_folder/bin:$PATH"
export LD_LIBRARY_PATH="$bundle_folder/lib:/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
S
du -sh "$out"
