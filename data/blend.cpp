#include "data/blend.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/integers.h"

namespace tessera::data {
namespace {

// shares[i] * period when all are whole (to the precision of a double), else empty.
std::vector<std::int64_t> whole_parts(const std::vector<double>& shares, std::int64_t period) {
  std::vector<std::int64_t> parts;
  for (const double share : shares) {
    const double part = share * static_cast<double>(period);
    const double nearest = std::round(part);
    if (nearest < 1 || std::abs(part - nearest) > 1e-12 * static_cast<double>(period)) return {};
    parts.push_back(static_cast<std::int64_t>(nearest));
  }
  return std::accumulate(parts.begin(), parts.end(), std::int64_t{0}) == period
             ? parts
             : std::vector<std::int64_t>{};
}

// Largest remainders get what rounding down leaves.
std::vector<std::int64_t> rounded_parts(const std::vector<double>& shares, std::int64_t period) {
  std::vector<std::int64_t> parts;
  for (const double share : shares)
    parts.push_back(static_cast<std::int64_t>(share * static_cast<double>(period)));
  std::vector<std::size_t> order(shares.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto remainder = [&](std::size_t i) {
    return shares[i] * static_cast<double>(period) - static_cast<double>(parts[i]);
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return remainder(a) > remainder(b); });
  const std::int64_t left = period - std::accumulate(parts.begin(), parts.end(), std::int64_t{0});
  for (std::int64_t i = 0; i < left; ++i) ++parts[order[static_cast<std::size_t>(i)]];
  return parts;
}

}  // namespace

Blend::Blend(const std::vector<double>& weights) {
  double sum = 0;
  for (const double weight : weights) {
    if (!(weight > 0) || !std::isfinite(weight))
      throw Error(Category::config, "a data source has weight " + std::to_string(weight) +
                                        ", expected a positive number");
    sum += weight;
  }
  if (weights.empty() || !std::isfinite(sum))
    throw Error(Category::config, "the weights of the data sources do not add up to a number");
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / sum);
  for (std::int64_t p = 1; p < kLargestPeriod && parts_.empty(); ++p)
    parts_ = whole_parts(shares, p);
  if (parts_.empty()) parts_ = rounded_parts(shares, kLargestPeriod);
  for (std::size_t i = 0; i < parts_.size(); ++i)
    if (parts_[i] < 1)
      throw Error(Category::config, "data source " + std::to_string(i) + " has a share of " +
                                        std::to_string(shares[i]) +
                                        ", too small to be drawn: remove it or raise its weight");

  const std::int64_t period = std::accumulate(parts_.begin(), parts_.end(), std::int64_t{0});
  slots_.resize(static_cast<std::size_t>(period));
  std::vector<std::int64_t> drawn(parts_.size());
  for (std::int64_t t = 0; t < period; ++t) {
    std::size_t chosen = parts_.size();
    std::int64_t soonest = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      if (drawn[i] * period > t * parts_[i]) continue;  // not before drawn / share
      const std::int64_t due = div_ceil((drawn[i] + 1) * period, parts_[i]);
      if (chosen == parts_.size() || due < soonest) {
        chosen = i;
        soonest = due;
      }
    }
    TESSERA_CHECK(chosen < parts_.size());
    slots_[static_cast<std::size_t>(t)] = {static_cast<std::uint32_t>(chosen),
                                           static_cast<std::uint32_t>(drawn[chosen]++)};
  }
}

Blend::Draw Blend::at(std::int64_t position) const {
  const Slot slot = slots_[static_cast<std::size_t>(position % period())];
  return {slot.source, position / period() * parts_[slot.source] + slot.index};
}

std::vector<std::int64_t> Blend::draws(std::int64_t positions) const {
  std::vector<std::int64_t> result;
  for (const std::int64_t part : parts_) result.push_back(positions / period() * part);
  for (std::int64_t t = 0; t < positions % period(); ++t)
    ++result[slots_[static_cast<std::size_t>(t)].source];
  return result;
}

std::int64_t Blend::positions_for(std::size_t source, std::int64_t draws) const {
  const std::int64_t rounds = (draws - 1) / parts_[source], index = (draws - 1) % parts_[source];
  for (std::size_t t = 0; t < slots_.size(); ++t)
    if (slots_[t].source == source && slots_[t].index == index)
      return rounds * period() + static_cast<std::int64_t>(t) + 1;
  check_failed("the slot is in the period", __FILE__, __LINE__);
}

}  // namespace tessera::data
