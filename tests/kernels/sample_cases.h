// One call of kernels/sample.h on vectors in host memory, on any backend.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/sample.h"

namespace tessera::kernels::check {

// Rows with their books; run() hands pointers to `call`, which may copy them to a device and back.
template <typename T>
struct SampleCase {
  std::int64_t rows = 1, vocab = 0, stride = 0;
  std::vector<T> logits;  // [rows, stride]
  std::vector<std::uint8_t> allowed;
  double temperature = 0, top_p = 1;
  std::int64_t top_k = 0;
  std::uint64_t seed = 1;
  std::vector<std::int64_t> prompts;
  std::vector<std::int32_t> forced, tokens, produced, outputs, positions;
  std::vector<std::uint8_t> ended;
  std::int64_t width = 8, limit = 8;
  std::int32_t end_id = -1;

  // `rows` rows of the same logits, prompts 0, 1, ...
  static SampleCase repeated(const std::vector<T>& row, std::int64_t rows) {
    SampleCase c;
    c.rows = rows;
    c.vocab = c.stride = static_cast<std::int64_t>(row.size());
    for (std::int64_t r = 0; r < rows; ++r) c.logits.insert(c.logits.end(), row.begin(), row.end());
    c.prepare();
    return c;
  }
  void prepare() {
    const auto n = static_cast<std::size_t>(rows);
    for (std::int64_t r = 0; r < rows; ++r) prompts.push_back(r);
    tokens.assign(n, -7), produced.assign(n, 0), positions.assign(n, 100), ended.assign(n, 0);
    outputs.assign(n * static_cast<std::size_t>(width), -9);
  }
  Sample<T> arguments() {
    Sample<T> a;
    a.rows = rows, a.vocab = vocab, a.stride = stride, a.logits = logits.data();
    a.allowed = allowed.empty() ? nullptr : allowed.data();
    a.temperature = temperature, a.top_k = top_k, a.top_p = top_p, a.seed = seed;
    a.prompts = prompts.data(), a.forced = forced.empty() ? nullptr : forced.data();
    a.tokens = tokens.data(), a.produced = produced.data(), a.outputs = outputs.data();
    a.output_stride = width, a.limit = limit, a.end_id = end_id, a.ended = ended.data();
    a.positions = positions.data();
    return a;
  }
};

// Softmax of float64 logits at a temperature.
inline std::vector<double> softmax(std::vector<double> z, double temperature) {
  const double most = *std::max_element(z.begin(), z.end());
  double sum = 0;
  for (double& x : z) sum += x = std::exp((x - most) / temperature);
  for (double& x : z) x /= sum;
  return z;
}

// Chi-square of counts against probabilities; ids of probability 0 must not occur (infinity).
inline double chi_square(const std::vector<std::int64_t>& counts, const std::vector<double>& p) {
  double total = 0, chi = 0;
  for (const std::int64_t n : counts) total += static_cast<double>(n);
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double expected = total * p[i], off = static_cast<double>(counts[i]) - expected;
    if (p[i] == 0 && counts[i] > 0) return INFINITY;
    if (p[i] > 0) chi += off * off / expected;
  }
  return chi;
}

}  // namespace tessera::kernels::check
