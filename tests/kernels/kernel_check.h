// What the kernel tests share: random inputs, comparison with a double-precision reference, and
// finite differences. Typed tests run every operation as float and as double against the same
// naive reference, which each test file writes out by itself.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <omp.h>

#include "core/random.h"
#include "kernels/queue.h"

namespace tessera::kernels::check {

using Types = ::testing::Types<float, double>;
using Index = std::int64_t;

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Rounding allowed to a result that sums `depth` terms of size about one.
template <typename T>
double tolerance(Index depth = 1) {
  const double unit = std::is_same_v<T, float> ? 4e-7 : 4e-15;
  return unit * (4 + std::sqrt(static_cast<double>(depth)) * 2);
}

// Standard normal values, the same for float and double up to rounding.
template <typename T>
std::vector<T> normal(Index count, const char* name, double scale = 1) {
  const CounterRandom random(7, hash_name(name));
  std::vector<T> x(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<T>(scale * random.normal(i));
  return x;
}

// Integers in [0, below).
inline std::vector<std::int32_t> integers(Index count, Index below, const char* name) {
  const CounterRandom random(7, hash_name(name));
  std::vector<std::int32_t> x(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<std::int32_t>(random.uniform(i) * static_cast<double>(below));
  return x;
}

template <typename T>
std::vector<double> wide(const std::vector<T>& x) {
  return std::vector<double>(x.begin(), x.end());
}

// |actual - expected| <= tolerance max(1, |expected|) for all; equal where not finite.
template <typename T>
void expect_near(const std::vector<T>& actual, const std::vector<double>& expected,
                 double tolerance, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = static_cast<double>(actual[i]), e = expected[i];
    if (!std::isfinite(e)) {
      ASSERT_TRUE((std::isnan(a) && std::isnan(e)) || a == e)
          << what << " [" << i << "] is " << a << ", expected " << e;
      continue;
    }
    ASSERT_LE(std::abs(a - e), tolerance * std::max(1.0, std::abs(e)))
        << what << " [" << i << "] is " << a << ", expected " << e;
  }
}

template <typename T>
void expect_same_bits(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  if (!a.empty()) {
    ASSERT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(T)), 0) << what;
  }
}

// Central differences of `loss` by every element of x (at most `most` of them, evenly taken)
// against `gradient`.
inline void expect_gradient(const std::function<double()>& loss, std::vector<double>& x,
                            const std::vector<double>& gradient, const std::string& what,
                            std::size_t most = 60) {
  ASSERT_EQ(x.size(), gradient.size()) << what;
  const std::size_t step = std::max<std::size_t>(1, x.size() / most);
  constexpr double h = 1e-5;
  for (std::size_t i = 0; i < x.size(); i += step) {
    const double at = x[i];
    x[i] = at + h;
    const double up = loss();
    x[i] = at - h;
    const double down = loss();
    x[i] = at;
    const double slope = (up - down) / (2 * h);
    ASSERT_NEAR(gradient[i], slope, 1e-7 * std::max(1.0, std::abs(slope)))
        << what << " [" << i << "]";
  }
}

// sum weights_i values_i: a scalar loss of a tensor; its gradient by the tensor is `weights`.
inline double weighted(const std::vector<double>& values, const std::vector<double>& weights) {
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) sum += values[i] * weights[i];
  return sum;
}

// Sets OpenMP's thread count for a scope.
class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace tessera::kernels::check
