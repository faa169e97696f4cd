// Element types of the operations and what they accumulate in.
//
// float and double compute in themselves; bf16 (storage only on the host) computes in float:
// statistics, losses, accumulators, parameter gradients and master weights of a bf16 model are
// `Wide<bf16>` = float.
#pragma once

#include <cstdint>
#include <type_traits>

// Marks what argument structs offer to both sides.
#ifdef __CUDACC__
#define TESSERA_HOST_DEVICE __host__ __device__
#else
#define TESSERA_HOST_DEVICE
#endif

namespace tessera::kernels {

// The upper half of a float32. Same bits as CUDA's __nv_bfloat16.
struct bf16 {
  std::uint16_t bits = 0;
};
static_assert(sizeof(bf16) == 2 && std::is_trivially_copyable_v<bf16>);

template <typename T>
struct WideOf {
  using Type = T;
};
template <>
struct WideOf<bf16> {
  using Type = float;
};
template <typename T>
using Wide = typename WideOf<T>::Type;

#ifdef TESSERA_HAS_CUDA
inline constexpr bool kHasCuda = true;
#else
inline constexpr bool kHasCuda = false;
#endif
// The CPU backend computes in float and double, the CUDA one in float and bf16.
template <typename T>
inline constexpr bool kOnCpu = !std::is_same_v<T, bf16>;
template <typename T>
inline constexpr bool kOnCuda = kHasCuda && !std::is_same_v<T, double>;

}  // namespace tessera::kernels
