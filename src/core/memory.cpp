#include "core/memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/integers.h"

namespace tessera {

namespace {
constexpr std::int64_t kAlignment = 64;
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

Arena::Arena(const MemoryPlan& plan) {
  const auto bytes = static_cast<std::size_t>(std::max(plan.total_bytes(), kAlignment));
  base_.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, bytes)));
  if (!base_)
    throw Error(Category::device, "out of memory: the plan needs " + std::to_string(bytes) +
                                      " bytes; lower train.micro_batch or the model's size");
  std::memset(base_.get(), 0, bytes);
}

void Arena::Free::operator()(std::byte* bytes) const {
  std::free(bytes);
}

}  // namespace tessera
