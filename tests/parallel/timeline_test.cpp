// Simulated timelines: the bubble that the papers' formulas say, hand-computed small cases, and
// drawings with what they must hold.
#include "parallel/timeline.h"

#include <algorithm>
#include <map>
#include <tuple>

#include <gtest/gtest.h>

namespace tessera::parallel {
namespace {

StageCosts even(double forward, double backward, double link = 0) {
  return {[=](Action a, std::int64_t) { return a == Action::forward ? forward : backward; },
          [=](std::int64_t) { return link; }};
}

TEST(Timeline, EqualCostsAndFreeLinksGiveTheIdealBubble) {
  for (const std::int64_t stages : {1, 2, 3, 4, 7, 16})
    for (const std::int64_t micro : {1, 2, 4, 5, 16, 33})
      for (const double backward : {1.0, 2.0}) {
        for (const auto kind : {PipelineSchedule::gpipe, PipelineSchedule::one_f_one_b}) {
          const ScheduleShape shape{kind, stages, 1, micro};
          const Timeline t = simulate(shape, even(1, backward));
          EXPECT_NEAR(t.bubble, ideal_bubble(shape), 1e-12);
          EXPECT_NEAR(t.seconds, double(micro + stages - 1) * (1 + backward), 1e-9);
        }
        for (const std::int64_t chunks : {2, 3}) {
          const ScheduleShape shape{PipelineSchedule::interleaved, stages, chunks, stages * micro};
          if (stages == 1) continue;
          EXPECT_NEAR(simulate(shape, even(1, backward)).bubble, ideal_bubble(shape), 1e-12);
        }
      }
}

TEST(Timeline, InstructionsWaitForTheirInputs) {
  for (const auto kind :
       {PipelineSchedule::gpipe, PipelineSchedule::one_f_one_b, PipelineSchedule::interleaved}) {
    const std::int64_t chunks = kind == PipelineSchedule::interleaved ? 2 : 1;
    const ScheduleShape shape{kind, 4, chunks, 8};
    const std::int64_t last = 4 * chunks - 1;
    const StageCosts costs = {
        [](Action a, std::int64_t v) { return (a == Action::forward ? 1 : 2.5) + 0.1 * double(v); },
        [](std::int64_t v) { return 0.05 * double(v + 1); }};
    const Timeline t = simulate(shape, costs);
    std::map<std::tuple<bool, std::int64_t, std::int64_t>, Span> spans;
    for (std::size_t s = 0; s < t.ranks.size(); ++s) {
      double free = 0;
      for (const Span& span : t.ranks[s]) {
        EXPECT_GE(span.start, free);
        free = span.end;
        const Instruction& i = span.instruction;
        const std::int64_t v = i.chunk * 4 + std::int64_t(s);
        EXPECT_NEAR(span.end - span.start, costs.compute(i.action, v), 1e-12);
        spans[{i.action == Action::forward, v, i.micro_batch}] = span;
      }
    }
    EXPECT_EQ(std::int64_t(spans.size()), 2 * 8 * 4 * chunks);
    for (const auto& [key, span] : spans) {
      const auto [forward, v, m] = key;
      if (forward && v > 0) {
        EXPECT_GE(span.start, spans.at({true, v - 1, m}).end + costs.link(v - 1) - 1e-12);
      }
      if (!forward && v < last) {
        EXPECT_GE(span.start, spans.at({false, v + 1, m}).end + costs.link(v) - 1e-12);
      }
      if (!forward) {
        EXPECT_GE(span.start, spans.at({true, v, m}).end - 1e-12);
      }
    }
  }
}

TEST(Timeline, TwoStagesByHand) {
  // F0 0-1, message to 1.5, F0' 1.5-2.5, B0' 2.5-4.5, back by 5, B0 5-7.
  const Timeline t = simulate({PipelineSchedule::one_f_one_b, 2, 1, 1}, even(1, 2, 0.5));
  ASSERT_EQ(t.ranks[1].size(), 2u);
  EXPECT_DOUBLE_EQ(t.ranks[1][0].start, 1.5);
  EXPECT_DOUBLE_EQ(t.ranks[1][1].end, 4.5);
  EXPECT_DOUBLE_EQ(t.ranks[0][1].start, 5);
  EXPECT_DOUBLE_EQ(t.seconds, 7);
  EXPECT_DOUBLE_EQ(t.bubble, 1 - 6.0 / 14);
  // A link slower than computing sets the pace: messages pass one after the other.
  const Timeline slow = simulate({PipelineSchedule::gpipe, 2, 1, 4}, even(1, 1, 10));
  for (std::size_t m = 0; m < 4; ++m)
    EXPECT_DOUBLE_EQ(slow.ranks[1][m].start, 1 + 10 * double(m + 1));
}

TEST(Timeline, TheSlowestStageSetsThePace) {
  const StageCosts costs = {[](Action, std::int64_t v) { return v == 1 ? 3.0 : 1.0; },
                            [](std::int64_t) { return 0.0; }};
  const double some = simulate({PipelineSchedule::one_f_one_b, 3, 1, 20}, costs).seconds;
  const double more = simulate({PipelineSchedule::one_f_one_b, 3, 1, 30}, costs).seconds;
  EXPECT_NEAR(more - some, 10 * 6, 1e-9);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

TEST(TimelineDrawing, TextIsTheFigureOfThePapers) {
  const Timeline t = simulate({PipelineSchedule::one_f_one_b, 4, 1, 4}, even(1, 2));
  const auto lines = lines_of(draw_text(t, 21));  // a column a unit of time
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], "  stage 0 |0123......aa.bb.cc.dd|");
  EXPECT_NE(lines[3].find("0aa1bb2cc3dd"), std::string::npos);
  EXPECT_NE(lines[4].find("idle"), std::string::npos);
}

TEST(TimelineDrawing, ChunksAreToldApart) {
  const Timeline t = simulate({PipelineSchedule::interleaved, 2, 2, 4}, even(1, 2));
  const std::string text = draw_text(t, 80);
  const auto lines = lines_of(text);
  ASSERT_EQ(lines.size(), 4u);
  for (const char mark : {'0', ')', 'a', 'A'}) EXPECT_NE(lines[0].find(mark), std::string::npos);
  EXPECT_NE(lines[3].find("chunks"), std::string::npos);
  EXPECT_EQ(lines[0].size(), lines[1].size());
}

TEST(TimelineDrawing, PicturesHaveABoxAnInstruction) {
  const Timeline t = simulate({PipelineSchedule::gpipe, 3, 1, 5}, even(1, 2));
  const std::string svg = draw_svg(t);
  const auto count = [&](const std::string& what) {
    std::size_t n = 0;
    for (std::size_t at = svg.find(what); at != std::string::npos; at = svg.find(what, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count("class=\"forward\""), 15u);
  EXPECT_EQ(count("class=\"backward\""), 15u);
  EXPECT_EQ(count("<text"), count("</text>"));
  EXPECT_EQ(svg.find("<svg "), 0u);
  EXPECT_EQ(svg.substr(svg.size() - 7), "</svg>\n");
  EXPECT_NE(svg.find("stage 2"), std::string::npos);
}

}  // namespace
}  // namespace tessera::parallel
