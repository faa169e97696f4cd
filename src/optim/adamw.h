// AdamW over the owned slices of the flat space: moments, master parameters where the model
// computes in a narrower type, decay rule, the update (kernels/adamw.h has the equation) and the
// gradients' norms over the same parts. State is kept without gaps, slice after slice.
//
// T is the type that the model computes in; masters, moments and gradients are Wide<T>. All arrays
// are in the queue's memory.
#pragma once

#include <functional>
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
  // Parameters of a narrower type have masters here; others are their own.
  static constexpr bool kHasMasters = !std::is_same_v<T, Wide>;

  // `slices` ascend.
  AdamW(const OptimizerConfig& config, const model::ParameterTable& table,
        std::vector<Slice> slices, kernels::Queue queue = {});

  void plan(MemoryPlan& plan);
  void bind(const Arena& arena, const kernels::Queue& queue);

  const std::vector<Segment>& owned() const { return segments_; }
  const std::vector<Slice>& slices() const { return slices_; }
  // State of flat element `flat`, which lies in an owned slice; state of what follows in the same
  // slice follows. masters: null without them.
  Wide* m(std::int64_t flat) const { return m_ + (flat - shift(flat)); }
  Wide* v(std::int64_t flat) const { return v_ + (flat - shift(flat)); }
  Wide* masters(std::int64_t flat) const {
    return kHasMasters ? masters_ + (flat - shift(flat)) : nullptr;
  }

  // Squares of the owned gradients (flat, whole space) summed a tensor, [tensors of the table], in
  // the queue's memory; asynchronous on CUDA.
  const double* squared_norms(const Wide* gradients);
  // One update of the owned parameters (flat, whole space). `step` counts from 1; `scale`
  // multiplies gradients (clipping). Asynchronous on CUDA; the stream must be idle when it is
  // called. Where `done` is given, slices are updated one after the other, to the same bits, and
  // done(slice) is called behind each.
  void update(T* parameters, const Wide* gradients, std::int64_t step, double learning_rate,
              double scale, const std::function<void(std::size_t slice)>& done = {});

 private:
  bool decays(const model::Parameter& p) const { return config_.decay == Decay::all || p.matrix(); }
  std::int64_t shift(std::int64_t flat) const;

  OptimizerConfig config_;
  std::int64_t tensors_;
  std::vector<Slice> slices_;
  std::vector<std::int64_t> shifts_;  // a slice
  kernels::Queue queue_;
  std::vector<Segment> segments_;
  std::vector<kernels::TensorSlice> list_;
  std::vector<std::size_t> list_ends_;  // a slice: where its part of the list ends
  Buffer m_buffer_, v_buffer_, master_buffer_, list_buffer_, step_buffer_, partial_buffer_,
      sums_buffer_;
  HostMemory step_host_;
  Wide *m_ = nullptr, *v_ = nullptr, *masters_ = nullptr;
  const kernels::TensorSlice* list_at_ = nullptr;
  kernels::AdamWStep* step_ = nullptr;
  double *partial_ = nullptr, *sums_ = nullptr;
};

}  // namespace tessera::optim
