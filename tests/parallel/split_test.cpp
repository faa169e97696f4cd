// Splits of pieces over stages: the optimum by trying all cuts of small lists, what must hold for
// large ones, models as they are, and the refusals.
#include "parallel/split.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "core/error.h"
#include "parallel/split_search.h"
#include "parallel/timeline.h"

namespace tessera::parallel {
namespace {

SplitProblem problem_of(const std::vector<std::int64_t>& costs, std::int64_t stages,
                        std::int64_t chunks) {
  SplitProblem problem{{0}, stages, chunks};
  for (const std::int64_t cost : costs) problem.before.push_back(problem.before.back() + cost);
  return problem;
}

Cuts cuts_of(const std::vector<PieceRange>& ranges) {
  Cuts cuts{0};
  for (const PieceRange& range : ranges) cuts.push_back(range.end);
  return cuts;
}

std::vector<double> doubles(const std::vector<std::int64_t>& costs, double factor = 1) {
  std::vector<double> result;
  for (const std::int64_t cost : costs) result.push_back(static_cast<double>(cost) * factor);
  return result;
}

// Runs that follow each other from the first piece to the last, none empty.
void expect_covers(const std::vector<PieceRange>& ranges, std::int64_t pieces, std::int64_t runs) {
  ASSERT_EQ(std::ssize(ranges), runs);
  std::int64_t at = 0;
  for (const PieceRange& range : ranges) {
    ASSERT_EQ(range.begin, at);
    ASSERT_GT(range.end, range.begin);
    at = range.end;
  }
  ASSERT_EQ(at, pieces);
}

// The best score of all cuts, one by one, from sums of its own.
SplitScore best_by_trying(const std::vector<std::int64_t>& costs, std::int64_t stages,
                          std::int64_t chunks) {
  const std::int64_t pieces = std::ssize(costs), runs = stages * chunks;
  // Which of the inner borders are cut.
  std::vector<bool> chosen(static_cast<std::size_t>(pieces - 1));
  std::fill(chosen.end() - (runs - 1), chosen.end(), true);
  SplitScore best{INT64_MAX, INT64_MAX, INT64_MAX};
  do {
    std::vector<std::int64_t> of_run{0}, of_stage(static_cast<std::size_t>(stages));
    for (std::size_t i = 0; i < costs.size(); ++i) {
      of_run.back() += costs[i];
      if (i < chosen.size() && chosen[i]) of_run.push_back(0);
    }
    SplitScore now;
    for (std::size_t run = 0; run < of_run.size(); ++run) {
      of_stage[run % of_stage.size()] += of_run[run];
      now.squares += of_run[run] * of_run[run];
    }
    now.run = *std::max_element(of_run.begin(), of_run.end());
    now.stage = *std::max_element(of_stage.begin(), of_stage.end());
    best = std::min(best, now);
  } while (std::next_permutation(chosen.begin(), chosen.end()));
  return best;
}

std::vector<std::int64_t> random_costs(std::mt19937_64& random, std::size_t pieces, int most) {
  std::vector<std::int64_t> costs(pieces);
  for (std::int64_t& cost : costs) cost = 1 + static_cast<std::int64_t>(random() % most);
  return costs;
}

void expect_best(const std::vector<std::int64_t>& costs, std::int64_t stages, std::int64_t chunks) {
  SCOPED_TRACE(std::to_string(costs.size()) + " pieces, " + std::to_string(stages) + " stages x " +
               std::to_string(chunks) + " chunks");
  const auto ranges = split_pieces(doubles(costs), stages, chunks);
  expect_covers(ranges, std::ssize(costs), stages * chunks);
  const SplitProblem problem = problem_of(costs, stages, chunks);
  const SplitScore found = score(problem, cuts_of(ranges)),
                   best = best_by_trying(costs, stages, chunks);
  EXPECT_EQ(found.stage, best.stage);
  EXPECT_EQ(found.run, best.run);
  EXPECT_EQ(found.squares, best.squares);
  EXPECT_TRUE(best_cuts(problem).proven);
}

TEST(Split, IsTheOptimumOfAllCuts) {
  std::mt19937_64 random(11);
  for (const std::size_t pieces : {1U, 2U, 3U, 5U, 8U, 11U, 13U})
    for (std::int64_t stages = 1; stages <= 6; ++stages)
      for (std::int64_t chunks = 1; chunks <= 4; ++chunks)
        for (const int most : {1, 3, 20, 1000})
          if (stages * chunks <= static_cast<std::int64_t>(pieces))
            expect_best(random_costs(random, pieces, most), stages, chunks);
}

// Small pieces beside large ones, where a run must be kept short so that the next one can have any.
TEST(Split, IsTheOptimumOfUnevenLists) {
  std::mt19937_64 random(12);
  for (int times = 0; times < 150; ++times) {
    std::vector<std::int64_t> costs;
    for (int i = 0; i < 12; ++i)
      costs.push_back(random() % 3 == 0 ? 20 + static_cast<std::int64_t>(random() % 60)
                                        : 1 + static_cast<std::int64_t>(random() % 3));
    expect_best(costs, 2 + static_cast<std::int64_t>(random() % 3), 2 + times % 2);
  }
}

// Embedding, equal layers, norm, a heavy head: as models are.
TEST(Split, IsTheOptimumOfModels) {
  for (const std::int64_t layers : {6, 10, 12, 16})
    for (const std::int64_t head : {9, 31, 78, 200}) {
      std::vector<std::int64_t> costs{1};
      costs.insert(costs.end(), static_cast<std::size_t>(layers), 10);
      costs.push_back(head);
      for (const auto& [stages, chunks] :
           {std::pair(2, 1), std::pair(4, 1), std::pair(2, 2), std::pair(2, 3), std::pair(4, 2)})
        if (stages * chunks <= std::ssize(costs)) expect_best(costs, stages, chunks);
    }
}

TEST(Split, HeavyHeadsStandAlone) {
  const std::vector<PieceRange> expected{{0, 4}, {4, 7}, {7, 8}};
  EXPECT_EQ(split_pieces({0.1, 1, 1, 1, 1, 1, 1, 9}, 3, 1), expected);
}

TEST(Split, UnitsDoNotMatter) {
  std::mt19937_64 random(13);
  for (int times = 0; times < 40; ++times) {
    const auto costs = random_costs(random, 14, 50);
    for (const auto& [stages, chunks] : {std::pair(3, 1), std::pair(3, 2), std::pair(2, 3)}) {
      const auto ranges = split_pieces(doubles(costs), stages, chunks);
      EXPECT_EQ(ranges, split_pieces(doubles(costs, 1e12), stages, chunks));  // FLOPs
      // Seconds: not whole, so sums that tie may differ a little; the largest sum stays.
      const SplitProblem problem = problem_of(costs, stages, chunks);
      EXPECT_EQ(score(problem, cuts_of(split_pieces(doubles(costs, 1e-7), stages, chunks))).stage,
                score(problem, cuts_of(ranges)).stage);
    }
  }
}

TEST(Split, SameCallsGiveTheSame) {
  std::mt19937_64 random(14);
  const auto costs = doubles(random_costs(random, 60, 1000), 0.001);
  EXPECT_EQ(split_pieces(costs, 6, 3), split_pieces(costs, 6, 3));
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Too many to try: never worse than runs that are balanced by themselves, near the bound that no
// split can beat, and fast.
TEST(Split, LargeListsAreFastAndEven) {
  std::mt19937_64 random(15);
  const auto start = std::chrono::steady_clock::now();
  for (const auto& [stages, chunks] : {std::pair(64, 1), std::pair(32, 2), std::pair(16, 4),
                                       std::pair(8, 8), std::pair(4, 16), std::pair(1, 64)}) {
    SCOPED_TRACE(std::to_string(stages) + " x " + std::to_string(chunks));
    const auto costs = random_costs(random, 200, 1000);
    const auto ranges = split_pieces(doubles(costs), stages, chunks);
    expect_covers(ranges, 200, 64);
    const SplitProblem problem = problem_of(costs, stages, chunks);
    const SplitScore found = score(problem, cuts_of(ranges));
    const Cuts alone = cuts_of(split_pieces(doubles(costs), stages * chunks, 1));
    EXPECT_LE(found, score(problem, alone));
    const double average = static_cast<double>(problem.before.back()) / static_cast<double>(stages);
    if (chunks > 1) {
      EXPECT_LT(static_cast<double>(found.stage), 1.12 * average);
    }
    if (chunks >= 8) {
      EXPECT_LT(static_cast<double>(found.stage), 1.01 * average);
    }
  }
  EXPECT_LT(seconds_since(start), 30);  // sanitizers and busy machines are slower
}

// Embedder, light layers of the block decoder, norm, expansion, layers of the token decoder, head.
std::vector<std::int64_t> block_model(std::size_t layers) {
  std::vector<std::int64_t> costs{4};
  costs.insert(costs.end(), layers, 25);
  costs.insert(costs.end(), {1, 30});
  costs.insert(costs.end(), layers, 140);
  costs.push_back(900);
  return costs;
}

// The stage of the head needs but one light piece beside it, in whichever chunk that is.
TEST(Split, HeavyHeadsGetLightPiecesBesideThem) {
  const auto largest = [](std::int64_t stages, std::int64_t chunks) {
    const SplitProblem problem = problem_of(block_model(36), stages, chunks);
    return score(problem, cuts_of(split_pieces(doubles(block_model(36)), stages, chunks))).stage;
  };
  EXPECT_EQ(largest(8, 2), 901);  // head and norm
  EXPECT_EQ(largest(16, 2), 901);
  EXPECT_LE(largest(8, 4), 951);  // head, norm and two light layers
}

// What split.h says of interleaved chunks: even runs beat even stages.
TEST(Split, EvenRunsInterleaveBetterThanEvenStages) {
  const auto costs = block_model(36);
  const SplitProblem problem = problem_of(costs, 4, 2);
  const auto time = [&](const std::vector<PieceRange>& runs) {
    const StageCosts stage_costs{[&](Action action, std::int64_t stage) {
                                   const PieceRange& run = runs[static_cast<std::size_t>(stage)];
                                   return (action == Action::forward ? 1.0 : 2.0) *
                                          static_cast<double>(problem.cost(run.begin, run.end));
                                 },
                                 [](std::int64_t) { return 0.0; }};
    const ScheduleShape shape{PipelineSchedule::interleaved, 4, 2, 128};
    return simulate(shape, stage_costs).seconds * 4 /
           (3.0 * 128 * static_cast<double>(problem.total()));
  };
  EXPECT_NEAR(time(split_pieces(doubles(costs), 8, 1)), 1.03, 0.01);
  EXPECT_NEAR(time(split_pieces(doubles(costs), 4, 2)), 1.35, 0.01);
}

TEST(Split, OneRunAPiece) {
  const std::vector<PieceRange> expected{{0, 1}, {1, 2}, {2, 3}, {3, 4}};
  EXPECT_EQ(split_pieces({3, 1, 4, 1.5}, 4, 1), expected);
  EXPECT_EQ(split_pieces({3, 1, 4, 1.5}, 2, 2), expected);
  EXPECT_EQ(split_pieces({5}, 1, 1), (std::vector<PieceRange>{{0, 1}}));
}

std::string refusal(const std::vector<double>& costs, std::int64_t stages, std::int64_t chunks) {
  try {
    split_pieces(costs, stages, chunks);
  } catch (const Error& error) {
    EXPECT_EQ(error.category(), Category::config);
    return error.what();
  }
  return "not refused";
}

TEST(Split, RefusalsNameKeyValueAndCure) {
  const std::vector<double> costs(7, 1.0);
  const std::string stages = refusal(costs, 8, 1);
  EXPECT_NE(stages.find("parallel.pipeline: found 8 stages"), std::string::npos) << stages;
  EXPECT_NE(stages.find("7 pieces"), std::string::npos) << stages;
  EXPECT_NE(stages.find("at most 7"), std::string::npos) << stages;
  const std::string both = refusal(costs, 4, 2);
  EXPECT_NE(both.find("parallel.pipeline x parallel.virtual_stages: found 4 x 2"),
            std::string::npos)
      << both;
  EXPECT_NE(both.find("at most 3 x 2"), std::string::npos) << both;
  EXPECT_NO_THROW(split_pieces(costs, 3, 2));
  EXPECT_NE(refusal(costs, 1, 9).find("at most 1 x 7"), std::string::npos);
  EXPECT_NE(refusal(costs, INT64_MAX, INT64_MAX).find("at most 1 x 7"), std::string::npos);
}

TEST(Split, CostsArePositiveAndFinite) {
  EXPECT_THROW(split_pieces({}, 1, 1), Error);
  EXPECT_THROW(split_pieces({1, 0}, 1, 1), Error);
  EXPECT_THROW(split_pieces({1, -1}, 1, 1), Error);
  EXPECT_THROW(split_pieces({1, 1.0 / 0.0}, 1, 1), Error);
  EXPECT_THROW(split_pieces({1, 0.0 / 0.0}, 1, 1), Error);
  EXPECT_THROW(split_pieces({1, 1}, 0, 1), Error);
}

}  // namespace
}  // namespace tessera::parallel
