// Log-likelihoods against float64 softmaxes of the full forward, sample by sample: no batching, no
// bucketing, no float32.
#include "eval/scoring.h"

#include <cmath>

#include <gtest/gtest.h>

#include "comm/mpi_communicator.h"
#include "core/error.h"
#include "core/integers.h"
#include "eval/tasks.h"
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

// Letters a to z and the blank are ids 0 to 26.
eval::Encoding letters() {
  return {[](const std::string& text) {
            std::vector<std::int32_t> ids;
            for (const char c : text) ids.push_back(c == ' ' ? 26 : c - 'a');
            return ids;
          },
          [](const std::vector<std::int32_t>& ids) {
            std::string text;
            for (const std::int32_t id : ids) text += id == 26 ? ' ' : static_cast<char>('a' + id);
            return text;
          },
          kPad};
}

// The definition, by one float64 forward a predicted token: each token of a text behind end-of-text
// is predicted in the window that the rule gives it; without padding the text's first L_B - 1 are
// not, nor are their bytes counted.
TEST_P(Scoring, RunningTextLosesItsFirstBlockAtMost) {
  const ModelConfig config = GetParam();
  const std::int64_t block = config.kind == ModelKind::block ? config.block_length : 1;
  const std::string alphabet = "etaoin shrdlu cmfwyp vbgkjqxz";
  OwnedStage<float> model(config, 1);
  const auto ranks = comm::make_single();
  constexpr std::int64_t kLongest = 24;
  for (const std::size_t size : {2u, 5u, 23u, 24u, 25u, 70u}) {
    std::string text;
    for (const std::int32_t id : random_tokens(std::int64_t(size), 29, size))
      text += alphabet[static_cast<std::size_t>(id)];
    std::vector<std::int32_t> stream = letters().encode(text);
    stream.insert(stream.begin(), kPad);
    for (const BlockPadding padding : {BlockPadding::pad, BlockPadding::no_pad}) {
      const bool no_pad = padding == BlockPadding::no_pad;
      const std::int64_t window = kLongest - (no_pad ? 0 : block - 1);  // tokens of the stream
      const std::int64_t before = no_pad ? block : 1;
      double nats = 0, scored = 0;
      for (std::int64_t t = before, begin = 0; t < std::int64_t(stream.size()); ++t) {
        // A new window begins where this one is full, and reaches as far as the text does.
        if (t >= begin + window) begin = std::min(t - before, std::int64_t(stream.size()) - window);
        const auto at = stream.begin();
        const Likelihood one =
            expected(config, {{at + begin, at + t}, {stream[static_cast<std::size_t>(t)]}}, padding,
                     kLongest + block);
        ASSERT_EQ(one.scored, 1);
        nats -= one.sum;
        scored += 1;
      }
      const auto scorer = eval::make_scorer(config, Device::cpu, Precision::fp32,
                                            model.parameters.data(), kLongest, 100);
      const auto run = [&] {
        return eval::run_text("text", {text}, {text}, letters(),
                              eval::text_windows(config, padding, kLongest),
                              [&](const std::vector<Request>& requests) {
                                return eval::log_likelihoods(config, *scorer, requests, padding,
                                                             kPad, *ranks, {0, 1, true});
                              });
      };
      if (scored == 0) {
        EXPECT_THROW(run(), Error);
        continue;
      }
      const eval::TaskResult result = run();
      EXPECT_EQ(result.metrics[5].value, scored);
      EXPECT_EQ(result.unscored, no_pad ? block - 1 : 0);
      EXPECT_NEAR(result.metrics[0].value, nats / scored, 1e-5);
      EXPECT_NEAR(result.metrics[3].value, std::exp(nats / scored), 1e-4);  // a byte a token
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Scoring,
                         ::testing::Values(testing::small_vanilla(), testing::small_block(4, 2),
                                           testing::small_block(3, 1), testing::small_block(1, 2),
                                           testing::projecting(testing::small_block(4, 2))),
                         [](const auto& c) { return testing::name_of(c.param); });

TEST(Rolling, PredictsEveryTokenOnceBehindAsMuchAsItMay) {
  for (const std::int64_t longest : {2, 5, 8}) {
    for (std::int64_t context = 1; context < longest; ++context) {
      for (std::int64_t size = 0; size < 30; ++size) {
        std::vector<std::int32_t> tokens;
        for (std::int64_t i = 0; i < size; ++i)
          tokens.push_back(static_cast<std::int32_t>(100 + i));
        std::vector<std::int32_t> predicted;
        for (const Request& r : eval::rolling_requests(tokens, {longest, context}, 9)) {
          const auto before = static_cast<std::int64_t>(r.context.size()),
                     after = static_cast<std::int64_t>(r.continuation.size());
          ASSERT_GE(after, 1);
          if (predicted.empty()) {
            ASSERT_EQ(r.context, std::vector<std::int32_t>{9});
            ASSERT_EQ(after, std::min(size, longest - 1));
          } else {  // what stands before it, without a gap, and full
            ASSERT_EQ(r.context.back() + 1, r.continuation.front());
            ASSERT_GE(before, context);
            ASSERT_EQ(before + after, longest);
          }
          predicted.insert(predicted.end(), r.continuation.begin(), r.continuation.end());
        }
        ASSERT_EQ(predicted, tokens);
      }
    }
  }
}

}  // namespace
}  // namespace tessera
