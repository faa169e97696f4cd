// What the ranks of a job settle together beside a step's numbers.
#pragma once

#include <string>

#include "comm/communicator.h"
#include "comm/topology.h"
#include "parallel/engine.h"

namespace tessera::parallel {

// CUDA: measured choices (kernels/algorithms.h), the same on every rank. Those of `recorded` ("" or
// JSON text from `where`) are kept to; the first replica's ranks measure what their stages lack,
// and where two stages met the same shape the earlier one's choice counts. Returns all of them as
// JSON text; "" on the CPU.
std::string agree_on_algorithms(Engine& engine, const comm::Topology& topology,
                                comm::Communicator& world, const std::string& recorded,
                                const std::string& where);

// Compares what replicas compute with, tensor by tensor. Error{disagreement} on every rank, naming
// the first tensor that differs and the ranks, when they have drifted apart.
void require_equal_replicas(Engine& engine, const comm::Topology& topology,
                            comm::Communicator& world, std::int64_t step);

}  // namespace tessera::parallel
