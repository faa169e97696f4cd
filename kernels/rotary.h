// Partial rotary positions on the fused QKV matrix, in place (GPT-NeoX "half split" form).
//
// qkv [rows, heads, 3, d]: head j of a row owns q, k, v side by side. The first r = `rotary`
// components of q and k are rotated: for j < r / 2, with a = position * base^(-2j / r),
//   out_j         = x_j cos a - x_{j + r/2} sin a
//   out_{j + r/2} = x_{j + r/2} cos a + x_j sin a
// Row i of every window of `length` rows has position `first_position` + i (or positions[row] where
// that is given). The backward is the rotation by -a applied to dqkv.
//
// Tables: cos, sin [positions, r / 2], float32 angles as Hugging Face computes them:
// inv_j = float(base^(-2j/r)), angle = float(position) * inv_j in float, cos/sin of that.
#pragma once

#include <cstdint>

#include "kernels/queue.h"

namespace tessera::kernels {

template <typename T>
struct Rotary {
  std::int64_t rows = 0, heads = 0, head_size = 0, rotary = 0;
  std::int64_t length = 0;  // rows a window; rows is a multiple
  std::int64_t first_position = 0;
  const std::int32_t* positions = nullptr;  // [rows] or null
  const Wide<T>*cos = nullptr, *sin = nullptr;
  T* qkv = nullptr;
  bool backward = false;
};

// Fills cos and sin, [positions, rotary / 2] each. Host memory.
template <typename T>
void rotary_tables(std::int64_t positions, std::int64_t rotary, double base, T* cos, T* sin);

namespace cpu {
template <typename T>
void rotary(const Rotary<T>& args);
}  // namespace cpu
namespace cuda {
template <typename T>
void rotary(const Queue& queue, const Rotary<T>& args);
}  // namespace cuda

template <typename T>
void rotary(const Queue& queue, const Rotary<T>& args) {
  if constexpr (kOnCuda<T>)
    if (queue.device == Device::cuda) return cuda::rotary(queue, args);
  if constexpr (kOnCpu<T>)
    if (queue.device == Device::cpu) return cpu::rotary(args);
  refuse(queue, "rotary");
}

}  // namespace tessera::kernels
