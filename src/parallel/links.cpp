#include "parallel/links.h"

namespace tessera::parallel {

Channel::Channel(std::unique_ptr<comm::Communicator> pair, const comm::TransportOptions& options)
    : pair_(std::move(pair)), transport_(comm::make_transport(*pair_, options)) {}

Links::~Links() {
  activations_in = activations_out = gradients_in = gradients_out = {};
  while (!opened.empty()) opened.pop_back();
}

void Links::abort() noexcept {
  for (const Channel* each : {&activations_in, &activations_out, &gradients_in, &gradients_out})
    if (*each) each->transport().abort();
}

Links make_links(comm::Communicator& pipeline, std::int64_t chunks,
                 comm::TransportOptions options) {
  Links links;
  const std::int64_t stages = pipeline.size(), stage = pipeline.rank();
  if (stages == 1) return links;
  const std::int64_t edges = chunks > 1 ? stages : stages - 1;  // edge e: stage e -> e + 1
  options.traffic = comm::Traffic::messages;
  options.most_blocks = kLinkBlocks;
  // A rank takes part in one edge a round: even edges, odd edges, and the last one where it would
  // meet edge 0.
  const auto round_of = [&](std::int64_t edge) {
    return edge == stages - 1 && edge % 2 == 0 ? 2 : edge % 2;
  };
  const std::int64_t before = (stage + stages - 1) % stages;
  for (const bool forwards : {true, false})
    for (std::int64_t round = 0; round < 3; ++round) {
      const bool to_next = stage < edges && round_of(stage) == round;
      const bool from_before = before < edges && round_of(before) == round;
      const std::int64_t edge = to_next ? stage : from_before ? before : -1;
      auto pair = pipeline.split(edge, stage);
      if (!pair) continue;
      options.name = (forwards ? "activations " : "gradients ") + std::to_string(edge) +
                     (forwards ? " > " : " < ") + std::to_string((edge + 1) % stages);
      const Channel& channel = links.opened.emplace_back(std::move(pair), options);
      if (forwards)
        (to_next ? links.activations_out : links.activations_in) = channel;
      else
        (to_next ? links.gradients_in : links.gradients_out) = channel;
    }
  return links;
}

}  // namespace tessera::parallel
