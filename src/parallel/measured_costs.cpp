#include "parallel/measured_costs.h"

#include <algorithm>
#include <cmath>
#include <map>

#include <spdlog/fmt/fmt.h>

#include "config/load.h"
#include "core/error.h"
#include "core/json.h"
#include "model/architecture.h"

namespace tessera::parallel {
namespace {

constexpr const char* kFormat = "tessera-piece-times-1";

std::vector<std::string> piece_names(const Config& config) {
  std::vector<std::string> names;
  for (const PieceWork& piece :
       piece_work(config.model, 1, config.train.recompute, Precision::fp32, Device::cpu))
    names.push_back(piece.name);
  return names;
}

// Keys that another measurement must have in common for its times to hold.
bool matters(const std::string& key) {
  return key.starts_with("model.") || key == "precision" || key == "train.recompute" ||
         key == "attention";
}

double milliseconds(const Json& json, const char* key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_number())
    throw Error(Category::data, fmt::format("{}: \"{}\" should be a number of milliseconds; write "
                                            "the file anew with `tessera bench train --pieces`",
                                            where, key));
  const double value = found->get<double>();
  if (!std::isfinite(value) || value <= 0)
    throw Error(Category::data,
                fmt::format("{}: \"{}\" is {}, expected more than 0", where, key, value));
  return 1e-3 * value;
}

std::string text(const Json& json, const char* key, const std::string& where) {
  const auto found = json.find(key);
  if (found == json.end() || !found->is_string())
    throw Error(Category::data, fmt::format("{}: \"{}\" should be text", where, key));
  return found->get<std::string>();
}

}  // namespace

PieceTimes piece_times(const Config& config, const std::string& device,
                       const std::vector<PartTime>& parts) {
  std::map<std::string, double> times;  // a part; never 0, which nothing takes
  for (const PartTime& part : parts) times[part.part] = std::max(1e-3 * part.milliseconds, 1e-9);
  const auto of = [&](const std::string& name) {
    const auto found = times.find(name);
    TESSERA_CHECK(found != times.end());
    return found->second;
  };
  PieceTimes result{device, config, {}, {of("clear gradients"), of("gradient norms"), of("AdamW")}};
  for (const std::string& name : piece_names(config))
    result.pieces.push_back({name, of(name), of(name + " backward")});
  return result;
}

std::string to_json(const PieceTimes& times) {
  OrderedJson json = {{"format", kFormat},
                      {"device", times.device},
                      {"config", resolved_config(times.config)},
                      {"pieces", OrderedJson::array()}};
  for (const PieceCost& p : times.pieces)
    json["pieces"].push_back(
        {{"piece", p.name}, {"forward_ms", 1e3 * p.forward}, {"backward_ms", 1e3 * p.backward}});
  json["clear_gradients_ms"] = 1e3 * times.optimizer.clear;
  json["gradient_norms_ms"] = 1e3 * times.optimizer.norms;
  json["adamw_ms"] = 1e3 * times.optimizer.update;
  return json.dump(1) + "\n";
}

PieceTimes piece_times_from_json(const std::string& content, const std::string& what) {
  const Json json = parse_json(content, what);
  if (!json.is_object() || json.value("format", Json()) != kFormat)
    throw Error(Category::data,
                fmt::format("{}: not a file of piece times (\"format\": \"{}\"); `tessera bench "
                            "train CONFIG --pieces FILE` writes one",
                            what, kFormat));
  PieceTimes times;
  times.device = text(json, "device", what);
  times.config = parse_config(text(json, "config", what), what + ", its configuration", ".");
  const auto pieces = json.find("pieces");
  if (pieces == json.end() || !pieces->is_array())
    throw Error(Category::data, fmt::format("{}: \"pieces\" should be a list", what));
  for (const Json& p : *pieces) {
    const std::string where = fmt::format("{}, piece {}", what, times.pieces.size());
    if (!p.is_object()) throw Error(Category::data, where + ": should be an object");
    times.pieces.push_back({text(p, "piece", where), milliseconds(p, "forward_ms", where),
                            milliseconds(p, "backward_ms", where)});
  }
  const std::vector<std::string> names = piece_names(times.config);
  for (std::size_t i = 0; i < std::max(names.size(), times.pieces.size()); ++i) {
    const std::string found = i < times.pieces.size() ? times.pieces[i].name : "nothing";
    const std::string expected = i < names.size() ? names[i] : "nothing";
    if (found != expected)
      throw Error(Category::data, fmt::format("{}: piece {} is \"{}\", but the configuration in "
                                              "the same file has \"{}\" there",
                                              what, i, found, expected));
  }
  times.optimizer = {milliseconds(json, "clear_gradients_ms", what),
                     milliseconds(json, "gradient_norms_ms", what),
                     milliseconds(json, "adamw_ms", what)};
  return times;
}

CostRatios cost_ratios(const PieceTimes& times, const Config& config, Device device,
                       const MachineRates& rates, const std::string& what) {
  if ((times.device == "cpu") != (device == Device::cpu))
    throw Error(Category::config, fmt::format("{} was measured on {}, but the plan is for {}", what,
                                              times.device, name(device)));
  for (const ConfigDifference& d : config_differences(times.config, config))
    if (matters(d.key))
      throw Error(Category::config,
                  fmt::format("{} was measured with {}: {}, but this configuration has {}; measure "
                              "it with `tessera bench train CONFIG --pieces FILE`",
                              what, d.key, d.before, d.after));
  const PieceCosts computed(config, device, rates);
  CostRatios ratios;
  const auto& pieces = computed.micro_batch(times.config.train.micro_batch);
  TESSERA_CHECK(pieces.size() == times.pieces.size());
  for (std::size_t i = 0; i < pieces.size(); ++i)
    ratios.pieces.push_back({pieces[i].name, times.pieces[i].forward / pieces[i].forward,
                             times.pieces[i].backward / pieces[i].backward});
  const std::int64_t elements = model::parameter_table(config.model).flat_size();
  const OptimizerCost optimizer = computed.optimizer(elements, elements);
  ratios.optimizer = {times.optimizer.clear / optimizer.clear,
                      times.optimizer.norms / optimizer.norms,
                      times.optimizer.update / optimizer.update};
  return ratios;
}

}  // namespace tessera::parallel
