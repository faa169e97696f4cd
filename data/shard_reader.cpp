#include "data/shard_reader.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/integers.h"
#include "data/hdf5_dataset.h"
#include "data/hdf5_superblock.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kIndexBlock = 65536;  // entries checked at a time
constexpr std::size_t kLongestString = 256;  // bytes of a string attribute

[[noreturn]] void refuse(const std::string& path, const std::string& finding) {
  throw Error(Category::data, path + ": " + finding);
}

// The size of a file whose start looks like HDF5. Also the place where the system's own reasons
// come to light (permission, too many open files).
std::int64_t checked_file_size(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0)
    throw Error(Category::io, path + ": cannot be opened: " + std::strerror(errno));
  struct stat status {};
  const bool regular = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode);
  std::array<unsigned char, kSuperblockBytes> start{};
  const ssize_t got = regular ? ::read(descriptor, start.data(), start.size()) : 0;
  const int reason = errno;
  ::close(descriptor);
  if (!regular) refuse(path, "is not a regular file");
  if (got < 0) throw Error(Category::io, path + ": cannot be read: " + std::strerror(reason));
  if (status.st_size == 0) refuse(path, "is empty, not a token shard");
  const std::string fault = hdf5_superblock_fault({start.data(), static_cast<std::size_t>(got)});
  if (!fault.empty()) refuse(path, fault);
  return status.st_size;
}

Hdf5Handle open_file(const std::string& path) {
  const Hdf5Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  // Shards are never changed in place, and locks fail on some network file systems: none is asked
  // for (HDF5_USE_FILE_LOCKING overrides this).
  H5Pset_file_locking(access.get(), false, true);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  Hdf5Handle file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
  if (!file.valid()) refuse(path, "is truncated or damaged, HDF5 says: " + hdf5_reason());
  return file;
}

Hdf5Handle open_attribute(const Hdf5Handle& file, const std::string& path, const char* name) {
  if (H5Aexists(file.get(), name) <= 0)
    refuse(path, std::string("has no attribute ") + name + ", so it is not a token shard");
  Hdf5Handle attribute(H5Aopen(file.get(), name, H5P_DEFAULT), H5Aclose);
  const Hdf5Handle space(attribute.valid() ? H5Aget_space(attribute.get()) : -1, H5Sclose);
  if (!space.valid() || H5Sget_simple_extent_npoints(space.get()) != 1)
    refuse(path, std::string("attribute ") + name + " is damaged or not one value");
  return attribute;
}

std::int64_t read_integer(const Hdf5Handle& file, const std::string& path, const char* name) {
  const Hdf5Handle attribute = open_attribute(file, path, name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  std::int64_t value = 0;
  if (!type.valid() || H5Tget_class(type.get()) != H5T_INTEGER ||
      H5Aread(attribute.get(), H5T_NATIVE_INT64, &value) < 0)
    refuse(path, std::string("attribute ") + name + " is not an integer");
  return value;
}

std::string read_string(const Hdf5Handle& file, const std::string& path, const char* name) {
  const Hdf5Handle attribute = open_attribute(file, path, name);
  const Hdf5Handle type(H5Aget_type(attribute.get()), H5Tclose);
  if (!type.valid() || H5Tget_class(type.get()) != H5T_STRING ||
      H5Tis_variable_str(type.get()) != 0)
    refuse(path, std::string("attribute ") + name + " is not a string of fixed length");
  const std::size_t size = H5Tget_size(type.get());
  if (size == 0 || size > kLongestString)
    refuse(path, std::string("attribute ") + name + " is longer than " +
                     std::to_string(kLongestString) + " bytes");
  std::string value(size, '\0');
  if (H5Aread(attribute.get(), type.get(), value.data()) < 0)
    refuse(path, std::string("attribute ") + name + " cannot be read: " + hdf5_reason());
  return value.c_str();
}

ShardKind read_kind(const Hdf5Handle& file, const std::string& path) {
  const std::string format = read_string(file, path, kAttributeFormat);
  if (format != kShardFormat)
    refuse(path, "has format \"" + format + "\", expected \"" + kShardFormat + "\"");
  const std::int64_t version = read_integer(file, path, kAttributeVersion);
  if (version > kShardVersion)
    refuse(path, "has format version " + std::to_string(version) + ", newer than the version " +
                     std::to_string(kShardVersion) +
                     " that this program reads: use a newer tessera");
  if (version < 1) refuse(path, "has format version " + std::to_string(version) + ", expected 1");
  ShardKind kind;
  kind.vocab_size = read_integer(file, path, kAttributeVocab);
  if (kind.vocab_size < 1 || kind.vocab_size > kLargestVocab)
    refuse(path, "has vocabulary size " + std::to_string(kind.vocab_size) + ", expected 1.." +
                     std::to_string(kLargestVocab));
  const std::int64_t end = read_integer(file, path, kAttributeEndOfText);
  if (end < -1 || end >= kind.vocab_size)
    refuse(path, "has end-of-text id " + std::to_string(end) + " outside its vocabulary of " +
                     std::to_string(kind.vocab_size));
  kind.end_of_text = static_cast<std::int32_t>(end);
  kind.tokenizer_digest = read_string(file, path, kAttributeTokenizer);
  return kind;
}

}  // namespace

struct ShardReader::State {
  std::string path;
  Hdf5Handle file;
  ShardKind kind;
  ShardCounts counts;
  std::optional<Hdf5Dataset> tokens, documents, text_bytes;
  std::vector<std::uint16_t> small;  // one chunk of uint16 tokens
  std::mutex reading;                // guards `small`

  void check_index();
};

void ShardReader::State::check_index() {
  if (documents->size() != text_bytes->size() + 1)
    refuse(path, "has " + std::to_string(documents->size()) + " document offsets for " +
                     std::to_string(text_bytes->size()) + " documents, expected one more");
  std::vector<std::int64_t> block;
  std::int64_t previous = 0;
  for (std::int64_t first = 0; first < documents->size(); first += kIndexBlock) {
    block.resize(static_cast<std::size_t>(std::min(kIndexBlock, documents->size() - first)));
    documents->read(first, static_cast<std::int64_t>(block.size()), block.data());
    if (first == 0 && block[0] != 0) refuse(path, "its first document does not start at token 0");
    for (const std::int64_t offset : block) {
      if (offset < previous || offset > tokens->size())
        refuse(path, "document offset " + std::to_string(offset) +
                         " is out of order or beyond the last token");
      previous = offset;
    }
  }
  if (previous != tokens->size())
    refuse(path, "its documents end at token " + std::to_string(previous) + ", but it holds " +
                     std::to_string(tokens->size()) + " tokens");
  for (std::int64_t first = 0; first < text_bytes->size(); first += kIndexBlock) {
    block.resize(static_cast<std::size_t>(std::min(kIndexBlock, text_bytes->size() - first)));
    text_bytes->read(first, static_cast<std::int64_t>(block.size()), block.data());
    for (const std::int64_t bytes : block) {
      if (bytes < 0) refuse(path, "a document has a negative number of text bytes");
      counts.text_bytes = checked_add(counts.text_bytes, bytes, path + ": text bytes");
    }
  }
}

ShardReader::ShardReader(const std::string& path) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.path = path;
  const std::int64_t bytes = checked_file_size(path);
  const Hdf5Lock lock;
  s.file = open_file(path);
  s.kind = read_kind(s.file, path);
  s.tokens.emplace(s.file, path, kTokens, static_cast<std::size_t>(s.kind.token_size()), false,
                   bytes);
  s.documents.emplace(s.file, path, kDocuments, sizeof(std::int64_t), true, bytes);
  s.text_bytes.emplace(s.file, path, kTextBytes, sizeof(std::int64_t), true, bytes);
  s.check_index();
  s.counts.tokens = s.tokens->size();
  s.counts.documents = s.text_bytes->size();
}

ShardReader::~ShardReader() = default;
ShardReader::ShardReader(ShardReader&&) noexcept = default;

const std::string& ShardReader::path() const {
  return state_->path;
}

const ShardKind& ShardReader::kind() const {
  return state_->kind;
}

const ShardCounts& ShardReader::counts() const {
  return state_->counts;
}

std::int64_t ShardReader::chunk_tokens() const {
  return state_->tokens->chunk();
}

std::int64_t ShardReader::chunks() const {
  return div_ceil(state_->counts.tokens, chunk_tokens());
}

std::int64_t ShardReader::chunk_size(std::int64_t chunk) const {
  return std::min(chunk_tokens(), state_->counts.tokens - chunk * chunk_tokens());
}

void ShardReader::read_chunk(std::int64_t chunk, std::span<std::int32_t> ids) {
  State& s = *state_;
  TESSERA_CHECK(chunk >= 0 && chunk < chunks());
  const std::int64_t first = chunk * chunk_tokens(), count = chunk_size(chunk);
  TESSERA_CHECK(static_cast<std::int64_t>(ids.size()) == count);
  std::uint32_t largest = 0;
  if (s.kind.token_size() == 2) {
    const std::lock_guard guard(s.reading);
    s.small.resize(static_cast<std::size_t>(count));
    s.tokens->read(first, count, s.small.data());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      largest = std::max<std::uint32_t>(largest, s.small[i]);
      ids[i] = s.small[i];
    }
  } else {
    s.tokens->read(first, count, ids.data());
    for (const std::int32_t id : ids) largest = std::max(largest, static_cast<std::uint32_t>(id));
  }
  if (largest < s.kind.vocab_size) return;
  const auto bad = std::find_if(ids.begin(), ids.end(), [&](std::int32_t id) {
    return static_cast<std::uint32_t>(id) >= s.kind.vocab_size;
  });
  refuse(s.path, "token " + std::to_string(static_cast<std::uint32_t>(*bad)) + " at offset " +
                     std::to_string(first + (bad - ids.begin())) + " (chunk " +
                     std::to_string(chunk) + ") is outside the vocabulary of " +
                     std::to_string(s.kind.vocab_size));
}

void ShardReader::read_documents(std::int64_t first, std::span<std::int64_t> values) {
  state_->documents->read(first, static_cast<std::int64_t>(values.size()), values.data());
}

void ShardReader::read_text_bytes(std::int64_t first, std::span<std::int64_t> values) {
  state_->text_bytes->read(first, static_cast<std::int64_t>(values.size()), values.data());
}

}  // namespace tessera::data
