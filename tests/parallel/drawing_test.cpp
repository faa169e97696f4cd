// Drawn timelines: the figures that the papers have, and pictures with what they must hold.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "parallel/timeline.h"

namespace tessera::parallel {
namespace {

StageCosts even(double forward, double backward) {
  return {[=](Action a, std::int64_t) { return a == Action::forward ? forward : backward; },
          [](std::int64_t) { return 0.0; }};
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
