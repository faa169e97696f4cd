// Rows into a cache and attention over it: inputs in host memory and what float64 says they come
// to, for any backend. What lies in the cache beyond a row's position is NaN throughout.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/rotary.h"
#include "tests/kernels/kernel_check.h"

namespace tessera::kernels::check {

struct DecodingCase {
  std::int64_t sequences, heads, d, rotary, capacity, gap;  // gap: unused elements behind a row
  std::vector<std::int32_t> positions;
  std::vector<double> qkv;           // [sequences, 3 heads d + gap]
  std::vector<double> keys, values;  // [sequences, capacity, heads d + gap]
  std::vector<double> cos, sin;

  DecodingCase(std::int64_t s, std::int64_t h, std::int64_t size, std::int64_t rotated,
               std::int64_t longest, std::int64_t between = 0)
      : sequences(s), heads(h), d(size), rotary(rotated), capacity(longest), gap(between) {
    positions = integers(s, longest, "positions");
    positions[0] = static_cast<std::int32_t>(longest - 1);
    if (s > 1) positions[1] = 0;
    qkv = normal<double>(s * qkv_row(), "qkv");
    keys = normal<double>(s * capacity * row(), "keys");
    values = normal<double>(s * capacity * row(), "values");
    for (std::int64_t b = 0; b < s; ++b)
      for (std::int64_t j = positions[static_cast<std::size_t>(b)]; j < capacity; ++j)
        for (std::int64_t c = 0; c < row(); ++c) keys[at(b, j, c)] = values[at(b, j, c)] = kNan;
    cos.resize(static_cast<std::size_t>(capacity * rotary / 2)), sin.resize(cos.size());
    rotary_tables(capacity, rotary, 10000.0, cos.data(), sin.data());
  }
  std::int64_t row() const { return heads * d + gap; }
  std::int64_t qkv_row() const { return 3 * heads * d + gap; }
  std::size_t at(std::int64_t b, std::int64_t j, std::int64_t c) const {
    return static_cast<std::size_t>((b * capacity + j) * row() + c);
  }
  // x [d] rotated by `position`.
  std::vector<double> rotated(const double* x, std::int64_t position) const {
    std::vector<double> y(x, x + d);
    const std::int64_t half = rotary / 2;
    for (std::int64_t j = 0; j < half; ++j) {
      const auto t = static_cast<std::size_t>(position * half + j);
      y[static_cast<std::size_t>(j)] = x[j] * cos[t] - x[j + half] * sin[t];
      y[static_cast<std::size_t>(j + half)] = x[j + half] * cos[t] + x[j] * sin[t];
    }
    return y;
  }
  // out [sequences, heads, d]; keys and values get the new rows, rounded by `round`.
  template <typename Round>
  std::vector<double> attend(const Round& round) {
    std::vector<double> out;
    for (std::int64_t b = 0; b < sequences; ++b)
      for (std::int64_t h = 0; h < heads; ++h) {
        const std::int64_t p = positions[static_cast<std::size_t>(b)];
        const double* x = qkv.data() + b * qkv_row() + 3 * h * d;
        const std::vector<double> q = rotated(x, p), k = rotated(x + d, p);
        for (std::int64_t c = 0; c < d; ++c) {
          keys[at(b, p, h * d + c)] = round(k[static_cast<std::size_t>(c)]);
          values[at(b, p, h * d + c)] = x[2 * d + c];
        }
        std::vector<double> scores;
        double most = -INFINITY, sum = 0;
        for (std::int64_t j = 0; j <= p; ++j) {
          double s = 0;
          for (std::int64_t c = 0; c < d; ++c)
            s += q[static_cast<std::size_t>(c)] * keys[at(b, j, h * d + c)];
          scores.push_back(s / std::sqrt(static_cast<double>(d)));
          most = std::max(most, scores.back());
        }
        for (double& s : scores) sum += s = std::exp(s - most);
        for (std::int64_t c = 0; c < d; ++c) {
          double o = 0;
          for (std::int64_t j = 0; j <= p; ++j)
            o += scores[static_cast<std::size_t>(j)] * values[at(b, j, h * d + c)];
          out.push_back(o / sum);
        }
      }
    return out;
  }
};

}  // namespace tessera::kernels::check
