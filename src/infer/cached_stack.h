// A stack of layers that keeps the keys and values of the rows it has seen, for one sequence:
// feeding rows in any portions gives what one full causal pass gives.
#pragma once

#include <cstdint>
#include <vector>

#include "config/config.h"
#include "model/layer_forward.h"
#include "model/parameter_table.h"

namespace tessera::infer {

class CachedStack {
 public:
  // The layers "PREFIX.layers.0 .. count - 1" of `table`; `parameters` is the flat space and must
  // outlive the stack. `capacity`: most rows that will be fed between resets.
  CachedStack(const ModelConfig& config, const model::ParameterTable& table,
              const float* parameters, const std::string& prefix, std::int64_t count,
              std::int64_t capacity);

  // Runs x [rows, D] (positions length() ...) through all layers, in place.
  void feed(float* x, std::int64_t rows);
  // Forgets all rows.
  void reset() { length_ = 0; }
  std::int64_t length() const { return length_; }

 private:
  struct Cache {
    std::vector<float> k, v;  // [capacity, heads, d]
  };
  void attend(std::size_t layer, std::int64_t rows, float* qkv, float* out);
  void resize(std::int64_t rows);

  ModelConfig config_;
  const model::ParameterTable& table_;
  const float* parameters_;
  std::vector<model::LayerParameters> layers_;
  std::vector<Cache> caches_;
  std::vector<float> cos_, sin_;
  std::int64_t capacity_, length_ = 0;
  std::vector<float> norm1_, norm2_, qkv_, attended_, joined_, up_;
};

}  // namespace tessera::infer
