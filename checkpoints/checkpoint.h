// Checkpoints: logical tensors on disk, whatever layout wrote them.
//
// RUN/checkpoints/step-00000100/
//   manifest.json   written last; a checkpoint exists only if it parses and every digest matches
//   part-00000.safetensors ...   one a writing rank: fp32 slices `tensor[begin:end]` of parameters
//                   ("param."), first and second moments ("m.", "v.") in flattened element order
//   config.yaml
//   tokenizer.json  where the data had one
//   algorithms.json  on CUDA: the measured choices of kernels that the run keeps to
// Order: step-N.tmp/ -> parts, fsync each -> fsync folder -> manifest, fsync -> rename -> fsync
// parent. Everything here works on names, shapes and byte ranges; layers are unknown to it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/file_system.h"
#include "core/json.h"

namespace tessera::checkpoints {

inline constexpr std::int64_t kFormatVersion = 1;

// A logical tensor of the model, known alike on every rank.
struct TensorInfo {
  std::string name;  // published name
  std::vector<std::int64_t> shape;
};

// Elements [begin, end) of tensor `tensor` (an index into the table) that this rank owns and
// writes.
struct OwnedSlice {
  std::int64_t tensor = 0, begin = 0, end = 0;
  const float *param = nullptr, *m = nullptr, *v = nullptr;  // end - begin elements each
};

// What the run needs beside tensors to go on, and what others want to know.
struct TrainingState {
  std::int64_t step = 0;     // optimizer steps done
  std::int64_t samples = 0;  // sequences consumed = the data cursor
  std::int64_t tokens = 0;   // tokens read = samples x context
  std::int64_t skipped = 0;  // non-finite steps skipped
  std::string config_yaml;   // resolved
  std::string config_hash;
  std::string train_digest, valid_digest;  // TokenSource::digest
  std::int64_t ranks = 1, threads = 1;     // of the layout that wrote it
  std::string build;                       // program version and commit
  double valid_loss = 0;                   // last evaluation, nats a token; 0 = none yet
  std::string algorithms_json;             // kernels/algorithms.h; empty on the CPU
};

// What one rank wrote; rank 0 gathers them (as JSON) into the manifest.
struct PartRecord {
  std::string file;
  std::int64_t bytes = 0;
  std::string sha256;
  std::vector<OwnedSlice> slices;  // pointers unset
};
Json to_json(const PartRecord& record);
PartRecord part_from_json(const Json& json, const std::string& what);

// "step-00000100"
std::string checkpoint_name(std::int64_t step);

// --- Writing. Call on every rank: prepare (rank 0), barrier, write_part (all), gather, commit
// (rank 0).

// Creates FOLDER/step-N.tmp (removing an earlier one) and checks that `bytes` fit on the device.
// Returns its path. `folder` is RUN/checkpoints.
std::string prepare_checkpoint(FileSystem& files, const std::string& folder, std::int64_t step,
                               std::int64_t bytes);
PartRecord write_part(FileSystem& files, const std::string& temporary, std::int64_t rank,
                      const std::vector<TensorInfo>& tensors,
                      const std::vector<OwnedSlice>& slices);
// Checks that the parts cover every tensor exactly once, writes config, tokenizer and manifest,
// renames and syncs. Returns the checkpoint's path. An existing complete checkpoint of this step is
// replaced (set aside, then removed).
std::string commit_checkpoint(FileSystem& files, const std::string& folder,
                              const std::string& temporary, const TrainingState& state,
                              const std::vector<TensorInfo>& tensors,
                              const std::vector<PartRecord>& parts,
                              const std::string& tokenizer_json);
// Tidies FOLDER after a save that was cut off: step-N.old goes back to step-N where that is
// missing, and other step-N.old and all step-N.tmp folders are removed. For the job that owns the
// run alone (before it looks for a checkpoint to resume from; prepare_checkpoint does it too).
void recover_checkpoints(FileSystem& files, const std::string& folder);
// Removes all but the newest `keep` (>= 1) and the multiples of `keep_every` (0 = none), by rename
// then removal, and leftover *.tmp folders. The newest complete one is never removed; a damaged one
// counts for nothing and goes only when `keep` newer ones are complete (sizes are checked, digests
// not). One that somebody reads stays until the next time; the names of these are returned.
std::vector<std::string> apply_retention(FileSystem& files, const std::string& folder,
                                         std::int64_t keep, std::int64_t keep_every);

// --- Reading.

// How much of a checkpoint is read before it is trusted.
enum class Verify {
  digests,  // every byte
  sizes,    // manifest, file sizes and headers: for further readers of a checkpoint just verified
};

class CheckpointReader {
 public:
  // Opens PATH (a step folder), checks the manifest, sizes and every digest (several parts at a
  // time), and that slices cover the tensors. Retention does not remove it while the reader lives.
  // Error{data} naming the file at fault, Error{io} when one cannot be read.
  explicit CheckpointReader(const std::string& path, Verify verify = Verify::digests,
                            FileSystem& files = FileSystem::posix());
  ~CheckpointReader();
  CheckpointReader(CheckpointReader&&) noexcept;

  const std::string& path() const;
  const TrainingState& state() const;
  const std::vector<TensorInfo>& tensors() const;
  const std::string& tokenizer_json() const;
  const Json& manifest() const;

  enum class Kind { param, m, v };
  // Elements [begin, end) of a tensor; Error{data} when the name or range is not there.
  void read(Kind kind, const std::string& tensor, std::int64_t begin, std::int64_t end,
            float* out) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The newest checkpoint in FOLDER that verifies, by step number; older ones are tried when it does
// not, and each refusal is added to `refused` ("step-00000200: part-00000.safetensors: SHA-256
// differs ..."). "" when the folder holds none at all; when there are some and none verifies
// Error{data}, or Error{io} when one of them could not be read.
std::string newest_checkpoint(FileSystem& files, const std::string& folder,
                              std::vector<std::string>& refused);

}  // namespace tessera::checkpoints
