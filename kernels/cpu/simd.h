// Vectors of the processor's width (GCC vector extensions) for the CPU kernels, and the few
// operations that the language lacks. Explicit vectors, so that speed and summation order do not
// hang on what the compiler manages to vectorise.
//
// A loop over n elements is `vector_loop<T>(n, [&](std::int64_t i, auto part) { ... })`: it sees
// whole vectors and at most one partial one; load(p, part) fills missing lanes with zeros and
// store(p, v, part) leaves them out.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

namespace tessera::kernels::cpu {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32;
#else
inline constexpr int kVectorBytes = 16;
#endif

template <typename T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes)));
};
template <typename T>
using Vec = typename VectorOf<T>::type;
template <typename T>
inline constexpr std::int64_t kLanes = kVectorBytes / static_cast<std::int64_t>(sizeof(T));

template <typename V>
using Element = std::remove_cvref_t<decltype(std::declval<V>()[0])>;

struct Whole {};
struct Partial {
  std::int64_t count;
};

template <typename T>
inline Vec<T> load(const T* p, Whole = {}) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
template <typename T>
inline Vec<T> load(const T* p, Partial part) {
  Vec<T> v{};
  std::memcpy(&v, p, static_cast<std::size_t>(part.count) * sizeof(T));
  return v;
}
template <typename T>
inline void store(T* p, Vec<T> v, Whole = {}) {
  std::memcpy(p, &v, sizeof(v));
}
template <typename T>
inline void store(T* p, Vec<T> v, Partial part) {
  std::memcpy(p, &v, static_cast<std::size_t>(part.count) * sizeof(T));
}

template <typename T>
inline Vec<T> broadcast(T x) {
  return x - Vec<T>{};  // x - 0 is x for every x, -0 and NaN included
}

// 0, 1, 2, ...
template <typename T>
inline Vec<T> lane_numbers() {
  Vec<T> v{};
  for (int i = 0; i < kLanes<T>; ++i) v[i] = static_cast<T>(i);
  return v;
}

// Lanes of b where a is not larger; so a NaN in `a` is dropped and one in `b` is kept.
template <typename V>
inline V maximum(V a, V b) {
  return a > b ? a : b;
}

// Lanes [0, n / 2) or [n / 2, n) of a vector of n.
template <bool upper, typename V, std::size_t... lane>
inline auto half_of(V v, std::index_sequence<lane...>) {
  return __builtin_shufflevector(v, v, (lane + (upper ? sizeof...(lane) : 0))...);
}

// Sum and maximum over lanes, always as the same tree.
template <typename V>
inline Element<V> sum_lanes(V v) {
  constexpr std::size_t lanes = sizeof(V) / sizeof(Element<V>);
  if constexpr (lanes == 2) {
    return v[0] + v[1];
  } else {
    constexpr auto half = std::make_index_sequence<lanes / 2>();
    return sum_lanes(half_of<false>(v, half) + half_of<true>(v, half));
  }
}
template <typename V>
inline Element<V> max_lanes(V v) {
  constexpr std::size_t lanes = sizeof(V) / sizeof(Element<V>);
  if constexpr (lanes == 2) {
    return v[0] > v[1] ? v[0] : v[1];
  } else {
    constexpr auto half = std::make_index_sequence<lanes / 2>();
    return max_lanes(maximum(half_of<false>(v, half), half_of<true>(v, half)));
  }
}

template <typename T, typename Body>
inline void vector_loop(std::int64_t n, Body body) {
  std::int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) body(i, Whole{});
  if (i < n) body(i, Partial{n - i});
}

}  // namespace tessera::kernels::cpu
