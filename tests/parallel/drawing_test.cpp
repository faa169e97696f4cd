// Pictures of timelines: the characters of small pipelines one by one, the structure of the SVG.
#include <algorithm>
#include <cctype>
#include <sstream>
#include <string_view>

#include <gtest/gtest.h>

#include "core/error.h"
#include "parallel/timeline.h"
#include "tests/parallel/shapes.h"

namespace tessera::parallel {
namespace {

using enum PipelineSchedule;

Timeline drawn(const ScheduleShape& shape, double link = 0) {
  return simulate(shape, {[&](Action action, std::int64_t) {
                            return (action == Action::forward ? 1e-3 : 2e-3) /
                                   static_cast<double>(shape.chunks);
                          },
                          [=](std::int64_t) { return link; }});
}

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> result;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) result.push_back(line);
  return result;
}

// PipeDream-flush as in Narayanan et al. 2021 (2104.04473), figure 3: 4 stages, 8 micro-batches.
TEST(DrawText, LooksLikeThePapersFigure) {
  EXPECT_EQ(draw_text(drawn({one_f_one_b, 4, 1, 8}), 76),
            "stage 0 |00112233............aaaa44bbbb55cccc66dddd77eeee..ffff..gggg..hhhh|\n"
            "stage 1 |..001122........aaaa33bbbb44cccc55dddd66eeee77ffff..gggg..hhhh....|\n"
            "stage 2 |....0011....aaaa22bbbb33cccc44dddd55eeee66ffff77gggg..hhhh........|\n"
            "stage 3 |......00aaaa11bbbb22cccc33dddd44eeee55ffff66gggg77hhhh............|\n"
            "0-7 forward of a micro-batch, a-h backward (a is 0), . idle\n"
            "33 ms a step, 27.3 % idle\n");
}

TEST(DrawText, OddChunksHaveTheirOwnLook) {
  const std::vector<std::string> text = lines(draw_text(drawn({interleaved, 2, 2, 2}), 64));
  ASSERT_EQ(text.size(), 5U);
  EXPECT_EQ(text[0], "stage 0 |0001110''1''......AAAAAA...BBBBBBaaaaaabbbbbb|");
  EXPECT_EQ(text[1], "stage 1 |...0001110''AAAAAA1''BBBBBBaaaaaabbbbbb......|");
  EXPECT_NE(text[3].find("odd chunks"), std::string::npos);
}

TEST(DrawText, EveryShapeFitsAnyWidth) {
  for (const ScheduleShape& shape : all_shapes())
    for (const std::int64_t width : {1, 20, 79, 100, 333}) {
      SCOPED_TRACE(name(shape) + ", width " + std::to_string(width));
      const std::vector<std::string> text = lines(draw_text(drawn(shape, 1e-4), width));
      ASSERT_EQ(std::ssize(text), shape.stages + (shape.chunks > 1 ? 3 : 2));
      const std::size_t frame = shape.stages > 10 ? 11 : 10;
      for (std::int64_t rank = 0; rank < shape.stages; ++rank) {
        const std::string& line = text[static_cast<std::size_t>(rank)];
        ASSERT_EQ(line.size(), text[0].size());
        ASSERT_LE(line.size(), std::max<std::size_t>(static_cast<std::size_t>(width), frame + 1));
        ASSERT_EQ(line.substr(0, 6), "stage ");
        ASSERT_EQ(std::stoll(line.substr(6)), rank);
        ASSERT_EQ(line[frame - 2], '|');
        ASSERT_EQ(line.back(), '|');
        const std::string drawing = line.substr(frame - 1, line.size() - frame);
        ASSERT_EQ(drawing.find_first_not_of("0123456789abcdefghijABCDEFGHIJ'."), std::string::npos);
      }
    }
}

// With whole columns a turn the share of dots is the bubble.
TEST(DrawText, DotsAreTheIdleTime) {
  for (const auto kind : {gpipe, one_f_one_b, eager_one_f_one_b, interleaved}) {
    const Timeline timeline = drawn({kind, 4, kind == interleaved ? 3 : 1, 8});
    const std::vector<std::string> text = lines(draw_text(timeline, 200));
    std::int64_t dots = 0, columns = 0;
    for (std::size_t rank = 0; rank < 4; ++rank) {
      dots += std::count(text[rank].begin(), text[rank].end(), '.');
      columns += std::ssize(text[rank]) - 10;
    }
    EXPECT_NEAR(static_cast<double>(dots) / static_cast<double>(columns), timeline.bubble, 1e-12);
  }
}

TEST(DrawText, ManyMicroBatchesShowTheirLastDigit) {
  const std::vector<std::string> text = lines(draw_text(drawn({gpipe, 1, 1, 12}), 46));
  EXPECT_EQ(text[0], "stage 0 |012345678901aabbccddeeffgghhiijjaabb|");
  EXPECT_NE(text[1].find("0-9 forward (last digit"), std::string::npos);
  EXPECT_NE(text[1].find("a-j backward"), std::string::npos);
}

TEST(Draw, EmptyStepsAndBadWidths) {
  const Timeline nothing =
      simulate({one_f_one_b, 2, 1, 2},
               {[](Action, std::int64_t) { return 0.0; }, [](std::int64_t) { return 0.0; }});
  EXPECT_EQ(lines(draw_text(nothing, 20))[1], "stage 1 |..........|");
  EXPECT_NE(draw_svg(nothing).find("</svg>"), std::string::npos);
  EXPECT_THROW(draw_text(nothing, 0), Error);
  EXPECT_THROW(draw_text(Timeline{}), Error);
  EXPECT_THROW(draw_svg(Timeline{}), Error);
}

// Attributes of a tag: ' name="value"', any number of times.
bool attributes(std::string_view text) {
  while (!text.empty()) {
    const std::size_t equals = text.find("=\"");
    if (text[0] != ' ' || equals == std::string_view::npos || equals < 2) return false;
    for (const char c : text.substr(1, equals - 1))
      if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-' && c != ':') return false;
    const std::size_t quote = text.find('"', equals + 2);
    if (quote == std::string_view::npos ||
        text.substr(equals, quote - equals).find_first_of("<&") != std::string_view::npos)
      return false;
    text.remove_prefix(quote + 1);
  }
  return true;
}

// Tags that close in order, attributes in quotes, no bare '<' or '&' in texts: what XML asks of
// this subset of it. Returns what is wrong, or "".
std::string xml_complaint(std::string_view xml) {
  const std::string_view declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  if (!xml.starts_with(declaration)) return "no declaration";
  xml.remove_prefix(declaration.size());
  std::vector<std::string> open;
  for (bool rooted = false; xml != "\n";) {
    const std::size_t start = xml.find('<'), end = xml.find('>', start);
    if (end == std::string_view::npos) return "no tag: " + std::string(xml);
    if (xml.substr(0, start).find('&') != std::string_view::npos) return "a bare &";
    if (open.empty() && (start > 0 || rooted)) return "something outside of the root";
    std::string_view tag = xml.substr(start + 1, end - start - 1);
    xml.remove_prefix(end + 1);
    if (tag.starts_with('/')) {
      if (open.empty() || open.back() != tag.substr(1)) return "closes " + std::string(tag);
      open.pop_back();
      continue;
    }
    const bool closed = tag.ends_with('/');
    if (closed) tag.remove_suffix(1);
    const std::string name(tag.substr(0, tag.find(' ')));
    if (name.empty() || !attributes(tag.substr(name.size()))) return "tag " + std::string(tag);
    rooted = true;
    if (!closed) open.push_back(name);
  }
  return open.empty() ? "" : open.back() + " stays open";
}

std::size_t count(const std::string& text, const std::string& word) {
  std::size_t result = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1))
    ++result;
  return result;
}

TEST(DrawSvg, TheXmlCheckFindsFaults) {
  const std::string head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  EXPECT_EQ(xml_complaint(head + "<a b=\"1\"><c/>x</a>\n"), "");
  for (const char* const bad : {"<a><b></a></b>\n", "<a>\n", "<a/>&\n", "<a b=1></a>\n",
                                "<a>&</a>\n", "<a></a><b></b>\n", "<a></a></a>\n"})
    EXPECT_NE(xml_complaint(head + bad), "") << bad;
}

TEST(DrawSvg, IsWellFormedAndWhole) {
  for (const ScheduleShape shape :
       {ScheduleShape{one_f_one_b, 4, 1, 8}, ScheduleShape{gpipe, 1, 1, 1},
        ScheduleShape{interleaved, 3, 2, 9}}) {
    SCOPED_TRACE(name(shape));
    const std::string svg = draw_svg(drawn(shape));
    EXPECT_EQ(xml_complaint(svg), "");
    EXPECT_NE(svg.find("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 "),
              std::string::npos);
    const auto stages = static_cast<std::size_t>(shape.stages);
    EXPECT_EQ(count(svg, ">stage "), stages);
    // A box an instruction, each wide enough here for its number.
    const auto boxes = static_cast<std::size_t>(2 * shape.chunks * shape.micro_batches) * stages;
    EXPECT_EQ(count(svg, "v24h-"), boxes);
    EXPECT_EQ(count(svg, ">" + std::to_string(shape.micro_batches - 1) + "</text>"),
              boxes / static_cast<std::size_t>(shape.micro_batches));
    EXPECT_EQ(count(svg, "forward, odd chunks"), shape.chunks > 1 ? 1U : 0U);
    EXPECT_NE(svg.find("% idle</text>"), std::string::npos);
  }
}

TEST(DrawSvg, BoxesStandWhereTimesAre) {
  // One stage, forward 1 ms and backward 2 ms: the backward takes the last two thirds of 1,100.
  const std::string svg = draw_svg(drawn({one_f_one_b, 1, 1, 1}));
  EXPECT_NE(svg.find("d=\"M70.00 34h366.67v24h-366.67z\""), std::string::npos);
  EXPECT_NE(svg.find("d=\"M436.67 34h733.33v24h-733.33z\""), std::string::npos);
}

TEST(DrawSvg, NumbersThatDoNotFitAreLeftOut) {
  const std::string svg = draw_svg(drawn({one_f_one_b, 4, 1, 512}));
  EXPECT_EQ(xml_complaint(svg), "");
  EXPECT_EQ(svg.find(">511</text>"), std::string::npos);
}

}  // namespace
}  // namespace tessera::parallel
