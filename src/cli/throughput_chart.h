// A drawing (SVG) of throughput against batch, a line a model, both axes logarithmic.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tessera::cli {

struct ThroughputChart {
  struct Line {
    std::string name;
    std::vector<std::pair<double, double>> points;  // batch, tokens a second
  };
  std::string title;
  std::vector<Line> lines;

  void add(const std::string& name, double batch, double tokens_per_second);
  // Positive numbers alone can be drawn; others are left out.
  std::string svg() const;
};

}  // namespace tessera::cli
