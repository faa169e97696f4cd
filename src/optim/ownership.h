// Who owns which part of the flat parameter space (pure). With ZeRO-1 each replica keeps optimizer
// state for one contiguous slice; without it every replica keeps everything, but slices still say
// who writes what into a checkpoint.
#pragma once

#include <cstdint>
#include <vector>

#include "model/parameter_table.h"

namespace tessera::optim {

// The part of one tensor that lies in a slice.
struct Segment {
  std::int64_t tensor = 0;          // index in the table
  std::int64_t begin = 0, end = 0;  // elements of the tensor
  std::int64_t offset = 0;          // of `begin` in the flat space
  std::int64_t count() const { return end - begin; }
};

// Flat length padded so that `replicas` equal slices cover it.
std::int64_t padded_size(std::int64_t flat_size, std::int64_t replicas);

struct Slice {
  std::int64_t begin = 0, end = 0;  // of the padded flat space
};
Slice owned_slice(std::int64_t flat_size, std::int64_t replica, std::int64_t replicas);

// The tensors' parts in a slice, in table order.
std::vector<Segment> segments(const model::ParameterTable& table, Slice slice);

}  // namespace tessera::optim
