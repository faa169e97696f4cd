#include "cli/throughput_chart.h"

#include <algorithm>
#include <cmath>

#include <spdlog/fmt/fmt.h>

namespace tessera::cli {
namespace {

constexpr double kWidth = 860, kHeight = 520, kLeft = 80, kRight = 190, kTop = 50, kBottom = 60;
constexpr const char* kColours[] = {"#1b6ca8", "#c0392b", "#2e8b57", "#8e44ad",
                                    "#d68910", "#16a085", "#7f8c8d", "#2c3e50"};

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '&' ? "&amp;" : c == '<' ? "&lt;" : std::string(1, c);
  return result;
}

// Whole powers of a base around some numbers.
struct Axis {
  double low = 0, high = 1, base = 10;  // exponents

  Axis(const std::vector<double>& values, double of_base) : base(of_base) {
    if (values.empty()) return;
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    low = std::floor(std::log(*least) / std::log(base));
    high = std::max(low + 1, std::ceil(std::log(*most) / std::log(base)));
  }
  double at(double value) const { return (std::log(value) / std::log(base) - low) / (high - low); }
};

std::string short_number(double x) {
  if (x >= 1e6) return fmt::format("{:g}M", x / 1e6);
  return x >= 1e3 && std::fmod(x, 1000) == 0 ? fmt::format("{:g}k", x / 1e3)
                                             : fmt::format("{:g}", x);
}

}  // namespace

void ThroughputChart::add(const std::string& name, double batch, double tokens_per_second) {
  if (!(batch > 0) || !(tokens_per_second > 0)) return;
  auto line =
      std::find_if(lines.begin(), lines.end(), [&](const Line& l) { return l.name == name; });
  if (line == lines.end()) line = lines.insert(lines.end(), {name, {}});
  line->points.emplace_back(batch, tokens_per_second);
}

std::string ThroughputChart::svg() const {
  std::vector<double> batches, speeds;
  for (const Line& line : lines)
    for (const auto& [batch, speed] : line.points) {
      batches.push_back(batch);
      speeds.push_back(speed);
    }
  const Axis across(batches, 2), up(speeds, 10);
  const auto x = [&](double batch) { return kLeft + across.at(batch) * (kWidth - kLeft - kRight); };
  const auto y = [&](double speed) {
    return kHeight - kBottom - up.at(speed) * (kHeight - kTop - kBottom);
  };
  std::string s = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" "
      "font-family=\"sans-serif\" "
      "font-size=\"13\">\n<rect width=\"{0}\" height=\"{1}\" fill=\"white\"/>\n"
      "<text x=\"{2}\" y=\"28\" font-size=\"16\">{3}</text>\n",
      kWidth, kHeight, kLeft, escaped(title));
  for (double e = across.low; e <= across.high; ++e) {
    const double at = x(std::pow(2, e));
    s += fmt::format(
        "<line x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\" stroke=\"#ddd\"/>\n"
        "<text x=\"{0:.1f}\" y=\"{3}\" text-anchor=\"middle\">{4}</text>\n",
        at, kTop, kHeight - kBottom, kHeight - kBottom + 18, short_number(std::pow(2, e)));
  }
  for (double e = up.low; e <= up.high; ++e) {
    const double at = y(std::pow(10, e));
    s += fmt::format(
        "<line x1=\"{0}\" y1=\"{1:.1f}\" x2=\"{2}\" y2=\"{1:.1f}\" stroke=\"#ddd\"/>\n"
        "<text x=\"{3}\" y=\"{1:.1f}\" text-anchor=\"end\" "
        "dominant-baseline=\"middle\">{4}</text>\n",
        kLeft, at, kWidth - kRight, kLeft - 8, short_number(std::pow(10, e)));
  }
  s +=
      fmt::format("<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">batch (prompts at once)</text>\n",
                  (kLeft + kWidth - kRight) / 2, kHeight - 14);
  for (std::size_t n = 0; n < lines.size(); ++n) {
    auto points = lines[n].points;
    std::sort(points.begin(), points.end());
    const char* colour = kColours[n % std::size(kColours)];
    std::string path;
    for (const auto& [batch, speed] : points)
      path += fmt::format("{:.1f},{:.1f} ", x(batch), y(speed));
    s += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n",
                     path, colour);
    for (const auto& [batch, speed] : points)
      s += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"><title>{}, batch {:g}: {:.0f} "
          "tokens/s</title></circle>\n",
          x(batch), y(speed), colour, escaped(lines[n].name), batch, speed);
    s += fmt::format("<text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n", kWidth - kRight + 14,
                     kTop + 14 + 20 * static_cast<double>(n), colour, escaped(lines[n].name));
  }
  return s + "</svg>\n";
}

}  // namespace tessera::cli
