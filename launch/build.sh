# shellcheck shell=bash
# How the scripts configure and build. Sourced from the root of the repository.

# The CUDA compiler, where CMake will look for it; nothing when there is none.
nvcc_path() {
  local candidate
  for candidate in "${CUDACXX:-}" nvcc /usr/local/cuda/bin/nvcc; do
    if [ -n "$candidate" ] && command -v "$candidate"; then return; fi
  done
  return 0
}

# How many GPUs this machine shows.
gpu_count() {
  if command -v nvidia-smi > /dev/null; then
    nvidia-smi -L 2> /dev/null | grep -c '^GPU ' || true
  else
    echo 0
  fi
}

# The -D option that compiles CUDA kernels for one architecture: that of this machine's GPU, or Hopper
# where no GPU can be asked. Nothing for a GPU that has no build of its own.
cuda_architecture_option() {
  local capability=''
  if [ "$(gpu_count)" -gt 0 ]; then
    capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)"
  fi
  case "$capability" in
    8.*) echo -DTESSERA_CUDA_ARCHITECTURES=80-real ;;
    9.0 | '') echo -DTESSERA_CUDA_ARCHITECTURES=90a-real ;;
  esac
}

# configure PRESET [CMAKE_ARGUMENT...]: build/PRESET, made anew where another generator than Ninja or
# another place of the sources (a moved or copied checkout) made it.
configure() {
  local preset="$1" cache="build/$1/CMakeCache.txt" arguments=() nvcc architecture
  shift
  if [ -e "$cache" ] && ! { grep -qx 'CMAKE_GENERATOR:INTERNAL=Ninja' "$cache" &&
    grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$(pwd -P)" "$cache"; }; then
    arguments+=(--fresh)
  fi
  nvcc="$(nvcc_path)"
  if [ -n "$nvcc" ] && [ "$preset" = release ]; then
    export CUDACXX="$nvcc"
    architecture="$(cuda_architecture_option)"
    if [ -n "$architecture" ]; then arguments+=("$architecture"); fi
  fi
  cmake --preset "$preset" -G Ninja "${arguments[@]}" "$@"
}
