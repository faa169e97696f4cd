// Pictures of a timeline: characters for a terminal, SVG for a page. Forward is a digit or blue,
// backward a letter or green; chunks alternate between two looks, as in the figures of the papers.
#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include "core/error.h"
#include "parallel/timeline.h"

namespace tessera::parallel {
namespace {

std::string duration(double seconds) {
  if (seconds >= 1) return fmt::format("{:.4g} s", seconds);
  if (seconds >= 1e-3) return fmt::format("{:.4g} ms", seconds * 1e3);
  return fmt::format("{:.4g} us", seconds * 1e6);
}

std::string summary(const Timeline& timeline) {
  return fmt::format("{} a step, {:.1f} % idle", duration(timeline.seconds), 100 * timeline.bubble);
}

bool forward(const Span& span) {
  return span.instruction.action == Action::forward;
}

bool odd_chunk(const Span& span) {
  return span.instruction.chunk % 2 == 1;
}

// The longest pipeline's width in turns of its shortest instruction, where that is a whole number.
double whole_turns(const Timeline& timeline) {
  double shortest = timeline.seconds;
  for (const std::vector<Span>& rank : timeline.ranks)
    for (const Span& span : rank)
      if (span.end > span.start) shortest = std::min(shortest, span.end - span.start);
  const double turns = shortest > 0 ? timeline.seconds / shortest : 0;
  return std::abs(turns - std::round(turns)) < 1e-6 ? std::round(turns) : 0;
}

// A rank's characters: an instruction takes the columns whose middle it covers.
std::string draw_rank(const std::vector<Span>& spans, std::int64_t columns, double per_second) {
  std::string line(static_cast<std::size_t>(columns), '.');
  const auto column = [&](double seconds) {
    const double first = std::ceil(seconds * per_second - 0.5);
    return static_cast<std::size_t>(std::clamp(first, 0.0, static_cast<double>(columns)));
  };
  for (const Span& span : spans) {
    const std::size_t begin = column(span.start), end = column(span.end);
    if (begin >= end) continue;
    const auto digit = static_cast<char>(span.instruction.micro_batch % 10);
    const auto base = forward(span) ? '0' : odd_chunk(span) ? 'A' : 'a';
    const auto symbol = static_cast<char>(base + digit);
    std::fill(line.begin() + static_cast<std::ptrdiff_t>(begin),
              line.begin() + static_cast<std::ptrdiff_t>(end),
              forward(span) && odd_chunk(span) ? '\'' : symbol);
    line[begin] = symbol;
  }
  return line;
}

std::int64_t chunks_of(const Timeline& timeline) {
  std::int64_t last = 0;
  for (const std::vector<Span>& rank : timeline.ranks)
    for (const Span& span : rank) last = std::max(last, span.instruction.chunk);
  return last + 1;
}

std::int64_t micro_batches_of(const Timeline& timeline) {
  std::int64_t last = 0;
  for (const Span& span : timeline.ranks.front())
    last = std::max(last, span.instruction.micro_batch);
  return last + 1;
}

// Geometry of the SVG, in pixels.
constexpr double kLeft = 70, kTop = 34, kWidth = 1100, kRow = 24, kStep = 30, kRight = 16;
constexpr double kDigit = 7, kLabelMargin = 3;

struct Look {
  const char* fill;
  const char* text;
  const char* meaning;
};

// Even chunks, then odd ones: forward, backward.
constexpr std::array<Look, 4> kLooks{{{"#2f6db5", "#ffffff", "forward"},
                                      {"#3f8f4f", "#ffffff", "backward"},
                                      {"#a9c9ee", "#10243c", "forward, odd chunks"},
                                      {"#b3dcb5", "#12301a", "backward, odd chunks"}}};

std::size_t look(const Span& span) {
  return (odd_chunk(span) ? 2U : 0U) + (forward(span) ? 0U : 1U);
}

// One rank: its idle background, a path of boxes for each look, and the numbers that fit.
std::string svg_rank(const std::vector<Span>& spans, std::size_t index, double per_second) {
  const double top = kTop + kStep * static_cast<double>(index);
  std::string result = fmt::format(
      "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\" class=\"name\">stage {}</text>\n"
      "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"idle\"/>\n",
      kLeft - 8, top + 16, index, kLeft, top, kWidth, kRow);
  std::array<std::string, kLooks.size()> boxes, numbers;
  for (const Span& span : spans) {
    const double x = kLeft + span.start * per_second, width = (span.end - span.start) * per_second;
    boxes[look(span)] += fmt::format("M{:.2f} {}h{:.2f}v{}h{:.2f}z", x, top, width, kRow, -width);
    const std::string number = fmt::format("{}", span.instruction.micro_batch);
    if (width >= kDigit * static_cast<double>(number.size()) + kLabelMargin)
      numbers[look(span)] +=
          fmt::format("<text x=\"{:.2f}\" y=\"{:.1f}\">{}</text>", x + width / 2, top + 16, number);
  }
  for (std::size_t i = 0; i < kLooks.size(); ++i) {
    if (!boxes[i].empty())
      result += fmt::format("<path class=\"box k{}\" d=\"{}\"/>\n", i, boxes[i]);
    if (!numbers[i].empty()) result += fmt::format("<g class=\"n{}\">{}</g>\n", i, numbers[i]);
  }
  return result;
}

std::string svg_style() {
  std::string rules =
      "text{font:12px sans-serif;text-anchor:middle}"
      ".name,.key{text-anchor:end;fill:#333}.key{text-anchor:start}"
      ".idle{fill:#ececec}.box{stroke:#fff;stroke-width:.6}";
  for (std::size_t i = 0; i < kLooks.size(); ++i)
    rules += fmt::format(".k{0}{{fill:{1}}}.n{0}{{fill:{2}}}", i, kLooks[i].fill, kLooks[i].text);
  return "<style>" + rules + "</style>\n";
}

std::string svg_legend(const Timeline& timeline, double top) {
  std::string result;
  double x = kLeft;
  const auto key = [&](const std::string& box, const std::string& meaning) {
    result += fmt::format(
        "<rect x=\"{}\" y=\"{}\" width=\"14\" height=\"14\" class=\"{}\"/>"
        "<text x=\"{}\" y=\"{}\" class=\"key\">{}</text>\n",
        x, top, box, x + 20, top + 12, meaning);
    x += 40 + kDigit * static_cast<double>(meaning.size());
  };
  const std::size_t looks = chunks_of(timeline) > 1 ? 4 : 2;
  for (std::size_t i = 0; i < looks; ++i) key(fmt::format("k{}", i), kLooks[i].meaning);
  key("idle", "idle");
  return result;
}

}  // namespace

std::string draw_text(const Timeline& timeline, std::int64_t width) {
  TESSERA_CHECK(!timeline.ranks.empty() && width >= 1);
  const std::size_t digits = std::to_string(timeline.ranks.size() - 1).size();
  const auto frame = static_cast<std::int64_t>(std::string("stage  ||").size() + digits);
  std::int64_t columns = std::max<std::int64_t>(width - frame, 1);
  // Equal instructions look equal when each turn takes whole columns.
  const auto turns = static_cast<std::int64_t>(std::min(whole_turns(timeline), 1e9));
  if (0 < turns && turns <= columns) columns = columns / turns * turns;
  const double per_second =
      timeline.seconds > 0 ? static_cast<double>(columns) / timeline.seconds : 0;

  std::string result;
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank)
    result += fmt::format("stage {:>{}} |{}|\n", rank, digits,
                          draw_rank(timeline.ranks[rank], columns, per_second));
  const std::int64_t count = micro_batches_of(timeline);
  const auto last = static_cast<char>(std::min<std::int64_t>(count, 10) - 1);
  result += fmt::format("0-{} forward{}, a-{} backward (a is 0), . idle\n", static_cast<int>(last),
                        count > 10 ? " (last digit of the micro-batch)" : " of a micro-batch",
                        static_cast<char>('a' + last));
  if (chunks_of(timeline) > 1)
    result += fmt::format("odd chunks: 0' to {}' forward (the mark where it fits), A-{} backward\n",
                          static_cast<int>(last), static_cast<char>('A' + last));
  return result + summary(timeline) + '\n';
}

std::string draw_svg(const Timeline& timeline) {
  TESSERA_CHECK(!timeline.ranks.empty());
  const double bottom = kTop + kStep * static_cast<double>(timeline.ranks.size());
  const double per_second = timeline.seconds > 0 ? kWidth / timeline.seconds : 0;
  std::string result = fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{0}\" "
      "height=\"{1}\">\n<title>Pipeline timeline</title>\n",
      kLeft + kWidth + kRight, bottom + 30);
  result += svg_style();
  result += "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n";
  result +=
      fmt::format("<text x=\"{}\" y=\"20\" class=\"key\">{} stages, {} micro-batches: {}</text>\n",
                  kLeft, timeline.ranks.size(), micro_batches_of(timeline), summary(timeline));
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank)
    result += svg_rank(timeline.ranks[rank], rank, per_second);
  return result + svg_legend(timeline, bottom + 6) + "</svg>\n";
}

}  // namespace tessera::parallel
