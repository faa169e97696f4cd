#include "parallel/layout_search.h"

#include <algorithm>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"
#include "core/text.h"
#include "model/architecture.h"

namespace tessera::parallel {
namespace {

std::vector<std::int64_t> divisors(std::int64_t value) {
  std::vector<std::int64_t> low, high;
  for (std::int64_t d = 1; d * d <= value; ++d) {
    if (value % d != 0) continue;
    low.push_back(d);
    if (d != value / d) high.push_back(value / d);
  }
  low.insert(low.end(), high.rbegin(), high.rend());
  return low;
}

// Every layout that the sizes allow.
template <typename Visit>
void each_layout(const Config& config, std::int64_t ranks, std::int64_t ranks_a_node,
                 const Visit& visit) {
  const std::int64_t pieces = model::piece_count(config.model);
  for (const std::int64_t stages : divisors(ranks)) {
    const std::int64_t replicas = ranks / stages;
    if (stages > pieces || config.train.global_batch % replicas != 0) continue;
    const std::int64_t sequences = config.train.global_batch / replicas;
    for (const std::int64_t micro : divisors(sequences)) {
      Config layout = config;
      layout.train.micro_batch = micro;
      layout.parallel.pipeline = stages;
      layout.parallel.data = replicas;
      const auto orders = [&](PipelineSchedule schedule, std::int64_t chunks) {
        layout.parallel.schedule = schedule;
        layout.parallel.virtual_stages = chunks;
        layout.parallel.order = RankOrder::pipeline_first;
        visit(layout);
        // The order says who shares a node: nothing where all do, or all ranks are of one kind.
        if (stages == 1 || replicas == 1 || ranks <= ranks_a_node) return;
        layout.parallel.order = RankOrder::data_first;
        visit(layout);
      };
      orders(PipelineSchedule::one_f_one_b, 1);
      if (stages == 1) continue;
      orders(PipelineSchedule::eager_one_f_one_b, 1);
      orders(PipelineSchedule::gpipe, 1);
      if (sequences / micro % stages != 0) continue;
      for (std::int64_t chunks = 2; chunks * stages <= pieces; ++chunks)
        orders(PipelineSchedule::interleaved, chunks);
    }
  }
}

}  // namespace

SearchResult search_layouts(const Predictor& predictor, const Config& config, std::int64_t ranks,
                            std::size_t most) {
  struct Candidate {
    Config layout;
    double bound;
  };
  SearchResult result;
  std::vector<Candidate> candidates;
  each_layout(config, ranks, predictor.machine().ranks_a_node, [&](const Config& layout) {
    ++result.layouts;
    const Predictor::Bound bound = predictor.bound(layout, ranks);
    if (bound.fits)
      candidates.push_back({layout, bound.seconds});
    else
      ++result.too_large;
  });
  if (result.layouts == 0)
    throw Error(
        Category::config,
        fmt::format("no layout of {} ranks deals train.global_batch = {} evenly to replicas "
                    "of at most {} stages; use a number of ranks that shares divisors with "
                    "the batch",
                    ranks, config.train.global_batch, model::piece_count(config.model)));
  if (candidates.empty())
    throw Error(
        Category::config,
        fmt::format("none of {} layouts of {} ranks fits in {} a rank; use more ranks or "
                    "train.recompute: layer",
                    result.layouts, ranks, human_bytes(predictor.machine().rates.memory_bytes)));
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const Candidate& a, const Candidate& b) { return a.bound < b.bound; });
  for (const Candidate& candidate : candidates) {
    // No later candidate can be faster than its bound.
    if (result.best.size() == most && candidate.bound >= result.best.back().step_seconds) break;
    Prediction prediction = predictor.predict(candidate.layout, ranks);
    const auto place = std::upper_bound(
        result.best.begin(), result.best.end(), prediction,
        [](const Prediction& a, const Prediction& b) { return a.step_seconds < b.step_seconds; });
    result.best.insert(place, std::move(prediction));
    if (result.best.size() > most) result.best.pop_back();
  }
  return result;
}

}  // namespace tessera::parallel
