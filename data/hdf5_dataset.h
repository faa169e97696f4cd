// A one-dimensional integer dataset of a file that may be hostile: hard link, chunked, no filter
// but fletcher32, no more elements than the file has bytes for.
#pragma once

#include <cstdint>
#include <string>

#include "data/hdf5_handle.h"

namespace tessera::data {

class Hdf5Dataset {
 public:
  // Elements must be integers of `element_size` bytes, signed or not as said. Error{data} naming
  // `path` and `name`. `file_bytes` bounds what the dataset may claim to store.
  Hdf5Dataset(const Hdf5Handle& file, const std::string& path, const char* name,
              std::size_t element_size, bool is_signed, std::int64_t file_bytes);

  std::int64_t size() const { return size_; }
  std::int64_t chunk() const { return chunk_; }  // elements; 1 for an empty unchunked dataset

  // Elements [first, first + count) into `out`, of the native type of the element size given.
  // Error{data} naming the chunk where the checksum fails. Caller keeps the range inside.
  void read(std::int64_t first, std::int64_t count, void* out);

 private:
  void check_layout(std::int64_t file_bytes);
  void check_chunks(std::int64_t first, std::int64_t count);

  std::string path_, name_;
  std::size_t element_size_ = 0;
  bool is_signed_ = false, checksummed_ = false;
  std::int64_t size_ = 0, chunk_ = 1;
  Hdf5Handle dataset_, file_space_;
};

}  // namespace tessera::data
