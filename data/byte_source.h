// A file read from front to back, decompressed on the way when its name ends in .zst or .gz.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace tessera::data {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `count` bytes into `out`; 0 at the end. Error{data} naming the file when compressed data
  // is damaged or ends early, Error{io} when the system refuses.
  virtual std::size_t read(char* out, std::size_t count) = 0;
};

// Bytes of the files themselves (compressed) are added to `consumed`, which must outlive the
// source. Memory: a few buffers, and for zstd the window that the file asks for (up to 2 GiB where
// it was made with --long=31).
std::unique_ptr<ByteSource> open_bytes(const std::string& path,
                                       std::atomic<std::int64_t>& consumed);

}  // namespace tessera::data
