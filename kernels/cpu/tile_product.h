// Small matrix products in registers, for the attention of long windows: blocks of kTileRows rows
// by up to kPanelVectors vectors, operands padded so that no block is ragged, and the packing
// (contiguous, or transposed into panels) that makes them so.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cpu/simd.h"

namespace tessera::kernels::cpu {

// 24 (12) running vectors of the 32 (16) that the processor has.
inline constexpr std::int64_t kTileRows = 6;
inline constexpr std::int64_t kPanelVectors = kVectorBytes == 64 ? 4 : 2;
template <typename T>
inline constexpr std::int64_t kPanel = kPanelVectors* kLanes<T>;

// C = A B, or C += A B: C [kTileRows, vectors * lanes], A [kTileRows, depth], B [depth, vectors *
// lanes]. Element (i, k) of A is a[i * a_row + k * a_depth]; b_row and c_row are row strides.
template <bool accumulate, int vectors, typename T>
inline void product_block(std::int64_t depth, const T* a, std::int64_t a_row, std::int64_t a_depth,
                          const T* b, std::int64_t b_row, T* c, std::int64_t c_row) {
  Vec<T> sums[kTileRows][vectors];
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v)
      sums[i][v] = accumulate ? load(c + i * c_row + v * kLanes<T>) : Vec<T>{};
  for (std::int64_t k = 0; k < depth; ++k) {
    Vec<T> row[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) row[v] = load(b + v * kLanes<T>);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; ++i) {
      const T x = a[i * a_row];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sums[i][v] += x * row[v];
    }
    a += a_depth;
    b += b_row;
  }
#pragma GCC unroll 8
  for (int i = 0; i < kTileRows; ++i)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store(c + i * c_row + v * kLanes<T>, sums[i][v]);
}

// The same for a number of vectors known at run time, 1 to kPanelVectors.
template <bool accumulate, typename T>
inline void product_panel(std::int64_t vectors, std::int64_t depth, const T* a, std::int64_t a_row,
                          std::int64_t a_depth, const T* b, std::int64_t b_row, T* c,
                          std::int64_t c_row) {
  if (vectors == 1)
    product_block<accumulate, 1>(depth, a, a_row, a_depth, b, b_row, c, c_row);
  else if (vectors == 2)
    product_block<accumulate, 2>(depth, a, a_row, a_depth, b, b_row, c, c_row);
  if constexpr (kPanelVectors > 2) {
    if (vectors == 3)
      product_block<accumulate, 3>(depth, a, a_row, a_depth, b, b_row, c, c_row);
    else if (vectors == 4)
      product_block<accumulate, 4>(depth, a, a_row, a_depth, b, b_row, c, c_row);
  }
}

// The same for any number of columns, a multiple of the lanes.
template <bool accumulate, typename T>
inline void product_rows(std::int64_t columns, std::int64_t depth, const T* a, std::int64_t a_row,
                         std::int64_t a_depth, const T* b, std::int64_t b_row, T* c,
                         std::int64_t c_row) {
  for (std::int64_t j = 0; j < columns; j += kPanel<T>) {
    const std::int64_t left = (columns - j) / kLanes<T>;
    product_panel<accumulate>(left < kPanelVectors ? left : kPanelVectors, depth, a, a_row, a_depth,
                              b + j, b_row, c + j, c_row);
  }
}

// to [padded_rows, padded_columns] = from [rows, columns] (row stride from_row), zeros around it.
// Rows whose `keep` is zero (where given) become zeros without being read.
template <typename T>
inline void pack(std::int64_t rows, std::int64_t columns, const T* from, std::int64_t from_row,
                 const std::uint8_t* keep, std::int64_t padded_rows, std::int64_t padded_columns,
                 T* to) {
  for (std::int64_t r = 0; r < padded_rows; ++r, to += padded_columns) {
    const bool here = r < rows && (!keep || keep[r]);
    std::int64_t j = 0;
    if (here)
      vector_loop<T>(columns, [&](std::int64_t i, auto part) {
        store(to + i, load(from + r * from_row + i, part));
        j = i + kLanes<T>;
      });
    for (; j < padded_columns; j += kLanes<T>) store(to + j, Vec<T>{});
  }
}

template <typename V, std::size_t... lane>
inline V interleave_low(V a, V b, std::index_sequence<lane...>) {
  return __builtin_shufflevector(a, b, (lane / 2 + lane % 2 * sizeof...(lane))...);
}
template <typename V, std::size_t... lane>
inline V interleave_high(V a, V b, std::index_sequence<lane...>) {
  constexpr std::size_t n = sizeof...(lane);
  return __builtin_shufflevector(a, b, (n / 2 + lane / 2 + lane % 2 * n)...);
}

// Transposes a square of vectors: log2(lanes) perfect shuffles.
template <typename T>
inline void transpose(Vec<T> (&x)[kLanes<T>]) {
  constexpr auto lanes = std::make_index_sequence<kLanes<T>>();
  constexpr int half = kLanes<T> / 2;
#pragma GCC unroll 4
  for (std::int64_t round = 1; round < kLanes<T>; round *= 2) {
    Vec<T> y[kLanes<T>];
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
      y[2 * i] = interleave_low(x[i], x[i + half], lanes);
      y[2 * i + 1] = interleave_high(x[i], x[i + half], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) x[i] = y[i];
  }
}

// Transposed panels: element (r, j) of from [rows, columns] goes to to[r / kPanel][j][r % kPanel];
// `rows` is padded with zeros to a multiple of kPanel. `keep` as for pack.
template <typename T>
inline void pack_transposed(std::int64_t rows, std::int64_t columns, const T* from,
                            std::int64_t from_row, const std::uint8_t* keep, T* to) {
  constexpr std::int64_t L = kLanes<T>;
  for (std::int64_t r0 = 0; r0 < (rows + kPanel<T> - 1) / kPanel<T> * kPanel<T>; r0 += L) {
    T* panel = to + r0 / kPanel<T> * columns * kPanel<T> + r0 % kPanel<T>;
    vector_loop<T>(columns, [&](std::int64_t j, auto part) {
      Vec<T> square[L];
      for (std::int64_t i = 0; i < L; ++i) {
        const std::int64_t r = r0 + i;
        const bool here = r < rows && (!keep || keep[r]);
        square[i] = here ? load(from + r * from_row + j, part) : Vec<T>{};
      }
      transpose<T>(square);
      for (std::int64_t i = 0; i < std::min(L, columns - j); ++i)
        store(panel + (j + i) * kPanel<T>, square[i]);
    });
  }
}

}  // namespace tessera::kernels::cpu
