// What a run's data files were when it began: RUN/data.json, looked at by every later job of the
// run, so that shards that were changed under it are noticed without reading them.
#pragma once

#include <string>

#include "data/token_source.h"

namespace tessera::train {

// Rank 0. With `resuming` compares the shards with the record: one of another size or time is read
// and its SHA-256 compared with its manifest's, so that copied or touched files pass and changed
// ones are Error{data}, named. Then writes the record of today. `valid` may be null.
void check_data_record(const std::string& run_folder, const data::TokenSource& train,
                       const data::TokenSource* valid, bool resuming);

}  // namespace tessera::train
