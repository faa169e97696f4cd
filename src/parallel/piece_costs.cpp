#include "parallel/piece_costs.h"

#include <algorithm>

#include "core/error.h"
#include "core/integers.h"

namespace tessera::parallel {
namespace {

// Share of the processors that a product's tiles keep busy: the last round may be partly empty.
// Where tiles are few, the depth is cut into parts for more.
double utilisation(const Product& p, const MachineRates& rates) {
  const std::int64_t tiles = div_ceil(p.rows, rates.tile) * div_ceil(p.columns, rates.tile);
  const auto busy = [&](std::int64_t parts) {
    const std::int64_t in_all = tiles * parts;
    return static_cast<double>(in_all) / static_cast<double>(round_up(in_all, rates.processors));
  };
  double best = busy(1);
  for (std::int64_t parts = 2; p.depth / parts >= rates.least_depth && best < 0.9; parts *= 2)
    best = std::max(best, busy(parts));
  return best;
}

double attention_seconds(const Attention& a, const MachineRates& rates, double element) {
  const double array = element * static_cast<double>(a.rows) * static_cast<double>(a.width);
  if (a.length <= rates.tiny_window)  // q, k, v read, o written; backward: these, do, dq, dk, dv
    return (a.backward ? 8 : 4) * array / rates.memory_bandwidth + rates.launch_seconds;
  // Tiles on the diagonal are computed whole.
  const double pairs = static_cast<double>(a.rows) *
                       static_cast<double>(a.length + rates.attention_tile) / 2 *
                       static_cast<double>(a.width);
  if (a.backward) return 10 * pairs / rates.attention_backward + rates.launch_seconds;
  // q and k are rotated in place before; their short pieces use half of each memory sector.
  const double rotation = 2 * 2 * 2 * a.rotated * array / rates.memory_bandwidth;
  return 4 * pairs / rates.attention_forward + rotation + 2 * rates.launch_seconds;
}

}  // namespace

double seconds(const Product& product, const MachineRates& rates, Precision precision) {
  const double peak = precision == Precision::bf16 ? rates.matmul_bf16 : rates.matmul_fp32;
  return product.flops() / (peak * utilisation(product, rates)) +
         rates.exposed_traffic * product.bytes / rates.memory_bandwidth + rates.launch_seconds;
}

double seconds(const Work& work, const MachineRates& rates, Precision precision) {
  double sum = work.bytes / rates.memory_bandwidth +
               static_cast<double>(work.operations) * rates.launch_seconds +
               static_cast<double>(work.ids) * rates.sort_seconds_an_id;
  for (const Product& p : work.products) sum += seconds(p, rates, precision);
  for (const Attention& a : work.attention)
    sum += attention_seconds(a, rates, static_cast<double>(element_bytes(precision)));
  return sum;
}

PieceCosts::PieceCosts(const Config& config, Device device, const MachineRates& rates,
                       std::optional<CostRatios> ratios)
    : model_(config.model),
      recompute_(config.train.recompute),
      precision_(config.precision),
      device_(device),
      rates_(rates),
      ratios_(std::move(ratios)) {
  TESSERA_CHECK(precision_ != Precision::automatic);
}

const std::vector<PieceCost>& PieceCosts::micro_batch(std::int64_t sequences) const {
  const auto found = known_.find(sequences);
  if (found != known_.end()) return found->second;
  std::vector<PieceCost> costs;
  for (const PieceWork& w : piece_work(model_, sequences, recompute_, precision_, device_))
    costs.push_back(
        {w.name, seconds(w.forward, rates_, precision_), seconds(w.backward, rates_, precision_)});
  if (ratios_) {
    TESSERA_CHECK(ratios_->pieces.size() == costs.size());
    for (std::size_t i = 0; i < costs.size(); ++i) {
      costs[i].forward *= ratios_->pieces[i].forward;
      costs[i].backward *= ratios_->pieces[i].backward;
    }
  }
  return known_.emplace(sequences, std::move(costs)).first->second;
}

OptimizerCost PieceCosts::optimizer(std::int64_t held, std::int64_t owned) const {
  // AdamW reads gradient, master and moments, writes master, moments and, where the model computes
  // in a narrower type, the working parameter.
  const double working = precision_ == Precision::bf16 ? 2 : 0;
  const auto moved = [&](double bytes, std::int64_t elements) {
    return bytes * static_cast<double>(elements) / rates_.optimizer_bandwidth +
           rates_.launch_seconds;
  };
  OptimizerCost cost{moved(4, held), moved(4, owned), moved(28 + working, owned)};
  if (ratios_) {
    cost.clear *= ratios_->optimizer.clear;
    cost.norms *= ratios_->optimizer.norms;
    cost.update *= ratios_->optimizer.update;
  }
  return cost;
}

}  // namespace tessera::parallel
