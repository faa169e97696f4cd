#include "optim/ownership.h"

#include <algorithm>

#include "core/integers.h"

namespace tessera::optim {
namespace {
constexpr std::int64_t kAlignment = 16;  // elements
}

Partition::Partition(std::int64_t flat_size, std::int64_t replicas, std::int64_t bucket_elements)
    : replicas_(replicas) {
  const std::int64_t unit = replicas * kAlignment;
  const std::int64_t bucket = round_up(std::max<std::int64_t>(bucket_elements, 1), unit);
  padded_ = round_up(flat_size, unit);
  for (std::int64_t begin = 0; begin < padded_; begin += bucket)
    buckets_.push_back({begin, std::min(padded_, begin + bucket)});
}

std::vector<Slice> Partition::owned(std::int64_t replica) const {
  std::vector<Slice> slices;
  for (const Slice& bucket : buckets_) {
    const std::int64_t length = bucket.count() / replicas_;
    slices.push_back({bucket.begin + replica * length, bucket.begin + (replica + 1) * length});
  }
  return slices;
}

std::vector<Segment> segments(const model::ParameterTable& table,
                              const std::vector<Slice>& slices) {
  std::vector<Segment> result;
  const auto& parameters = table.parameters();
  std::size_t first = 0;  // slices before it lie before the tensor
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const model::Parameter& p = parameters[i];
    while (first < slices.size() && slices[first].end <= p.offset) ++first;
    for (std::size_t s = first; s < slices.size() && slices[s].begin < p.offset + p.count; ++s) {
      const std::int64_t begin = std::max(slices[s].begin, p.offset);
      const std::int64_t end = std::min(slices[s].end, p.offset + p.count);
      if (begin < end)
        result.push_back({static_cast<std::int64_t>(i), begin - p.offset, end - p.offset, begin});
    }
  }
  return result;
}

}  // namespace tessera::optim
