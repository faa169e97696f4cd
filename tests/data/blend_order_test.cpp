// Blends of real shard folders: every sample of each corpus once in each of its epochs, in an order
// that changes from epoch to epoch; the same samples at the same positions for any number of
// replicas and after a resume at any step; and what the run says of it.
#include <algorithm>
#include <cmath>
#include <set>

#include <gtest/gtest.h>

#include "data/loader.h"
#include "data/token_source.h"
#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kContext = 4;

// Corpora of the given numbers of samples, in documents and shards that keep to no sample's
// bounds. A sample's first token says which sample of which corpus it is.
class Corpora {
 public:
  Corpora(const std::vector<std::int64_t>& samples, const std::vector<double>& weights) {
    const std::string base = scratch();
    std::int32_t id = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      first_.push_back(id);
      std::vector<std::int32_t> stream;
      for (std::int64_t k = 0; k < samples[i]; ++k) stream.insert(stream.end(), kContext, id++);
      stream.push_back(0);  // the tail, which no sample has
      Documents documents;
      for (std::size_t at = 0, step = 1; at < stream.size(); at += step, step = step % 9 + 1)
        documents.emplace_back(stream.begin() + std::ptrdiff_t(at),
                               stream.begin() + std::ptrdiff_t(std::min(at + step, stream.size())));
      sources_.push_back({base + "/" + std::to_string(i), weights[i]});
      write_folder(sources_.back().path, documents, plain_kind(60000), {101, 37, false});
    }
  }
  const std::string& path(std::size_t source) const { return sources_[source].path; }
  std::unique_ptr<TokenSource> open() const {
    return open_tokens(sources_, {kContext, 5, true, false});
  }
  std::size_t source_of(std::int32_t id) const {
    return static_cast<std::size_t>(std::upper_bound(first_.begin(), first_.end(), id) -
                                    first_.begin() - 1);
  }

 private:
  std::vector<SourceSpec> sources_;
  std::vector<std::int32_t> first_;  // ids of each corpus' first sample
};

std::int32_t sample_at(TokenSource& source, std::int64_t position) {
  std::vector<std::int32_t> ids(kContext), targets(kContext);
  source.read(position, ids, targets);
  EXPECT_EQ(ids, std::vector<std::int32_t>(kContext, ids[0]));
  return ids[0];
}

struct Case {
  std::vector<std::int64_t> samples;
  std::vector<double> weights;
};
const Case kCases[] = {{{40, 25, 60}, {1, 1, 1}},
                       {{7, 300}, {1, 99}},
                       {{120, 3}, {0.7, 0.3}},
                       {{1, 30, 2, 11, 50}, {1, 7, 2, 5, 3}},
                       {{33, 21}, {std::sqrt(2.0), 1}}};

TEST(BlendOrder, EveryCorpusGivesEachSampleOnceAnEpoch) {
  for (const Case& c : kCases) {
    const Corpora corpora(c.samples, c.weights);
    const auto source = corpora.open();
    double sum = 0;
    for (const double weight : c.weights) sum += weight;
    std::vector<std::vector<std::int32_t>> given(c.samples.size());
    const auto epochs_done = [&] {
      for (std::size_t i = 0; i < given.size(); ++i)
        if (static_cast<std::int64_t>(given[i].size()) < 3 * c.samples[i]) return false;
      return true;
    };
    for (std::int64_t p = 0; !epochs_done(); ++p) {
      const std::int32_t id = sample_at(*source, p);
      given[corpora.source_of(id)].push_back(id);
      const std::vector<SourceUse> used = source->used(p + 1);
      for (std::size_t i = 0; i < given.size(); ++i) {
        ASSERT_EQ(used[i].samples, static_cast<std::int64_t>(given[i].size()));
        ASSERT_LT(std::abs(double(used[i].samples) - c.weights[i] / sum * double(p + 1)), 1.001);
      }
    }
    const std::vector<SourceUse> none = source->used(0);
    for (std::size_t i = 0; i < given.size(); ++i) {
      const auto n = static_cast<std::size_t>(c.samples[i]);
      EXPECT_EQ(none[i].path, corpora.path(i));
      EXPECT_EQ(none[i].epoch_samples, c.samples[i]);
      EXPECT_NEAR(none[i].share, c.weights[i] / sum, 1e-6);
      std::set<std::vector<std::int32_t>> orders;
      std::size_t epochs = 0;
      for (; (epochs + 1) * n <= given[i].size(); ++epochs) {
        const auto begin = given[i].begin() + static_cast<std::ptrdiff_t>(epochs * n);
        const std::vector<std::int32_t> epoch(begin, begin + static_cast<std::ptrdiff_t>(n));
        ASSERT_EQ(std::set<std::int32_t>(epoch.begin(), epoch.end()).size(), n)
            << "corpus " << i << ", epoch " << epochs;
        orders.insert(epoch);
      }
      ASSERT_GE(epochs, 3u);
      // Small corpora have few orders: more than one where there can be, all different where
      // chance would never repeat one.
      EXPECT_GE(orders.size(), n >= 20 ? epochs : n >= 3 ? 2u : 1u);
    }
  }
}

// The samples of steps first .. last - 1 as all replicas together take them.
std::vector<std::int32_t> taken(const Corpora& corpora, std::int64_t replicas, std::int64_t micro,
                                std::int64_t first, std::int64_t last) {
  constexpr std::int64_t kGlobal = 8;
  std::vector<std::int32_t> result(static_cast<std::size_t>((last - first) * kGlobal), -1);
  for (std::int64_t r = 0; r < replicas; ++r) {
    const auto source = corpora.open();  // a process of its own
    LoaderOptions options;
    options.global_batch = kGlobal;
    options.micro_batch = micro;
    options.replica = r;
    options.replicas = replicas;
    options.first_step = first;
    options.last_step = last;
    Loader loader(*source, options);
    for (std::int64_t n = 0; n < (last - first) * kGlobal / (replicas * micro); ++n) {
      const Batch& batch = loader.next();
      for (std::int64_t row = 0; row < batch.sequences; ++row) {
        auto& slot = result[static_cast<std::size_t>(batch.first_position - first * kGlobal + row)];
        EXPECT_EQ(slot, -1);
        slot = batch.ids[static_cast<std::size_t>(row * kContext)];
      }
    }
  }
  return result;
}

TEST(BlendOrder, IsTheSameForAnyReplicasAndAfterAnyResume) {
  for (const Case& c : kCases) {
    const Corpora corpora(c.samples, c.weights);
    const auto source = corpora.open();
    constexpr std::int64_t kSteps = 30;
    std::vector<std::int32_t> expected;
    for (std::int64_t p = 0; p < 8 * kSteps; ++p) expected.push_back(sample_at(*source, p));
    for (const std::int64_t replicas : {1, 2, 4})
      for (std::int64_t micro = 1; micro <= 8 / replicas; micro *= 2)
        ASSERT_EQ(taken(corpora, replicas, micro, 0, kSteps), expected)
            << replicas << " replicas, micro-batch " << micro;
    for (std::int64_t step = 0; step < kSteps; ++step)
      ASSERT_EQ(taken(corpora, 1 + step % 2, 2, step, kSteps),
                std::vector(expected.begin() + std::ptrdiff_t(8 * step), expected.end()))
          << "from step " << step;
  }
}

}  // namespace
}  // namespace tessera::data
