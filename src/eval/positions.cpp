#include "eval/positions.h"

#include <algorithm>

#include "core/integers.h"
#include "model/architecture.h"

namespace tessera::eval {

LossByPosition evaluate_positions(const ModelConfig& config, std::int64_t batch,
                                  const BatchScores& batch_scores, data::TokenSource& source,
                                  comm::Communicator& ranks, EvaluationShare share,
                                  std::int64_t sequences) {
  const std::int64_t context = config.context, first = model::first_target(config);
  const std::int64_t rows = model::targets_a_sample(config);
  const std::int64_t total =
      sequences > 0 ? std::min(sequences, source.samples()) : source.samples();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(batch * context)), targets(ids.size());
  std::vector<double> sums(static_cast<std::size_t>(2 * context));  // loss and targets of each
  for (std::int64_t m = share.index; m < div_ceil(total, batch); m += share.count) {
    const std::int64_t begin = m * batch, count = std::min(batch, total - begin);
    for (std::int64_t s = 0; s < count; ++s)
      source.read(begin + s,
                  std::span(ids).subspan(static_cast<std::size_t>(s * context),
                                         static_cast<std::size_t>(context)),
                  std::span(targets).subspan(static_cast<std::size_t>(s * context),
                                             static_cast<std::size_t>(context)));
    const model::HostScores scores = batch_scores({count, ids.data(), targets.data()});
    if (!share.counts) continue;
    for (std::int64_t s = 0; s < count; ++s)
      for (std::int64_t r = 0; r < rows; ++r) {
        const std::int64_t t = first + r;
        if (targets[static_cast<std::size_t>(s * context + t)] < 0) continue;
        sums[static_cast<std::size_t>(2 * t)] +=
            scores.losses[static_cast<std::size_t>(s * rows + r)];
        sums[static_cast<std::size_t>(2 * t + 1)] += 1;
      }
  }
  ranks.all_reduce(sums.data(), static_cast<std::int64_t>(sums.size()));

  LossByPosition result;
  const auto mean = [](double sum, double count) { return count > 0 ? sum / count : 0; };
  for (std::int64_t t = 0; t < context; ++t)
    result.in_context.push_back(
        mean(sums[static_cast<std::size_t>(2 * t)], sums[static_cast<std::size_t>(2 * t + 1)]));
  if (config.kind != ModelKind::block) return result;
  for (std::int64_t j = 0; j < config.block_length; ++j) {
    double sum = 0, count = 0;
    for (std::int64_t t = j; t < context; t += config.block_length) {
      sum += sums[static_cast<std::size_t>(2 * t)];
      count += sums[static_cast<std::size_t>(2 * t + 1)];
    }
    result.in_block.push_back(mean(sum, count));
  }
  return result;
}

}  // namespace tessera::eval
