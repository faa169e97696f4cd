// Token look-up and its backward.
//
// Backward, in a fixed order and without atomics: (id, row) pairs are sorted by id (stable), and
// kChunk sorted positions make a chunk. A run of equal ids that lies inside its chunk is summed and
// added to the table at once; the parts of runs that cross chunk borders go to the workspace (at
// most a head and a tail a chunk), and the chunk in which such a run starts adds them up in order.
// Fast because the loads of kBatch rows, and of the table rows they end at, are in flight together,
// and because long runs (frequent ids) first have every kFold heads summed side by side.
#include <algorithm>
#include <type_traits>

#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/embedding.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kChunk = 32;       // sorted positions
constexpr int kBlockChunks = 8;  // at most, in a block (narrow tables)
constexpr int kBatch = 4;        // rows in flight together
constexpr int kFold = 32;        // chunks whose heads are summed beforehand

struct Place {
  std::int64_t id, out;
};
__device__ __forceinline__ Place place(const EmbeddingShape& s, std::int64_t i) {
  if (s.batches == 1 && s.groups == 1) return {i, i * s.stride};  // spares the divisions
  const std::int64_t group = i / s.rows, r = i % s.rows;
  const std::int64_t b = group / s.groups, g = group % s.groups;
  return {b * s.ids_batch_stride + g * s.ids_group_stride + r,
          b * s.out_batch_stride + g * s.out_group_stride + r * s.stride};
}

// Threads of a block lie along a row (x) and over rows or chunks (y): at most `rows` of them.
dim3 block_shape(std::int64_t width, int lanes, std::int64_t threads, std::int64_t rows) {
  const auto x = std::min<std::int64_t>(kBlockThreads, width / lanes);
  const auto y = std::clamp<std::int64_t>(threads / x, 1, rows);
  return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y));
}

// Sixteen bytes, or one element, of kBatch rows a thread.
template <typename T, int lanes>
__global__ void __launch_bounds__(kBlockThreads)
    look_up(const EmbeddingForward<T> a, std::int64_t rows) {
  using V = std::conditional_t<lanes == 1, T, uint4>;
  const std::int64_t first =
      static_cast<std::int64_t>(blockIdx.x) * (kBatch * blockDim.y) + threadIdx.y;
  const T* from[kBatch];
  T* to[kBatch];
#pragma unroll
  for (int k = 0; k < kBatch; ++k) {
    const std::int64_t row = first + static_cast<std::int64_t>(k) * blockDim.y;
    from[k] = nullptr;
    if (row >= rows) continue;
    const Place at = place(a.shape, row);
    from[k] = a.table + a.ids[at.id] * a.shape.width;
    to[k] = a.out + at.out;
  }
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * lanes; c < a.shape.width;
       c += static_cast<std::int64_t>(blockDim.x) * lanes) {
    V x[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (from[k]) x[k] = *reinterpret_cast<const V*>(from[k] + c);
#pragma unroll
    for (int k = 0; k < kBatch; ++k)
      if (from[k]) *reinterpret_cast<V*>(to[k] + c) = x[k];
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

// Four columns or one.
template <int lanes>
__device__ __forceinline__ void read(const float* from, float (&x)[lanes]) {
  if constexpr (lanes == 1) {
    x[0] = *from;
  } else {
    const float4 v = *reinterpret_cast<const float4*>(from);
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
  }
}
template <int lanes>
__device__ __forceinline__ void read(const bf16* from, float (&x)[lanes]) {
  if constexpr (lanes == 1) {
    x[0] = to_float(*from);
  } else {
    const uint2 v = *reinterpret_cast<const uint2*>(from);
    x[0] = __uint_as_float(v.x << 16), x[1] = __uint_as_float(v.x & 0xffff0000u);
    x[2] = __uint_as_float(v.y << 16), x[3] = __uint_as_float(v.y & 0xffff0000u);
  }
}
template <int lanes>
__device__ __forceinline__ void write(float* to, const float (&x)[lanes]) {
  if constexpr (lanes == 1)
    *to = x[0];
  else
    *reinterpret_cast<float4*>(to) = make_float4(x[0], x[1], x[2], x[3]);
}
template <int lanes>
__device__ __forceinline__ void add(float (&sum)[lanes], const float (&x)[lanes]) {
#pragma unroll
  for (int e = 0; e < lanes; ++e) sum[e] += x[e];
}

template <typename T, int lanes>
__global__ void __launch_bounds__(kBlockThreads)
    sum_chunks(const EmbeddingBackward<T> a, const Sorted sorted) {
  // Of each position: its row, and where the run that ends there goes (null: it does not end).
  __shared__ const T* from[kBlockChunks][kChunk];
  __shared__ float* to[kBlockChunks][kChunk];
  __shared__ bool whole[kBlockChunks][kChunk];  // the run lies inside the chunk: add to the table
  const int y = static_cast<int>(threadIdx.y);
  const int chunk = static_cast<int>(blockIdx.x * blockDim.y) + y, begin = chunk * kChunk;
  const std::int64_t width = a.shape.width;
  for (int i = static_cast<int>(threadIdx.x); i < kChunk; i += static_cast<int>(blockDim.x)) {
    const int at = begin + i;
    from[y][i] = nullptr, to[y][i] = nullptr, whole[y][i] = false;
    if (at >= sorted.count) continue;
    const std::uint32_t key = sorted.keys[at];
    const bool again = at + 1 < sorted.count && sorted.keys[at + 1] == key;
    const bool opened = begin > 0 && sorted.keys[begin - 1] == key;  // keys ascend
    from[y][i] = a.dout + place(a.shape, sorted.first + sorted.rows[at]).out;
    if (again && i + 1 < kChunk) continue;
    float* head = sorted.borders + static_cast<std::int64_t>(chunk) * 2 * width;
    to[y][i] = opened ? head : again ? head + width : a.dtable + key * width;
    whole[y][i] = !opened && !again;
  }
  __syncthreads();
  const int length = min(kChunk, sorted.count - begin);
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * lanes; c < width;
       c += static_cast<std::int64_t>(blockDim.x) * lanes) {
    float sum[lanes] = {};
    for (int i = 0; i < length; i += kBatch) {
      float x[kBatch][lanes], old[kBatch][lanes];
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
        if (const T* row = from[y][i + k]) read(row + c, x[k]);
        if (whole[y][i + k]) read(to[y][i + k] + c, old[k]);
      }
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
        if (!from[y][i + k]) continue;
        add(sum, x[k]);
        float* end = to[y][i + k];
        if (!end) continue;
        if (whole[y][i + k]) add(sum, old[k]);
        write(end + c, sum);
#pragma unroll
        for (int e = 0; e < lanes; ++e) sum[e] = 0.0f;
      }
    }
  }
}

// Where all kFold chunks of a window go on with a run from before it, the first head becomes the
// sum of all.
template <int lanes>
__global__ void fold_heads(const Sorted sorted, std::int64_t width) {
  const int first = static_cast<int>(blockIdx.x) * kFold, last = first + kFold - 1;
  if (first == 0) return;
  const std::uint32_t key = sorted.keys[first * kChunk];
  if (sorted.keys[first * kChunk - 1] != key || sorted.keys[last * kChunk] != key) return;
  const std::int64_t c = (static_cast<std::int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * lanes;
  if (c >= width) return;
  float* heads = sorted.borders + static_cast<std::int64_t>(first) * 2 * width + c;
  float sum[lanes] = {};
#pragma unroll 16
  for (int i = 0; i < kFold; ++i) {
    float x[lanes];
    read(heads + i * 2 * width, x);
    add(sum, x);
  }
  write(heads, sum);
}

// For each chunk but the last: if its last run starts in it and goes on, its tail and the heads
// that follow are added to the table.
template <int lanes>
__global__ void join_borders(const Sorted sorted, std::int64_t width, float* dtable) {
  const int chunks = (sorted.count + kChunk - 1) / kChunk;
  const int chunk = static_cast<int>(blockIdx.x), begin = chunk * kChunk, end = begin + kChunk;
  const std::uint32_t key = sorted.keys[end - 1];
  if (sorted.keys[end] != key) return;                     // does not go on
  if (begin > 0 && sorted.keys[begin - 1] == key) return;  // started before
  const auto holds = [&](int i) { return i < chunks && sorted.keys[i * kChunk] == key; };
  int last = chunk + 1, step = 1;  // the last chunk that starts with the key; keys ascend
  for (; holds(last + step); step *= 2) last += step;
  for (step /= 2; step > 0; step /= 2)
    if (holds(last + step)) last += step;
  // Whole windows lie in [folded, rest).
  const int folded = min((chunk + kFold) / kFold * kFold, last + 1);
  const int rest = max((last + 1) / kFold * kFold, folded);
  for (std::int64_t c = static_cast<std::int64_t>(threadIdx.x) * lanes; c < width;
       c += static_cast<std::int64_t>(blockDim.x) * lanes) {
    const auto part = [&](int i) {
      return sorted.borders + static_cast<std::int64_t>(i) * 2 * width + c;
    };
    float sum[lanes], old[lanes];
    read(dtable + key * width + c, old);
    read(part(chunk) + width, sum);
    const auto add_heads = [&](int i, int stop, int stride) {
#pragma unroll 8
      for (; i < stop; i += stride) {
        float x[lanes];
        read(part(i), x);
        add(sum, x);
      }
    };
    add_heads(chunk + 1, folded, 1);
    add_heads(folded, rest, kFold);
    add_heads(rest, last + 1, 1);
    add(sum, old);
    write(dtable + key * width + c, sum);
  }
}

std::int64_t aligned(std::int64_t bytes) {
  return (bytes + 255) / 256 * 256;
}

// What vectors have to divide.
std::int64_t strides(const EmbeddingShape& s) {
  return s.width | s.stride | (s.groups > 1 ? s.out_group_stride : 0) |
         (s.batches > 1 ? s.out_batch_stride : 0);
}

template <typename T, int lanes>
void add_runs(const EmbeddingBackward<T>& a, const Sorted& sorted, cudaStream_t stream) {
  const std::int64_t width = a.shape.width;
  const auto chunks = static_cast<unsigned>((sorted.count + kChunk - 1) / kChunk);
  const dim3 block = block_shape(width, lanes, kBlockThreads / 2, kBlockChunks);
  sum_chunks<T, lanes><<<(chunks + block.y - 1) / block.y, block, 0, stream>>>(a, sorted);
  check_launch("embedding_backward, sums");
  constexpr std::int64_t kFoldThreads = 64;
  if (const unsigned windows = chunks / kFold; windows > 1) {
    const auto columns = (width / lanes + kFoldThreads - 1) / kFoldThreads;
    fold_heads<lanes>
        <<<dim3(windows, static_cast<unsigned>(columns)), kFoldThreads, 0, stream>>>(sorted, width);
    check_launch("embedding_backward, heads");
  }
  if (chunks < 2) return;  // no borders
  join_borders<lanes><<<chunks - 1, block.x, 0, stream>>>(sorted, width, a.dtable);
  check_launch("embedding_backward, borders");
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
  const std::int64_t rows = s.batches * s.groups * s.rows;
  if (rows <= 0 || s.width <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  const auto launch = [&](auto kernel, int lanes) {
    const dim3 block = block_shape(s.width, lanes, kBlockThreads, kBlockThreads);
    const std::int64_t step = std::int64_t{kBatch} * block.y;
    kernel<<<static_cast<unsigned>((rows + step - 1) / step), block, 0, stream>>>(a, rows);
  };
  if (strides(s) % kLanes<T> == 0 && vector_aligned(a.table, a.out))
    launch(look_up<T, kLanes<T>>, kLanes<T>);
  else
    launch(look_up<T, 1>, 1);
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

  constexpr int kColumns = 4;
  const bool vectors = strides(s) % kColumns == 0 && vector_aligned(a.dtable) &&
                       reinterpret_cast<std::uintptr_t>(a.dout) % (kColumns * sizeof(T)) == 0;
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
    if (vectors)
      add_runs<T, kColumns>(a, sorted, stream);
    else
      add_runs<T, 1>(a, sorted, stream);
  }
}

template void embedding_forward(const Queue&, const EmbeddingForward<float>&);
template void embedding_forward(const Queue&, const EmbeddingForward<bf16>&);
template void embedding_backward(const Queue&, const EmbeddingBackward<float>&);
template void embedding_backward(const Queue&, const EmbeddingBackward<bf16>&);

}  // namespace tessera::kernels::cuda
