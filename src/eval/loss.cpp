#include "eval/loss.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/integers.h"
#include "model/architecture.h"

namespace tessera::eval {

std::int64_t target_bytes(const std::int32_t* targets, std::int64_t sequences, std::int64_t context,
                          std::int64_t first_target, const std::vector<std::int32_t>& token_bytes,
                          std::int64_t& count) {
  std::int64_t bytes = 0;
  for (std::int64_t s = 0; s < sequences; ++s)
    for (std::int64_t t = first_target; t < context; ++t) {
      const std::int32_t id = targets[s * context + t];
      if (id < 0) continue;
      ++count;
      if (static_cast<std::size_t>(id) < token_bytes.size())
        bytes += token_bytes[static_cast<std::size_t>(id)];
    }
  return bytes;
}

LossResult evaluate_loss(const ModelConfig& config, std::int64_t batch, const BatchLoss& batch_loss,
                         data::TokenSource& source, comm::Communicator& ranks,
                         EvaluationShare share, std::int64_t sequences) {
  const auto start = std::chrono::steady_clock::now();
  const std::int64_t context = config.context;
  const std::int64_t total =
      sequences > 0 ? std::min(sequences, source.samples()) : source.samples();
  std::vector<std::int32_t> ids(static_cast<std::size_t>(batch * context)), targets(ids.size());

  double loss = 0;
  std::int64_t count = 0, bytes = 0;
  for (std::int64_t m = share.index; m < div_ceil(total, batch); m += share.count) {
    const std::int64_t first = m * batch, rows = std::min(batch, total - first);
    for (std::int64_t s = 0; s < rows; ++s) {
      const auto at = static_cast<std::size_t>(s * context);
      const auto length = static_cast<std::size_t>(context);
      source.read(first + s, std::span(ids).subspan(at, length),
                  std::span(targets).subspan(at, length));
    }
    loss += batch_loss({rows, ids.data(), targets.data()});
    if (!share.counts) continue;
    bytes += target_bytes(targets.data(), rows, context, model::first_target(config),
                          source.token_bytes(), count);
  }

  double sums[3] = {loss, static_cast<double>(count), static_cast<double>(bytes)};
  ranks.all_reduce(sums, 3);
  LossResult result;
  result.sequences = total;
  result.targets = static_cast<std::int64_t>(sums[1]);
  result.bytes = static_cast<std::int64_t>(sums[2]);
  result.loss = sums[1] > 0 ? sums[0] / sums[1] : 0;
  result.perplexity = std::exp(result.loss);
  result.bits_per_byte = sums[2] > 0 ? sums[0] / std::numbers::ln2 / sums[2] : 0;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace tessera::eval
