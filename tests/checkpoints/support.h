// What the checkpoint tests share: folders below the build tree, raw files, a small model's tensors
// with known values, and a writer of whole checkpoints in any number of parts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "core/error.h"
#include "core/file_system.h"

namespace tessera::checkpoints::testing {

// A fresh folder named after the running test; removed when the object goes.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

std::string read_bytes(const std::string& path);
void write_bytes(const std::string& path, std::string_view bytes);
void copy_folder(const std::string& from, const std::string& to);

// The message of the Error that `work` throws; a test failure when it throws none or another
// category.
template <typename Work>
std::string message_of(Category category, Work&& work);

// Tensors of odd shapes: 1, 2 and 3 dimensions, 1 element to a few hundred.
std::vector<TensorInfo> sample_tensors();
std::int64_t total_elements(const std::vector<TensorInfo>& tensors);

// Parameters, m and v of all tensors, one after the other; values depend on `seed`.
struct Values {
  std::vector<float> param, m, v;
};
Values sample_values(const std::vector<TensorInfo>& tensors, std::uint64_t seed);

// The flat space cut into `parts` uneven ranges that cross tensors.
std::vector<std::vector<OwnedSlice>> cut(const std::vector<TensorInfo>& tensors,
                                         const Values& values, std::int64_t parts);

TrainingState sample_state(std::int64_t step);

// prepare, write `parts` parts, commit. Returns the path.
std::string write_checkpoint(FileSystem& files, const std::string& folder, std::int64_t step,
                             std::int64_t parts, std::uint64_t seed);

// True when the reader holds exactly the sample tensors with the values of `seed`.
bool holds_values(const CheckpointReader& reader, std::uint64_t seed);

void report_missing_error(const std::string& found);

template <typename Work>
std::string message_of(Category category, Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.category() != category)
      report_missing_error(std::string("an Error of another category: ") + error.what());
    return error.what();
  }
  report_missing_error("no Error");
  return "";
}

}  // namespace tessera::checkpoints::testing
