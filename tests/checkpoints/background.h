// Saves in the background, for tests.
#pragma once

#include "checkpoints/background_save.h"
#include "tests/checkpoints/support.h"
#include "tests/checkpoints/thread_ranks.h"

namespace tessera::checkpoints::testing {

// The sample state as `rank`'s part of a save of `ranks` parts. `values` outlives the save.
inline SaveRequest sample_request(const std::string& folder, std::int64_t step, std::int64_t rank,
                                  std::int64_t ranks, const Values& values) {
  const auto tensors = sample_tensors();
  return {folder,
          sample_state(step),
          tensors,
          cut(tensors, values, ranks)[static_cast<std::size_t>(rank)],
          "{\"type\": \"bytes\"}",
          1,
          0};
}

// As training does it: steps, in each of which the ranks add up who is ready.
inline SaveResult drive(BackgroundSave& save, comm::Communicator& ranks) {
  while (true) {
    double ready = save.ready() ? 1 : 0;
    ranks.all_reduce(&ready, 1);
    if (ready < static_cast<double>(ranks.size())) continue;
    if (const auto result = save.advance()) return *result;
  }
}

// One save by ranks that are threads, `step` with the values of `seed`, keeping one checkpoint.
// Checks that all ranks say the same.
SaveResult save_on_thread_ranks(FileSystem& files, const std::string& folder, std::int64_t step,
                                std::int64_t ranks, std::uint64_t seed);

}  // namespace tessera::checkpoints::testing
