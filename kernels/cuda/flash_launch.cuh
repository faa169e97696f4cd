// The flash attention kernels' grid: one block a (window, head, tile of rows), and its launch.
//
// The triangle makes tiles unequal, and a sequence (window, head) is read again by each of its
// tiles. So sequences go in groups whose keys and values stay in the L2 cache together; in a group
// the heaviest tiles of all its sequences come first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "core/error.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/window_attention.h"

namespace tessera::kernels::cuda {

inline constexpr std::int64_t kGroupBytes = std::int64_t{16} << 20;

struct FlashGrid {
  int length = 0, heads = 0;
  int sequences = 0;  // windows * heads
  int tiles = 0;      // a sequence
  int group = 1;      // sequences
};

struct FlashWork {
  int window, head, tile;  // tile in the order of work
};

__device__ __forceinline__ FlashWork flash_work(const FlashGrid& grid, unsigned block) {
  const unsigned tiles = grid.tiles, a_group = grid.group * tiles;
  const unsigned first = block / a_group * grid.group;
  const unsigned width = min(static_cast<unsigned>(grid.group), grid.sequences - first);
  const unsigned inside = block % a_group;
  const unsigned sequence = first + inside % width;
  return {static_cast<int>(sequence / grid.heads), static_cast<int>(sequence % grid.heads),
          static_cast<int>(inside / width)};
}

// `rows` of a tile; `parts` blocks share a tile.
inline FlashGrid flash_grid(const WindowAttentionShape<bf16>& shape, int rows, int parts,
                            const char* operation) {
  const std::int64_t sequences = shape.windows * shape.heads;
  const std::int64_t tiles = (shape.length + rows - 1) / rows * parts;
  if (sequences * tiles > std::numeric_limits<int>::max() ||
      shape.length > std::numeric_limits<int>::max() - 1024)
    throw Error(Category::device, std::string(operation) + ": " + std::to_string(shape.windows) +
                                      " windows of " + std::to_string(shape.length) +
                                      " positions are more than one launch can take");
  FlashGrid grid;
  grid.length = static_cast<int>(shape.length);
  grid.heads = static_cast<int>(shape.heads);
  grid.sequences = static_cast<int>(sequences);
  grid.tiles = static_cast<int>(tiles);
  const std::int64_t fitting = kGroupBytes / (shape.length * shape.head_size * 4);
  grid.group = static_cast<int>(std::clamp<std::int64_t>(fitting, 1, sequences));
  return grid;
}

// Calls run(std::integral_constant<int, head size>) and says true, for the head sizes taken.
template <typename Run>
bool with_head_size(std::int64_t head_size, const Run& run) {
  switch (head_size) {
    case 16:
      return run(std::integral_constant<int, 16>()), true;
    case 32:
      return run(std::integral_constant<int, 32>()), true;
    case 48:
      return run(std::integral_constant<int, 48>()), true;
    case 64:
      return run(std::integral_constant<int, 64>()), true;
    case 80:
      return run(std::integral_constant<int, 80>()), true;
    case 96:
      return run(std::integral_constant<int, 96>()), true;
    case 128:
      return run(std::integral_constant<int, 128>()), true;
    case 256:
      return run(std::integral_constant<int, 256>()), true;
    default:
      return false;
  }
}

template <typename... P>
bool are_vectors(const P*... pointers) {
  return ((reinterpret_cast<std::uintptr_t>(pointers) | ...) % 16) == 0;
}

template <typename Args>
void launch_tiles(void (*kernel)(Args), const FlashGrid& grid, int threads, int shared_bytes,
                  cudaStream_t stream, const Args& args, const char* operation) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
  if (error != cudaSuccess)
    throw Error(Category::device, std::string(operation) + ": " + std::to_string(shared_bytes) +
                                      " bytes of shared memory: " + cudaGetErrorString(error));
  kernel<<<grid.sequences * grid.tiles, threads, shared_bytes, stream>>>(args);
  check_launch(operation);
}

}  // namespace tessera::kernels::cuda
