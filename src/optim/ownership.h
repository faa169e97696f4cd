// Who owns which part of the flat parameter space (pure). Gradients travel in buckets, and each
// replica owns one of equal slices of every bucket. With ZeRO-1 it keeps optimizer state for its
// slices alone; without, every replica keeps everything, but slices still say who writes what into
// a checkpoint.
#pragma once

#include <cstdint>
#include <vector>

#include "config/config.h"
#include "model/parameter_table.h"

namespace tessera::optim {

// The part of one tensor that lies in a slice.
struct Segment {
  std::int64_t tensor = 0;          // index in the table
  std::int64_t begin = 0, end = 0;  // elements of the tensor
  std::int64_t offset = 0;          // of `begin` in the flat space
  std::int64_t count() const { return end - begin; }
};

struct Slice {
  std::int64_t begin = 0, end = 0;  // of the padded flat space
  std::int64_t count() const { return end - begin; }
  bool operator==(const Slice&) const = default;
};

// Elements of a bucket as configured (parallel.bucket_mib of fp32 gradients).
inline std::int64_t bucket_elements(const ParallelConfig& config) {
  return config.bucket_mib << 18;
}

// The flat space padded so that it divides into buckets, each of them into `replicas` slices of a
// multiple of 16 elements.
class Partition {
 public:
  Partition(std::int64_t flat_size, std::int64_t replicas, std::int64_t bucket_elements);

  std::int64_t padded() const { return padded_; }
  std::int64_t replicas() const { return replicas_; }
  // In the order of the flat space; backward fills the last one first.
  const std::vector<Slice>& buckets() const { return buckets_; }
  // One slice of every bucket, in order.
  std::vector<Slice> owned(std::int64_t replica) const;

 private:
  std::int64_t replicas_, padded_;
  std::vector<Slice> buckets_;
};

// The tensors' parts in the slices (ascending), in table order.
std::vector<Segment> segments(const model::ParameterTable& table, const std::vector<Slice>& slices);

}  // namespace tessera::optim
