#include "optim/ownership.h"

#include <algorithm>

#include "core/integers.h"

namespace tessera::optim {
namespace {
constexpr std::int64_t kAlignment = 16;  // elements
}

std::int64_t padded_size(std::int64_t flat_size, std::int64_t replicas) {
  return round_up(flat_size, replicas * kAlignment);
}

Slice owned_slice(std::int64_t flat_size, std::int64_t replica, std::int64_t replicas) {
  const std::int64_t length = padded_size(flat_size, replicas) / replicas;
  return {replica * length, (replica + 1) * length};
}

std::vector<Segment> segments(const model::ParameterTable& table, Slice slice) {
  std::vector<Segment> result;
  const auto& parameters = table.parameters();
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const model::Parameter& p = parameters[i];
    const std::int64_t begin = std::max(slice.begin, p.offset);
    const std::int64_t end = std::min(slice.end, p.offset + p.count);
    if (begin < end)
      result.push_back({static_cast<std::int64_t>(i), begin - p.offset, end - p.offset, begin});
  }
  return result;
}

}  // namespace tessera::optim
