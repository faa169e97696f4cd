// Timelines as text and as pictures.
#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <spdlog/fmt/fmt.h>

#include "core/error.h"
#include "parallel/timeline.h"

namespace tessera::parallel {
namespace {

constexpr std::string_view kForward[] = {"0123456789", ")!@#$%^&*("};
constexpr std::string_view kBackward[] = {"abcdefghijklmnopqrstuvwxyz",
                                          "ABCDEFGHIJKLMNOPQRSTUVWXYZ"};

char mark(const Instruction& i) {
  const auto& marks = i.action == Action::forward ? kForward : kBackward;
  const std::string_view of_chunk = marks[i.chunk % 2];
  return of_chunk[static_cast<std::size_t>(i.micro_batch) % of_chunk.size()];
}

bool has_chunks(const Timeline& timeline) {
  for (const auto& spans : timeline.ranks)
    for (const Span& span : spans)
      if (span.instruction.chunk > 0) return true;
  return false;
}

// Width in pixels of the picture's lanes, their height, and the room around them.
constexpr double kLanes = 1400, kLane = 28, kLeft = 70, kTop = 40, kBottom = 40;
constexpr double kLeastLabel = 14;  // a box's width that a number fits in

// Forward blue, backward green; later chunks darker.
std::string colour(const Instruction& i) {
  const double dark = 1 - 0.18 * static_cast<double>(i.chunk % 4);
  const std::array<double, 3> base = i.action == Action::forward
                                         ? std::array<double, 3>{158, 202, 245}
                                         : std::array<double, 3>{172, 222, 170};
  return fmt::format("#{:02x}{:02x}{:02x}", static_cast<int>(base[0] * dark),
                     static_cast<int>(base[1] * dark), static_cast<int>(base[2] * dark));
}

}  // namespace

std::string draw_text(const Timeline& timeline, std::int64_t width) {
  TESSERA_CHECK(width >= 1);
  std::string text;
  const double column = timeline.seconds / static_cast<double>(width);
  const std::size_t digits = std::to_string(timeline.ranks.size()).size();
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    std::string line(static_cast<std::size_t>(width), '.');
    auto span = timeline.ranks[rank].begin();
    const auto end = timeline.ranks[rank].end();
    for (std::size_t c = 0; c < line.size(); ++c) {
      const double middle = (static_cast<double>(c) + 0.5) * column;
      while (span != end && span->end <= middle) ++span;
      if (span != end && span->start <= middle) line[c] = mark(span->instruction);
    }
    text += fmt::format("  stage {:>{}} |{}|\n", rank, digits, line);
  }
  text += fmt::format(
      "  digits: forward of a micro-batch (mod 10), letters: its backward (mod 26), '.': idle; "
      "{} columns are {:.3f} ms\n",
      width, 1e3 * timeline.seconds);
  if (has_chunks(timeline))
    text += fmt::format("  odd chunks: forward {} for 0 to 9, backward in capitals\n", kForward[1]);
  return text;
}

std::string draw_svg(const Timeline& timeline) {
  const auto ranks = static_cast<double>(timeline.ranks.size());
  const double width = kLeft + kLanes + 20, height = kTop + ranks * kLane + kBottom;
  const double scale = timeline.seconds > 0 ? kLanes / timeline.seconds : 0;
  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
      "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"11\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
      "<text x=\"{2:.0f}\" y=\"20\">forward blue, backward green, later chunks darker; numbers are "
      "micro-batches; {3:.3f} ms, {4:.1f} % idle</text>\n",
      width, height, kLeft, 1e3 * timeline.seconds, 100 * timeline.bubble);
  for (std::size_t rank = 0; rank < timeline.ranks.size(); ++rank) {
    const double y = kTop + static_cast<double>(rank) * kLane;
    svg += fmt::format("<text x=\"8\" y=\"{:.1f}\">stage {}</text>\n", y + 0.65 * kLane, rank);
    svg += fmt::format(
        "<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"#f2f2f2\"/>\n",
        kLeft, y, kLanes, kLane - 4);
    for (const Span& span : timeline.ranks[rank]) {
      const double x = kLeft + span.start * scale, box = (span.end - span.start) * scale;
      svg += fmt::format(
          "<rect class=\"{}\" x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" "
          "fill=\"{}\" stroke=\"white\" stroke-width=\"0.5\"/>\n",
          span.instruction.action == Action::forward ? "forward" : "backward", x, y, box, kLane - 4,
          colour(span.instruction));
      if (box >= kLeastLabel)
        svg += fmt::format("<text x=\"{:.2f}\" y=\"{:.1f}\" text-anchor=\"middle\">{}</text>\n",
                           x + box / 2, y + 0.6 * kLane, span.instruction.micro_batch);
    }
  }
  for (int tick = 0; tick <= 10; ++tick)
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.1f}</text>\n",
                       kLeft + kLanes * tick / 10.0, kTop + ranks * kLane + 16,
                       1e3 * timeline.seconds * tick / 10);
  return svg +
         fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">ms</text>\n</svg>\n",
                     kLeft + kLanes, kTop + ranks * kLane + 32);
}

}  // namespace tessera::parallel
