#include "data/hdf5_dataset.h"

#include <algorithm>

#include "core/error.h"
#include "core/integers.h"
#include "data/shard_format.h"

namespace tessera::data {
namespace {

constexpr std::int64_t kChecksumBytes = 4;

[[noreturn]] void refuse(const std::string& path, const char* name, const std::string& finding) {
  throw Error(Category::data, path + ": dataset " + name + " " + finding);
}

void check_link(const Hdf5Handle& file, const std::string& path, const char* name) {
  const htri_t there = H5Lexists(file.get(), name, H5P_DEFAULT);
  if (there < 0) refuse(path, name, "cannot be looked up: " + hdf5_reason());
  if (there == 0) refuse(path, name, "is missing; this is not a complete token shard");
  H5L_info_t link{};
  if (H5Lget_info(file.get(), name, &link, H5P_DEFAULT) < 0)
    refuse(path, name, "cannot be looked up: " + hdf5_reason());
  if (link.type != H5L_TYPE_HARD)
    refuse(path, name, "is a soft or external link, which shards must not use");
  const Hdf5Handle object(H5Oopen(file.get(), name, H5P_DEFAULT), H5Oclose);
  if (!object.valid()) refuse(path, name, "cannot be opened: " + hdf5_reason());
  if (H5Iget_type(object.get()) != H5I_DATASET) refuse(path, name, "is not a dataset");
}

}  // namespace

Hdf5Dataset::Hdf5Dataset(const Hdf5Handle& file, const std::string& path, const char* name,
                         std::size_t element_size, bool is_signed, std::int64_t file_bytes)
    : path_(path), name_(name), element_size_(element_size), is_signed_(is_signed) {
  const Hdf5Lock lock;
  check_link(file, path, name);
  const Hdf5Handle access(H5Pcreate(H5P_DATASET_ACCESS), H5Pclose);
  // Readers keep decoded chunks themselves.
  H5Pset_chunk_cache(access.get(), 1, 0, 0);
  dataset_ = Hdf5Handle(H5Dopen2(file.get(), name, access.get()), H5Dclose);
  if (!dataset_.valid()) refuse(path, name, "cannot be opened: " + hdf5_reason());

  const Hdf5Handle type(H5Dget_type(dataset_.get()), H5Tclose);
  if (!type.valid() || H5Tget_class(type.get()) != H5T_INTEGER ||
      H5Tget_size(type.get()) != element_size ||
      H5Tget_sign(type.get()) != (is_signed ? H5T_SGN_2 : H5T_SGN_NONE) ||
      H5Tget_precision(type.get()) != 8 * element_size)
    refuse(path, name,
           std::string("does not hold ") + (is_signed ? "signed" : "unsigned") + " integers of " +
               std::to_string(element_size) + " bytes");
  file_space_ = Hdf5Handle(H5Dget_space(dataset_.get()), H5Sclose);
  hsize_t size = 0;
  if (!file_space_.valid() || H5Sget_simple_extent_type(file_space_.get()) != H5S_SIMPLE ||
      H5Sget_simple_extent_ndims(file_space_.get()) != 1 ||
      H5Sget_simple_extent_dims(file_space_.get(), &size, nullptr) != 1)
    refuse(path, name, "is not one-dimensional");
  if (size > static_cast<hsize_t>(file_bytes))
    refuse(path, name,
           "claims " + std::to_string(size) + " elements, more than the file has bytes");
  size_ = static_cast<std::int64_t>(size);
  check_layout(file_bytes);
}

void Hdf5Dataset::check_layout(std::int64_t file_bytes) {
  const char* name = name_.c_str();
  const Hdf5Handle layout(H5Dget_create_plist(dataset_.get()), H5Pclose);
  if (!layout.valid()) refuse(path_, name, "has no readable layout: " + hdf5_reason());
  if (H5Pget_external_count(layout.get()) != 0)
    refuse(path_, name, "keeps its values in another file, which shards must not do");
  const H5D_layout_t kind = H5Pget_layout(layout.get());
  if (size_ == 0 && (kind == H5D_CONTIGUOUS || kind == H5D_CHUNKED)) return;
  if (kind != H5D_CHUNKED) refuse(path_, name, "is not stored in chunks");
  hsize_t chunk = 0;
  if (H5Pget_chunk(layout.get(), 1, &chunk) != 1 || chunk == 0)
    refuse(path_, name, "has no readable chunk size");
  if (chunk > static_cast<hsize_t>(kLargestChunk))
    refuse(path_, name,
           "has chunks of " + std::to_string(chunk) + " elements; at most " +
               std::to_string(kLargestChunk) + " are allowed");
  chunk_ = static_cast<std::int64_t>(chunk);

  const int filters = H5Pget_nfilters(layout.get());
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0;
    std::size_t values = 0;
    const H5Z_filter_t filter = H5Pget_filter2(layout.get(), static_cast<unsigned>(i), &flags,
                                               &values, nullptr, 0, nullptr, &config);
    if (filter != H5Z_FILTER_FLETCHER32 || filters > 1)
      refuse(path_, name,
             "is stored with filter " + std::to_string(filter) + "; only fletcher32 is allowed");
    checksummed_ = true;
  }
  const std::int64_t element = static_cast<std::int64_t>(element_size_);
  const auto stored = static_cast<std::int64_t>(H5Dget_storage_size(dataset_.get()));
  const std::int64_t needed = checked_mul(size_, element, path_ + ": dataset " + name_);
  if (stored < needed || stored > file_bytes)
    refuse(path_, name,
           "claims " + std::to_string(needed) + " bytes of values, but the file stores " +
               std::to_string(stored));
}

// What the chunk index says is bounded before HDF5 allocates by it.
void Hdf5Dataset::check_chunks(std::int64_t first, std::int64_t count) {
  const std::int64_t expected =
      chunk_ * static_cast<std::int64_t>(element_size_) + (checksummed_ ? kChecksumBytes : 0);
  for (std::int64_t chunk = first / chunk_; chunk * chunk_ < first + count; ++chunk) {
    const hsize_t offset = static_cast<hsize_t>(chunk * chunk_);
    hsize_t bytes = 0;
    // Not H5Dget_chunk_info_by_coord, which walks through all chunks.
    if (H5Dget_chunk_storage_size(dataset_.get(), &offset, &bytes) < 0)
      refuse(path_, name_.c_str(),
             "has an unreadable index at chunk " + std::to_string(chunk) + ": " + hdf5_reason());
    if (bytes != static_cast<hsize_t>(expected))
      refuse(path_, name_.c_str(),
             "stores chunk " + std::to_string(chunk) + " in " + std::to_string(bytes) +
                 " bytes, expected " + std::to_string(expected) + ": the file is damaged");
  }
}

void Hdf5Dataset::read(std::int64_t first, std::int64_t count, void* out) {
  if (count == 0) return;
  TESSERA_CHECK(first >= 0 && count > 0 && first <= size_ - count);
  const Hdf5Lock lock;
  check_chunks(first, count);
  const hsize_t begin = static_cast<hsize_t>(first), length = static_cast<hsize_t>(count);
  const Hdf5Handle memory(H5Screate_simple(1, &length, nullptr), H5Sclose);
  const hid_t type = is_signed_           ? H5T_NATIVE_INT64
                     : element_size_ == 2 ? H5T_NATIVE_UINT16
                                          : H5T_NATIVE_UINT32;
  if (H5Sselect_hyperslab(file_space_.get(), H5S_SELECT_SET, &begin, nullptr, &length, nullptr) <
          0 ||
      H5Dread(dataset_.get(), type, memory.get(), file_space_.get(), H5P_DEFAULT, out) < 0) {
    const std::int64_t low = first / chunk_, high = (first + count - 1) / chunk_;
    refuse(path_, name_.c_str(),
           (low == high ? "chunk " + std::to_string(low)
                        : "chunks " + std::to_string(low) + " to " + std::to_string(high)) +
               " cannot be read: " + hdf5_reason() +
               "; the file is damaged: restore or prepare it "
               "again");
  }
}

}  // namespace tessera::data
