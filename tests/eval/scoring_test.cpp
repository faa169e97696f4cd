// Log-likelihoods against float64 softmaxes of the full forward, sample by sample: no batching, no
// bucketing, no float32.
#include "eval/scoring.h"

#include <cmath>

#include <gtest/gtest.h>

#include "comm/mpi_communicator.h"
#include "core/integers.h"
#include "support/small_models.h"

namespace tessera {
namespace {

using eval::BlockPadding;
using eval::Likelihood;
using eval::Request;
using testing::OwnedStage;
using testing::random_tokens;

constexpr std::int32_t kPad = 3;

std::vector<Request> requests_for(const ModelConfig& config) {
  std::vector<Request> requests;
  for (std::int64_t n = 0; n < 40; ++n)
    requests.push_back(
        {random_tokens(1 + n % 17 + (n % 5 == 0 ? 30 : 0), config.vocab, std::uint64_t(n)),
         random_tokens(1 + n % 6, config.vocab, std::uint64_t(1000 + n))});
  return requests;
}

// The definition: the last `longest` tokens, pads in front as asked, softmax of the rows before the
// continuation's tokens.
Likelihood expected(ModelConfig config, const Request& request, BlockPadding padding,
                    std::int64_t longest) {
  const bool block = config.kind == ModelKind::block;
  const std::int64_t unit = block ? config.block_length : 1;
  std::vector<std::int32_t> ids = request.context;
  ids.insert(ids.end(), request.continuation.begin(), request.continuation.end());
  const std::int64_t pads = block && padding == BlockPadding::pad ? unit - 1 : 0;
  while (static_cast<std::int64_t>(ids.size()) > longest - pads) ids.erase(ids.begin());
  ids.insert(ids.begin(), static_cast<std::size_t>(pads), kPad);
  const auto size = static_cast<std::int64_t>(ids.size());
  config.context = std::max(2 * unit, round_up(size, unit));
  ids.resize(static_cast<std::size_t>(config.context), 0);
  OwnedStage<double> model(config, 1);
  const auto logits = model.stage.logits(model.batch(ids));
  const std::int64_t first = model::first_target(config);
  Likelihood result;
  for (std::int64_t t = size - static_cast<std::int64_t>(request.continuation.size()); t < size;
       ++t) {
    if (t < first) {
      ++result.unscored;
      continue;
    }
    const double* row = logits.data() + (t - first) * config.vocab;
    double sum = 0;
    std::int64_t best = 0;
    for (std::int64_t v = 0; v < config.vocab; ++v) {
      sum += std::exp(row[v]);
      if (row[v] > row[best]) best = v;
    }
    const std::int32_t target = ids[static_cast<std::size_t>(t)];
    result.sum += row[target] - std::log(sum);
    result.greedy = result.greedy && best == target;
    ++result.scored;
  }
  return result;
}

class Scoring : public ::testing::TestWithParam<ModelConfig> {};

TEST_P(Scoring, EqualsTheSoftmaxOfTheFullForwardInAnyBatch) {
  const ModelConfig config = GetParam();
  constexpr std::int64_t kLongest = 37;
  OwnedStage<float> model(config, 1);
  const std::vector<Request> requests = requests_for(config);
  const auto ranks = comm::make_single();
  for (const BlockPadding padding : {BlockPadding::pad, BlockPadding::no_pad}) {
    for (const std::int64_t batch : {1, 64, 2000}) {
      const auto scorer = eval::make_scorer(config, Device::cpu, Precision::fp32,
                                            model.parameters.data(), kLongest, batch);
      const auto found =
          eval::log_likelihoods(config, *scorer, requests, padding, kPad, *ranks, {0, 1, true});
      ASSERT_EQ(found.size(), requests.size());
      for (std::size_t n = 0; n < found.size(); ++n) {
        const Likelihood e = expected(config, requests[n], padding, scorer->lengths().back());
        EXPECT_NEAR(found[n].sum, e.sum, 1e-4) << n;
        EXPECT_EQ(found[n].greedy, e.greedy) << n;
        EXPECT_EQ(found[n].scored, e.scored) << n;
        EXPECT_EQ(found[n].unscored, e.unscored) << n;
      }
    }
  }
}

// Replicas share the batches; added up they have everything once.
TEST_P(Scoring, ReplicasShareTheRequests) {
  const ModelConfig config = GetParam();
  OwnedStage<float> model(config, 1);
  const auto requests = requests_for(config);
  const auto ranks = comm::make_single();
  const auto share = [&](std::int64_t index, std::int64_t count, bool counts) {
    const auto scorer =
        eval::make_scorer(config, Device::cpu, Precision::fp32, model.parameters.data(), 64, 100);
    return eval::log_likelihoods(config, *scorer, requests, BlockPadding::pad, kPad, *ranks,
                                 {index, count, counts});
  };
  const auto all = share(0, 1, true), a = share(0, 3, true), b = share(1, 3, true),
             c = share(2, 3, true), silent = share(0, 1, false);
  for (std::size_t n = 0; n < all.size(); ++n) {
    EXPECT_EQ(a[n].sum + b[n].sum + c[n].sum, all[n].sum);
    EXPECT_EQ((a[n].sum != 0) + (b[n].sum != 0) + (c[n].sum != 0), 1);
    EXPECT_EQ(silent[n].sum, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Scoring,
                         ::testing::Values(testing::small_vanilla(), testing::small_block(4, 2),
                                           testing::small_block(3, 1), testing::small_block(1, 2),
                                           testing::projecting(testing::small_block(4, 2))),
                         [](const auto& c) { return testing::name_of(c.param); });

TEST(Rolling, PredictsEveryTokenOnceBehindAsMuchAsItMay) {
  for (const std::int64_t longest : {1, 4, 7}) {
    for (std::int64_t size = 0; size < 30; ++size) {
      std::vector<std::int32_t> tokens;
      for (std::int64_t i = 0; i < size; ++i) tokens.push_back(static_cast<std::int32_t>(100 + i));
      std::vector<std::int32_t> predicted;
      for (const Request& r : eval::rolling_requests(tokens, longest, 9)) {
        ASSERT_FALSE(r.context.empty());
        ASSERT_FALSE(r.continuation.empty());
        ASSERT_LE(static_cast<std::int64_t>(r.context.size() + r.continuation.size()), longest + 1);
        if (predicted.empty())
          ASSERT_EQ(r.context, std::vector<std::int32_t>{9});
        else  // what stands before it, without a gap
          ASSERT_EQ(r.context.back() + 1, r.continuation.front());
        predicted.insert(predicted.end(), r.continuation.begin(), r.continuation.end());
      }
      ASSERT_EQ(predicted, tokens);
    }
  }
}

}  // namespace
}  // namespace tessera
