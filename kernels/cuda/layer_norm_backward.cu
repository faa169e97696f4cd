// Layer norm backward in one pass over x, dy1, dy2 and dresidual.
//
// Every thread owns one vector of columns for all the rows that its block visits, so the column
// sums (gains, biases, residual) stay in registers; a row's two sums cross the threads of its row
// through shared memory. Blocks visit fixed sets of rows and leave partial sums in the workspace.
#include <algorithm>

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"
#include "kernels/layer_norm.h"

namespace tessera::kernels::cuda {
namespace {

constexpr int kQuantities = 5;  // dgain1, dbias1, dgain2, dbias2, sums of dresidual
constexpr int kBlocks = 264;    // two a processor of the largest devices
constexpr int kMostWarps = 32;

// A block: `groups` rows at a time, each by `warps` warps (32 * warps vectors cover a row).
template <typename T, bool two, bool residual, int most_threads>
__global__ void __launch_bounds__(most_threads, most_threads == kBlockThreads ? 2 : 1)
    by_columns(const LayerNormBackward<T> a, int warps, int groups, float* __restrict__ partial) {
  constexpr int kN = kLanes<T>;
  __shared__ float2 crossing[2][kMostWarps];
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;
  const int group = warp / warps, column = (thread - group * warps * 32) * kN;
  const int width = static_cast<int>(a.width);
  const bool inside = column < width;
  const float over = 1.0f / static_cast<float>(width);
  float gain1[kN] = {}, gain2[kN] = {};
  if (inside) {
    load(a.gain1 + column, gain1);
    if constexpr (two) load(a.gain2 + column, gain2);
  }
  float dg1[kN] = {}, db1[kN] = {}, dg2[kN] = {}, db2[kN] = {}, sums[kN] = {};

  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * groups;
  const std::int64_t rounds = (a.rows + step - 1) / step;
  std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * groups + group;
  uint4 raw_x{}, raw_1{}, raw_2{}, raw_r{};
  float mean = 0.0f, rstd = 0.0f;
  const auto fetch = [&](std::int64_t r) {
    if (r >= a.rows) return;
    mean = a.mean[r];
    rstd = a.rstd[r];
    if (!inside) return;
    const std::int64_t at = r * width + column;
    raw_x = load_raw(a.x + at);
    raw_1 = load_raw(a.dy1 + at);
    if constexpr (two) raw_2 = load_raw(a.dy2 + at);
    if constexpr (residual) raw_r = load_raw(a.dresidual + at);
  };
  fetch(row);
  for (std::int64_t round = 0; round < rounds; ++round, row += step) {
    const bool active = row < a.rows && inside;
    float xhat[kN], d[kN], left[kN] = {};
    float sum = 0.0f, product = 0.0f;
    const float scale = rstd;
    if (active) {
      float y1[kN];
      unpack<T>(raw_x, xhat);
      unpack<T>(raw_1, y1);
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        xhat[i] = (xhat[i] - mean) * rstd;
        dg1[i] += y1[i] * xhat[i];
        db1[i] += y1[i];
        d[i] = y1[i] * gain1[i];
      }
      if constexpr (two) {
        float y2[kN];
        unpack<T>(raw_2, y2);
#pragma unroll
        for (int i = 0; i < kN; ++i) {
          dg2[i] += y2[i] * xhat[i];
          db2[i] += y2[i];
          d[i] += y2[i] * gain2[i];
        }
      }
      if constexpr (residual) {
        unpack<T>(raw_r, left);
#pragma unroll
        for (int i = 0; i < kN; ++i) sums[i] += left[i];
      }
#pragma unroll
      for (int i = 0; i < kN; ++i) {
        sum += d[i];
        product += d[i] * xhat[i];
      }
    }
    fetch(row + step);  // under the reductions
    sum = warp_sum(sum);
    product = warp_sum(product);
    const int side = static_cast<int>(round % 2);
    if (warps > 1) {
      if (thread % 32 == 0) crossing[side][warp] = make_float2(sum, product);
      __syncthreads();
      sum = product = 0.0f;
      for (int i = 0; i < warps; ++i) {
        const float2 part = crossing[side][group * warps + i];
        sum += part.x;
        product += part.y;
      }
    }
    if (!active) continue;
    const float mean_d = sum * over, mean_p = product * over;
    float dx[kN];
#pragma unroll
    for (int i = 0; i < kN; ++i) dx[i] = scale * (d[i] - mean_d - xhat[i] * mean_p) + left[i];
    store(a.dx + row * width + column, dx);
  }
  if (!inside) return;
  float* out = partial +
               (static_cast<std::int64_t>(blockIdx.x) * groups + group) * kQuantities * width +
               column;
#pragma unroll
  for (int i = 0; i < kN; ++i) {
    out[i] = dg1[i];
    out[width + i] = db1[i];
    if constexpr (two) {
      out[2 * width + i] = dg2[i];
      out[3 * width + i] = db2[i];
    }
    if constexpr (residual) out[4 * width + i] = sums[i];
  }
}

// Any width: a block visits rows one by one and reads each twice; sums of its columns stay in the
// partial array itself.
template <typename T>
__global__ void __launch_bounds__(kBlockThreads)
    by_rows(const LayerNormBackward<T> a, float* __restrict__ partial) {
  __shared__ float scratch[2][32];
  const std::int64_t width = a.width;
  float* out = partial + static_cast<std::int64_t>(blockIdx.x) * kQuantities * width;
  for (std::int64_t i = threadIdx.x; i < kQuantities * width; i += kBlockThreads) out[i] = 0.0f;
  __syncthreads();
  const float over = 1.0f / static_cast<float>(width);
  for (std::int64_t row = blockIdx.x; row < a.rows; row += gridDim.x) {
    const float mean = a.mean[row], rstd = a.rstd[row];
    const std::int64_t at = row * width;
    const auto gradient = [&](std::int64_t i) {
      float d = to_float(a.dy1[at + i]) * to_float(a.gain1[i]);
      if (a.dy2) d += to_float(a.dy2[at + i]) * to_float(a.gain2[i]);
      return d;
    };
    float sum = 0.0f, product = 0.0f;
    for (std::int64_t i = threadIdx.x; i < width; i += kBlockThreads) {
      const float xhat = (to_float(a.x[at + i]) - mean) * rstd, d = gradient(i);
      const float y1 = to_float(a.dy1[at + i]);
      sum += d;
      product += d * xhat;
      out[i] += y1 * xhat;
      out[width + i] += y1;
      if (a.dy2) {
        const float y2 = to_float(a.dy2[at + i]);
        out[2 * width + i] += y2 * xhat;
        out[3 * width + i] += y2;
      }
      if (a.dresidual) out[4 * width + i] += to_float(a.dresidual[at + i]);
    }
    const float mean_d = block_sum(sum, scratch[0]) * over;
    const float mean_p = block_sum(product, scratch[1]) * over;
    for (std::int64_t i = threadIdx.x; i < width; i += kBlockThreads) {
      const float xhat = (to_float(a.x[at + i]) - mean) * rstd;
      float dx = rstd * (gradient(i) - mean_d - xhat * mean_p);
      if (a.dresidual) dx += to_float(a.dresidual[at + i]);
      a.dx[at + i] = from_float<T>(dx);
    }
    __syncthreads();  // scratch is used again
  }
}

}  // namespace

template <typename T>
void layer_norm_backward(const Queue& queue, const LayerNormBackward<T>& a) {
  if (a.rows <= 0 || a.width <= 0) return;
  auto* stream = static_cast<cudaStream_t>(queue.stream);
  auto* partial = reinterpret_cast<float*>(queue.workspace);
  const std::int64_t part_bytes = kQuantities * a.width * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t vectors = a.width / kLanes<T>;
  const int warps = static_cast<int>((vectors + 31) / 32);
  int parts = 0;
  if (a.width % kLanes<T> == 0 && warps <= kMostWarps &&
      vector_aligned(a.x, a.dy1, a.dy2, a.dresidual, a.dx, a.gain1, a.gain2)) {
    const int groups = std::max(1, 8 / warps);
    const std::int64_t most = queue.workspace_bytes / part_bytes / groups;
    const int blocks = static_cast<int>(std::max<std::int64_t>(
        1, std::min({std::int64_t{kBlocks}, most, (a.rows + groups - 1) / groups})));
    parts = blocks * groups;
    const unsigned threads = static_cast<unsigned>(32 * warps * groups);
    const auto run = [&](auto kernel) {
      kernel<<<static_cast<unsigned>(blocks), threads, 0, stream>>>(a, warps, groups, partial);
    };
    const auto choose = [&](auto most) {
      constexpr int kMost = decltype(most)::value;
      if (a.dy2)
        a.dresidual ? run(by_columns<T, true, true, kMost>)
                    : run(by_columns<T, true, false, kMost>);
      else
        a.dresidual ? run(by_columns<T, false, true, kMost>)
                    : run(by_columns<T, false, false, kMost>);
    };
    if (threads <= kBlockThreads)
      choose(std::integral_constant<int, kBlockThreads>());
    else
      choose(std::integral_constant<int, 1024>());
  } else {
    parts = static_cast<int>(std::max<std::int64_t>(
        1, std::min({std::int64_t{kBlocks}, queue.workspace_bytes / part_bytes, a.rows})));
    by_rows<<<static_cast<unsigned>(parts), kBlockThreads, 0, stream>>>(a, partial);
  }
  TESSERA_CHECK(parts * part_bytes <= queue.workspace_bytes);
  check_launch("layer_norm_backward");
  ColumnOutputs outputs;
  outputs.add(a.dgain1, 0);
  outputs.add(a.dbias1, 1);
  if (a.dy2) {
    outputs.add(a.dgain2, 2);
    outputs.add(a.dbias2, 3);
  }
  if (a.dresidual) {
    outputs.add(a.dsum1, 4);
    outputs.add(a.dsum2, 4);
  }
  launch_finish_columns(partial, parts, kQuantities, a.width, outputs, stream);
}

template void layer_norm_backward(const Queue&, const LayerNormBackward<float>&);
template void layer_norm_backward(const Queue&, const LayerNormBackward<bf16>&);

}  // namespace tessera::kernels::cuda
