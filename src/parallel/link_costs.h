// Seconds of messages and collectives on a machine's links (pure). Collectives are rings: each of n
// ranks passes (n - 1) / n of the array to its neighbour, in n - 1 steps; a ring through several
// nodes moves as fast as the adapters of the node with the fewest ranks in it, and no faster than
// inside a node.
#pragma once

#include <cstdint>

#include "comm/topology.h"
#include "parallel/machine.h"

namespace tessera::parallel {

double message_seconds(double bytes, bool between_nodes, const Machine& machine);

// A reduce-scatter or an all-gather of an array of `bytes` (an all-reduce is both); 0 for one rank.
double ring_seconds(double bytes, const comm::Placement& ranks, const Machine& machine);
// What each rank sends in it.
double ring_bytes(double bytes, std::int64_t ranks);

// A reduction of a few numbers over all hosts' ranks, there and back.
double agreement_seconds(std::int64_t ranks, const Machine& machine);

}  // namespace tessera::parallel
