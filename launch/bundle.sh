#!/usr/bin/env bash
# Packs programs built here, with the libraries they need, into one folder that runs on a GPU machine:
#   launch/bundle.sh OUT_DIR PROGRAM...
#   for instance: launch/bundle.sh bundle build/release/tessera build/release/tests/kernels_gpu_test
# There: source OUT_DIR/env.sh, then run the programs by name, or tests/gpu.sh OUT_DIR.
#
# The machine brings the driver, the CUDA libraries, cuDNN, NCCL, MPI, HDF5, BLAS and the C and C++
# libraries; what else the programs link to is copied beside them. Build for it with
#   -DTESSERA_ARCH=x86-64-v3 -DTESSERA_BLAS=CBLAS
# where its processor or BLAS differ from this machine's.
set -euo pipefail
case "${1:-}" in
  '' | -h | --help)
    sed -n '2,11s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
esac
if [ $# -lt 2 ]; then
  echo "bundle: no programs given: launch/bundle.sh OUT_DIR PROGRAM..." >&2
  exit 64
fi
out="$1"
shift
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"

# Libraries that stay behind, by what they belong to: system, CUDA, MPI, HDF5, compression and
# encryption, BLAS, and what those pull in.
stays='^(linux-vdso|ld-linux|libc|libm|libpthread|librt|libdl|libresolv|libgcc_s|libstdc\+\+|libgomp'
stays+='|libcu|libnv|libnccl|libmpi|libopen-|libpmix|libhwloc|libevent|libudev|libhdf5|libsz|libaec'
stays+='|libz|libzstd|libcrypto|libssl|libcurl|libopenblas|libgfortran|libquadmath|libblas|libcblas'
stays+='|liblapack|libnghttp2|libidn2|librtmp|libssh2|libpsl|libgssapi|libldap|liblber|libbrotli'
stays+='|libunistring|libgnutls|libhogweed|libnettle|libgmp|libkrb5|libk5crypto|libcom_err|libsasl2'
stays+='|libp11-kit|libtasn1|libkeyutils|libffi)[-_.+[:alnum:]]*\.so'
for program in "$@"; do
  cp -L "$program" "$out/bin/"
  strip "$out/bin/$(basename "$program")"
  ldd "$program" | awk '$3 ~ /^\// {print $3}' | while read -r library; do
    name="$(basename "$library")"
    if ! [[ "$name" =~ $stays ]]; then cp -Lu "$library" "$out/lib/$name"; fi
  done
done

cat > "$out/env.sh" <<'S'
# Source me: finds the bundle's programs and libraries wherever the folder lies.
bundle_folder="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export PATH="$bundle_folder/bin:$PATH"
export LD_LIBRARY_PATH="$bundle_folder/lib:/usr/local/cuda/lib64${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
S
du -sh "$out"
