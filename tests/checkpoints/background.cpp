#include "tests/checkpoints/background.h"

#include <gtest/gtest.h>

namespace tessera::checkpoints::testing {

SaveResult save_on_thread_ranks(FileSystem& files, const std::string& folder, std::int64_t step,
                                std::int64_t ranks, std::uint64_t seed) {
  const Values values = sample_values(sample_tensors(), seed);
  const auto results = on_ranks<SaveResult>(ranks, [&](comm::Communicator& here) {
    BackgroundSave save(files, here);
    if (const std::string why = save.prepare(folder, step, 1 << 16); !why.empty())
      return SaveResult{step, "", why, ""};
    save.begin(sample_request(folder, step, here.rank(), ranks, values));
    return drive(save, here);
  });
  for (const SaveResult& result : results) {
    EXPECT_EQ(result.path, results[0].path);
    EXPECT_EQ(result.failure, results[0].failure);
    EXPECT_EQ(result.warning, results[0].warning);
    EXPECT_EQ(result.step, step);
    EXPECT_EQ(result.path.empty(), !result.failure.empty());
  }
  return results[0];
}

}  // namespace tessera::checkpoints::testing
