// Token look-up and its backward.
//
// Backward, in a fixed order and without atomics: (id, row) pairs are sorted by id (stable), and
// each block takes kChunk sorted positions. A run of equal ids that lies inside its chunk is summed
// and added to the table at once; the parts of runs that cross chunk borders go to the workspace
// (at most a head and a tail a chunk), and the chunk in which such a run starts adds them up in
// order.
#include <algorithm>

#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/embedding.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kChunk = 32;

struct Place {
  std::int64_t id, out;
};
__device__ __forceinline__ Place place(const EmbeddingShape& s, std::int64_t i) {
  const std::int64_t group = i / s.rows, r = i % s.rows;
  const std::int64_t b = group / s.groups, g = group % s.groups;
  return {b * s.ids_batch_stride + g * s.ids_group_stride + r,
          b * s.out_batch_stride + g * s.out_group_stride + r * s.stride};
}

template <typename T, int lanes>
__global__ void look_up(const EmbeddingForward<T> a, std::int64_t total) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  const std::int64_t parts = a.shape.width / lanes;
#pragma unroll 2
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < total;
       i += step) {
    const Place at = place(a.shape, i / parts);
    const std::int64_t c = i % parts * lanes;
    const T* from = a.table + a.ids[at.id] * a.shape.width + c;
    T* to = a.out + at.out + c;
    if constexpr (lanes == 1)
      *to = *from;
    else
      *reinterpret_cast<uint4*>(to) = load_raw(from);
  }
}

// Rows [first, first + count) as pairs to sort.
__global__ void list_rows(const EmbeddingShape s, const std::int32_t* __restrict__ ids,
                          std::int64_t first, int count, std::uint32_t* __restrict__ keys,
                          std::int32_t* __restrict__ rows) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  keys[i] = static_cast<std::uint32_t>(ids[place(s, first + i).id]);
  rows[i] = i;
}

struct Sorted {
  const std::uint32_t* keys;
  const std::int32_t* rows;
  std::int64_t first;  // row that number 0 stands for
  int count;
  float* borders;  // [chunks, 2, width]: head and tail parts
};

template <typename T, int lanes>
__global__ void sum_chunks(const EmbeddingBackward<T> a, const Sorted sorted) {
  __shared__ std::uint32_t keys[kChunk];
  __shared__ std::int64_t places[kChunk];
  const int begin = static_cast<int>(blockIdx.x) * kChunk;
  const int length = min(kChunk, sorted.count - begin);
  for (int i = static_cast<int>(threadIdx.x); i < length; i += static_cast<int>(blockDim.x)) {
    keys[i] = sorted.keys[begin + i];
    places[i] = place(a.shape, sorted.first + sorted.rows[begin + i]).out;
  }
  __syncthreads();
  const std::int64_t width = a.shape.width;
  const bool from_before = begin > 0 && sorted.keys[begin - 1] == keys[0];
  const bool goes_on =
      begin + length < sorted.count && sorted.keys[begin + length] == keys[length - 1];
  float* head = sorted.borders + static_cast<std::int64_t>(blockIdx.x) * 2 * width;
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * lanes; c < width;
       c += static_cast<std::int64_t>(blockDim.x) * lanes) {
    float sum[lanes] = {};
    int start = 0;
#pragma unroll 8
    for (int i = 0; i < length; ++i) {
      if constexpr (lanes == 1) {
        sum[0] += to_float(a.dout[places[i] + c]);
      } else {
        float x[lanes];
        load(a.dout + places[i] + c, x);
#pragma unroll
        for (int e = 0; e < lanes; ++e) sum[e] += x[e];
      }
      if (i + 1 < length && keys[i + 1] == keys[i]) continue;
      // The run [start, i] ends here.
      const bool opened = start == 0 && from_before, open = i + 1 == length && goes_on;
      float* to = opened ? head + c : open ? head + width + c : a.dtable + keys[i] * width + c;
      const bool add = !opened && !open;
#pragma unroll
      for (int e = 0; e < lanes; ++e) {
        to[e] = add ? to[e] + sum[e] : sum[e];
        sum[e] = 0.0f;
      }
      start = i + 1;
    }
  }
}

// For each chunk whose last run starts in it and goes on: its tail and the heads that follow.
__global__ void join_borders(const Sorted sorted, std::int64_t width, float* __restrict__ dtable) {
  const int chunks = (sorted.count + kChunk - 1) / kChunk;
  const int chunk = static_cast<int>(blockIdx.x), begin = chunk * kChunk;
  const int end = min(begin + kChunk, sorted.count);
  if (end >= sorted.count) return;
  const std::uint32_t key = sorted.keys[end - 1];
  if (sorted.keys[end] != key) return;                     // does not go on
  if (begin > 0 && sorted.keys[begin - 1] == key) return;  // started before
  int last = chunk + 1;  // the last chunk that holds the key; keys ascend
  for (int low = chunk + 1, high = chunks - 1; low <= high;) {
    const int middle = (low + high) / 2;
    if (sorted.keys[middle * kChunk] == key) {
      last = middle;
      low = middle + 1;
    } else {
      high = middle - 1;
    }
  }
  for (std::int64_t c = threadIdx.x; c < width; c += blockDim.x) {
    float sum = sorted.borders[(static_cast<std::int64_t>(chunk) * 2 + 1) * width + c];
#pragma unroll 8
    for (int i = chunk + 1; i <= last; ++i)
      sum += sorted.borders[static_cast<std::int64_t>(i) * 2 * width + c];
    dtable[key * width + c] += sum;
  }
}

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

std::size_t sort_bytes(int count, int bits) {
  std::size_t bytes = 0;
  cub::DeviceRadixSort::SortPairs(nullptr, bytes, static_cast<const std::uint32_t*>(nullptr),
                                  static_cast<std::uint32_t*>(nullptr),
                                  static_cast<const std::int32_t*>(nullptr),
                                  static_cast<std::int32_t*>(nullptr), count, 0, bits);
  return bytes;
}

}  // namespace

template <typename T>
void embedding_forward(const Queue& queue, const EmbeddingForward<T>& a) {
  const EmbeddingShape& s = a.shape;
  const std::int64_t elements = s.batches * s.groups * s.rows * s.width;
  if (elements <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  const std::int64_t sizes = s.width | s.stride | (s.groups > 1 ? s.out_group_stride : 0) |
                             (s.batches > 1 ? s.out_batch_stride : 0);
  if (sizes % kLanes<T> == 0 && vector_aligned(a.table, a.out))
    look_up<T, kLanes<T>>
        <<<grid_blocks(elements / kLanes<T>), kBlockThreads, 0, stream>>>(a, elements / kLanes<T>);
  else
    look_up<T, 1><<<grid_blocks(elements), kBlockThreads, 0, stream>>>(a, elements);
  check_launch("embedding_forward");
}

template <typename T>
void embedding_backward(const Queue& queue, const EmbeddingBackward<T>& a) {
  const EmbeddingShape& s = a.shape;
  const std::int64_t total = s.batches * s.groups * s.rows;
  if (total <= 0 || s.width <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  int bits = 1;
  while (bits < 31 && (std::int64_t{1} << bits) < s.vocab) ++bits;

  // Rows a pass: four arrays, the sort's own memory and the border sums fit the workspace.
  const auto needed = [&](std::int64_t rows) {
    const std::int64_t chunks = (rows + kChunk - 1) / kChunk;
    return 4 * aligned(4 * rows) +
           aligned(static_cast<std::int64_t>(sort_bytes(static_cast<int>(rows), bits))) +
           chunks * 2 * s.width * static_cast<std::int64_t>(sizeof(float));
  };
  std::int64_t pass = std::min<std::int64_t>(total, 1 << 20);
  while (pass > kChunk && needed(pass) > queue.workspace_bytes) pass = (pass + 1) / 2;
  TESSERA_CHECK(needed(pass) <= queue.workspace_bytes);

  const std::int64_t sizes = s.width | s.stride | (s.groups > 1 ? s.out_group_stride : 0) |
                             (s.batches > 1 ? s.out_batch_stride : 0);
  const bool vectors = sizes % kLanes<T> == 0 && vector_aligned(a.dout);
  for (std::int64_t first = 0; first < total; first += pass) {
    const int count = static_cast<int>(std::min(pass, total - first));
    std::byte* at = queue.workspace;
    const auto take = [&](std::int64_t bytes) {
      std::byte* here = at;
      at += aligned(bytes);
      return here;
    };
    auto* keys = reinterpret_cast<std::uint32_t*>(take(4 * count));
    auto* sorted_keys = reinterpret_cast<std::uint32_t*>(take(4 * count));
    auto* rows = reinterpret_cast<std::int32_t*>(take(4 * count));
    auto* sorted_rows = reinterpret_cast<std::int32_t*>(take(4 * count));
    std::size_t bytes = sort_bytes(count, bits);
    std::byte* sorting = take(static_cast<std::int64_t>(bytes));
    list_rows<<<static_cast<unsigned>((count + kBlockThreads - 1) / kBlockThreads), kBlockThreads,
                0, stream>>>(s, a.ids, first, count, keys, rows);
    check_launch("embedding_backward, rows");
    if (const cudaError_t error = cub::DeviceRadixSort::SortPairs(
            sorting, bytes, keys, sorted_keys, rows, sorted_rows, count, 0, bits, stream);
        error != cudaSuccess)
      throw Error(Category::device,
                  std::string("embedding_backward: sorting ids: ") + cudaGetErrorString(error));
    const Sorted sorted{sorted_keys, sorted_rows, first, count, reinterpret_cast<float*>(at)};
    const auto chunks = static_cast<unsigned>((count + kChunk - 1) / kChunk);
    const auto threads = [&](int lanes) {
      const std::int64_t wanted = (s.width + lanes - 1) / lanes;
      return static_cast<unsigned>(std::min<std::int64_t>(256, (wanted + 31) / 32 * 32));
    };
    if (vectors)
      sum_chunks<T, kLanes<T>><<<chunks, threads(kLanes<T>), 0, stream>>>(a, sorted);
    else
      sum_chunks<T, 1><<<chunks, threads(1), 0, stream>>>(a, sorted);
    check_launch("embedding_backward, sums");
    join_borders<<<chunks, threads(1), 0, stream>>>(sorted, s.width, a.dtable);
    check_launch("embedding_backward, borders");
  }
}

template void embedding_forward(const Queue&, const EmbeddingForward<float>&);
template void embedding_forward(const Queue&, const EmbeddingForward<bf16>&);
template void embedding_backward(const Queue&, const EmbeddingBackward<float>&);
template void embedding_backward(const Queue&, const EmbeddingBackward<bf16>&);

}  // namespace tessera::kernels::cuda
