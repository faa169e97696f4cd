// Writing a checkpoint: see checkpoint.h for who calls what, and for the order of syncs.
#include <algorithm>
#include <array>
#include <ctime>

#include "checkpoints/checkpoint.h"
#include "checkpoints/layout.h"
#include "checkpoints/manifest.h"
#include "checkpoints/names.h"
#include "checkpoints/safetensors.h"
#include "core/durable_folder.h"
#include "core/error.h"
#include "core/sha256.h"
#include "core/text.h"

namespace tessera::checkpoints {
namespace {

std::string time_now() {
  std::array<char, 32> text{};
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", ::gmtime_r(&now, &parts));
  return text.data();
}

FileRecord write_file(FileSystem& files, const std::string& path, const std::string& text) {
  const auto file = files.create(path);
  file->append(text);
  file->sync();
  file->close();
  return {static_cast<std::int64_t>(text.size()), sha256(text)};
}

// Renames the complete step-N.tmp to step-N, an existing one set aside meanwhile. Whatever happens
// here, recover_checkpoints finds the old one or the new one.
std::string move_in(FileSystem& files, const std::string& folder, const std::string& temporary) {
  std::string path = temporary.substr(0, temporary.size() - std::string(kTemporarySuffix).size());
  const std::string aside = path + kAsideSuffix;
  const bool replaces = files.exists(path);
  if (replaces) files.remove_all(aside);
  try {
    if (replaces) {
      files.rename(path, aside);
      files.sync_directory(folder);
    }
    files.rename(temporary, path);
  } catch (const Error&) {
    try {
      if (replaces && !files.exists(path)) files.rename(aside, path);
    } catch (const Error&) {
      // It stays aside; recover_checkpoints puts it back.
    }
    throw;
  }
  try {
    files.sync_directory(folder);
  } catch (const Error& error) {
    throw Error(Category::io, path + ": complete, but may be lost in a power cut: " + error.what());
  }
  try {
    if (replaces) files.remove_all(aside);
  } catch (const Error&) {
    // The checkpoint is safe; recover_checkpoints removes what is left.
  }
  return path;
}

}  // namespace

std::string prepare_checkpoint(FileSystem& files, const std::string& folder, std::int64_t step,
                               std::int64_t bytes) {
  TESSERA_CHECK(step >= 0 && bytes >= 0);
  create_durably(files, folder);
  recover_checkpoints(files, folder);
  const std::int64_t available = files.free_bytes(folder);
  if (available < bytes)
    throw Error(Category::io, folder + ": too little space for the checkpoint of step " +
                                  std::to_string(step) + ": it needs " + std::to_string(bytes) +
                                  " bytes (" + human_bytes(bytes) + "), available are " +
                                  std::to_string(available) + " (" + human_bytes(available) +
                                  "); free some, or keep fewer (checkpoint.keep)");
  std::string temporary = folder + "/" + checkpoint_name(step) + kTemporarySuffix;
  files.create_directories(temporary);
  return temporary;
}

PartRecord write_part(FileSystem& files, const std::string& temporary, std::int64_t rank,
                      const std::vector<TensorInfo>& tensors,
                      const std::vector<OwnedSlice>& slices) {
  PartRecord record;
  record.file = part_name(rank);
  SafetensorsWriter writer(files, temporary + "/" + record.file);
  struct Array {
    const char* prefix;
    const float* OwnedSlice::*values;
  };
  constexpr std::array<Array, 3> kArrays = {
      {{"param.", &OwnedSlice::param}, {"m.", &OwnedSlice::m}, {"v.", &OwnedSlice::v}}};
  for (const Array& array : kArrays)
    for (const OwnedSlice& slice : slices) {
      TESSERA_CHECK(slice.tensor >= 0 && slice.tensor < static_cast<std::int64_t>(tensors.size()) &&
                    slice.begin >= 0 && slice.end > slice.begin && slice.*array.values);
      writer.declare(slice_name(array.prefix, tensors[static_cast<std::size_t>(slice.tensor)].name,
                                slice.begin, slice.end),
                     TensorType::f32, {slice.end - slice.begin});
    }
  for (const Array& array : kArrays)
    for (const OwnedSlice& slice : slices)
      writer.append(slice.*array.values,
                    (slice.end - slice.begin) * static_cast<std::int64_t>(sizeof(float)));
  const SafetensorsWriter::Result result = writer.finish();
  record.bytes = result.bytes;
  record.sha256 = result.sha256;
  for (const OwnedSlice& slice : slices)
    record.slices.push_back({slice.tensor, slice.begin, slice.end, nullptr, nullptr, nullptr});
  return record;
}

std::string commit_checkpoint(FileSystem& files, const std::string& folder,
                              const std::string& temporary, const TrainingState& state,
                              const std::vector<TensorInfo>& tensors,
                              const std::vector<PartRecord>& parts,
                              const std::string& tokenizer_json) {
  const std::string name = checkpoint_name(state.step);
  TESSERA_CHECK(base_name(temporary) == name + kTemporarySuffix);
  try {
    Layout(tensors, parts, temporary);
  } catch (const Error& error) {
    throw Error(Category::internal, error.what());
  }
  for (const PartRecord& part : parts)
    if (const std::int64_t found = files.size(temporary + "/" + part.file); found != part.bytes)
      throw Error(Category::io, temporary + "/" + part.file + ": holds " + std::to_string(found) +
                                    " bytes, but its writer reported " +
                                    std::to_string(part.bytes) +
                                    "; do all ranks see the same folder?");
  Manifest manifest{state, tensors, parts, {}, time_now()};
  manifest.files[kConfigName] = write_file(files, temporary + "/" + kConfigName, state.config_yaml);
  if (!tokenizer_json.empty())
    manifest.files[kTokenizerName] =
        write_file(files, temporary + "/" + kTokenizerName, tokenizer_json);
  if (!state.algorithms_json.empty())
    manifest.files[kAlgorithmsName] =
        write_file(files, temporary + "/" + kAlgorithmsName, state.algorithms_json);
  files.sync_directory(temporary);
  write_file(files, temporary + "/" + kManifestName, manifest_text(manifest));
  files.sync_directory(temporary);

  return move_in(files, folder, temporary);
}

}  // namespace tessera::checkpoints
