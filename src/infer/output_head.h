// Final norm and classifier of single rows: what the next token is chosen from.
#pragma once

#include <cstdint>
#include <string>

#include "config/config.h"
#include "core/memory.h"
#include "kernels/queue.h"
#include "model/parameter_table.h"

namespace tessera::infer {

template <typename T>
class OutputHead {
 public:
  // "NORM_PREFIX.final_layer_norm" and `classifier` of `table`.
  OutputHead(const ModelConfig& config, const model::ParameterTable& table,
             const std::string& norm_prefix, const std::string& classifier);

  void plan(MemoryPlan& plan, std::int64_t rows);
  void bind(const kernels::Queue& queue, const Arena& arena, const T* parameters);
  // Logits [rows, vocab] of x [rows, D]; row r starts at logits() + r * stride().
  void run(std::int64_t rows, const T* x) const;
  T* logits() const { return arena_->at<T>(logits_); }
  std::int64_t stride() const;

 private:
  ModelConfig config_;
  const model::ParameterTable& table_;
  std::int64_t gain_, bias_, weight_;
  Buffer hidden_, logits_;
  kernels::Queue queue_;
  const Arena* arena_ = nullptr;
  const T* parameters_ = nullptr;
};

// y [rows, D] = layer norm "PREFIX.final_layer_norm" of x; y may be x.
template <typename T>
void final_norm(const kernels::Queue& queue, const ModelConfig& config,
                const model::ParameterTable& table, const T* parameters, std::int64_t gain,
                std::int64_t bias, std::int64_t rows, const T* x, T* y);

// Index of a parameter that `table` must have.
std::int64_t index_of(const model::ParameterTable& table, const std::string& name);

}  // namespace tessera::infer
