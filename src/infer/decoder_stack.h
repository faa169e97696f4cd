// A stack of layers over a static cache of keys and values, for many sequences at once: prompts in
// whole windows, then one row a sequence. Any division of a sequence into a prompt and steps gives
// what one causal pass over all of it gives.
//
// The cache of a layer is [sequences, capacity, D] for keys (rotated) and the same for values.
// Sequences are aligned at their start: a shorter prompt's window ends in rows that no later query
// sees, because its next rows take their places in the cache (causal attention needs no mask).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "config/config.h"
#include "core/memory.h"
#include "model/layer_forward.h"
#include "model/parameter_table.h"

namespace tessera::infer {

// Memory of one call, shared by the stacks of a model.
template <typename T>
struct StackScratch {
  std::int64_t rows = 0;     // most rows of a call
  std::int64_t windows = 0;  // most windows of a prefill
  Buffer norm1, norm2, qkv, attended, up, joined, lse, last_qkv;

  void reserve(const ModelConfig& config, MemoryPlan& plan);
};

template <typename T>
class DecoderStack {
 public:
  // The layers "PREFIX.layers.0 .. layers - 1" of `table`, which must outlive the stack.
  DecoderStack(const ModelConfig& config, const model::ParameterTable& table,
               const std::string& prefix, std::int64_t layers, std::int64_t sequences,
               std::int64_t capacity);

  // `segment`: what the cache is called in the plan.
  void plan(MemoryPlan& plan, const std::string& segment);
  void bind(const kernels::Queue& queue, const Arena& arena, const StackScratch<T>& scratch,
            const T* parameters);
  // What prefills of `windows` windows of up to `length` rows need of Queue::workspace.
  std::int64_t workspace_bytes(const kernels::Queue& queue, std::int64_t windows,
                               std::int64_t length) const;

  // Rows at positions 0 .. length - 1 of sequences first .. first + windows - 1.
  // x [windows * length, D] is used up. out [windows, D]: the stack's output for row rows[w] of x,
  // which lies at positions[w] of its sequence (both in the queue's memory): only this row goes
  // through the last layer's attention and MLP.
  void prefill(std::int64_t first, std::int64_t windows, std::int64_t length, T* x,
               const std::int32_t* rows, const std::int32_t* positions, T* out);
  // One row of each of `sequences` sequences, x [sequences, D], in place. Row s is at positions[s],
  // or at `position` where positions is null.
  void step(std::int64_t sequences, T* x, const std::int32_t* positions, std::int64_t position);

  std::int64_t capacity() const { return capacity_; }
  std::int64_t cache_bytes() const;  // a sequence

 private:
  model::LayerBuffers<T> buffers() const;
  void cache_window(std::size_t layer, std::int64_t first, std::int64_t windows,
                    std::int64_t length, T* qkv) const;
  void attend_window(std::int64_t windows, std::int64_t length, T* qkv, T* out) const;
  void attend_row(std::size_t layer, std::int64_t first, std::int64_t sequences,
                  const std::int32_t* positions, std::int64_t position, const T* qkv, T* out) const;
  T* keys(std::size_t layer, std::int64_t sequence) const;
  T* values(std::size_t layer, std::int64_t sequence) const;

  ModelConfig config_;
  const model::ParameterTable& table_;
  std::vector<model::LayerParameters> layers_;
  std::int64_t sequences_, capacity_;
  std::vector<kernels::Wide<T>> cos_, sin_;  // [capacity, rotary / 2] each
  std::vector<Buffer> key_buffers_, value_buffers_;
  Buffer cos_buffer_, sin_buffer_;
  kernels::Queue queue_;
  const Arena* arena_ = nullptr;
  StackScratch<T> scratch_;
  const T* parameters_ = nullptr;
};

}  // namespace tessera::infer
