#include "core/memory.h"

#include <algorithm>

#include "core/device_memory.h"
#include "core/integers.h"

namespace tessera {

namespace {
constexpr std::int64_t kAlignment = 256;
}

Buffer MemoryPlan::reserve(const std::string& segment, std::int64_t count,
                           std::int64_t element_bytes) {
  const std::int64_t bytes = checked_mul(count, element_bytes, "memory plan, segment " + segment);
  auto found = std::find_if(segments_.begin(), segments_.end(),
                            [&](const MemorySegment& s) { return s.name == segment; });
  if (found == segments_.end()) found = segments_.insert(segments_.end(), {segment, 0});
  const Buffer buffer{total_, bytes};
  const std::int64_t padded = round_up(bytes, kAlignment);
  found->bytes += padded;
  total_ = checked_add(total_, padded, "memory plan");
  return buffer;
}

Arena::Arena(const MemoryPlan& plan, Device device)
    : base_(allocate_memory(device, std::max(plan.total_bytes(), kAlignment)), Free{device}) {}

void Arena::Free::operator()(std::byte* bytes) const {
  free_memory(device, bytes);
}

}  // namespace tessera
