// What `tessera plan` prints of predictions: tables for people, JSON for programs
// (docs/numbers.md, "tessera plan").
#pragma once

#include <string>

#include "core/json.h"
#include "parallel/layout_search.h"
#include "parallel/prediction.h"

namespace tessera::cli {

// "64 ranks = 8 replicas x 8 stages (pipeline first), 1f1b, 4 micro-batches of 16".
std::string layout_line(const parallel::Prediction& prediction);
// "parallel.pipeline=8 parallel.data=8 ...": the overrides that ask for a layout.
std::string layout_overrides(const parallel::Prediction& prediction);

std::string stage_table(const parallel::Prediction& prediction);
std::string memory_by_stage(const parallel::Prediction& prediction);
std::string link_table(const parallel::Prediction& prediction);
std::string step_table(const parallel::Prediction& prediction, bool mfu);
// One line each: what the prediction rests on. `costs`: the file of measured piece times, or "".
std::string assumptions(const parallel::Machine& machine, const std::string& costs);
std::string search_table(const parallel::SearchResult& result, bool mfu);

OrderedJson to_json(const parallel::Prediction& prediction, bool mfu);
OrderedJson to_json(const parallel::Machine& machine, const std::string& costs);

}  // namespace tessera::cli
