// The search finds what trying every layout finds, and stays quick for thousands of ranks.
#include "parallel/layout_search.h"

#include <chrono>

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/parallel/plan_support.h"

namespace tessera::parallel {
namespace {

using testing::gpu_config;

TEST(LayoutSearch, FindsTheFastestOfAll) {
  const Config config = gpu_config("paper/block_420m.yaml", {"train.global_batch=32"});
  const Predictor predictor(config, Device::cuda, h100_machine());
  const SearchResult few = search_layouts(predictor, config, 4, 5);
  const SearchResult all = search_layouts(predictor, config, 4, 1'000'000);
  ASSERT_EQ(few.best.size(), 5u);
  EXPECT_EQ(few.layouts, all.layouts);
  EXPECT_EQ(std::int64_t(all.best.size()), all.layouts - all.too_large);
  for (std::size_t i = 0; i < few.best.size(); ++i)
    EXPECT_DOUBLE_EQ(few.best[i].step_seconds, all.best[i].step_seconds);
  for (std::size_t i = 1; i < all.best.size(); ++i)
    EXPECT_GE(all.best[i].step_seconds, all.best[i - 1].step_seconds);
  for (const Prediction& p : all.best) {
    EXPECT_TRUE(p.fits);
    EXPECT_EQ(p.topology.stages * p.topology.replicas, 4);
    const Prediction again = predictor.predict(p.config, 4);  // each runs as it stands
    EXPECT_DOUBLE_EQ(again.step_seconds, p.step_seconds);
  }
}

TEST(LayoutSearch, LeavesOutWhatDoesNotFit) {
  const Config config = gpu_config("paper/block_1400m.yaml");
  Machine small = h100_machine();
  small.rates.memory_bytes = 24'000'000'000;
  const SearchResult result =
      search_layouts(Predictor(config, Device::cuda, small), config, 8, 1000);
  EXPECT_GT(result.too_large, 0);
  for (const Prediction& p : result.best) EXPECT_LE(p.memory_bytes, small.rates.memory_bytes);
}

TEST(LayoutSearch, SaysWhyNothingIsLeft) {
  const auto message = [](const Config& config, std::int64_t ranks, const Machine& machine) {
    try {
      search_layouts(Predictor(config, Device::cuda, machine), config, ranks, 3);
    } catch (const Error& error) {
      EXPECT_EQ(error.category(), Category::config);
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const Config config = gpu_config("paper/block_1400m.yaml");
  EXPECT_NE(message(config, 8191, h100_machine()).find("train.global_batch"), std::string::npos);
  Machine tiny = h100_machine();
  tiny.rates.memory_bytes = 1'000'000;
  EXPECT_NE(message(config, 8, tiny).find("train.recompute"), std::string::npos);
}

TEST(LayoutSearch, IsQuickForThousandsOfRanks) {
  const auto start = std::chrono::steady_clock::now();
  for (const std::int64_t ranks : {512, 4096}) {
    const Config config = gpu_config("paper/block_1400m.yaml");
    const SearchResult result =
        search_layouts(Predictor(config, Device::cuda, h100_machine()), config, ranks, 10);
    EXPECT_GE(result.best.size(), 3u);
  }
  // Generous: a busy machine's seconds.
  EXPECT_LT(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 20);
}

}  // namespace
}  // namespace tessera::parallel
