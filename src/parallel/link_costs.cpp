#include "parallel/link_costs.h"

#include <algorithm>

namespace tessera::parallel {

double message_seconds(double bytes, bool between_nodes, const Machine& machine) {
  const LinkRates& link = between_nodes ? machine.between : machine.inside;
  const double limit = machine.message_bandwidth;
  const double bandwidth = limit > 0 ? std::min(link.bandwidth, limit) : link.bandwidth;
  return machine.collective_start + link.latency + bytes / bandwidth;
}

double ring_bytes(double bytes, std::int64_t ranks) {
  return bytes * static_cast<double>(ranks - 1) / static_cast<double>(ranks);
}

double ring_seconds(double bytes, const comm::Placement& ranks, const Machine& machine) {
  if (ranks.ranks <= 1) return 0;
  const double moved = ring_bytes(bytes, ranks.ranks);
  // A part of the array comes by every rank but one: that many steps within and between nodes.
  const auto far = static_cast<double>(ranks.nodes - 1);
  const double near = static_cast<double>(ranks.ranks - 1) - far;
  double bandwidth = machine.inside.bandwidth;
  if (ranks.nodes > 1) {
    const double adapters = machine.between.bandwidth * static_cast<double>(ranks.fewest);
    bandwidth = ranks.nodes < ranks.ranks ? std::min(bandwidth, adapters) : adapters;
  }
  return machine.collective_start + near * machine.inside.latency + far * machine.between.latency +
         moved / bandwidth;
}

double agreement_seconds(std::int64_t ranks, const Machine& machine) {
  int levels = 0;
  while ((std::int64_t{1} << levels) < ranks) ++levels;
  return 2 * levels * machine.host_step_seconds;
}

}  // namespace tessera::parallel
