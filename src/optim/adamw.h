// AdamW over the owned slice of the flat space: moments, decay rule, the update (kernels/adamw.h
// has the equation) and the gradients' norms over the same parts.
//
// T is the type that the model computes in; masters, moments and gradients are Wide<T>. All arrays
// are in the queue's memory.
#pragma once

#include <vector>

#include "config/config.h"
#include "core/device_memory.h"
#include "core/memory.h"
#include "kernels/adamw.h"
#include "kernels/queue.h"
#include "optim/ownership.h"

namespace tessera::optim {

template <typename T>
class AdamW {
 public:
  using Wide = kernels::Wide<T>;

  AdamW(const OptimizerConfig& config, const model::ParameterTable& table, Slice slice,
        kernels::Queue queue = {});

  void plan(MemoryPlan& plan);
  void bind(const Arena& arena, const kernels::Queue& queue);

  const std::vector<Segment>& owned() const { return segments_; }
  Slice slice() const { return slice_; }
  // Moments of the slice: element i belongs to flat element slice().begin + i.
  Wide* m() const { return m_; }
  Wide* v() const { return v_; }

  // Squares of the owned gradients (flat, whole space) summed a tensor, [tensors of the table], in
  // the queue's memory; asynchronous on CUDA.
  const double* squared_norms(const Wide* gradients);
  // One update of the owned parameters; all flat (whole space). `working` is null where T is Wide.
  // `step` counts from 1; `scale` multiplies gradients (clipping). Asynchronous on CUDA; the stream
  // must be idle when it is called.
  void update(Wide* parameters, T* working, const Wide* gradients, std::int64_t step,
              double learning_rate, double scale);

 private:
  bool decays(const model::Parameter& p) const { return config_.decay == Decay::all || p.matrix(); }

  OptimizerConfig config_;
  std::int64_t tensors_;
  Slice slice_;
  kernels::Queue queue_;
  std::vector<Segment> segments_;
  std::vector<kernels::TensorSlice> list_;  // offsets from slice_.begin
  Buffer m_buffer_, v_buffer_, list_buffer_, step_buffer_, partial_buffer_, sums_buffer_;
  HostMemory step_host_;
  Wide *m_ = nullptr, *v_ = nullptr;
  const kernels::TensorSlice* list_at_ = nullptr;
  kernels::AdamWStep* step_ = nullptr;
  double *partial_ = nullptr, *sums_ = nullptr;
};

}  // namespace tessera::optim
