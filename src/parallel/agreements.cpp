#include "parallel/agreements.h"

#include <map>
#include <utility>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"
#include "core/json.h"
#include "kernels/algorithms.h"

namespace tessera::parallel {

std::string agree_on_algorithms(Engine& engine, const comm::Topology& topology,
                                comm::Communicator& world, const std::string& recorded,
                                const std::string& where) {
  engine.use_algorithms(recorded, where);
  if (topology.replica == 0) engine.tune();
  if (world.size() == 1) return engine.algorithms();
  const std::vector<std::string> all = world.gather_text(engine.algorithms());
  std::string merged;
  if (!all.empty() && !all.front().empty()) {
    kernels::Algorithms choices = kernels::Algorithms::from_json(all.front(), "rank 0");
    for (std::size_t r = 1; r < all.size(); ++r)
      choices.add(kernels::Algorithms::from_json(all[r], "rank " + std::to_string(r)));
    merged = choices.to_json();
  }
  merged = comm::broadcast_text(world, merged);
  engine.use_algorithms(merged, "the ranks' choices");
  return merged;
}

void require_equal_replicas(Engine& engine, const comm::Topology& topology,
                            comm::Communicator& world, std::int64_t step) {
  if (topology.replicas == 1) return;
  OrderedJson mine = {{"stage", topology.stage}, {"hashes", OrderedJson::object()}};
  const std::vector<std::uint64_t> hashes = engine.parameter_hashes();
  for (std::size_t t = 0; t < hashes.size(); ++t)
    mine["hashes"][engine.local_table().parameters()[t].name] = hashes[t];
  const std::vector<std::string> all = world.gather_text(mine.dump());
  std::string verdict;
  std::map<std::int64_t, std::pair<std::size_t, OrderedJson>> first_of;  // of a stage: rank, hashes
  for (std::size_t r = 0; r < all.size() && verdict.empty(); ++r) {
    const OrderedJson record = OrderedJson::parse(all[r]);
    const auto [entry, is_first] =
        first_of.try_emplace(record.at("stage").get<std::int64_t>(), r, record.at("hashes"));
    const auto& [rank, expected] = entry->second;
    for (const auto& [name, hash] : record.at("hashes").items())
      if (verdict.empty() && hash != expected.at(name))
        verdict = fmt::format(
            "step {}: replicas have drifted apart: {} differs between ranks {} and {}; go on from "
            "the last checkpoint and look at those GPUs",
            step, name, rank, r);
  }
  verdict = comm::broadcast_text(world, verdict);
  if (!verdict.empty()) throw Error(Category::disagreement, verdict);
}

}  // namespace tessera::parallel
