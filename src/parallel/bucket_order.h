// Which buckets of the flat space belong to which pieces (pure): what a forward waits for, what a
// backward leaves final.
//
// `begins`: where the parameters of each piece of a rank begin in the flat space. They ascend:
// pieces lie there in the order of the forward, chunk after chunk.
#pragma once

#include <cstdint>
#include <vector>

#include "optim/ownership.h"

namespace tessera::parallel {

// Of each piece, the bucket up to which parameters must be there ahead of its forward: the one that
// its last element belongs to (padding behind it included).
std::vector<std::size_t> needed_ahead(const optim::Partition& partition,
                                      const std::vector<std::int64_t>& begins);

// Of each bucket, the piece behind whose backward its gradients are final: the one that its first
// element belongs to, since pieces are done from the end of the flat space to its start.
std::vector<std::size_t> final_behind(const optim::Partition& partition,
                                      const std::vector<std::int64_t>& begins);

}  // namespace tessera::parallel
