// Gradients of one stage summed over its replicas, bucket by bucket behind the backward pass, and
// parameters brought from their owners after the update, bucket by bucket behind the next forward.
//
// With ZeRO-1 a bucket is reduce-scattered, so that each replica has the sums of its own slice, and
// parameters are all-gathered; without, it is all-reduced. On the wire gradients are fp32, or
// rounded to bf16 and back.
//
// Both go over one transport, so every replica makes the same calls in the same order: gathers
// upwards from the first bucket, reductions downwards from the last.
#pragma once

#include <memory>
#include <vector>

#include "comm/transport.h"
#include "core/memory.h"
#include "kernels/queue.h"
#include "optim/ownership.h"

namespace tessera::parallel {

// Multiprocessors that a collective of replicas holds on a GPU, beside the kernels of the backward:
// as fast as more on two H100s (docs/scaling.md), with a third less memory than NCCL's own choice.
inline constexpr int kReplicaBlocks = 16;

template <typename T>
class GradientSync {
 public:
  using Wide = kernels::Wide<T>;

  // `transport` joins the replicas of a stage; null where there is one, or nothing will be run.
  GradientSync(std::unique_ptr<comm::Transport> transport, optim::Partition partition, bool zero,
               bool bf16_wire);

  // There are several replicas.
  bool active() const { return partition_.replicas() > 1; }
  const optim::Partition& partition() const { return partition_; }

  void plan(MemoryPlan& plan);
  void bind(const Arena& arena, const kernels::Queue& queue, Wide* gradients);

  // The bucket's gradients are final in what `compute` has been given: starts their reduction.
  void reduce(std::size_t bucket, const DeviceStream& compute);
  // `compute` goes on once every bucket is reduced; those not started are started.
  void finish(const DeviceStream& compute);

  // ZeRO-1: the bucket's part of `parameters` (flat), a slice from each replica, to all; starts
  // behind what `compute` has been given. Buckets are given in order.
  void gather(std::size_t bucket, T* parameters, const DeviceStream& compute);
  // `compute` goes on once the parameters of this bucket and all before it are there; of all.
  // Nobody may read parameters of other replicas' slices, or write any, without it.
  void wait_for_parameters(std::size_t bucket, const DeviceStream& compute);
  void wait_for_parameters(const DeviceStream& compute) {
    wait_for_parameters(gathers_.size() - 1, compute);
  }

  // Ends communication, from any thread.
  void abort() noexcept {
    if (transport_) transport_->abort();
  }

 private:
  std::unique_ptr<comm::Transport> transport_;
  optim::Partition partition_;
  bool zero_, bf16_wire_;
  kernels::Queue queue_;
  Wide* gradients_ = nullptr;
  Buffer wire_buffer_;
  std::uint16_t* wire_ = nullptr;
  std::vector<comm::Ticket> reductions_;  // a bucket; 0: not started
  std::vector<comm::Ticket> gathers_;     // a bucket; 0: there
};

}  // namespace tessera::parallel
