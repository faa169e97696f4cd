#include "data/shard_writer.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "core/error.h"
#include "core/file_system.h"
#include "core/sha256.h"
#include "data/hdf5_handle.h"
#include "data/shard_folder.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kBlockChunks = 32;  // chunks a write to HDF5

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw Error(Category::io, path + ": " + what + ": " + hdf5_reason());
}

void sync_file(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const int result = descriptor < 0 ? -1 : ::fsync(descriptor);
  const int code = errno;
  if (descriptor >= 0) ::close(descriptor);
  if (result != 0) throw Error(Category::io, path + ": fsync failed: " + std::strerror(code));
}

}  // namespace

struct ShardWriter::State {
  std::string path, temporary;
  ShardKind kind;
  std::int64_t chunk = 0, block = 0;  // tokens
  Hdf5Handle file, tokens;
  std::int64_t stored = 0;           // tokens in the file
  std::vector<std::uint16_t> small;  // waiting tokens, [< block]; the one of the two in use
  std::vector<std::uint32_t> large;
  std::vector<std::int64_t> documents = {0}, text_bytes;

  bool uses_small() const { return kind.token_size() == 2; }
  std::int64_t waiting() const {
    return static_cast<std::int64_t>(uses_small() ? small.size() : large.size());
  }

  void create();
  void write_attribute(const char* name, std::int64_t value);
  void write_attribute(const char* name, const std::string& value);
  void store();
  void read_back(const ShardCounts& counts) const;
  void write_index(const char* name, const std::vector<std::int64_t>& values);
  [[noreturn]] void refuse_ids(std::span<const std::int32_t> ids) const;
};

void ShardWriter::State::create() {
  const Hdf5Lock lock;
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // The newest layout of HDF5 1.10 keeps checksums of its own structures.
  if (H5Pset_libver_bounds(access.get(), H5F_LIBVER_V110, H5F_LIBVER_V110) < 0 ||
      H5Pset_file_locking(access.get(), false, true) < 0)
    fail(temporary, "HDF5 refused the access properties");
  // Without times the same input gives the same bytes.
  const Hdf5Handle creation(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  if (H5Pset_obj_track_times(creation.get(), false) < 0)
    fail(temporary, "HDF5 refused the creation properties");
  file = Hdf5Handle(H5Fcreate(temporary.c_str(), H5F_ACC_TRUNC, creation.get(), access.get()),
                    H5Fclose);
  if (!file.valid()) fail(temporary, "cannot be created");
  write_attribute(kAttributeFormat, std::string(kShardFormat));
  write_attribute(kAttributeVersion, kShardVersion);
  write_attribute(kAttributeVocab, kind.vocab_size);
  write_attribute(kAttributeEndOfText, kind.end_of_text);
  write_attribute(kAttributeTokenizer, kind.tokenizer_digest);

  const hsize_t none = 0, unlimited = H5S_UNLIMITED, chunk_size = static_cast<hsize_t>(chunk);
  const Hdf5Handle space(H5Screate_simple(1, &none, &unlimited), H5Sclose);
  const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  if (H5Pset_chunk(layout.get(), 1, &chunk_size) < 0 || H5Pset_fletcher32(layout.get()) < 0 ||
      H5Pset_obj_track_times(layout.get(), false) < 0)
    fail(temporary, "HDF5 refused the layout");
  tokens = Hdf5Handle(H5Dcreate2(file.get(), kTokens, uses_small() ? H5T_STD_U16LE : H5T_STD_U32LE,
                                 space.get(), H5P_DEFAULT, layout.get(), H5P_DEFAULT),
                      H5Dclose);
  if (!tokens.valid()) fail(temporary, "dataset tokens cannot be created");
}

void ShardWriter::State::write_attribute(const char* name, std::int64_t value) {
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate2(file.get(), name, H5T_STD_I64LE, space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute.valid() || H5Awrite(attribute.get(), H5T_NATIVE_INT64, &value) < 0)
    fail(temporary, std::string("attribute ") + name + " cannot be written");
}

void ShardWriter::State::write_attribute(const char* name, const std::string& value) {
  const Hdf5Handle type(H5Tcopy(H5T_C_S1), H5Tclose);
  const std::size_t size = value.size() + 1;
  if (H5Tset_size(type.get(), size) < 0) fail(temporary, "HDF5 refused a string type");
  const Hdf5Handle space(H5Screate(H5S_SCALAR), H5Sclose);
  const Hdf5Handle attribute(
      H5Acreate2(file.get(), name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute.valid() || H5Awrite(attribute.get(), type.get(), value.c_str()) < 0)
    fail(temporary, std::string("attribute ") + name + " cannot be written");
}

void ShardWriter::State::store() {
  const std::int64_t count = waiting();
  if (count == 0) return;
  const Hdf5Lock lock;
  const hsize_t begin = static_cast<hsize_t>(stored), length = static_cast<hsize_t>(count);
  const hsize_t end = begin + length;
  if (H5Dset_extent(tokens.get(), &end) < 0) fail(temporary, "dataset tokens cannot grow");
  const Hdf5Handle memory(H5Screate_simple(1, &length, nullptr), H5Sclose);
  const Hdf5Handle space(H5Dget_space(tokens.get()), H5Sclose);
  H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, &begin, nullptr, &length, nullptr);
  const void* from = uses_small() ? static_cast<const void*>(small.data()) : large.data();
  if (H5Dwrite(tokens.get(), uses_small() ? H5T_NATIVE_UINT16 : H5T_NATIVE_UINT32, memory.get(),
               space.get(), H5P_DEFAULT, from) < 0)
    fail(temporary, "tokens cannot be written");
  stored += count;
  small.clear();
  large.clear();
}

void ShardWriter::State::write_index(const char* name, const std::vector<std::int64_t>& values) {
  const Hdf5Lock lock;
  const hsize_t count = values.size();
  const hsize_t chunk_size = std::clamp<hsize_t>(count, 1, static_cast<hsize_t>(kIndexChunk));
  const Hdf5Handle space(H5Screate_simple(1, &count, nullptr), H5Sclose);
  const Hdf5Handle layout(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  H5Pset_obj_track_times(layout.get(), false);
  if (count > 0 &&
      (H5Pset_chunk(layout.get(), 1, &chunk_size) < 0 || H5Pset_fletcher32(layout.get()) < 0))
    fail(temporary, "HDF5 refused the layout");
  Hdf5Handle dataset(H5Dcreate2(file.get(), name, H5T_STD_I64LE, space.get(), H5P_DEFAULT,
                                layout.get(), H5P_DEFAULT),
                     H5Dclose);
  // Values may wait in HDF5's cache until the dataset is closed.
  if (!dataset.valid() ||
      H5Dwrite(dataset.get(), H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0 ||
      !dataset.close())
    fail(temporary, std::string("dataset ") + name + " cannot be written");
}

void ShardWriter::State::refuse_ids(std::span<const std::int32_t> ids) const {
  const auto bad = std::find_if(ids.begin(), ids.end(), [&](std::int32_t id) {
    return static_cast<std::uint32_t>(id) >= kind.vocab_size;
  });
  throw Error(Category::data, path + ": token id " + std::to_string(*bad) + " at offset " +
                                  std::to_string(stored + waiting() + (bad - ids.begin())) +
                                  " is outside the vocabulary 0.." +
                                  std::to_string(kind.vocab_size - 1));
}

// HDF5 does not tell of every write that failed.
void ShardWriter::State::read_back(const ShardCounts& counts) const {
  std::string finding = "other counts";
  try {
    ShardReader shard(temporary);
    verify_tokens(shard);
    if (shard.counts() == counts) return;
  } catch (const Error& problem) {
    finding = problem.what();
  }
  throw Error(Category::io,
              path + ": does not read back as it was written, the disk may fail: " + finding);
}

ShardWriter::ShardWriter(const std::string& path, const ShardKind& kind, std::int64_t chunk_tokens)
    : state_(std::make_unique<State>()) {
  TESSERA_CHECK(kind.vocab_size >= 1 && kind.vocab_size <= kLargestVocab);
  TESSERA_CHECK(chunk_tokens >= 1 && chunk_tokens <= kLargestChunk);
  State& s = *state_;
  s.path = path;
  s.temporary = path + ".tmp";
  s.kind = kind;
  s.chunk = chunk_tokens;
  s.block = kBlockChunks * chunk_tokens;
  // Opening through the file seam first names the system's reason better than HDF5 does.
  FileSystem::posix().create(s.temporary)->close();
  s.create();
  if (s.uses_small()) {
    s.small.reserve(static_cast<std::size_t>(s.block));
  } else {
    s.large.reserve(static_cast<std::size_t>(s.block));
  }
}

ShardWriter::~ShardWriter() {
  if (!state_ || state_->temporary.empty()) return;
  state_->tokens.reset();
  state_->file.reset();
  ::unlink(state_->temporary.c_str());
}

void ShardWriter::append(std::span<const std::int32_t> ids) {
  State& s = *state_;
  std::uint32_t largest = 0;  // negative ids are the largest
  for (const std::int32_t id : ids) largest = std::max(largest, static_cast<std::uint32_t>(id));
  if (largest >= s.kind.vocab_size) s.refuse_ids(ids);
  while (!ids.empty()) {
    const auto room = static_cast<std::size_t>(s.block - s.waiting());
    const auto piece = ids.first(std::min(ids.size(), room));
    if (s.uses_small()) {
      s.small.insert(s.small.end(), piece.begin(), piece.end());
    } else {
      s.large.insert(s.large.end(), piece.begin(), piece.end());
    }
    if (s.waiting() == s.block) s.store();
    ids = ids.subspan(piece.size());
  }
}

void ShardWriter::end_document(std::int64_t text_bytes) {
  state_->documents.push_back(tokens());
  state_->text_bytes.push_back(text_bytes);
}

std::int64_t ShardWriter::tokens() const {
  return state_->stored + state_->waiting();
}

std::int64_t ShardWriter::open_tokens() const {
  return tokens() - state_->documents.back();
}

FinishedShard ShardWriter::finish() {
  State& s = *state_;
  TESSERA_CHECK(open_tokens() == 0);
  s.store();
  s.write_index(kDocuments, s.documents);
  s.write_index(kTextBytes, s.text_bytes);
  {
    const Hdf5Lock lock;
    if (!s.tokens.close()) fail(s.temporary, "dataset tokens cannot be closed");
    if (H5Fflush(s.file.get(), H5F_SCOPE_GLOBAL) < 0 || !s.file.close())
      fail(s.temporary, "cannot be closed");
  }
  sync_file(s.temporary);
  FinishedShard result;
  result.counts.tokens = s.stored;
  result.counts.documents = static_cast<std::int64_t>(s.text_bytes.size());
  for (const std::int64_t bytes : s.text_bytes) result.counts.text_bytes += bytes;
  s.read_back(result.counts);
  FileSystem& files = FileSystem::posix();
  result.bytes = files.size(s.temporary);
  result.sha256 = sha256_file(s.temporary);
  files.rename(s.temporary, s.path);
  s.temporary.clear();
  return result;
}

}  // namespace tessera::data
