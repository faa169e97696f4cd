#include "eval/scoring.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/integers.h"
#include "model/architecture.h"
#include "parallel/loss_model.h"

namespace tessera::eval {
namespace {

// Where a request lies in a sample.
struct Place {
  std::vector<std::int32_t> ids;
  std::int64_t begin = 0;  // first scored position; the last one is the sample's last token
  std::int64_t unscored = 0;
};

std::int64_t pads_in_front(const ModelConfig& config, BlockPadding padding) {
  const bool padded = config.kind == ModelKind::block && padding == BlockPadding::pad;
  return padded ? config.block_length - 1 : 0;
}

Place place(const ModelConfig& config, const Request& request, BlockPadding padding,
            std::int32_t pad_id, std::int64_t longest) {
  TESSERA_CHECK(!request.context.empty() && !request.continuation.empty());
  const std::int64_t pads = pads_in_front(config, padding);
  Place p;
  p.ids = request.context;
  p.ids.insert(p.ids.end(), request.continuation.begin(), request.continuation.end());
  const auto most = static_cast<std::size_t>(longest - pads);
  if (p.ids.size() > most)
    p.ids.erase(p.ids.begin(), p.ids.end() - static_cast<std::ptrdiff_t>(most));
  p.ids.insert(p.ids.begin(), static_cast<std::size_t>(pads), pad_id);
  const auto size = static_cast<std::int64_t>(p.ids.size());
  const std::int64_t wanted = size - static_cast<std::int64_t>(request.continuation.size());
  // The first token of all is never predicted; in block models nothing of the first block is.
  p.begin = std::max(wanted, model::first_target(config));
  p.begin = std::min(p.begin, size);
  p.unscored = p.begin - wanted;
  return p;
}

class BucketScorer : public Scorer {
 public:
  BucketScorer(const ModelConfig& config, Device device, Precision precision,
               const float* parameters, std::int64_t longest, std::int64_t batch_tokens)
      : config_(config),
        device_(device),
        precision_(precision),
        parameters_(parameters),
        batch_tokens_(batch_tokens) {
    const std::int64_t unit = config.kind == ModelKind::block ? config.block_length : 1;
    const std::int64_t least = config.kind == ModelKind::block ? 2 * unit : 2;
    // 32, 48, 64, 96, 128, ...: at most half of a sample is padding.
    for (std::int64_t length = 32; length < longest;
         length = length % 3 == 0 ? length / 3 * 4 : length / 2 * 3)
      lengths_.push_back(std::max(least, round_up(length, unit)));
    lengths_.push_back(std::max(least, round_up(longest, unit)));
  }
  const std::vector<std::int64_t>& lengths() const override { return lengths_; }
  std::int64_t sequences(std::int64_t length) const override {
    return std::max<std::int64_t>(1, batch_tokens_ / length);
  }
  model::HostScores score(std::int64_t length, const model::MicroBatch& batch) override {
    if (length != built_) {
      model_.reset();
      ModelConfig sized = config_;
      sized.context = length;
      model_ =
          parallel::make_loss_model(sized, device_, precision_, sequences(length), parameters_);
      built_ = length;
    }
    return model_->score(batch);
  }

 private:
  const ModelConfig config_;
  const Device device_;
  const Precision precision_;
  const float* const parameters_;
  const std::int64_t batch_tokens_;
  std::vector<std::int64_t> lengths_;
  std::unique_ptr<parallel::LossModel> model_;
  std::int64_t built_ = 0;
};

}  // namespace

std::unique_ptr<Scorer> make_scorer(const ModelConfig& config, Device device, Precision precision,
                                    const float* parameters, std::int64_t longest,
                                    std::int64_t batch_tokens) {
  return std::make_unique<BucketScorer>(config, device, precision, parameters, longest,
                                        batch_tokens);
}

std::vector<Likelihood> log_likelihoods(const ModelConfig& config, Scorer& scorer,
                                        const std::vector<Request>& requests, BlockPadding padding,
                                        std::int32_t pad_id, comm::Communicator& ranks,
                                        EvaluationShare share) {
  const std::int64_t longest = scorer.lengths().back();
  std::vector<Place> places;
  for (const Request& r : requests) places.push_back(place(config, r, padding, pad_id, longest));
  std::vector<std::size_t> order(requests.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return places[a].ids.size() < places[b].ids.size();
  });

  std::vector<double> sums(2 * requests.size());  // log-likelihood and misses of each request
  std::int64_t batches = 0;
  for (std::size_t next = 0; next < order.size();) {
    const auto size = static_cast<std::int64_t>(places[order[next]].ids.size());
    const std::int64_t length =
        *std::lower_bound(scorer.lengths().begin(), scorer.lengths().end(), size);
    std::size_t end = next;
    while (end < order.size() && static_cast<std::int64_t>(end - next) < scorer.sequences(length) &&
           static_cast<std::int64_t>(places[order[end]].ids.size()) <= length)
      ++end;
    const std::size_t begin = std::exchange(next, end);
    if (batches++ % share.count != share.index) continue;
    const auto count = static_cast<std::int64_t>(end - begin);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(count * length), pad_id);
    std::vector<std::int32_t> targets(ids.size(), -1);
    for (std::size_t i = begin; i < end; ++i) {
      const Place& p = places[order[i]];
      const auto at = static_cast<std::ptrdiff_t>(i - begin) * length;
      std::copy(p.ids.begin(), p.ids.end(), ids.begin() + at);
      std::copy(p.ids.begin() + p.begin, p.ids.end(), targets.begin() + at + p.begin);
    }
    const model::HostScores scores = scorer.score(length, {count, ids.data(), targets.data()});
    if (!share.counts) continue;
    ModelConfig sized = config;
    sized.context = length;
    const std::int64_t rows = model::targets_a_sample(sized), first = model::first_target(sized);
    for (std::size_t i = begin; i < end; ++i) {
      const Place& p = places[order[i]];
      const auto row = static_cast<std::int64_t>(i - begin) * rows - first;
      for (auto t = p.begin; t < static_cast<std::int64_t>(p.ids.size()); ++t) {
        const auto r = static_cast<std::size_t>(row + t);
        sums[2 * order[i]] -= scores.losses[r];
        sums[2 * order[i] + 1] += scores.best[r] == p.ids[static_cast<std::size_t>(t)] ? 0 : 1;
      }
    }
  }
  ranks.all_reduce(sums.data(), static_cast<std::int64_t>(sums.size()));
  std::vector<Likelihood> results;
  for (std::size_t n = 0; n < requests.size(); ++n)
    results.push_back({sums[2 * n], sums[2 * n + 1] == 0,
                       static_cast<std::int64_t>(places[n].ids.size()) - places[n].begin,
                       places[n].unscored});
  return results;
}

Windows text_windows(const ModelConfig& config, BlockPadding padding, std::int64_t longest) {
  const std::int64_t pads = pads_in_front(config, padding);
  return {longest - pads, model::first_target(config) - pads};
}

std::vector<Request> rolling_requests(const std::vector<std::int32_t>& tokens,
                                      const Windows& windows, std::int32_t prefix) {
  TESSERA_CHECK(windows.context >= 1 && windows.tokens > windows.context);
  std::vector<Request> requests;
  const auto size = static_cast<std::int64_t>(tokens.size());
  const auto part = [&](std::int64_t begin, std::int64_t end) {
    return std::vector<std::int32_t>(tokens.begin() + begin, tokens.begin() + end);
  };
  for (std::int64_t done = 0; done < size;) {
    // The first window's context is the prefix, so it ends behind windows.tokens - 1 of the text.
    const std::int64_t end =
        std::min(size, done + windows.tokens - (done == 0 ? 1 : windows.context));
    if (done == 0)
      requests.push_back({{prefix}, part(0, end)});
    else  // the last window reaches back as far as it may
      requests.push_back({part(end - windows.tokens, done), part(done, end)});
    done = end;
  }
  return requests;
}

}  // namespace tessera::eval
