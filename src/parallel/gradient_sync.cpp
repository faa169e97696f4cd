#include "parallel/gradient_sync.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/cast.h"
#include "parallel/element.h"

namespace tessera::parallel {
template <typename T>
GradientSync<T>::GradientSync(std::unique_ptr<comm::Transport> transport,
                              optim::Partition partition, bool zero, bool bf16_wire)
    : transport_(std::move(transport)),
      partition_(std::move(partition)),
      zero_(zero),
      bf16_wire_(bf16_wire),
      reductions_(partition_.buckets().size()),
      gathers_(partition_.buckets().size()) {}

template <typename T>
void GradientSync<T>::plan(MemoryPlan& plan) {
  if (active() && bf16_wire_)
    wire_buffer_ = plan.reserve<std::uint16_t>("gradients on the wire", partition_.padded());
}

template <typename T>
void GradientSync<T>::bind(const Arena& arena, const kernels::Queue& queue, Wide* gradients) {
  queue_ = queue;
  gradients_ = gradients;
  if (active() && bf16_wire_) wire_ = arena.at<std::uint16_t>(wire_buffer_);
}

template <typename T>
void GradientSync<T>::reduce(std::size_t bucket, const DeviceStream& compute) {
  if (!active()) return;
  const optim::Slice slice = partition_.buckets()[bucket];
  void* data = gradients_ + slice.begin;
  comm::Element element = element_of<Wide>();
  if (bf16_wire_) {
    kernels::cast_to_bf16(queue_, {slice.count(), gradients_ + slice.begin, wire_ + slice.begin});
    data = wire_ + slice.begin;
    element = comm::Element::bf16;
  }
  transport_->after(compute);
  reductions_[bucket] =
      zero_ ? transport_->reduce_scatter(data, slice.count() / partition_.replicas(), element)
            : transport_->all_reduce(data, slice.count(), element);
}

template <typename T>
void GradientSync<T>::finish(const DeviceStream& compute) {
  if (!active()) return;
  for (std::size_t b = reductions_.size(); b-- > 0;)
    if (reductions_[b] == 0) reduce(b, compute);
  const std::vector<optim::Slice> mine = partition_.owned(transport_->rank());
  for (std::size_t b = reductions_.size(); b-- > 0;) {
    transport_->wait(reductions_[b], compute);
    reductions_[b] = 0;
    if (!bf16_wire_) continue;
    const optim::Slice slice = zero_ ? mine[b] : partition_.buckets()[b];
    kernels::cast_from_bf16(queue_, {slice.count(), wire_ + slice.begin, gradients_ + slice.begin});
  }
}

template <typename T>
void GradientSync<T>::gather(std::size_t bucket, T* parameters, const DeviceStream& compute) {
  if (!active() || !zero_) return;
  const optim::Slice slice = partition_.buckets()[bucket];
  transport_->after(compute);
  gathers_[bucket] = transport_->all_gather(parameters + slice.begin,
                                            slice.count() / partition_.replicas(), element_of<T>());
}

template <typename T>
void GradientSync<T>::wait_for_parameters(std::size_t bucket, const DeviceStream& compute) {
  // A ticket stands for all before it.
  for (std::size_t b = bucket + 1; b-- > 0;) {
    if (gathers_[b] == 0) continue;
    transport_->wait(gathers_[b], compute);
    std::fill_n(gathers_.begin(), b + 1, comm::Ticket{0});
    return;
  }
}

template class GradientSync<float>;
#ifdef TESSERA_HAS_CUDA
template class GradientSync<kernels::bf16>;
#endif

}  // namespace tessera::parallel
