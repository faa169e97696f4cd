// AdamW over the owned slice of the flat space: moments, decay rule and the update
// (kernels/adamw.h has the equation).
#pragma once

#include <vector>

#include "config/config.h"
#include "core/memory.h"
#include "kernels/queue.h"
#include "optim/ownership.h"

namespace tessera::optim {

template <typename T>
class AdamW {
 public:
  AdamW(const OptimizerConfig& config, const model::ParameterTable& table, Slice slice,
        kernels::Queue queue = {});

  void plan(MemoryPlan& plan);
  void bind(const Arena& arena);

  const std::vector<Segment>& owned() const { return segments_; }
  Slice slice() const { return slice_; }
  // Moments of the slice: element i belongs to flat element slice().begin + i.
  T* m() const { return m_; }
  T* v() const { return v_; }

  // One update of the owned parameters; `parameters` and `gradients` are flat (whole space).
  // `step` counts from 1; `scale` multiplies gradients (clipping).
  void update(T* parameters, const T* gradients, std::int64_t step, double learning_rate,
              double scale);

 private:
  bool decays(const model::Parameter& p) const { return config_.decay == Decay::all || p.matrix(); }

  OptimizerConfig config_;
  Slice slice_;
  kernels::Queue queue_;
  std::vector<Segment> segments_;
  std::vector<double> decay_;  // weight decay of each segment
  Buffer m_buffer_, v_buffer_;
  T *m_ = nullptr, *v_ = nullptr;
};

}  // namespace tessera::optim
