// The loader gives every replica its part of every step in order, resumes anywhere, passes errors
// on, and ends at once when dropped.
#include "data/loader.h"

#include <atomic>
#include <chrono>
#include <thread>

#include <gtest/gtest.h>

#include "tests/data/data_support.h"

namespace tessera::data {
namespace {

// Sample at position p is p, p, ...; may be slow, or fail from a position on.
class CountingSource : public TokenSource {
 public:
  explicit CountingSource(std::int64_t context) : context_(context) {}
  std::int64_t samples() const override { return 1000; }
  std::int64_t context() const override { return context_; }
  void read(std::int64_t position, std::span<std::int32_t> ids,
            std::span<std::int32_t> targets) override {
    if (position >= fails_from) throw Error(Category::data, "shard-00007.h5: chunk 3");
    if (delay.count() > 0) std::this_thread::sleep_for(delay);
    ++reads;
    std::fill(ids.begin(), ids.end(), static_cast<std::int32_t>(position));
    std::fill(targets.begin(), targets.end(), static_cast<std::int32_t>(-position));
  }
  std::int64_t vocab_size() const override { return 1 << 20; }
  const std::vector<std::int32_t>& token_bytes() const override { return bytes_; }
  const std::string& digest() const override { return text_; }
  const std::string& tokenizer_json() const override { return text_; }
  std::int32_t end_of_text() const override { return 0; }
  std::int64_t tokens() const override { return 1000 * context_; }

  std::int64_t fails_from = INT64_MAX;
  std::chrono::milliseconds delay{0};
  std::atomic<std::int64_t> reads = 0;

 private:
  std::int64_t context_;
  std::vector<std::int32_t> bytes_;
  std::string text_;
};

// Positions of every step as one replica sees them: [step][sequence].
std::vector<std::vector<std::int64_t>> positions(const LoaderOptions& options) {
  CountingSource source(3);
  Loader loader(source, options);
  std::vector<std::vector<std::int64_t>> result;
  const std::int64_t a_step = options.global_batch / (options.replicas * options.micro_batch);
  for (std::int64_t step = options.first_step; step < options.last_step; ++step) {
    result.emplace_back();
    for (std::int64_t m = 0; m < a_step; ++m) {
      const Batch& batch = loader.next();
      EXPECT_EQ(batch.step, step);
      EXPECT_EQ(batch.micro_batch, m);
      EXPECT_EQ(batch.sequences, options.micro_batch);
      EXPECT_EQ(batch.ids.size(), static_cast<std::size_t>(3 * options.micro_batch));
      EXPECT_EQ(batch.first_position, batch.ids[0]);
      for (std::size_t i = 0; i < batch.ids.size(); ++i) {
        EXPECT_EQ(batch.ids[i], batch.ids[i / 3 * 3]);
        EXPECT_EQ(batch.targets[i], -batch.ids[i]);
      }
      for (std::size_t row = 0; row < batch.ids.size(); row += 3)
        result.back().push_back(batch.ids[row]);
    }
  }
  EXPECT_THROW(loader.next(), Error);
  return result;
}

TEST(Loader, ReplicasTogetherSeeTheGlobalOrder) {
  for (const std::int64_t replicas : {1, 2, 4})
    for (const std::int64_t micro : {1, 2, 3}) {
      std::vector<std::vector<std::int64_t>> steps(5);
      for (std::int64_t r = 0; r < replicas; ++r) {
        const auto part = positions({24, micro, r, replicas, 0, 5, 3});
        for (std::size_t s = 0; s < steps.size(); ++s)
          steps[s].insert(steps[s].end(), part[s].begin(), part[s].end());
      }
      std::int64_t next = 0;
      for (const auto& step : steps)
        for (const std::int64_t position : step) ASSERT_EQ(position, next++);
      ASSERT_EQ(next, 120);
    }
}

TEST(Loader, StartingLaterEqualsSkipping) {
  const auto all = positions({8, 2, 1, 2, 0, 7, 4});
  for (std::int64_t first = 0; first <= 7; ++first) {
    const auto late = positions({8, 2, 1, 2, first, 7, 4});
    EXPECT_EQ(late, std::vector(all.begin() + first, all.end()));
  }
}

TEST(Loader, ABatchStaysUntilTheNextCall) {
  CountingSource source(2);
  Loader loader(source, {1, 1, 0, 1, 0, 50, 1});
  for (std::int32_t n = 0; n < 50; ++n) {
    const Batch& batch = loader.next();
    if (n % 10 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(3));
    ASSERT_EQ(batch.ids, (std::vector<std::int32_t>{n, n}));
  }
}

TEST(Loader, ReadsAheadButNotMore) {
  CountingSource source(2);
  Loader loader(source, {1, 1, 0, 1, 0, 100, 5});
  loader.next();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(source.reads, 6);  // the one held and five ahead
}

TEST(Loader, ErrorsComeAtTheirBatchAndStay) {
  CountingSource source(2);
  source.fails_from = 5;
  Loader loader(source, {2, 2, 0, 1, 0, 100, 4});
  EXPECT_EQ(loader.next().ids[0], 0);
  EXPECT_EQ(loader.next().ids[0], 2);
  for (int i = 0; i < 3; ++i)
    expect_error(Category::data, {"shard-00007.h5"}, [&] { loader.next(); });
}

TEST(Loader, EndsEarlyAtOnce) {
  CountingSource source(2);
  source.delay = std::chrono::milliseconds(20);
  const auto start = std::chrono::steady_clock::now();
  {
    Loader loader(source, {1, 1, 0, 1, 0, 100000, 64});
    loader.next();
  }
  { Loader unused(source, {1, 1, 0, 1, 0, 100000, 64}); }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST(Loader, CountsTheTimeItWasWaitedFor) {
  CountingSource source(2);
  source.delay = std::chrono::milliseconds(30);
  Loader loader(source, {1, 1, 0, 1, 0, 3, 1});
  for (int i = 0; i < 3; ++i) loader.next();
  EXPECT_GT(loader.waited_seconds(), 0.06);
  EXPECT_LT(loader.waited_seconds(), 5);
}

TEST(Loader, NothingAfterTheLastStep) {
  CountingSource source(2);
  Loader none(source, {1, 1, 0, 1, 4, 4, 1});
  expect_error(Category::internal, {}, [&] { none.next(); });
}

TEST(Loader, RefusesBatchesThatDoNotDivide) {
  CountingSource source(2);
  expect_error(Category::config, {"train.global_batch = 10", "2 x 3"}, [&] {
    Loader(source, {10, 3, 0, 2, 0, 1, 1});
  });
  expect_error(Category::config, {"loader"}, [&] { Loader(source, {4, 1, 2, 2, 0, 1, 1}); });
  expect_error(Category::config, {"loader"}, [&] { Loader(source, {4, 1, 0, 1, 2, 1, 1}); });
}

}  // namespace
}  // namespace tessera::data
